//! `ctl healthcheck`: asks the instance next door whether it is healthy. An image without curl has this.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

use crate::{
    core::{clock::Instant, exit_code::Exit, text},
    settings::StatusEndpoint,
};

/// From the first attempt to connect to the answer.
const TIMEOUT: Duration = Duration::from_secs(4);

/// Asks `/healthz` of the status endpoint and prints the answer: exit 0 if healthy, 1 if not or if nobody answers.
/// Blocks for some seconds at most.
#[must_use]
pub fn run(endpoint: &StatusEndpoint) -> Exit {
    // Nobody may be listening; the exit code is the answer.
    match ask(endpoint, TIMEOUT) {
        Ok(words) => {
            let _ = writeln!(io::stdout(), "healthy: {}", text::escaped(&words));
            Exit::Command(0)
        }
        Err(why) => {
            let _ = writeln!(io::stderr(), "unhealthy: {}", text::escaped(&why));
            Exit::Command(1)
        }
    }
}

fn ask(endpoint: &StatusEndpoint, timeout: Duration) -> Result<String, String> {
    if endpoint.port == 0 {
        return Err("with the port 0 nobody knows where the status is served".to_owned());
    }
    let deadline = Instant::now() + timeout;
    let answer = addresses(endpoint).and_then(|addresses| request(&connect(&addresses, deadline)?, deadline));
    let answer = answer.map_err(|error| format!("{endpoint} does not answer: {error}"))?;
    let mut head_and_body = answer.splitn(2, "\r\n\r\n");
    let head = head_and_body.next().unwrap_or_default();
    let words = head_and_body.next().unwrap_or_default().trim();
    match head.lines().next().and_then(|line| line.strip_prefix("HTTP/1.")?.split(' ').nth(1)) {
        Some("200") => Ok(words.to_owned()),
        Some("503") => Err(words.to_owned()),
        Some(code) => Err(format!("{endpoint} answers {code}: is it another program's port?")),
        None => Err(format!("{endpoint} does not speak HTTP: is it another program's port?")),
    }
}

/// Where to ask: a wildcard is served on every interface, so also on loopback.
fn addresses(endpoint: &StatusEndpoint) -> io::Result<Vec<SocketAddr>> {
    let loopback = |address: SocketAddr| match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => vec![(Ipv4Addr::LOCALHOST, address.port()).into()],
        IpAddr::V6(ip) if ip.is_unspecified() => {
            vec![(Ipv6Addr::LOCALHOST, address.port()).into(), (Ipv4Addr::LOCALHOST, address.port()).into()]
        }
        _ => vec![address],
    };
    Ok(endpoint.resolve()?.into_iter().flat_map(loopback).collect())
}

fn connect(addresses: &[SocketAddr], deadline: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the host name has no address");
    for address in addresses {
        match TcpStream::connect_timeout(address, left(deadline)?) {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// The whole answer to `GET /healthz`; HTTP/1.0, so it ends with the connection.
fn request(mut stream: &TcpStream, deadline: Instant) -> io::Result<String> {
    const MOST: usize = 64 << 10;
    stream.set_write_timeout(Some(left(deadline)?))?;
    stream.write_all(b"GET /healthz HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while answer.len() < MOST {
        // A timeout for each read alone would let a byte per second go on for ever.
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(&mut piece)? {
            0 => break,
            n => answer.extend_from_slice(&piece[..n]),
        }
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_since(Instant::now());
    if left.is_zero() { Err(io::Error::new(io::ErrorKind::TimedOut, "timed out")) } else { Ok(left) }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// Asks a server that reads a request and says `answer`, then closes unless `hang`.
    fn ask_one_that_says(answer: &'static str, hang: bool) -> Result<String, String> {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut request = [0; 512];
            let n = stream.read(&mut request).expect("a request");
            assert!(request[..n].starts_with(b"GET /healthz HTTP/1.0\r\n"));
            stream.write_all(answer.as_bytes()).expect("written");
            if hang {
                // Until the client gives up.
                let _ = stream.read(&mut request);
            }
        });
        let endpoint = StatusEndpoint { host: Some("0.0.0.0".into()), port };
        let answer = ask(&endpoint, Duration::from_millis(if hang { 200 } else { 5000 }));
        server.join().expect("the server");
        answer
    }

    #[test]
    fn answers() {
        assert_eq!(ask_one_that_says("HTTP/1.1 200 OK\r\nx: y\r\n\r\nall well\n", false), Ok("all well".into()));
        assert_eq!(ask_one_that_says("HTTP/1.0 503 No\r\n\r\nstalled\n", false), Err("stalled".into()));
        for (answer, hang, why) in [
            ("HTTP/1.1 404 Not Found\r\n\r\n", false, "answers 404"),
            ("SSH-2.0\r\n", false, "does not speak HTTP"),
            ("", false, "does not speak HTTP"),
            ("HTTP/1.1 200 OK\r\n", true, "does not answer"),
        ] {
            let refused = ask_one_that_says(answer, hang).expect_err(why);
            assert!(refused.contains(why), "{refused}");
        }
    }

    #[test]
    fn nobody_there() {
        // Nothing has served tcpmux for decades, and no kernel gives the port away.
        let port = 1;
        let endpoint = StatusEndpoint { host: Some("127.0.0.1".into()), port };
        assert!(ask(&endpoint, TIMEOUT).expect_err("closed").contains("does not answer"));
        assert_eq!(run(&endpoint), Exit::Command(1));
    }

    #[test]
    fn a_wildcard_is_asked_on_loopback() {
        for (host, expected) in [
            (Some("0.0.0.0"), vec!["127.0.0.1:80"]),
            (Some("::"), vec!["[::1]:80", "127.0.0.1:80"]),
            (Some("192.0.2.1"), vec!["192.0.2.1:80"]),
            (None, vec!["[::1]:80", "127.0.0.1:80", "127.0.0.1:80"]),
        ] {
            let endpoint = StatusEndpoint { host: host.map(Into::into), port: 80 };
            let addresses: Vec<_> = addresses(&endpoint).expect("no lookup").iter().map(ToString::to_string).collect();
            assert_eq!(addresses, expected);
        }
    }
}
