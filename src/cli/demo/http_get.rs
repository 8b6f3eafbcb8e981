//! One GET, as a kubelet does it for probes and hooks.

use std::error::Error;
use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

/// Gets a path and reads the answer to its end, however long that takes.
pub(super) async fn get(addr: SocketAddr, path: &str) -> Result<(StatusCode, Bytes), Box<dyn Error>> {
    let stream = TcpStream::connect(addr).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(path)
        .header(HOST, addr.to_string())
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())?;
    let exchange = async move {
        let (head, body) = sender.send_request(request).await?.into_parts();
        Ok((head.status, body.collect().await?.to_bytes()))
    };
    // What ends the connection too early is told to the exchange as well.
    let (answer, _) = tokio::join!(exchange, connection);
    answer
}
