//! HTTP/1 messages as they were on the wire: nothing is normalised, so that tests see what ebb did.

use std::fmt;

/// A start line and the header fields in their order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Head {
    /// The request line or the status line.
    pub(crate) start: String,
    /// Names as sent, values without the blanks around them.
    pub(crate) fields: Vec<(String, String)>,
}

/// How the end of a body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is no body.
    None,
    /// `Content-Length`.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// The connection's end.
    Close,
}

impl Head {
    /// Reads a head without its final blank line.
    pub(crate) fn parse(text: &str) -> Self {
        let mut lines = text.split("\r\n");
        let start = lines.next().unwrap_or_default().to_owned();
        Self { start, fields: lines.filter(|line| !line.is_empty()).map(field).collect() }
    }

    /// Every value of a field, in order.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let named = self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }

    /// The one value of a field. Twice the same field is a failure.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} is there more than once: {self}");
        all.first().copied()
    }

    /// Whether a comma-separated field holds a word.
    pub(crate) fn has(&self, name: &str, word: &str) -> bool {
        let values = self.all(name);
        values.iter().flat_map(|value| value.split(',')).any(|w| w.trim().eq_ignore_ascii_case(word))
    }

    /// The request's target.
    pub(crate) fn target(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    /// The response's status.
    pub(crate) fn status(&self) -> u16 {
        match self.start.split(' ').nth(1).map(str::parse) {
            Some(Ok(status)) => status,
            _ => panic!("not a response: {self}"),
        }
    }

    /// The framing that RFC 9112 section 6.3 gives a request with this head.
    pub(crate) fn request_framing(&self) -> Framing {
        self.framing().unwrap_or(Framing::None)
    }

    /// The framing of the response to a request with this method.
    pub(crate) fn response_framing(&self, method: &str) -> Framing {
        match self.status() {
            100..200 | 204 | 304 => Framing::None,
            _ if method == "HEAD" => Framing::None,
            _ => self.framing().unwrap_or(Framing::Close),
        }
    }

    fn framing(&self) -> Option<Framing> {
        if self.has("transfer-encoding", "chunked") {
            assert_eq!(self.get("content-length"), None, "two framings: {self}");
            return Some(Framing::Chunked);
        }
        let length = self.get("content-length")?;
        Some(Framing::Length(length.parse().expect("a content-length in digits")))
    }
}

/// Reads one field line.
pub(crate) fn field(line: &str) -> (String, String) {
    let (name, value) = line.split_once(':').unwrap_or_else(|| panic!("no field line: {line:?}"));
    (name.to_owned(), value.trim().to_owned())
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.start)?;
        self.fields.iter().try_for_each(|(name, value)| writeln!(f, "{name}: {value}"))
    }
}

/// A body and what came after it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Body {
    /// The content, unchunked.
    pub(crate) bytes: Vec<u8>,
    /// The trailer section of a chunked body.
    pub(crate) trailers: Vec<(String, String)>,
}

/// A whole response.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    /// The status line and the fields.
    pub(crate) head: Head,
    /// The content and the trailers.
    pub(crate) body: Body,
}

impl Response {
    /// The status.
    pub(crate) fn status(&self) -> u16 {
        self.head.status()
    }

    /// The content as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body.bytes).expect("a body in UTF-8")
    }

    /// Whether the server says that this is the connection's last response.
    pub(crate) fn closes(&self) -> bool {
        self.head.has("connection", "close")
    }

    /// Fails unless this is an error that ebb made, with this status and this reason.
    #[track_caller]
    pub(crate) fn assert_error(&self, status: u16, reason: &str) {
        let found = (self.status(), self.head.get("ebb-error"));
        assert_eq!(found, (status, Some(reason)), "{}{}", self.head, self.text());
        let one_line = self.text().trim_end_matches('\n');
        assert!(!one_line.is_empty() && !one_line.contains('\n'), "no one-line body: {:?}", self.text());
    }
}
