//! Loopback addresses of one's own: every member and every candidate has one, so that no two ports can collide.

use std::{
    net::{Ipv4Addr, TcpListener},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

/// Where etcd serves its clients, on its member's address.
pub const CLIENT_PORT: u16 = 23_790;
/// Where etcd serves its peers, on its member's address.
pub const PEER_PORT: u16 = 23_800;
/// Where etcd serves its metrics, on its member's address.
pub const METRICS_PORT: u16 = 23_810;
/// Where a candidate serves its status, on its own address.
pub const STATUS_PORT: u16 = 28_080;
/// Listened on for as long as the address is ours: how processes that know nothing of each other share 127.0.0.0/8. Like
/// the others it is below the ports that the kernel hands out.
const CLAIM_PORT: u16 = 23_780;

/// An address of 127.0.0.0/8 that is ours until this is dropped.
#[derive(Debug)]
pub struct Address {
    ip: Ipv4Addr,
    _claim: TcpListener,
}

impl Address {
    /// Takes the next free address.
    ///
    /// # Panics
    /// If no address is to be had.
    #[must_use]
    pub fn claim() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // Each process begins somewhere else, so that it rarely meets another one's claims.
        let begin = process::id().wrapping_mul(2_654_435_761) >> 8;
        for _ in 0..10_000 {
            let number = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % (100 * 250 * 250);
            // 127.100.1.1 and up: 127.0.0.1 and its neighbors are used by others.
            let parts = [100 + number / 62_500, 1 + number / 250 % 250, 1 + number % 250];
            let [a, b, c] = parts.map(|part| u8::try_from(part).expect("below 250"));
            let ip = Ipv4Addr::new(127, a, b, c);
            if let Ok(claim) = TcpListener::bind((ip, CLAIM_PORT)) {
                return Self { ip, _claim: claim };
            }
        }
        panic!("no free address in 127.0.0.0/8");
    }

    /// The address.
    #[must_use]
    pub const fn ip(&self) -> Ipv4Addr {
        self.ip
    }
}
