//! `ctl healthcheck`: requests `/healthz` from an instance, for images without curl.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

use crate::{
    core::{clock::Instant, exit_code::Exit, text},
    settings::StatusEndpoint,
};

/// The time from the first attempt to connect to the end of the answer.
const TIMEOUT: Duration = Duration::from_secs(4);

/// Requests `/healthz` from the status endpoint and prints the answer. Exits with 0 if the instance is healthy, with 1 if it is not
/// or does not answer. Blocks for at most 4 seconds.
#[must_use]
pub fn run(endpoint: &StatusEndpoint) -> Exit {
    // Errors of printing are ignored: the exit code is the answer.
    match check(endpoint, TIMEOUT) {
        Ok(summary) => {
            let _ = writeln!(io::stdout(), "healthy: {}", text::escaped(&summary));
            Exit::Command(0)
        }
        Err(cause) => {
            let _ = writeln!(io::stderr(), "unhealthy: {}", text::escaped(&cause));
            Exit::Command(1)
        }
    }
}

/// Returns the state of the instance in one line. Blocks for at most a second.
///
/// # Errors
/// If it does not answer.
pub(super) fn state(endpoint: &StatusEndpoint) -> Result<String, String> {
    let answer = ask(endpoint, "/readyz", Duration::from_secs(1));
    answer.map(|(_, summary)| text::escaped(&summary).into_owned())
}

fn check(endpoint: &StatusEndpoint, timeout: Duration) -> Result<String, String> {
    match ask(endpoint, "/healthz", timeout)? {
        (true, summary) => Ok(summary),
        (false, summary) => Err(summary),
    }
}

/// Returns whether the answer to a request is 200 and not 503, and its text.
fn ask(endpoint: &StatusEndpoint, path: &str, timeout: Duration) -> Result<(bool, String), String> {
    if endpoint.port == 0 {
        return Err("the status endpoint has port 0, so its actual port is not known; set a fixed port".to_owned());
    }
    let deadline = Instant::now() + timeout;
    let answer = addresses(endpoint).and_then(|addresses| request(&connect(&addresses, deadline)?, path, deadline));
    let answer = answer.map_err(|error| format!("{endpoint} does not answer: {error}"))?;
    let mut head_and_body = answer.splitn(2, "\r\n\r\n");
    let head = head_and_body.next().unwrap_or_default();
    let summary = head_and_body.next().unwrap_or_default().trim();
    match head.lines().next().and_then(|line| line.strip_prefix("HTTP/1.")?.split(' ').nth(1)) {
        Some("200") => Ok((true, summary.to_owned())),
        Some("503") => Ok((false, summary.to_owned())),
        Some(code) => Err(format!("{endpoint} answers with status code {code}; does another program use the port?")),
        None => Err(format!("{endpoint} does not answer in HTTP; does another program use the port?")),
    }
}

/// Returns the addresses to connect to: loopback for a wildcard address.
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

/// Returns the answer to a `GET` request in HTTP/1.0, which ends with the connection.
fn request(mut stream: &TcpStream, path: &str, deadline: Instant) -> io::Result<String> {
    const MAX_LENGTH: usize = 64 << 10;
    stream.set_write_timeout(Some(left(deadline)?))?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes())?;
    let mut answer = Vec::new();
    let mut piece = [0; 4096];
    while answer.len() < MAX_LENGTH {
        // A constant timeout for each read would let a server that sends a byte per second delay this without end.
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

    /// Checks a server that reads a request and sends `answer`. It then closes the connection, unless `hang` is set.
    fn check_server(answer: &'static str, hang: bool) -> Result<String, String> {
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
        let answer = check(&endpoint, Duration::from_millis(if hang { 200 } else { 5000 }));
        server.join().expect("the server");
        answer
    }

    #[test]
    fn answers() {
        assert_eq!(check_server("HTTP/1.1 200 OK\r\nx: y\r\n\r\nall well\n", false), Ok("all well".into()));
        assert_eq!(check_server("HTTP/1.0 503 No\r\n\r\nstalled\n", false), Err("stalled".into()));
        for (answer, hang, cause) in [
            ("HTTP/1.1 404 Not Found\r\n\r\n", false, "answers with status code 404"),
            ("SSH-2.0\r\n", false, "does not answer in HTTP"),
            ("", false, "does not answer in HTTP"),
            ("HTTP/1.1 200 OK\r\n", true, "does not answer"),
        ] {
            let error = check_server(answer, hang).expect_err(cause);
            assert!(error.contains(cause), "{error}");
        }
    }

    #[test]
    fn a_closed_port_is_unhealthy() {
        // Port 1 (tcpmux) is not in use today, and the kernel does not choose it for another program.
        let port = 1;
        let endpoint = StatusEndpoint { host: Some("127.0.0.1".into()), port };
        assert!(check(&endpoint, TIMEOUT).expect_err("closed").contains("does not answer"));
        assert_eq!(run(&endpoint), Exit::Command(1));
    }

    #[test]
    fn a_wildcard_address_is_reached_on_loopback() {
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
