//! Media types that a drain treats in their own way.

/// Server-sent events.
pub const EVENTS: &[u8] = b"text/event-stream";

/// The value of a `Content-Type` without its parameters.
#[must_use]
pub fn type_of(content_type: &[u8]) -> &[u8] {
    content_type.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii()
}

/// Whether bodies of this type are open-ended sequences of records: stopping between two chunks loses nothing that the
/// client can't ask for again. Any other body is cut instead, because a terminal chunk would make half a document look
/// whole (RFC 9112, section 8).
#[must_use]
pub fn is_stream(media_type: &[u8]) -> bool {
    const STREAMS: [&[u8]; 4] =
        [EVENTS, b"application/x-ndjson", b"application/json-seq", b"multipart/x-mixed-replace"];
    STREAMS.iter().any(|stream| media_type.eq_ignore_ascii_case(stream))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_streams_of_records_may_be_ended_as_if_they_were_whole() {
        let ends = |content_type: &str| is_stream(type_of(content_type.as_bytes()));
        assert!(ends("text/event-stream"));
        assert!(ends("Text/Event-Stream; charset=utf-8"));
        assert!(!ends("application/json"));
        assert!(!ends("text/event-streams"));
        assert!(!ends(""));
    }
}
