//! Why streams and connections end (RFC 9113, section 7).

use std::fmt;
use std::io;

/// The code of a RST_STREAM or GOAWAY. Any number may come.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Reason(pub u32);

/// Those that are known by a name.
const NAMES: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];

impl Reason {
    /// Nothing is wrong.
    pub const NO_ERROR: Self = Self(0);
    /// The other side does what the protocol does not allow.
    pub const PROTOCOL_ERROR: Self = Self(1);
    /// Something went wrong on the way.
    pub const INTERNAL_ERROR: Self = Self(2);
    /// More was sent than there was a window for.
    pub const FLOW_CONTROL_ERROR: Self = Self(3);
    /// Something came on a stream that is over.
    pub const STREAM_CLOSED: Self = Self(5);
    /// A frame has a length that it can't have.
    pub const FRAME_SIZE_ERROR: Self = Self(6);
    /// The request was not processed, and may be sent again.
    pub const REFUSED_STREAM: Self = Self(7);
    /// Nobody needs it any more.
    pub const CANCEL: Self = Self(8);
    /// A head could not be decoded.
    pub const COMPRESSION_ERROR: Self = Self(9);
    /// Too much of something.
    pub const ENHANCE_YOUR_CALM: Self = Self(11);
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.get(self.0 as usize) {
            Some(name) => f.write_str(name),
            None => write!(f, "code {}", self.0),
        }
    }
}

impl fmt::Debug for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a stream, or a connection, did not come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The other side has reset the stream.
    #[error("the stream was reset: {0}")]
    Reset(Reason),
    /// The other side's GOAWAY says that it has not looked at the stream.
    #[error("the other side goes away and has not looked at the stream: {0}")]
    Unprocessed(Reason),
    /// The other side did what it may not do; it has been told so with this code.
    #[error("the other side has broken the protocol: {0}")]
    Breach(Reason),
    /// The connection has ended.
    #[error("the connection has ended: {0}")]
    Gone(io::ErrorKind),
}
