//! Checks what the model assumes about etcd: the same requests to the model and to real etcd must get the same
//! responses.

/// The etcd of the model.
#[path = "../model/etcd.rs"]
#[expect(dead_code, reason = "the model needs more of it")]
mod model;

/// The time of the model, in microseconds.
mod sim {
    pub(crate) type Time = u64;
    pub(crate) const SECOND: Time = 1_000_000;
}

use std::{
    future::Future,
    rc::Rc,
    time::{Duration, Instant},
};

use etcd_await_election::{
    core::{
        kv::{Compare, Get, Op, Range, Snapshot, Txn},
        names::LeaseId,
    },
    etcd::{
        self, Endpoint,
        client::RequestTimeouts,
        store::{Store as _, Watch as _},
    },
    settings::{Endpoints, EtcdConfig, TlsFiles},
};
use harness::{Cluster, Random, Timing};

/// Creates the program's own client with one member as its only endpoint.
async fn client(cluster: &Cluster, member: usize) -> Rc<Endpoint> {
    let config = EtcdConfig {
        endpoints: Endpoints::Listed(vec![cluster.member(member).endpoint()]),
        cluster_id: Some(cluster.etcdctl().cluster_id().expect("etcd answers")),
        tls: TlsFiles::default(),
        credentials: None,
    };
    let client = etcd::client_of(&config, RequestTimeouts::default()).expect("a client");
    client.decide().await.expect("it is the cluster that was named");
    client.endpoints().remove(0)
}

fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(test)
}

/// A random sequence of requests.
struct Script(Random);

impl Script {
    fn below(&mut self, bound: usize) -> usize {
        self.0.index(bound)
    }

    fn key(&mut self) -> Vec<u8> {
        format!("tests/{}", self.below(6)).into_bytes()
    }

    fn range(&mut self) -> Range {
        match self.below(3) {
            0 => Range::Key(self.key()),
            1 => Range::Prefix(b"tests/".to_vec()),
            _ => Range::Between(b"tests/2".to_vec(), b"tests/4".to_vec()),
        }
    }

    /// Compares with current and with older revisions; writes no key twice, which etcd rejects.
    fn txn(&mut self, leases: &[LeaseId], revision: i64, nested: bool) -> Txn {
        let past = |script: &mut Self| (revision - i64::try_from(script.below(8)).expect("a small number")).max(1);
        let when = (0..self.below(3)).map(|_| match self.below(4) {
            0 => Compare::Absent(self.range()),
            1 => Compare::Unchanged(self.key(), if self.below(2) == 0 { 0 } else { past(self) }),
            2 => Compare::Older(self.range(), past(self)),
            _ => Compare::NotOlder(self.range(), past(self)),
        });
        let when = when.collect();
        let first = self.below(6);
        let then = (0..self.below(4)).map(|n| {
            let key = format!("tests/{}", (first + n) % 6).into_bytes();
            match self.below(3) {
                0 => Op::Delete(key),
                _ => Op::Put(key, self.below(100).to_string().into_bytes(), leases[self.below(leases.len())]),
            }
        });
        let then = then.collect();
        let otherwise = (nested && self.below(2) == 0).then(|| Box::new(self.txn(leases, revision, false)));
        Txn { when, then, otherwise }
    }
}

/// Transactions, reads, leases and history: real etcd answers as the model does, revisions included.
#[test]
fn etcd_answers_as_its_model_does() {
    const LONG: u64 = 3600;
    let cluster = Cluster::builder().size(1).plain().create();
    run(async {
        let etcd = client(&cluster, 0).await;
        let mut model = model::Etcd::new();
        model.revision = etcd.read(&[]).await.expect("a read").revision;
        let began = model.revision;
        let mut script = Script(Random::for_purpose(1, &[]));
        // The first lease never exists.
        let mut leases = vec![etcd.new_lease()];
        for step in 0..500 {
            match script.below(10) {
                0 => {
                    // Sometimes an id that was granted before.
                    let lease = match script.below(leases.len()) {
                        0 => etcd.new_lease(),
                        n => leases[n],
                    };
                    etcd.grant(lease, Duration::from_secs(LONG)).await.expect("a lease");
                    model.grant(lease, LONG * sim::SECOND, 0);
                    leases.push(lease);
                }
                1 => {
                    let lease = leases[script.below(leases.len())];
                    assert_eq!(etcd.revoke(lease).await, Ok(model.revoke(lease)), "step {step}: revoke {lease}");
                }
                2 => {
                    let lease = leases[script.below(leases.len())];
                    let alive = model.keep_alive(lease, 0);
                    assert_eq!(etcd.keep_alive(lease).await, Ok(alive), "step {step}: keep {lease} alive");
                }
                _ => {
                    let txn = script.txn(&leases, model.revision, true);
                    let (real, expected) = (etcd.commit(&txn).await, model.commit(&txn));
                    let both_refuse = real.is_err() && expected.is_err();
                    assert!(both_refuse || real == expected, "step {step}: {real:?}, not {expected:?}: {txn:?}");
                }
            }
            let gets = [
                Get::page(script.range(), true),
                Get::names(script.range()),
                Get::key(script.key()),
                Get::next_after(script.range(), (model.revision - 5).max(1)),
            ];
            let snapshot = etcd.read(&gets).await.expect("a read");
            // The model has no further pages.
            assert_eq!(Snapshot { cut: Vec::new(), ..snapshot }, model.read(&gets), "step {step}: {gets:?}");
        }
        for range in [Range::Prefix(b"tests/".to_vec()), Range::Key(b"tests/3".to_vec())] {
            let expected = model.changes(&range, began + 1);
            let mut watch = etcd.watch(&[range], began + 1).await.expect("a watch");
            let mut seen = Vec::new();
            while seen.len() < expected.len() {
                let next = tokio::time::timeout(Timing::START, watch.next()).await;
                seen.extend(next.expect("in time").expect("changes"));
            }
            assert_eq!(seen, expected);
        }
    });
}

/// Waits until a key is deleted; returns when it was last seen, and when it was first missing.
async fn gone(etcd: &Endpoint, key: &[u8], limit: Duration) -> (Instant, Instant) {
    let began = Instant::now();
    let mut seen = began;
    loop {
        let asked = Instant::now();
        match etcd.read(&[Get::key(key.to_vec())]).await {
            Ok(snapshot) if snapshot.keys.is_empty() => return (seen, Instant::now()),
            Ok(_) => seen = asked,
            // There may be no raft leader at the moment.
            Err(_) => {}
        }
        assert!(began.elapsed() < limit, "the key is still there after {limit:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Grants a lease and puts a key on it.
async fn leased(etcd: &Endpoint, key: &[u8]) -> (LeaseId, Duration) {
    let lease = etcd.new_lease();
    let ttl = etcd.grant(lease, Duration::from_secs(2)).await.expect("a lease").ttl;
    let then = vec![Op::Put(key.to_vec(), b"value".to_vec(), lease)];
    etcd.commit(&Txn { then, ..Txn::default() }).await.expect("a key");
    (lease, ttl)
}

/// A lease lives for at least its TTL after the last keepalive. Its keys are deleted with it, and it cannot be renewed
/// any more.
#[test]
fn a_lease_lives_for_its_ttl_after_the_last_keepalive() {
    const KEY: &[u8] = b"tests/leased";
    let cluster = Cluster::builder().size(1).plain().create();
    run(async {
        let etcd = client(&cluster, 0).await;
        let (lease, ttl) = leased(&etcd, KEY).await;
        tokio::time::sleep(ttl / 2).await;
        let sent = Instant::now();
        assert_eq!(etcd.keep_alive(lease).await, Ok(true));
        let (_, missed) = gone(&etcd, KEY, ttl + Timing::START).await;
        assert!(missed - sent >= ttl, "gone {:?} after the keepalive, TTL {ttl:?}", missed - sent);
        assert_eq!(etcd.keep_alive(lease).await, Ok(false));
        assert_eq!(etcd.revoke(lease).await, Ok(false));
    });
}

/// A new raft leader restarts all leases: each lives for its whole TTL from then on.
#[test]
fn a_new_raft_leader_restarts_the_ttl_of_all_leases() {
    const KEY: &[u8] = b"tests/leased";
    let cluster = Cluster::builder().plain().create();
    let leader = cluster.leader().expect("a leader");
    run(async {
        let etcd = client(&cluster, cluster.follower()).await;
        let (_, ttl) = leased(&etcd, KEY).await;
        tokio::time::sleep(ttl / 2).await;
        let killed = Instant::now();
        cluster.member(leader).kill();
        let (seen, missed) = gone(&etcd, KEY, ttl + Timing::START).await;
        assert!(missed - killed >= ttl, "last seen {:?}, gone {:?}, TTL {ttl:?}", seen - killed, missed - killed);
    });
}
