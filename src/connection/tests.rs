use super::*;
use std::future::Future;

fn size_of_future<I, F: Future>(_: impl FnOnce(I) -> F) -> usize {
    size_of::<F>()
}

#[test]
fn sizes() {
    macro_rules! print { ($($t:ty),*) => { $(println!("{:30} {}", stringify!($t), size_of::<$t>());)* } }
    print!(
        ClientStream,
        Next,
        Client,
        Member,
        roster::Seat,
        Exchange,
        Busy,
        Caller,
        Upgraded,
        peer::Peer,
        crate::upstream::Upload,
        TcpStream,
        crate::proxy_protocol::Preamble
    );
    println!("live {}", size_of_future(|(client, next): (Client, ClientStream)| client.live(next)));
    fn sizes<'a>() {
        println!("wake {}", size_of_future(|(client, stream): (&'a Client, Next)| client.wake(stream)));
        println!(
            "sniff {}",
            size_of_future(|(client, stream): (&'a Client, ClientStream)| sniff::sniff(client, stream))
        );
        println!(
            "serve {}",
            size_of_future(|(client, stream): (&'a Client, ClientStream)| http1::serve(
                client,
                stream,
                Bytes::new()
            ))
        );
        println!(
            "http2 {}",
            size_of_future(|(client, stream): (&'a Client, ClientStream)| http2::serve(
                client,
                stream,
                Bytes::new()
            ))
        );
        println!(
            "linger {}",
            size_of_future(|(client, stream): (&'a Member, ClientStream)| linger::after_idle(client, stream))
        );
    }
    sizes();
    println!(
        "tcp {}",
        size_of_future(|(s, m, c, st): (Rc<Site>, Member, Rc<Caller>, ClientStream)| tcp::serve(s, m, c, st))
    );
    println!(
        "proxy_header {}",
        size_of_future(|(s, m, c, st): (Rc<Site>, Member, Rc<Caller>, TcpStream)| proxy_header::read(
            s, m, c, st
        ))
    );
}
