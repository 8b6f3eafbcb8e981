//! Requests whose heads go on nearly as they came: from HPACK to HPACK, without a map in between.
//!
//! As in [`http1`](crate::http1), only what is plain is done this way. Whatever is rare or doubtful is for the `http`
//! crate's types and the stack that works on them, which have the last word on what is an error.

use super::head::Head;
use super::hpack::Encoder;
use crate::config::Forwarded;
use crate::origin::Origin;

/// The longest path in an `http::Uri` is a little longer.
const PATH_MAX: usize = 60_000;

/// A request that is plain.
#[derive(Debug)]
pub struct Plain<'a> {
    head: &'a Head,
    authority: &'a [u8],
    seen: Seen<'a>,
}

/// What the fields of a head have said.
#[derive(Debug, Default)]
struct Seen<'a> {
    user_agent: Option<&'a [u8]>,
    content_type: Option<&'a [u8]>,
    forwarded_for: Option<&'a [u8]>,
    forwarded_proto: bool,
    forwarded_host: bool,
}

impl<'a> Plain<'a> {
    /// None when it is not plain.
    #[must_use]
    pub fn of(head: &'a Head) -> Option<Self> {
        let method =
            matches!(head.method(), b"GET" | b"HEAD" | b"POST" | b"PUT" | b"DELETE" | b"PATCH" | b"OPTIONS");
        let authority = head.authority()?;
        let target = matches!(head.scheme(), b"http" | b"https")
            && is_path(head.path())
            && !authority.is_empty()
            && authority.iter().all(
                |byte| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b':'),
            );
        // No more than the `http` crate's types have room for: it may have to be sent again.
        let fits = head.path().len() <= PATH_MAX;
        if !method || !target || !fits || authority.iter().filter(|&&byte| byte == b':').count() > 1 {
            return None;
        }
        let mut seen = Seen::default();
        for field in head.fields() {
            match field.name {
                b"expect" => return None,
                b"user-agent" => {
                    seen.user_agent.get_or_insert(field.value);
                }
                b"content-type" => {
                    seen.content_type.get_or_insert(field.value);
                }
                // Several are one list, which takes more than copying.
                b"x-forwarded-for" if seen.forwarded_for.replace(field.value).is_some() => return None,
                b"x-forwarded-proto" => seen.forwarded_proto = true,
                b"x-forwarded-host" => seen.forwarded_host = true,
                _ => {}
            }
        }
        Some(Self { head, authority, seen })
    }

    /// As the client sent it.
    #[must_use]
    pub fn method(&self) -> &'a [u8] {
        self.head.method()
    }

    /// As the client sent it, with its query.
    #[must_use]
    pub fn path(&self) -> &'a [u8] {
        self.head.path()
    }

    /// What the client calls the server.
    #[must_use]
    pub fn authority(&self) -> &'a [u8] {
        self.authority
    }

    /// What the client says it is.
    #[must_use]
    pub fn user_agent(&self) -> Option<&'a [u8]> {
        self.seen.user_agent
    }

    /// The response has no body, whatever its head says.
    #[must_use]
    pub fn is_head(&self) -> bool {
        self.method() == b"HEAD"
    }

    /// Whether it may be sent a second time without knowing what became of the first (RFC 9110, section 9.2.2), if it has
    /// no body.
    #[must_use]
    pub fn is_idempotent(&self) -> bool {
        !matches!(self.method(), b"POST" | b"PATCH")
    }

    /// What kind of body it has.
    #[must_use]
    pub fn content_type(&self) -> &'a [u8] {
        self.seen.content_type.unwrap_or_default()
    }

    /// Appends the head as the app is to get it.
    pub fn put(&self, origin: &Origin, out: &mut Vec<u8>) {
        let head = self.head;
        Encoder::field(out, b":method", head.method(), false);
        Encoder::field(out, b":scheme", head.scheme(), false);
        Encoder::field(out, b":authority", self.authority, false);
        Encoder::field(out, b":path", head.path(), false);
        for field in head.fields() {
            let left_out = match field.name {
                // The authority says it (RFC 9113, section 8.3.1).
                b"host" => true,
                b"x-forwarded-for" => origin.forwarded != Forwarded::Off,
                b"x-forwarded-proto" | b"x-forwarded-host" => origin.forwarded == Forwarded::Replace,
                _ => false,
            };
            if !left_out {
                Encoder::field(out, field.name, field.value, field.never);
            }
        }
        self.say_where_from(origin, out);
    }

    fn say_where_from(&self, origin: &Origin, out: &mut Vec<u8>) {
        let append = match origin.forwarded {
            Forwarded::Off => return,
            Forwarded::Append => true,
            Forwarded::Replace => false,
        };
        match self.seen.forwarded_for {
            Some(before @ [_, ..]) if append => {
                let list = [before, b", ", &origin.client].concat();
                Encoder::field(out, b"x-forwarded-for", &list, false);
            }
            _ => Encoder::field(out, b"x-forwarded-for", &origin.client, false),
        }
        if !(append && self.seen.forwarded_proto) {
            Encoder::field(out, b"x-forwarded-proto", origin.proto.as_bytes(), false);
        }
        if !(append && self.seen.forwarded_host) {
            Encoder::field(out, b"x-forwarded-host", self.authority, false);
        }
    }
}

/// Whether it is a path with nothing in it that has no place in one (RFC 3986, section 3.3).
fn is_path(path: &[u8]) -> bool {
    path.first() == Some(&b'/')
        && path.iter().all(|byte| {
            matches!(byte, b'!'..=b'~')
                && !matches!(byte, b'<' | b'>' | b'#' | b'"' | b'`' | b'\\' | b'^' | b'{' | b'|' | b'}')
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http2::fields::Fields;
    use crate::http2::hpack::Decoder;

    const USUAL: [(&str, &str); 4] =
        [(":method", "GET"), (":scheme", "http"), (":authority", "shop:80"), (":path", "/a?b")];

    fn head(pseudo: &[(&str, &str)], fields: &[(&str, &str)]) -> Head {
        let mut list = Fields::new(1 << 16);
        for (name, value) in pseudo.iter().chain(fields) {
            list.add(name.as_bytes(), value.as_bytes(), *name == "secret");
        }
        Head::request(list).unwrap()
    }

    /// What of these fields reaches the app, behind the usual.
    fn passed(forwarded: Forwarded, fields: &[(&str, &str)]) -> Vec<(String, String)> {
        let head = head(&USUAL, fields);
        let origin = Origin { forwarded, client: b"10.0.0.9".to_vec(), proto: "http" };
        let mut block = Vec::new();
        Plain::of(&head).unwrap().put(&origin, &mut block);
        let mut list = Fields::new(1 << 16);
        Decoder::new().decode(&block, &mut list).unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        assert!(list.iter().all(|field| field.never == (field.name == b"secret")));
        let all: Vec<_> = list.iter().map(|field| (text(field.name), text(field.value))).collect();
        let usual = all.iter().zip(USUAL).all(|(passed, usual)| (&*passed.0, &*passed.1) == usual);
        assert!(usual, "{all:?}");
        all[USUAL.len()..].to_vec()
    }

    fn owned(fields: &[(&str, &str)]) -> Vec<(String, String)> {
        fields.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn fields_go_on_as_they_are() {
        let fields =
            [("accept", "*/*"), ("cookie", "a=1"), ("cookie", "b=2"), ("secret", "x"), ("te", "trailers")];
        assert_eq!(passed(Forwarded::Off, &fields), owned(&fields));
        assert_eq!(passed(Forwarded::Off, &[("host", "other")]), []);
    }

    #[test]
    fn where_from() {
        let own =
            [("x-forwarded-for", "10.0.0.9"), ("x-forwarded-proto", "http"), ("x-forwarded-host", "shop:80")];
        for forwarded in [Forwarded::Append, Forwarded::Replace] {
            assert_eq!(passed(forwarded, &[]), owned(&own));
        }
        let before =
            [("x-forwarded-for", "1.2.3.4"), ("x-forwarded-proto", "https"), ("x-forwarded-host", "outside")];
        assert_eq!(passed(Forwarded::Off, &before), owned(&before));
        assert_eq!(passed(Forwarded::Replace, &before), owned(&own));
        let appended = [before[1], before[2], ("x-forwarded-for", "1.2.3.4, 10.0.0.9")];
        assert_eq!(passed(Forwarded::Append, &before), owned(&appended));
        assert_eq!(passed(Forwarded::Append, &[("x-forwarded-for", "")]), owned(&own));
    }

    #[test]
    fn what_is_not_plain() {
        let replaced = |name: &str, value: &'static str| {
            head(&USUAL.map(|(n, v)| if n == name { (n, value) } else { (n, v) }), &[])
        };
        for head in [
            replaced(":method", "TRACE"),
            replaced(":method", "get"),
            replaced(":scheme", "ftp"),
            replaced(":path", "*"),
            replaced(":path", ""),
            replaced(":path", "/a b"),
            replaced(":path", "/a#b"),
            replaced(":path", "/\u{e9}"),
            replaced(":authority", ""),
            replaced(":authority", "user@shop"),
            replaced(":authority", "[::1]"),
            replaced(":authority", "a:1:2"),
            head(&[USUAL[0], USUAL[1], USUAL[3]], &[("host", "shop")]),
            head(&USUAL, &[("expect", "100-continue")]),
            head(&USUAL, &[("x-forwarded-for", "1.2.3.4"), ("x-forwarded-for", "5.6.7.8")]),
        ] {
            assert!(Plain::of(&head).is_none(), "{head:?}");
        }
    }
}
