//! A gatekeeper that runs out of memory or file descriptors: the command never outlives its lock, and a standby takes
//! over.

use std::{io::Write, net::TcpStream, time::Duration};

use harness::{Candidate, End, Proxy, Timing, World, eventually};
use nix::libc;

use crate::{program, shared_world, shell_gatekeeper};

const TIMING: Timing = Timing::SHORT;

/// Lowers a limit of a running process.
fn limit(pid: i32, resource: libc::__rlimit_resource_t, most: u64) {
    let limit = libc::rlimit { rlim_cur: most, rlim_max: most };
    // SAFETY: reads one structure that lives through the call.
    let done = unsafe { libc::prlimit(pid, resource, &raw const limit, std::ptr::null_mut()) };
    assert_eq!(done, 0, "the limit of a process of ours");
}

/// Starts a leader whose gatekeeper runs out of a resource when it needs more, and a standby that takes over.
fn followed(exhaust: impl Fn(&Candidate), limit: Duration) -> (World, std::sync::Arc<Candidate>) {
    let world = shared_world();
    let proxies = world.proxies();
    let (a, b) = crate::leader_and_standby(
        world.candidate("a").timing(TIMING).via(&proxies),
        world.candidate("b").timing(TIMING),
    );
    exhaust(&a);
    // New connections and buffers are needed now.
    proxies.iter().for_each(Proxy::reset);
    let _hungry = requests_that_never_end(&a);
    b.leads_within(limit);
    assert!(a.living().is_empty());
    (world, a)
}

/// More than the gatekeeper's memory can hold, as it keeps each request's head until it is complete.
fn requests_that_never_end(candidate: &Candidate) -> Vec<TcpStream> {
    let head = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(300_000));
    let request = |_| {
        let mut stream = TcpStream::connect_timeout(&candidate.status_address(), Timing::SWIFT).ok()?;
        stream.set_write_timeout(Some(Duration::from_millis(10))).ok()?;
        let _ = stream.write_all(head.as_bytes());
        Some(stream)
    };
    (0..60).filter_map(request).collect()
}

#[test]
fn a_gatekeeper_without_file_descriptors_stops_its_command_in_time() {
    let (world, a) = followed(|a| limit(a.pid(), libc::RLIMIT_NOFILE, 3), TIMING.latest_failover());
    assert_eq!(a.wait_exit(TIMING.lease() + Timing::SWIFT), End::Code(79), "{}", a.stderr());
    world.verdict();
}

/// However the gatekeeper ends, its guard stops the command and revokes the lease.
#[test]
fn a_standby_takes_over_in_time_from_a_gatekeeper_without_memory() {
    let (world, a) = followed(|a| limit(a.pid(), libc::RLIMIT_AS, 1 << 20), TIMING.latest_failover());
    a.wait_exit(TIMING.lease() + Timing::SWIFT);
    world.verdict();
}

/// With too few or just enough descriptors the program reports the cause and ends, or it works. It never hangs or runs
/// a command without a lock.
#[test]
fn a_start_with_few_file_descriptors_works_or_reports_the_cause() {
    let world = shared_world();
    let mut led = false;
    for descriptors in [4, 6, 8, 10, 12, 16, 20, 24, 32] {
        let script = format!("ulimit -n {descriptors}; exec '{}' -- \"$@\"", program().display());
        let name = format!("few{descriptors}");
        let a = world.candidate(&name).timing(TIMING).program(shell_gatekeeper(&world, &name, &script)).start();
        let leads =
            eventually(Timing::START, "it leads, ends, or says why not", || match (a.end(), a.living().len()) {
                (Some(End::Code(code)), 0) if code != 0 && !a.stderr().is_empty() => Ok(false),
                (None, 1) => Ok(true),
                (None, 0) if a.stderr().contains("Too many open files") => Ok(false),
                other => Err(format!("{other:?}: {}", a.stderr())),
            });
        assert!(!a.stderr().contains("panicked"), "{}", a.stderr());
        led |= leads;
        a.terminate();
        a.wait_exit(TIMING.lease() + Timing::SWIFT);
        world.no_keys_left_within(TIMING.latest_failover());
    }
    assert!(led, "thirty-two descriptors are not enough");
    world.verdict();
}
