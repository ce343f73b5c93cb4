//! Loopback addresses: every member and every candidate has its own address, so ports cannot collide.

use std::{
    net::{Ipv4Addr, TcpListener},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

/// The client port of every etcd member.
pub const CLIENT_PORT: u16 = 23_790;
/// The peer port of every etcd member.
pub const PEER_PORT: u16 = 23_800;
/// The metrics port of every etcd member.
pub const METRICS_PORT: u16 = 23_810;
/// The port of a candidate's status endpoint.
pub const STATUS_PORT: u16 = 28_080;
/// A process listens on this port of each address that it has claimed, so that concurrent test runs share 127.0.0.0/8.
/// Like the other ports it is below the kernel's ephemeral range.
const CLAIM_PORT: u16 = 23_780;

/// An address of 127.0.0.0/8 that stays claimed until this is dropped.
#[derive(Debug)]
pub struct Address {
    ip: Ipv4Addr,
    _claim: TcpListener,
}

impl Address {
    /// Claims the next free address.
    ///
    /// # Panics
    /// If no address is free.
    #[must_use]
    pub fn claim() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // Each process starts at a different address, so that collisions with other processes are rare.
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
