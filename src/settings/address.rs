//! Addresses: etcd's endpoints, and where to serve the status.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use crate::core::text::excerpt;

/// Where to serve the status. A host name is resolved when it is bound, not before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusEndpoint {
    /// The host, without brackets; all interfaces if there is none.
    pub host: Option<String>,
    /// The port; 0 lets the kernel choose.
    pub port: u16,
}

impl StatusEndpoint {
    /// `host:port`, `[v6]:port` or `:port`.
    ///
    /// # Errors
    /// With what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        const RIGHT: &str = "use host:port, or :port for all interfaces";
        if text.contains("://") {
            return Err(format!("is a URL; {RIGHT}"));
        }
        let (host, port) = split(text).map_err(|why| format!("{why}; {RIGHT}"))?;
        let port = port.ok_or_else(|| format!("has no port; {RIGHT}"))?;
        Ok(Self { host: host.map(str::to_owned), port })
    }

    /// The addresses to bind, to be tried in this order. Looks the host name up, which can take a while.
    ///
    /// # Errors
    /// If the host name has no address.
    pub fn resolve(&self) -> std::io::Result<Vec<SocketAddr>> {
        use std::net::ToSocketAddrs;

        match &self.host {
            // The IPv6 wildcard takes IPv4 as well; the second is for a kernel without IPv6.
            None => Ok(vec![
                (Ipv6Addr::UNSPECIFIED, self.port).into(),
                SocketAddr::from((Ipv4Addr::UNSPECIFIED, self.port)),
            ]),
            Some(host) => Ok((host.as_str(), self.port).to_socket_addrs()?.collect()),
        }
    }
}

impl fmt::Display for StatusEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Some(host) if host.contains(':') => write!(f, "[{host}]:{}", self.port),
            host => write!(f, "{}:{}", host.as_deref().unwrap_or_default(), self.port),
        }
    }
}

/// The endpoints of etcd: at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EndpointList(pub(super) Vec<Endpoint>);

/// One endpoint of etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Endpoint {
    /// Whether TLS is spoken there; `None` if no scheme was given.
    pub(super) tls: Option<bool>,
    /// The host, with brackets if it is an IPv6 address.
    pub(super) host: String,
    /// The port.
    pub(super) port: u16,
}

impl Endpoint {
    /// The URL for the client.
    pub(super) fn url(&self, tls_without_scheme: bool) -> String {
        let scheme = if self.tls.unwrap_or(tls_without_scheme) { "https" } else { "http" };
        format!("{scheme}://{}:{}", self.host, self.port)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (tls, rest) = match text.split_once("://") {
            None if text.starts_with("unix:") => return Err(NO_SOCKET.into()),
            None => (None, text),
            Some((scheme, rest)) => match scheme.to_ascii_lowercase().as_str() {
                "http" => (Some(false), rest),
                "https" => (Some(true), rest),
                "unix" | "unixs" => return Err(NO_SOCKET.into()),
                _ => return Err("has an unknown scheme; use http:// or https://, or none".into()),
            },
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#']) {
            return Err("has a path; use host:port, or a URL that ends with the port".into());
        }
        let (host, port) = split(authority)?;
        let host = host.ok_or("has no host; use host:port")?;
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        match port {
            Some(0) => Err("has the port 0; the default of etcd is 2379".into()),
            port => Ok(Self { tls, host, port: port.unwrap_or(2379) }),
        }
    }
}

const NO_SOCKET: &str = "is a unix socket, which is not supported; use host:port";

/// The comma-separated list of `ENDPOINTS`. A comma or blanks at its end are tolerated, and one written twice is one.
pub(super) fn endpoints(text: &str) -> Result<EndpointList, String> {
    let list = text.trim();
    let list = list.strip_suffix(',').unwrap_or(list).trim_end();
    if list.is_empty() {
        return Err("the list is empty; use host:port,host:port,…".into());
    }
    let mut endpoints = Vec::new();
    for item in list.split(',').map(str::trim) {
        if item.is_empty() {
            return Err("the list has an empty entry; use host:port,host:port,…".into());
        }
        // The refusal must not show what stands before the '@': it is a password.
        if let Some((_, host)) = item.rsplit_once('@') {
            let host = excerpt(host);
            return Err(format!("'…@{host}' contains a user; use --user and --password-file instead"));
        }
        let endpoint = Endpoint::parse(item).map_err(|why| format!("'{}' {why}", excerpt(item)))?;
        if !endpoints.contains(&endpoint) {
            endpoints.push(endpoint);
        }
    }
    Ok(EndpointList(endpoints))
}

/// The domain of `DISCOVERY_SRV`; a dot at its end is tolerated.
pub(super) fn domain(text: &str) -> Result<String, &'static str> {
    let domain = text.strip_suffix('.').unwrap_or(text);
    let labels = domain.split('.');
    if domain.parse::<IpAddr>().is_ok() || domain.len() > 200 || labels.map(str::len).any(|n| n == 0 || n > 63) {
        return Err("is not a valid domain; use a name such as example.com");
    }
    if is_host(domain) {
        Ok(domain.to_owned())
    } else {
        Err("has characters that are not valid in a domain; use a name such as example.com")
    }
}

/// The suffix of `DISCOVERY_SRV_NAME`, which becomes a part of one label.
pub(super) fn service_suffix(text: &str) -> Result<String, &'static str> {
    let longest = 63 - "_etcd-client-ssl-".len();
    let is_label = is_host(text) && !text.contains('.');
    if is_label && text.len() <= longest {
        return Ok(text.to_owned());
    }
    Err("is not a valid suffix; use up to 46 letters, digits and hyphens, such as west for _etcd-client-west._tcp")
}

/// Whether these are characters of a host name, and not too many.
pub(crate) fn is_host(text: &str) -> bool {
    text.len() <= 253 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

/// Splits `host:port`, `host`, `[v6]:port` and `:port`; the host comes without brackets and is plausible.
fn split(text: &str) -> Result<(Option<&str>, Option<u16>), String> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once(']').ok_or("has no closing bracket")?;
        address.parse::<Ipv6Addr>().map_err(|_| "has no valid IPv6 address in its brackets")?;
        let port = match rest {
            "" => None,
            rest => Some(rest.strip_prefix(':').ok_or("has something other than a port after its bracket")?),
        };
        (Some(address), port)
    } else {
        let (host, port) = match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        };
        if port.is_some_and(|port| port.contains(':')) {
            return Err("has more than one colon; use brackets for an IPv6 address: [::1]:2379".into());
        }
        ((!host.is_empty()).then_some(host), port)
    };
    if let Some(host) = host
        && host.parse::<IpAddr>().is_err()
        && !is_host(host)
    {
        return Err("has characters that are not valid in a host name".into());
    }
    let port = port.map(|port| {
        // `parse` alone takes a leading plus.
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        let number = port.parse::<u16>().ok().filter(|_| digits);
        number.ok_or_else(|| "has no port between 1 and 65535 after its colon".to_owned())
    });
    Ok((host, port.transpose()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(text: &str, tls: bool) -> Vec<String> {
        endpoints(text).expect(text).0.iter().map(|endpoint| endpoint.url(tls)).collect()
    }

    #[test]
    fn endpoints_with_and_without_scheme_port_and_care() {
        for (text, tls, expected) in [
            ("a:1", false, vec!["http://a:1"]),
            ("a:1", true, vec!["https://a:1"]),
            ("http://a:1,https://b:2", true, vec!["http://a:1", "https://b:2"]),
            ("HTTPS://a", false, vec!["https://a:2379"]),
            (
                "a, b:1 ,\t[::1]:3,[fe80::1] , ",
                false,
                vec!["http://a:2379", "http://b:1", "http://[::1]:3", "http://[fe80::1]:2379"],
            ),
            ("http://a:1/,http://a:1", false, vec!["http://a:1"]),
            ("etcd_1.x-y.example", false, vec!["http://etcd_1.x-y.example:2379"]),
        ] {
            assert_eq!(urls(text, tls), expected, "{text}");
        }
    }

    #[test]
    fn each_bad_endpoint_is_told_why() {
        for (text, why) in [
            (",", "is empty"),
            (" ", "is empty"),
            ("a,,b", "empty entry"),
            (",a", "empty entry"),
            ("a:b", "no port between 1"),
            ("a:+1", "no port between 1"),
            ("a:65536", "no port between 1"),
            ("a:", "no port between 1"),
            ("a:0", "the port 0"),
            ("::1:2379", "more than one colon"),
            ("[::1", "closing bracket"),
            ("[x]:1", "no valid IPv6 address"),
            ("[::1]x", "after its bracket"),
            (":2379", "no host"),
            ("http://", "no host"),
            ("ftp://a", "unknown scheme"),
            ("unix:///run/etcd.sock", "unix socket"),
            ("unix:/run/etcd.sock", "unix socket"),
            ("http://a/v3", "has a path"),
            ("a?x=1", "has a path"),
            ("a b:1", "characters"),
            ("http://u:pw@a:1", "contains a user"),
        ] {
            let refused = endpoints(text).expect_err(text);
            assert!(refused.contains(why), "{text}: {refused}");
            assert!(!refused.contains("pw"), "{refused}");
        }
    }

    #[test]
    fn domains_and_suffixes_of_srv_records() {
        for (text, expected) in [("example.com", "example.com"), ("etcd.svc.cluster.local.", "etcd.svc.cluster.local")]
        {
            assert_eq!(domain(text).as_deref(), Ok(expected));
        }
        let long = format!("{}.com", "a".repeat(64));
        for text in ["", ".", "a..b", ".a", "10.0.0.1", "[::1]", "a b", "a/b", "http://a", "a:1", &long] {
            assert!(domain(text).is_err(), "{text}");
        }
        assert_eq!(service_suffix("west-1").as_deref(), Ok("west-1"));
        for text in ["", "a.b", "a b", "a/b", &"a".repeat(47)] {
            assert!(service_suffix(text).is_err() || text.is_empty(), "{text}");
        }
    }

    #[test]
    fn the_status_endpoint() {
        for (text, host, port) in [
            (":8080", None, 8080),
            ("localhost:1", Some("localhost"), 1),
            ("0.0.0.0:80", Some("0.0.0.0"), 80),
            ("[::1]:80", Some("::1"), 80),
            (":0", None, 0),
        ] {
            let endpoint = StatusEndpoint::parse(text).expect(text);
            assert_eq!((endpoint.host.as_deref(), endpoint.port), (host, port));
            assert_eq!(endpoint.to_string(), text);
        }
        for text in ["8080", "", ":", "a:b", "http://a:1", "::1:80", "a:80/x", "a b:1", "[::1]"] {
            assert!(StatusEndpoint::parse(text).is_err(), "{text}");
        }
        assert_eq!(StatusEndpoint::parse(":1").expect("all").resolve().expect("no lookup").len(), 2);
    }
}
