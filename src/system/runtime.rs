//! The asynchronous runtime of this process.

use std::{
    io,
    net::{SocketAddr, ToSocketAddrs as _},
    time::Duration,
};

use nix::libc;
use tokio::task::{self, JoinHandle};

use super::mask::Mask;
use crate::core::start_error::StartError;

/// Runs `future` to its end on a runtime of this thread. Its other threads block the same signals, and those that the thread that
/// starts them has blocked since.
///
/// # Errors
/// If the runtime cannot be created.
pub fn run<T>(future: impl Future<Output = T>) -> Result<T, StartError> {
    let mask = Mask::current();
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().thread_keep_alive(Duration::MAX).on_thread_start(move || {
        mask.change(libc::SIG_BLOCK);
    });
    let runtime = builder.build().map_err(StartError::no_room("the runtime"))?;
    let done = runtime.block_on(future);
    // Does not wait for a pending DNS lookup.
    runtime.shutdown_background();
    Ok(done)
}

/// Looks up the addresses of a host with the system's resolver. A lookup goes on if the future is dropped.
///
/// # Errors
/// If the host has no address, or the resolver fails.
pub async fn look_up(host: String, port: u16) -> io::Result<Vec<SocketAddr>> {
    let lookup = spawn_blocking(move || (host.as_str(), port).to_socket_addrs().map(Iterator::collect));
    lookup.await.map_err(io::Error::other)?
}

/// Runs work that may block on a thread of its own, which is kept for more.
///
/// When a thread is started, a C library unblocks the signals that it uses itself, in both threads. Each of them would end this
/// process.
#[expect(clippy::disallowed_methods, reason = "the only place")]
pub fn spawn_blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    let mask = Mask::current();
    let handle = task::spawn_blocking(work);
    mask.set();
    handle
}
