//! One address in front of all members, like a load balancer or a Kubernetes service: connections are distributed in
//! turn.

use crate::{cluster::Cluster, proxy::Proxy};

/// A round-robin balancer of TCP connections. Like a Kubernetes service it does not check its members: a connection to
/// a hung member hangs, and a connection to a stopped member is closed.
#[derive(Debug)]
pub struct Balancer {
    front: Proxy,
    members: Vec<Proxy>,
}

impl Balancer {
    /// Starts a balancer in front of all members, on the address of the first one, for which the certificates are
    /// valid.
    #[must_use]
    pub fn of(cluster: &Cluster) -> Self {
        Self::new(cluster.members().iter().map(Proxy::of).collect())
    }

    /// Starts a balancer in front of these proxies, on the address of the first one.
    ///
    /// # Panics
    /// If there are none.
    #[must_use]
    pub fn new(members: Vec<Proxy>) -> Self {
        let ip = members[0].address().ip();
        let upstreams = members.iter().map(Proxy::address).collect();
        Self { front: Proxy::start(members[0].scheme(), (ip, 0).into(), upstreams), members }
    }

    /// Returns its URL.
    #[must_use]
    pub fn endpoint(&self) -> String {
        self.front.endpoint()
    }

    /// Returns the proxy that all connections pass.
    #[must_use]
    pub const fn front(&self) -> &Proxy {
        &self.front
    }

    /// Returns the proxy of the connections to this member: in a black hole the member hangs, and cut it is stopped.
    #[must_use]
    pub fn member(&self, index: usize) -> &Proxy {
        &self.members[index]
    }

    /// Returns the proxies of all members.
    #[must_use]
    pub fn members(&self) -> &[Proxy] {
        &self.members
    }

    /// Ends all faults: everything is delivered at once again.
    pub fn heal(&self) {
        self.front.heal();
        self.members.iter().for_each(Proxy::heal);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::{TcpListener, TcpStream},
        thread,
        time::Duration,
    };

    use super::*;
    use crate::{address::Address, eventually};

    /// Servers that answer with their number, behind a balancer.
    fn numbered(count: u8) -> (Balancer, Vec<Address>) {
        let addresses: Vec<Address> = (0..count).map(|_| Address::claim()).collect();
        let members: Vec<Proxy> = (0..count)
            .zip(&addresses)
            .map(|(number, address)| {
                let listener = TcpListener::bind((address.ip(), 0)).expect("ours");
                let upstream = listener.local_addr().expect("it is bound");
                thread::spawn(move || {
                    listener.incoming().flatten().for_each(|mut stream| drop(stream.write(&[number])))
                });
                Proxy::start("http", (address.ip(), 0).into(), vec![upstream])
            })
            .collect();
        (Balancer::new(members), addresses)
    }

    /// Returns the response to the next connection, or `None` if it hangs or is closed.
    fn next(balancer: &Balancer) -> Option<u8> {
        let mut stream = TcpStream::connect(balancer.front.address()).expect("the balancer listens");
        stream.set_read_timeout(Some(Duration::from_millis(500))).expect("a socket option");
        let mut number = [0];
        stream.read_exact(&mut number).ok().map(|()| number[0])
    }

    #[test]
    fn connections_are_spread_over_all_members_including_one_that_hangs() {
        let (balancer, _addresses) = numbered(3);
        let round = || [(); 3].map(|()| next(&balancer));
        assert_eq!(round(), [Some(0), Some(1), Some(2)]);
        balancer.member(1).black_hole();
        assert_eq!(round(), [Some(0), None, Some(2)]);
        balancer.heal();
        assert_eq!(round(), [Some(0), Some(1), Some(2)]);
        balancer.member(2).cut();
        eventually(Duration::from_secs(5), "the member that is gone ends connections", || match round() {
            [Some(0), Some(1), None] => Ok(()),
            other => Err(format!("{other:?}")),
        });
    }
}
