//! Where a chunked body ends (RFC 9112, section 7.1).

/// Follows a chunked body that is passed on as it is.
#[derive(Debug, Default)]
pub struct Chunks {
    state: State,
    /// What is left of a chunk's data, or the digits of a size so far.
    left: u64,
    /// Bytes of the present line.
    line: usize,
    /// Bytes of the trailer section.
    trailers: usize,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    /// The first digit of a chunk's size.
    #[default]
    Size,
    /// Another digit, an extension, or the line's end.
    Digits,
    /// White space between the size and what may follow it.
    Space,
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// A trailer field's line, or the empty line that ends the body.
    Line,
    Trailer,
    TrailerLf,
    LastLf,
    Over,
}

/// The longest line of a size with its extension, and the largest trailer section.
const LINE_MAX: usize = 4096;
const TRAILERS_MAX: usize = 32 << 10;

/// What came is no chunked body.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

impl Chunks {
    /// More of the body. Returns how many of the bytes belong to it: all, unless it is over.
    ///
    /// # Errors
    /// `Malformed`; what is before it in the same bytes is not to be passed on either.
    pub fn follow(&mut self, bytes: &[u8]) -> Result<usize, Malformed> {
        let mut at = 0;
        while at < bytes.len() && self.state != State::Over {
            if self.state == State::Data {
                let here = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len() - at);
                at += here;
                self.left -= here as u64;
                if self.left == 0 {
                    self.state = State::DataCr;
                }
                continue;
            }
            self.state = self.step(bytes[at])?;
            at += 1;
        }
        Ok(at)
    }

    /// All of the body has come.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    fn step(&mut self, byte: u8) -> Result<State, Malformed> {
        self.line += 1;
        if matches!(self.state, State::Line | State::Trailer) {
            self.trailers += 1;
        }
        if self.line > LINE_MAX || self.trailers > TRAILERS_MAX {
            return Err(Malformed);
        }
        match (self.state, byte) {
            (State::Size | State::Digits, b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                // Sixteen digits are more than there will ever be, and fewer than would overflow.
                if self.left >> 56 != 0 {
                    return Err(Malformed);
                }
                let digit = (byte as char).to_digit(16).ok_or(Malformed)?;
                self.left = self.left << 4 | u64::from(digit);
                Ok(State::Digits)
            }
            (State::Digits | State::Space, b' ' | b'\t') => Ok(State::Space),
            (State::Digits | State::Space, b';') => Ok(State::Extension),
            (State::Digits | State::Space | State::Extension, b'\r') => Ok(State::SizeLf),
            (State::Extension, b'\t' | b' '..=b'~' | 0x80..) => Ok(State::Extension),
            (State::SizeLf, b'\n') => {
                self.line = 0;
                Ok(if self.left == 0 { State::Line } else { State::Data })
            }
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => {
                self.line = 0;
                Ok(State::Size)
            }
            (State::Line, b'\r') => Ok(State::LastLf),
            (State::Trailer, b'\r') => Ok(State::TrailerLf),
            (State::Line, b'!'..=b'~') | (State::Trailer, b'\t' | b' '..=b'~' | 0x80..) => Ok(State::Trailer),
            (State::TrailerLf, b'\n') => {
                self.line = 0;
                Ok(State::Line)
            }
            (State::LastLf, b'\n') => Ok(State::Over),
            _ => Err(Malformed),
        }
    }
}
