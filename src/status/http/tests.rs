use proptest::{collection::vec, prelude::*};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    super::tests::{at, joining, leader, standby},
    *,
};

/// A clock that stands still.
#[derive(Clone, Copy)]
struct Stopped(Instant);

impl Clock for Stopped {
    fn now(&self) -> Instant {
        self.0
    }

    async fn sleep_until(&self, _: Instant) {
        std::future::pending::<()>().await;
    }
}

fn no_certificates() -> watch::Receiver<Vec<CertificateFile>> {
    watch::Sender::default().subscribe()
}

/// Returns the answer of the endpoint at `seconds` when `status` is published.
async fn ask(status: Status, seconds: u64, request: &str) -> String {
    let endpoint = StatusEndpoint { host: Some("127.0.0.1".into()), port: 0 };
    let bound = bind(&endpoint).expect("a port");
    let address = bound.address().expect("bound");
    let (_sender, status) = watch::channel(status);
    tokio::select! {
        served = bound.serve(status, no_certificates(), Stopped(at(seconds))) => panic!("{served:?}"),
        answer = async {
            let mut stream = TcpStream::connect(address).await.expect("connected");
            stream.write_all(request.as_bytes()).await.expect("sent");
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.expect("answered");
            answer
        } => answer,
    }
}

async fn get(status: Status, seconds: u64, path: &str) -> String {
    ask(status, seconds, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await
}

fn code(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("no answer: {answer}"))
}

#[tokio::test]
async fn the_probes_in_each_phase() {
    for (what, status, seconds, [leading, healthy, ready]) in [
        ("leader", leader(), 101, [200, 200, 200]),
        ("late leader", leader(), 112, [503, 200, 200]),
        ("overdue leader", leader(), 114, [503, 503, 503]),
        ("standby", standby(), 101, [503, 200, 200]),
        ("standby without etcd", Status { beat: Some(at(120)), ..standby() }, 120, [503, 200, 503]),
        ("joining", joining(), 101, [503, 200, 503]),
    ] {
        for (path, expected) in
            [("/leader", leading), ("/healthz", healthy), ("/readyz", ready), ("/", 200), ("/metrics", 200)]
        {
            let answer = get(status.clone(), seconds, path).await;
            assert_eq!(code(&answer), expected, "{what} {path}");
        }
    }
}

#[tokio::test]
async fn the_root_begins_as_the_go_tool_prints_it() {
    for (status, seconds, begin) in [
        (leader(), 101, r#"{"status": "ok", "phase": "running", "leader": "me", "#),
        (leader(), 110, r#"{"status": "ok", "phase": "awaiting", "leader": "me", "#),
        (standby(), 101, r#"{"status": "ok", "phase": "awaiting", "leader": "a", "#),
        (standby(), 120, r#"{"status": "ok", "phase": "awaiting", "leader": "unknown", "#),
        (joining(), 101, r#"{"status": "ok", "phase": "awaiting", "leader": "unknown", "#),
    ] {
        let answer = get(status, seconds, "/").await;
        let (head, body) = answer.split_once("\r\n\r\n").expect("a body");
        assert!(body.starts_with(begin) && body.ends_with("}\n"), "{body}");
        assert!(head.contains("content-type: application/json"), "{head}");
        let parsed: Value = serde_json::from_str(body).expect("JSON");
        assert_eq!(parsed["identity"], "me");
    }
}

#[test]
fn the_root_is_json_whatever_the_names_are() {
    let evil = "a\"b\\c\n\u{1}";
    let status = Status { lock: evil.into(), identity: evil.into(), leader: Some(evil.into()), ..leader() };
    let parsed: Value = serde_json::from_str(&root_json(&status, at(101))).expect("JSON");
    for field in ["lock", "identity", "leader"] {
        assert_eq!(parsed[field], evil);
    }
    assert_eq!(parsed["priority"], 7);
    let parsed: Value = serde_json::from_str(&root_json(&standby(), at(103))).expect("JSON");
    assert_eq!((&parsed["queue_number"], &parsed["queue_behind"]), (&json!(2), &json!("b")));
    assert_eq!((&parsed["seconds_since_renewal"], &parsed["fencing_token"]), (&json!(3), &Value::Null));
}

#[tokio::test]
async fn methods_and_paths() {
    for (request, expected) in [
        ("HEAD / HTTP/1.1", 200),
        ("HEAD /leader HTTP/1.1", 503),
        ("GET /leader?verbose HTTP/1.0", 503),
        ("POST / HTTP/1.1", 405),
        ("DELETE /leader HTTP/1.1", 405),
        ("GET /leader/ HTTP/1.1", 404),
        ("GET /x HTTP/1.1", 404),
        ("nonsense", 400),
    ] {
        let answer = ask(standby(), 101, &format!("{request}\r\nHost: x\r\n\r\n")).await;
        assert_eq!(code(&answer), expected, "{request}");
        if request.starts_with("HEAD") {
            assert!(answer.ends_with("\r\n\r\n"), "a body: {answer}");
        }
    }
}

#[tokio::test]
async fn metrics_in_the_format_that_is_asked_for() {
    let answer = get(leader(), 101, "/metrics").await;
    assert!(answer.contains("content-type: text/plain; version=0.0.4"), "{answer}");
    let request = "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: application/openmetrics-text\r\n\r\n";
    let answer = ask(leader(), 101, request).await;
    assert!(answer.contains("content-type: application/openmetrics-text") && answer.ends_with("# EOF\n"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_without_a_request_is_closed() {
    // Time is simulated: the test ends at once if there is a timeout, and never if there is none.
    let answer = ask(leader(), 101, "GET / HTTP/1.1\r\n").await;
    assert_eq!(answer, "");
}

/// Three times as many idle connections as are served: a client that sends a request gets its answer at once.
#[tokio::test]
async fn idle_connections_do_not_keep_a_probe_from_its_answer() {
    let bound = bind(&StatusEndpoint { host: Some("127.0.0.1".into()), port: 0 }).expect("a port");
    let address = bound.address().expect("bound");
    let (_sender, status) = watch::channel(leader());
    let client = async {
        let mut idle = Vec::new();
        for _ in 0..3 * MAX_CONNECTIONS {
            idle.push(TcpStream::connect(address).await.expect("connected"));
        }
        for request in ["GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", "GET / HTTP/1.0\r\n\r\n"] {
            let mut stream = TcpStream::connect(address).await.expect("connected");
            stream.write_all(request.as_bytes()).await.expect("sent");
            let mut answer = String::new();
            // Well before an idle connection times out.
            let read = tokio::time::timeout(HEADER_TIMEOUT / 2, stream.read_to_string(&mut answer)).await;
            assert!(read.is_ok() && code(&answer) == 200, "{answer}");
        }
        // The oldest were closed, the latest were not.
        let mut byte = [0];
        assert_eq!(idle[0].read(&mut byte).await.ok(), Some(0));
        let latest = idle.last_mut().expect("many").try_read(&mut byte);
        assert_eq!(latest.map_err(|error| error.kind()), Err(io::ErrorKind::WouldBlock));
    };
    tokio::select! {
        served = bound.serve(status, no_certificates(), Stopped(at(101))) => panic!("{served:?}"),
        () = client => {}
    }
}

#[tokio::test]
async fn a_port_in_use_is_served_when_it_is_free() {
    let other = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = other.local_addr().expect("bound");
    let bound = bind(&StatusEndpoint { host: Some("127.0.0.1".into()), port: address.port() }).expect("it is retried");
    assert_eq!(bound.address(), None);
    let (_sender, status) = watch::channel(leader());
    let client = async {
        drop(other);
        loop {
            if let Ok(mut stream) = TcpStream::connect(address).await {
                stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await.expect("answered");
                return assert_eq!(code(&answer), 200);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        served = bound.serve(status, no_certificates(), Stopped(at(101))) => panic!("{served:?}"),
        () = client => {}
    }
}

#[test]
fn all_interfaces_work_without_a_host() {
    let bound = bind(&StatusEndpoint { host: None, port: 0 }).expect("a port");
    assert!(bound.address().expect("bound").ip().is_unspecified());
    let refused =
        bind(&StatusEndpoint { host: Some("192.0.2.1".into()), port: 0 }).expect_err("another machine's address");
    assert_eq!(refused.exit, Exit::Config);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Any bytes are answered in HTTP or by closing the connection, and the next request is served.
    #[test]
    fn any_bytes_leave_it_serving(nonsense in vec(request(), 1..4)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let bound = bind(&StatusEndpoint { host: Some("127.0.0.1".into()), port: 0 }).expect("a port");
            let address = bound.address().expect("bound");
            let (_sender, status) = watch::channel(leader());
            let client = async {
                for bytes in nonsense {
                    let mut stream = TcpStream::connect(address).await.expect("connected");
                    let mut answer = Vec::new();
                    // Both fail if the connection is closed already, which is allowed.
                    let _ = stream.write_all(&bytes).await;
                    let _ = stream.shutdown().await;
                    let _ = stream.read_to_end(&mut answer).await;
                    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1."), "{answer:?}");
                }
                let mut stream = TcpStream::connect(address).await.expect("connected");
                stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sent");
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await.expect("answered");
                assert_eq!(code(&answer), 200);
            };
            tokio::select! {
                served = bound.serve(status, no_certificates(), Stopped(at(101))) => panic!("{served:?}"),
                () = client => {}
            }
        });
    }
}

/// Generates arbitrary bytes, and texts that resemble a request.
fn request() -> impl Strategy<Value = Vec<u8>> {
    let nearly = (
        "(GET|HEAD|POST|PRI|[A-Z]{0,9})",
        "[ /?a-z*%:]{0,40}",
        "( HTTP/[0-9.]{1,3})?",
        "(\r\n[A-Za-z-]{0,12}:.{0,60}){0,5}",
    )
        .prop_map(|(method, path, version, headers)| {
            format!("{method} /{path}{version}{headers}\r\n\r\n").into_bytes()
        });
    prop_oneof![vec(any::<u8>(), 0..300), nearly]
}
