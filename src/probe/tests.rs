use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    sync::mpsc,
};

use super::*;
use crate::{settings::HttpProbe, system::clock::BootClock};

const SHORT: Duration = Duration::from_millis(300);

fn send(probe: &Probe) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(Prober::new(SHORT, None, BootClock).send(probe, 0))
}

fn http(port: u16, tls: bool) -> Probe {
    let authority = format!("127.0.0.1:{port}");
    Probe::Http(HttpProbe { tls, host: "127.0.0.1".into(), port, authority, path: "/health?x=1".into() })
}

/// Sends a request to a server that answers with this text, and then closes the connection or does not.
fn answered(answer: &'static [u8], hangs: bool, tls: bool) -> Result<(), String> {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (done, is_done) = mpsc::channel::<()>();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut request = [0; 2048];
        let length = stream.read(&mut request).expect("a request");
        let _ = stream.write_all(answer);
        if hangs {
            let _ = is_done.recv();
        }
        String::from_utf8_lossy(&request[..length]).into_owned()
    });
    let outcome = send(&http(port, tls));
    drop(done);
    let request = server.join().expect("the server");
    assert!(
        tls || request.starts_with(&format!("GET /health?x=1 HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n")),
        "{request}"
    );
    outcome
}

#[test]
fn the_status_code_decides() {
    for answer in [&b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"[..], b"HTTP/1.0 204 No Content\r\n\r\n"] {
        assert_eq!(answered(answer, false, false), Ok(()));
    }
    // The body is not awaited.
    assert_eq!(answered(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", true, false), Ok(()));
    for (answer, hangs, cause) in [
        (&b"HTTP/1.1 503 Service Unavailable\r\n\r\n"[..], false, "it answered 503 Service Unavailable"),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", false, "it answered 404"),
        (b"HTTP/1.1 302 Found\r\nlocation: /ok\r\n\r\n", false, "a redirect, which is not followed"),
        (b"SSH-2.0-OpenSSH\r\n", false, "could not read the answer"),
        (b"", false, "could not read the answer"),
        (b"", true, "there was no answer within 300ms"),
        (b"HTTP/1.1 200 OK\r\nx: ", true, "there was no answer within 300ms"),
    ] {
        let failure = answered(answer, hangs, false).expect_err(cause);
        assert!(failure.contains(cause), "{failure}");
    }
    assert!(answered(b"HTTP/1.1 200 OK\r\n\r\n", false, true).expect_err("no TLS").contains("TLS"));
}

#[test]
fn a_header_without_end_is_refused() {
    let endless: &'static [u8] = Vec::leak([&b"HTTP/1.1 200 OK\r\nx: "[..], &[b'a'; 200_000]].concat());
    assert!(answered(endless, true, false).is_err());
}

#[test]
fn a_port_is_open_or_closed() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    assert_eq!(send(&Probe::Tcp("127.0.0.1".into(), port)), Ok(()));
    assert_eq!(send(&Probe::Tcp("localhost".into(), port)), Ok(()));
    drop(listener);
    assert!(send(&Probe::Tcp("127.0.0.1".into(), port)).expect_err("closed").contains("could not connect"));
    assert!(send(&Probe::Tcp("name.invalid".into(), port)).is_err());
}
