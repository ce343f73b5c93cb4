//! What a check asks: a URL, a TCP port, or a command.

use std::fmt;

use hyper::Uri;

use super::values::CommandLine;

/// What a check asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A `GET` request, which is to be answered with a status code of 2xx.
    Http(HttpProbe),
    /// A connection to this host and port.
    Tcp(String, u16),
    /// A command, which is to exit with 0.
    Command(CommandLine),
}

/// A `GET` request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpProbe {
    /// Whether it is sent over TLS.
    pub tls: bool,
    /// The host, without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The header `Host`.
    pub authority: String,
    /// Path and query.
    pub path: String,
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(http) => {
                let scheme = if http.tls { "https" } else { "http" };
                // A query can contain a secret.
                let (path, query) =
                    http.path.split_once('?').map_or((http.path.as_str(), ""), |(path, _)| (path, "?…"));
                write!(f, "{scheme}://{}{path}{query}", http.authority)
            }
            Self::Tcp(host, port) if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Self::Tcp(host, port) => write!(f, "tcp://{host}:{port}"),
            Self::Command(command) => f.write_str(&command.words()[0].to_string_lossy()),
        }
    }
}

/// `http://…`, `https://…`, `tcp://host:port`, or the words of a command, quoted as for a shell.
pub(super) fn probe(text: &str) -> Result<Probe, &'static str> {
    let command = CommandLine::parse(text)?;
    if command.words()[0].to_string_lossy().contains("://") { url(text) } else { Ok(Probe::Command(command)) }
}

fn url(text: &str) -> Result<Probe, &'static str> {
    const WRONG: &str = "is not a valid URL; use http://HOST[:PORT]/PATH, https://HOST[:PORT]/PATH or tcp://HOST:PORT";
    let uri: Uri = text.parse().map_err(|_| WRONG)?;
    let authority = uri.authority().ok_or(WRONG)?;
    if authority.as_str().contains('@') {
        return Err("contains a user or a password, which is not sent; use a command, such as curl");
    }
    let host = authority.host().trim_matches(['[', ']']).to_owned();
    let has_port = authority.as_str().len() > authority.host().len();
    if host.is_empty() || has_port != authority.port_u16().is_some() {
        return Err(WRONG);
    }
    let http = |tls: bool, port: u16| {
        let path = uri.path_and_query().map_or("", |path| path.as_str());
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let port = authority.port_u16().unwrap_or(port);
        Probe::Http(HttpProbe { tls, host: host.clone(), port, authority: authority.to_string(), path })
    };
    match (uri.scheme_str(), authority.port_u16()) {
        (Some("http"), _) => Ok(http(false, 80)),
        (Some("https"), _) => Ok(http(true, 443)),
        (Some("tcp"), Some(port)) if matches!(uri.path(), "" | "/") && uri.query().is_none() => {
            Ok(Probe::Tcp(host, port))
        }
        _ => Err(WRONG),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind() {
        for (text, shown) in [
            ("http://localhost:8080/health?token=secret", "http://localhost:8080/health?…"),
            ("http://localhost?full=1", "http://localhost/?…"),
            ("https://db.example", "https://db.example/"),
            ("tcp://[::1]:5432", "tcp://[::1]:5432"),
            ("tcp://db:5432/", "tcp://db:5432"),
            ("pg_isready -h /run/postgresql", "pg_isready"),
        ] {
            assert_eq!(probe(text).map(|probe| probe.to_string()).as_deref(), Ok(shown), "{text}");
        }
        let Ok(Probe::Http(http)) = probe("https://[::1]/") else { panic!("a URL") };
        assert_eq!((http.host.as_str(), http.port, http.authority.as_str()), ("::1", 443, "[::1]"));
    }

    #[test]
    fn a_command_is_split_like_the_words_of_a_shell() {
        let words = |text| match probe(text) {
            Ok(Probe::Command(command)) => command.words().to_vec(),
            other => panic!("{other:?}"),
        };
        assert_eq!(words(r#"sh -c 'exit "$X"' "a b" c\ d"#), ["sh", "-c", "exit \"$X\"", "a b", "c d"]);
        // Nothing is expanded.
        assert_eq!(words("test -e $HOME/*; x"), ["test", "-e", "$HOME/*;", "x"]);
        assert_eq!(words("curl -f http://user@host/"), ["curl", "-f", "http://user@host/"]);
    }

    #[test]
    fn what_is_refused() {
        for text in [
            "",
            " ",
            "''",
            "a 'b",
            "htp://x/",
            "tcp://x",
            "tcp://x:1/path",
            "http://",
            "http://x:port/",
            "http://x:99999/",
            "http://user:secret@x/",
            "https:///",
            "http://x:/",
        ] {
            assert!(probe(text).is_err(), "{text}");
        }
    }
}
