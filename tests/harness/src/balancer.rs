//! One address in front of all members, as a load balancer or a Kubernetes service is: connections go round.

use crate::{cluster::Cluster, proxy::Proxy};

/// A round-robin balancer of TCP connections. Like a service of Kubernetes it does not know how its members are: who is
/// taken to one that hangs, hangs; who is taken to one that is gone sees the connection end.
#[derive(Debug)]
pub struct Balancer {
    front: Proxy,
    members: Vec<Proxy>,
}

impl Balancer {
    /// Starts one in front of all members, on the first one's address: the certificates are good for it.
    #[must_use]
    pub fn of(cluster: &Cluster) -> Self {
        Self::new(cluster.members().iter().map(Proxy::of).collect())
    }

    /// Starts one over these proxies, on the first one's address.
    ///
    /// # Panics
    /// If there are none.
    #[must_use]
    pub fn new(members: Vec<Proxy>) -> Self {
        let ip = members[0].address().ip();
        let upstreams = members.iter().map(Proxy::address).collect();
        Self { front: Proxy::start(members[0].scheme(), (ip, 0).into(), upstreams), members }
    }

    /// Where it listens, as a URL.
    #[must_use]
    pub fn endpoint(&self) -> String {
        self.front.endpoint()
    }

    /// What all connections pass.
    #[must_use]
    pub const fn front(&self) -> &Proxy {
        &self.front
    }

    /// What the connections to this member pass: in a black hole it hangs, cut it is gone.
    #[must_use]
    pub fn member(&self, index: usize) -> &Proxy {
        &self.members[index]
    }

    /// The same of all members.
    #[must_use]
    pub fn members(&self) -> &[Proxy] {
        &self.members
    }

    /// Delivers everything again, at once.
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

    /// What the next connection is answered; none if it hangs or ends.
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
