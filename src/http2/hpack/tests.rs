use super::decoder::NoHpack;
use super::huffman::tests::encode as huffman;
use super::table::STATIC;
use super::{Decoder, Encoder};
use crate::http2::fields::Fields;

type Owned = Vec<(String, String)>;

fn text(fields: &Fields) -> Owned {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    fields.iter().map(|field| (text(field.name), text(field.value))).collect()
}

fn decoded(decoder: &mut Decoder, block: &[u8]) -> Result<Owned, NoHpack> {
    let mut fields = Fields::new(1 << 20);
    decoder.decode(block, &mut fields).map(|()| text(&fields))
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn fields(of: &[(&str, &str)]) -> Owned {
    of.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// RFC 7541, appendices C.3 and C.4: three requests on a connection, in the clear and Huffman coded.
#[test]
fn the_requests_of_the_rfc() {
    let clear = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    let coded = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    for blocks in [clear, coded] {
        let mut decoder = Decoder::new();
        let usual =
            [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")];
        let decoded = blocks.map(|block| decoded(&mut decoder, &hex(block)).unwrap());
        assert_eq!(decoded[0], fields(&usual));
        assert_eq!(decoded[1], fields(&[&usual[..], &[("cache-control", "no-cache")]].concat()));
        assert_eq!(
            decoded[2],
            fields(&[
                (":method", "GET"),
                (":scheme", "https"),
                (":path", "/index.html"),
                (":authority", "www.example.com"),
                ("custom-key", "custom-value"),
            ])
        );
    }
}

/// RFC 7541, appendix C.5: a table of 256 bytes, from which entries have to go.
#[test]
fn a_table_that_is_full() {
    let blocks = [
        "3fe1 01 4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3120 474d \
         546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "4803 3330 37c1 c0bf",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04 677a 6970 7738 666f 6f3d \
         4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 \
         7369 6f6e 3d31",
    ];
    let mut decoder = Decoder::new();
    let decoded = blocks.map(|block| decoded(&mut decoder, &hex(block)).unwrap());
    let location = ("location", "https://www.example.com");
    let at = ("date", "Mon, 21 Oct 2013 20:13:21 GMT");
    assert_eq!(decoded[0], fields(&[(":status", "302"), ("cache-control", "private"), at, location]));
    assert_eq!(decoded[1], fields(&[(":status", "307"), ("cache-control", "private"), at, location]));
    assert_eq!(
        decoded[2],
        fields(&[
            (":status", "200"),
            ("cache-control", "private"),
            ("date", "Mon, 21 Oct 2013 20:13:22 GMT"),
            location,
            ("content-encoding", "gzip"),
            ("set-cookie", "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"),
        ])
    );
}

#[test]
fn what_is_no_hpack() {
    for block in [
        "80",                   // index 0
        "be",                   // nothing has been added yet
        "7f ff ff ff ff ff 0f", // an index without end
        "40 05 61",             // a string that is cut off
        "40",
        "82 20",          // a new size behind a field
        "3f e2 1f",       // a table of 4097 bytes
        "40 81 ff 01 61", // a whole byte of padding
    ] {
        assert_eq!(decoded(&mut Decoder::new(), &hex(block)), Err(NoHpack), "{block}");
    }
}

#[test]
fn what_is_too_large_is_read_and_not_kept() {
    let mut decoder = Decoder::new();
    let mut block = hex("40 01 61 7f a1 1e");
    block.extend_from_slice(&[b'x'; 4000]);
    block.extend_from_slice(&[0xbe; 100]);
    let mut kept = Fields::new(100);
    decoder.decode(&block, &mut kept).unwrap();
    assert!(kept.are_too_large());
    assert_eq!(text(&kept), []);
    // The table is as the other side believes it to be.
    assert_eq!(decoded(&mut decoder, &[0xbe]).unwrap()[0].1.len(), 4000);
}

#[test]
fn what_is_encoded_is_decoded() {
    let long = "v".repeat(70_000);
    let mut all: Owned = STATIC
        .iter()
        .map(|&(name, value)| {
            (String::from_utf8(name.to_vec()).unwrap(), String::from_utf8(value.to_vec()).unwrap())
        })
        .collect();
    all.extend(fields(&[
        ("x", ""),
        ("a-name", "a value"),
        (":status", "418"),
        (":path", "/a"),
        ("big", &long),
    ]));
    for never in [false, true] {
        let (mut encoder, mut block) = (Encoder::default(), Vec::new());
        encoder.begin(&mut block);
        assert!(block.is_empty(), "there is nothing to say");
        encoder.set_table_max(100);
        encoder.begin(&mut block);
        assert_eq!(block, [0x20]);
        all.iter()
            .for_each(|(name, value)| Encoder::field(&mut block, name.as_bytes(), value.as_bytes(), never));
        let (mut decoder, mut fields) = (Decoder::new(), Fields::new(1 << 20));
        decoder.decode(&block, &mut fields).unwrap();
        assert_eq!(text(&fields), all);
        assert_eq!(fields.iter().any(|field| field.never), never);
        block.clear();
        encoder.begin(&mut block);
        assert!(block.is_empty(), "said once");
    }
}

#[test]
fn statuses() {
    for status in [200, 204, 418, 503, 999] {
        let mut block = Vec::new();
        Encoder::status(&mut block, status);
        assert_eq!(
            decoded(&mut Decoder::new(), &block).unwrap(),
            fields(&[(":status", &status.to_string())])
        );
    }
}

proptest::proptest! {
    /// Any bytes are decoded or refused.
    #[test]
    fn anything_may_come(blocks in proptest::collection::vec(proptest::collection::vec(proptest::num::u8::ANY, 0..80), 1..4)) {
        let mut decoder = Decoder::new();
        for block in blocks {
            let mut fields = Fields::new(1 << 10);
            let _ = decoder.decode(&block, &mut fields);
            assert!(fields.iter().map(|field| field.name.len() + field.value.len()).sum::<usize>() <= 1 << 10);
        }
    }

    /// Strings that are Huffman coded, added to the table, and asked for again.
    #[test]
    fn strings_come_back(values in proptest::collection::vec(proptest::collection::vec(0x20u8..0x7f, 0..60), 1..20)) {
        let (mut decoder, mut block) = (Decoder::new(), Vec::new());
        for value in &values {
            let coded = huffman(value);
            block.extend_from_slice(b"\x40\x01x");
            block.push(0x80 | u8::try_from(coded.len()).unwrap());
            block.extend_from_slice(&coded);
        }
        block.push(0xbe);
        let fields = decoded(&mut decoder, &block).unwrap();
        let last = values.last().unwrap();
        for (field, value) in fields.iter().zip(values.iter().chain([last])) {
            assert_eq!(field.1.as_bytes(), &value[..]);
        }
    }
}
