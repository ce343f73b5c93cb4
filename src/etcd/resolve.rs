//! The addresses of an endpoint's name, by the system's resolver: so `/etc/hosts` and nsswitch count.

use std::{
    cell::RefCell,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

use tokio::{net::lookup_host, sync::Mutex, task::JoinHandle};

/// A host and a port.
#[derive(Debug)]
pub(super) struct Name {
    /// Without brackets.
    pub(super) host: String,
    port: u16,
    /// The lookup that is under way. It occupies a thread for as long as the resolver takes, so there is never a second one.
    lookup: Mutex<Option<JoinHandle<io::Result<Vec<SocketAddr>>>>>,
    failure: RefCell<Option<String>>,
}

impl Name {
    /// The host and the port of a URL as the configuration has it: with both.
    pub(super) fn of_url(url: &str) -> Self {
        let authority = url.split_once("://").map_or(url, |(_, authority)| authority).trim_end_matches('/');
        let (host, port) = authority.rsplit_once(':').unwrap_or((authority, ""));
        let host = host.trim_matches(['[', ']']).to_owned();
        Self { host, port: port.parse().unwrap_or(2379), lookup: Mutex::default(), failure: RefCell::default() }
    }

    /// The address, if the host is one.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.host.parse().ok()?, self.port))
    }

    /// All addresses, in the resolver's order. Can be dropped: the next call waits for the same lookup.
    ///
    /// # Errors
    /// If there is none.
    pub(super) async fn look_up(&self) -> Result<Vec<SocketAddr>, String> {
        let found = match self.address() {
            Some(address) => Ok(vec![address]),
            None => self.ask_resolver().await.map_err(|error| error.to_string()),
        };
        self.failure.replace(found.as_ref().err().cloned());
        found
    }

    /// Why the latest lookup failed; or that there is no answer yet.
    pub(super) fn failure(&self) -> String {
        let why = self.failure.borrow();
        format!("could not resolve {:?}: {}", self.host, why.as_deref().unwrap_or("no answer from the resolver yet"))
    }

    async fn ask_resolver(&self) -> io::Result<Vec<SocketAddr>> {
        let mut lookup = self.lookup.lock().await;
        let handle = lookup.get_or_insert_with(|| {
            let name = (self.host.clone(), self.port);
            tokio::spawn(async move { lookup_host(name).await.map(Iterator::collect) })
        });
        let answer = handle.await;
        *lookup = None;
        let mut addresses = Vec::new();
        for address in answer.map_err(io::Error::other)?? {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        let addresses = usable(addresses, has_route);
        if addresses.is_empty() { Err(io::Error::other("it has no address")) } else { Ok(addresses) }
    }
}

/// Without those that nothing could be sent to, unless that is true of all: a machine without IPv6 can do nothing with the
/// addresses of a name that has both.
fn usable(addresses: Vec<SocketAddr>, has_route: impl Fn(&SocketAddr) -> bool) -> Vec<SocketAddr> {
    let usable: Vec<_> = addresses.iter().copied().filter(has_route).collect();
    if usable.is_empty() { addresses } else { usable }
}

/// Whether the kernel knows a way there. Nothing is sent.
fn has_route(address: &SocketAddr) -> bool {
    let any = match address {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    UdpSocket::bind(any).and_then(|socket| socket.connect(address)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_without_a_route_are_left_out_unless_there_are_no_others() {
        let addresses: Vec<SocketAddr> =
            ["10.0.0.1:1", "[2001:db8::1]:1"].map(|text| text.parse().expect("one")).to_vec();
        assert_eq!(usable(addresses.clone(), SocketAddr::is_ipv4), addresses[..1]);
        assert_eq!(usable(addresses.clone(), |_| false), addresses);
        assert_eq!(usable(addresses.clone(), |_| true), addresses);
        assert!(has_route(&"127.0.0.1:1".parse().expect("an address")));
    }

    #[tokio::test]
    async fn an_address_needs_no_resolver() {
        for (url, address) in [
            ("http://127.0.0.1:23", "127.0.0.1:23"),
            ("https://[::1]:2379", "[::1]:2379"),
            ("http://10.0.0.1:1", "10.0.0.1:1"),
        ] {
            let name = Name::of_url(url);
            let address: SocketAddr = address.parse().expect("an address");
            assert_eq!(name.address(), Some(address));
            assert_eq!(name.look_up().await, Ok(vec![address]));
        }
    }

    #[tokio::test]
    async fn a_name_is_looked_up_and_says_why_it_cannot_be() {
        let localhost = Name::of_url("http://localhost:5");
        assert_eq!(localhost.address(), None);
        assert!(localhost.failure().contains("yet"), "{}", localhost.failure());
        let found = localhost.look_up().await.expect("/etc/hosts has it");
        assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 5), "{found:?}");
        let nobody = Name::of_url("http://no-such-name.invalid:5");
        nobody.look_up().await.expect_err("reserved for this");
        assert!(nobody.failure().starts_with("could not resolve \"no-such-name.invalid\": "), "{}", nobody.failure());
    }

    /// A campaign that is given up must not start a thread for each lookup that it began.
    #[tokio::test]
    async fn a_lookup_that_was_dropped_is_not_begun_again() {
        let name = Name::of_url("http://localhost:5");
        tokio::select! {
            biased;
            _ = name.look_up() => panic!("it takes a thread"),
            () = std::future::ready(()) => {}
        }
        assert!(name.lookup.lock().await.is_some());
        name.look_up().await.expect("/etc/hosts has it");
        assert!(name.lookup.lock().await.is_none());
    }
}
