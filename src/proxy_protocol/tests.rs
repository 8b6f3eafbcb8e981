use proptest::prelude::*;

use super::*;

/// Feeds everything at once: the header and how many bytes it has.
fn whole(bytes: &[u8]) -> Result<Option<(Header, usize)>, Invalid> {
    let (taken, header) = Parser::default().feed(bytes)?;
    Ok(header.map(|header| (header, taken)))
}

fn ends(client: &str, server: &str) -> Ends {
    Ends { client: client.parse().unwrap(), server: server.parse().unwrap() }
}

/// A header of version 2.
fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let len = u16::try_from(body.len()).unwrap().to_be_bytes();
    [V2, &[command, family], &len, body].concat()
}

fn ok(bytes: &[u8]) -> Option<Ends> {
    let (header, taken) = whole(bytes).unwrap().expect("a whole header");
    assert_eq!(taken, bytes.len());
    header.ends
}

#[test]
fn lines_that_are_headers() {
    let v4 = ends("192.0.2.1:56324", "198.51.100.1:443");
    assert_eq!(ok(b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n"), Some(v4));
    assert_eq!(ok(b"PROXY TCP6 2001:db8::1 ::1 0 65535\r\n"), Some(ends("[2001:db8::1]:0", "[::1]:65535")));
    let longest = format!("PROXY UNKNOWN {0} {0} 65535 65535\r\n", ["ffff"; 8].join(":"));
    assert_eq!(longest.len(), V1_MAX);
    for unknown in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN what ever\r\n", &longest] {
        assert_eq!(ok(unknown.as_bytes()), None, "{unknown}");
    }
}

#[test]
fn lines_that_are_none() {
    for line in [
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n",
        "PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4\t1 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 +1 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 00\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 \r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.04 1 2\r\n",
        "PROXY TCP4 1.2.3.4 ::1 1 2\r\n",
        "PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
        "PROXY TCP6 [::1] ::1 1 2\r\n",
        "PROXY tcp4 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY \r\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n",
        "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r \n",
        "PROXY UNKNOWN \r.\r\n",
    ] {
        assert_eq!(whole(line.as_bytes()), Err(Invalid::Line), "{line:?}");
    }
    let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(V1_MAX - 15));
    assert_eq!(long.len(), V1_MAX + 1);
    assert_eq!(whole(long.as_bytes()), Err(Invalid::LongLine));
    // At the first byte that is wrong: nobody waits for the end of something else.
    for other in ["GET", "proxy", "PROXYz", "PX", "\n", "\0", "\r\n\r\n\0\r\nquit", "\r\nx", "\x16\x03\x01"] {
        assert_eq!(whole(other.as_bytes()), Err(Invalid::Signature), "{other:?}");
    }
}

#[test]
fn binary_headers() {
    let tcp4 = [192, 0, 2, 1, 198, 51, 100, 1, 0xdc, 0x04, 1, 0xbb];
    let v4 = ends("192.0.2.1:56324", "198.51.100.1:443");
    assert_eq!(ok(&v2(0x21, 0x11, &tcp4)), Some(v4));
    let extended = [&tcp4[..], &[0x04, 0, 1, 0]].concat();
    assert_eq!(ok(&v2(0x21, 0x11, &extended)), Some(v4));
    let mut largest = tcp4.to_vec();
    largest.resize(V2_MAX, 7);
    assert_eq!(ok(&v2(0x21, 0x11, &largest)), Some(v4));
    // No addresses for us: LOCAL whatever follows, no family, not a stream, a Unix socket.
    for (command, family, len) in [
        (0x20, 0x00, 0),
        (0x20, 0x11, 3),
        (0x21, 0x00, 0),
        (0x21, 0x00, 20),
        (0x21, 0x01, 0),
        (0x21, 0x12, 12),
        (0x21, 0x20, 36),
        (0x21, 0x31, 216),
        (0x21, 0x32, 300),
    ] {
        assert_eq!(ok(&v2(command, family, &vec![9; len])), None, "{command:x} {family:x}");
    }
}

#[test]
fn binary_headers_that_are_none() {
    for (command, family, len, why) in [
        (0x11, 0x11, 12, Invalid::Command),
        (0x22, 0x11, 12, Invalid::Command),
        (0x21, 0x41, 12, Invalid::Family),
        (0x21, 0x13, 12, Invalid::Family),
        (0x20, 0xff, 0, Invalid::Family),
        (0x21, 0x11, 11, Invalid::Short),
        (0x21, 0x12, 0, Invalid::Short),
        (0x21, 0x21, 35, Invalid::Short),
        (0x21, 0x31, 215, Invalid::Short),
        (0x21, 0x11, V2_MAX + 1, Invalid::Long),
        (0x20, 0x00, V2_MAX + 1, Invalid::Long),
    ] {
        assert_eq!(whole(&v2(command, family, &vec![0; len])), Err(why), "{command:x} {family:x} {len}");
    }
}

#[test]
fn what_is_written_for_families_that_do_not_match() {
    let mixed = ends("192.0.2.1:1", "[2001:db8::1]:2");
    assert_eq!(Preamble::new(Version::V1, mixed).as_bytes(), b"PROXY UNKNOWN\r\n");
    assert_eq!(Preamble::new(Version::V2, mixed).as_bytes(), v2(0x21, 0, &[]));
    // As a listener for both families sees an IPv4 client.
    let mapped = ends("[::ffff:192.0.2.1]:1", "[::ffff:192.0.2.2]:2");
    assert_eq!(Preamble::new(Version::V1, mapped).as_bytes(), b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n");
}

fn version() -> impl Strategy<Value = Version> {
    prop_oneof![Just(Version::V1), Just(Version::V2)]
}

fn any_ends() -> impl Strategy<Value = Ends> {
    let v4 = any::<([u8; 4], u16, [u8; 4], u16)>().prop_map(|(client, port, server, server_port)| Ends {
        client: (client, port).into(),
        server: (server, server_port).into(),
    });
    let v6 = any::<([u16; 8], u16, [u16; 8], u16)>().prop_map(|(client, port, server, server_port)| Ends {
        client: (client, port).into(),
        server: (server, server_port).into(),
    });
    prop_oneof![v4, v6]
}

/// Feeds in portions; the header and the bytes it took.
fn in_portions(bytes: &[u8], cuts: &[usize]) -> Result<Option<(Header, usize)>, Invalid> {
    let (mut parser, mut from) = (Parser::default(), 0);
    for cut in cuts.iter().copied().chain([bytes.len()]) {
        let to = (from + cut).min(bytes.len());
        let (taken, header) = parser.feed(&bytes[from..to])?;
        from += taken;
        if let Some(header) = header {
            return Ok(Some((header, from)));
        }
        assert_eq!(from, to, "without a header everything is taken");
    }
    Ok(None)
}

/// Bytes that get somewhere: a header, cut off or with something wrong in it.
fn nearly() -> impl Strategy<Value = Vec<u8>> {
    let body = (0u8..4, any::<u8>(), proptest::collection::vec(any::<u8>(), 0..300));
    let binary = body.prop_map(|(command, family, body)| v2(0x1f + command, family & 0x33, &body));
    let line = "PROXY (TCP4|TCP6|UNKNOWN|X)( [0-9.:af]{1,9}){0,5}(\r\n|\n|)";
    let written = (version(), any_ends()).prop_map(|(version, ends)| to_vec(version, ends));
    (prop_oneof![binary, line.prop_map(String::into_bytes), written], any::<(u16, u8, bool)>()).prop_map(
        |(mut bytes, (at, byte, damage))| {
            if damage && !bytes.is_empty() {
                let at = usize::from(at) % bytes.len();
                bytes[at] = byte;
            }
            bytes
        },
    )
}

fn to_vec(version: Version, ends: Ends) -> Vec<u8> {
    Preamble::new(version, ends).as_bytes().to_vec()
}

proptest! {
    /// What is written is read again, whatever follows it, and not a byte of that is taken.
    #[test]
    fn round_trip(version in version(), ends in any_ends(), rest in proptest::collection::vec(any::<u8>(), 0..9)) {
        let header = to_vec(version, ends);
        let bytes = [&header[..], &rest].concat();
        let read = whole(&bytes).unwrap();
        let canonical = |addr: SocketAddr| (addr.ip().to_canonical(), addr.port());
        let (read, taken) = read.unwrap();
        let read = read.ends.unwrap();
        prop_assert_eq!(canonical(read.client), canonical(ends.client));
        prop_assert_eq!(canonical(read.server), canonical(ends.server));
        prop_assert_eq!(taken, header.len());
    }

    /// However the bytes are cut, the answer is the same.
    #[test]
    fn portions_do_not_matter(bytes in nearly(), cuts in proptest::collection::vec(0usize..30, 0..40)) {
        prop_assert_eq!(in_portions(&bytes, &cuts), whole(&bytes));
    }

    /// Nor at any single place.
    #[test]
    fn no_single_cut_matters(bytes in nearly()) {
        for cut in 0..=bytes.len() {
            prop_assert_eq!(in_portions(&bytes, &[cut]), whole(&bytes));
        }
    }

    /// Anything at all is taken or refused, and a header never has more than it may.
    #[test]
    fn nothing_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200), v2 in any::<bool>()) {
        let prefix = if v2 { V2 } else { V1 };
        for bytes in [&bytes[..], &[prefix, &bytes].concat()] {
            if let Ok((taken, _)) = Parser::default().feed(bytes) {
                prop_assert!(taken <= V2_FIXED + V2_MAX);
            }
        }
    }
}
