//! One line of text there, one back, over the container's own loopback.

use std::io::{self, Write as _};
use std::net::Ipv4Addr;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

const ADDR: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 4000);

/// What an answer begins with that is none.
const ERROR: &str = "error: ";

/// Answers what is said, one after the other, for ever.
pub(crate) async fn listen(mut answer: impl AsyncFnMut(&str) -> Result<String, String>) -> io::Result<()> {
    let listener = TcpListener::bind(ADDR).await?;
    loop {
        let (mut stream, _) = listener.accept().await?;
        let mut line = String::new();
        if BufReader::new(&mut stream).read_line(&mut line).await.is_err() {
            continue;
        }
        let said = answer(line.trim()).await.unwrap_or_else(|error| format!("{ERROR}{error}"));
        // Who has hung up does not want to know.
        let _ = stream.write_all(said.as_bytes()).await;
    }
}

/// Says something, and prints the answer.
pub(crate) async fn say(words: &str) -> io::Result<()> {
    let mut stream = TcpStream::connect(ADDR).await?;
    stream.write_all(format!("{words}\n").as_bytes()).await?;
    let mut said = String::new();
    stream.read_to_string(&mut said).await?;
    match said.strip_prefix(ERROR) {
        Some(error) => Err(io::Error::other(error.to_owned())),
        None => writeln!(io::stdout(), "{said}"),
    }
}
