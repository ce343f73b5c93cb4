//! The status endpoint in each phase, and while etcd does not answer.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    time::{Duration, Instant},
};

use harness::{Behavior, Candidate, Cluster, End, Timing, eventually, wait::scaled};

use crate::{shared_world, world_on};

/// The four status codes that load balancers and orchestrators use.
fn codes(candidate: &Candidate) -> [u16; 4] {
    ["/", "/leader", "/healthz", "/readyz"].map(|path| candidate.code(path))
}

#[track_caller]
fn has_codes(candidate: &Candidate, limit: Duration, wanted: [u16; 4]) {
    eventually(limit, &format!("{} answers /, /leader, /healthz, /readyz with {wanted:?}", candidate.name()), || {
        let codes = codes(candidate);
        if codes == wanted { Ok(()) } else { Err(format!("{codes:?}; {}", candidate.stderr())) }
    });
}

#[test]
fn leader_and_standby_report_their_roles() {
    let world = shared_world();
    let a = world.candidate("a").start();
    let token = a.leads();
    let b = world.candidate("b").start();
    b.waits();
    has_codes(&a, Timing::SWIFT, [200; 4]);
    has_codes(&b, Timing::SWIFT, [200, 503, 200, 200]);

    // The three fields of the Go tool, in its format.
    for (candidate, phase) in [(&a, "running"), (&b, "awaiting")] {
        let answer = eventually(Timing::SWIFT, "the leader is known", || {
            let answer = candidate.http("GET", "/").map_err(|error| error.to_string())?;
            if answer.json()["leader"] == "a" { Ok(answer) } else { Err(answer.body) }
        });
        assert!(answer.head.contains("content-type: application/json"), "{}", answer.head);
        assert_eq!(answer.json()["status"], "ok", "{}", answer.body);
        assert_eq!(answer.json()["phase"], phase, "{}", answer.body);
    }
    assert!(a.http("GET", "/").expect("an answer").body.contains(&token.to_string()));

    a.terminate();
    b.leads_within(Timing::SWIFT);
    has_codes(&b, Timing::SWIFT, [200; 4]);
    world.verdict();
}

#[test]
fn head_answers_like_get_without_a_body() {
    let world = shared_world();
    let a = world.candidate("a").start();
    a.leads();
    for path in ["/", "/leader", "/healthz", "/readyz", "/metrics"] {
        let answer = a.http("HEAD", path).expect("an answer");
        assert_eq!((answer.status, answer.body.as_str()), (200, ""), "{path}");
    }
    assert_eq!(a.code("/no-such-page"), 404);
    world.verdict();
}

#[test]
fn an_identity_with_special_characters_is_escaped() {
    let world = shared_world();
    let identity = "a \"quoted\" \\ ünïcode";
    let a = world.candidate("a").identity(identity).start();
    a.leads();
    assert_eq!(a.http("GET", "/").expect("an answer").json()["leader"], identity);
    world.verdict();
}

#[test]
fn metrics_have_the_prometheus_format() {
    let world = shared_world();
    let a = world.candidate("a").start();
    let token = a.leads();
    let answer = a.http("GET", "/metrics").expect("an answer");
    assert!(answer.head.contains("content-type: text/plain"), "{}", answer.head);
    assert!(answer.body.contains("etcd_await_election_"), "{}", answer.body);
    assert!(answer.body.contains(&token.to_string()), "{}", answer.body);
    for line in answer.body.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let value = line.rsplit(' ').next().expect("a value");
        assert!(value.parse::<f64>().is_ok(), "{line}");
    }
    world.verdict();
}

#[test]
fn a_stopping_leader_is_not_a_target_for_a_load_balancer() {
    let world = shared_world();
    let a = world.candidate("a").behavior(Behavior::slow(Timing::SWIFT)).start();
    a.leads();
    a.terminate();
    eventually(Timing::SWIFT, "/leader is not 200", || match a.code("/leader") {
        503 => Ok(()),
        other => Err(other.to_string()),
    });
    assert_eq!(a.wait_exit(2 * Timing::SWIFT), End::Code(0));
    world.verdict();
}

/// Returns whether `/metrics` has a line that begins like this.
fn measures(candidate: &Candidate, begin: &str) -> bool {
    let answer = candidate.http("GET", "/metrics").expect("an answer");
    answer.body.lines().any(|line| line.starts_with(begin))
}

/// Every member is frozen: the endpoint still answers at once, and reports no leadership that it cannot confirm.
#[test]
fn without_etcd_the_endpoint_answers_and_reports_no_leadership() {
    let world = world_on(Cluster::builder().size(1).plain().create());
    let timing = Timing::SHORT;
    let (a, b) = crate::leader_and_standby(
        world.candidate("a").timing(timing).set("ON_LOSS", "campaign"),
        world.candidate("b").timing(timing),
    );
    let leader = "etcd_await_election_leader_info{leader=\"a\"} 1";
    eventually(Timing::SWIFT, "leader and standby tell who leads", || {
        let tell = [&a, &b].map(|it| measures(it, "etcd_await_election_lock_held 1") && measures(it, leader));
        if tell == [true; 2] { Ok(()) } else { Err(format!("{tell:?}")) }
    });
    world.cluster().member(0).pause();
    eventually(timing.latest_death(), "the leader reports that it does not lead", || match codes(&a) {
        [200, 503, ..] => Ok(()),
        other => Err(format!("{other:?}")),
    });
    // Both are live, as a restart would not help, but not ready.
    has_codes(&a, timing.lease() + Timing::SWIFT, [200, 503, 200, 503]);
    has_codes(&b, timing.lease() + Timing::SWIFT, [200, 503, 200, 503]);
    for it in [&a, &b] {
        assert!(!measures(it, "etcd_await_election_lock_held"), "{} knows who leads", it.name());
        assert!(!measures(it, "etcd_await_election_leader"), "{} knows who leads", it.name());
    }
    world.cluster().member(0).resume();
    eventually(timing.latest_failover_with_election() + Timing::START, "an instance leads again", || {
        match [codes(&a), codes(&b)] {
            [[200, 200, 200, 200], [200, 503, 200, 200]] | [[200, 503, 200, 200], [200, 200, 200, 200]] => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    world.verdict();
}

#[test]
fn before_etcd_is_up_an_instance_is_live_but_not_ready() {
    let world = shared_world();
    let a = world.candidate("a").set("ENDPOINTS", "127.0.0.1:1").start();
    has_codes(&a, Timing::START, [200, 503, 200, 503]);
    let answer = a.http("GET", "/").expect("an answer").json();
    assert_eq!((answer["phase"].as_str(), answer["leader"].as_str()), (Some("awaiting"), Some("unknown")));
    world.verdict();
}

/// A status port in use must not prevent a start.
#[test]
fn a_port_in_use_is_reported_and_served_when_it_is_free() {
    let world = shared_world();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("it is bound");
    let a = world.candidate("a").set("STATUS_ENDPOINT", address.to_string()).start();
    a.leads();
    assert!(a.stderr().contains(&format!("could not serve the status at {address}")), "{}", a.stderr());
    drop(taken);
    eventually(Timing::SWIFT, "it is served", || {
        match harness::http::request(address, "GET", "/leader").map(|answer| answer.status) {
            Ok(200) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    world.verdict();
}

/// A port scanner, or a client that leaks connections, must not block the probes of a healthy leader.
#[test]
fn idle_connections_do_not_block_the_endpoint() {
    let world = shared_world();
    let a = world.candidate("a").start();
    a.leads();
    let mut idle = Vec::new();
    for _ in 0..10 {
        idle.extend((0..65).map(|_| TcpStream::connect(a.status_address()).expect("it listens")));
        let begun = Instant::now();
        assert_eq!(a.code("/healthz"), 200);
        // Far less than the timeout of idle connections.
        assert!(begun.elapsed() < scaled(Duration::from_millis(500)), "{:?}", begun.elapsed());
    }
    world.verdict();
}

/// A gatekeeper that was busy for a moment accepts a probe and more idle connections than it serves at a time.
#[test]
fn a_probe_before_a_burst_of_idle_connections_is_answered() {
    let world = shared_world();
    let a = world.candidate("a").start();
    a.leads();
    for round in 0..10 {
        a.pause();
        let mut probe = TcpStream::connect(a.status_address()).expect("it listens");
        probe.write_all(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").expect("written");
        let idle: Vec<_> = (0..70).map(|_| TcpStream::connect(a.status_address()).expect("it listens")).collect();
        a.resume();
        probe.set_read_timeout(Some(scaled(Duration::from_secs(2)))).expect("a limit");
        let mut answer = [0; 12];
        probe.read_exact(&mut answer).unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert_eq!(&answer, b"HTTP/1.1 200");
        // Answered after all connections above were accepted: two rounds of them would not fit into the backlog.
        assert_eq!(a.code("/healthz"), 200);
        drop(idle);
    }
    world.verdict();
}

/// If the machine cannot fork, the start is retried, so the instance is not ending.
#[test]
fn an_instance_that_could_not_fork_is_ready_when_it_leads_later() {
    let world = shared_world();
    let (a, b) = crate::leader_and_standby(world.candidate("a"), world.candidate("b").timing(Timing::SHORT));
    let room = |descriptors| {
        let limit = nix::libc::rlimit { rlim_cur: descriptors, rlim_max: 1024 };
        // SAFETY: sets one limit, without reading the old one.
        let limited = unsafe {
            nix::libc::prlimit(b.guard_pid(), nix::libc::RLIMIT_NOFILE, &raw const limit, std::ptr::null_mut())
        };
        assert_eq!(limited, 0);
    };
    // Enough for `poll`, which has the same limit, but too few for another process.
    room(4);
    a.terminate();
    eventually(Timing::START, "it cannot be started", || match b.stderr() {
        log if log.contains("could not start the command") => Ok(()),
        log => Err(log),
    });
    room(1024);
    b.leads();
    assert_eq!((b.code("/leader"), b.code("/readyz")), (200, 200));
    world.verdict();
}
