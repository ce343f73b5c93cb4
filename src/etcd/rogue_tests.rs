//! Tests with endpoints that are not etcd, or belong to another cluster.

use std::{
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::time::{sleep, timeout};

use super::{
    Endpoint,
    fake::{Answer, Fake, message, text_server},
};
use crate::system::clock::BootClock;
use crate::{
    core::{
        kv::{Outcome, StoreError, Txn},
        names::LeaseId,
    },
    etcd::{
        client::{EtcdClient, RequestTimeouts},
        store::Store as _,
    },
    settings::{Endpoints, EtcdConfig, TlsFiles},
};

const OURS: u64 = 0xcafe;
const STRAY: u64 = 0xdead;
const LEASE: LeaseId = LeaseId(7);
const TTL: Duration = Duration::from_secs(15);
const TIMEOUTS: RequestTimeouts = RequestTimeouts {
    hedge_delay: Duration::from_millis(100),
    attempt_limit: Duration::from_secs(2),
    pause: Duration::from_millis(400),
};

fn cluster<const N: usize>(urls: [&String; N]) -> EtcdClient<Endpoint, BootClock> {
    let endpoints = Endpoints::Listed(urls.map(Clone::clone).to_vec());
    let config = EtcdConfig { endpoints, cluster_id: None, tls: TlsFiles::default(), credentials: None };
    super::client_of(&config, TIMEOUTS).expect("no files")
}

/// Returns the only endpoint of a client that has decided for its cluster, and which answers all other requests with `answer`.
async fn endpoint(answer: impl Fn(&str) -> Answer + Clone + Send + 'static) -> (Fake, Rc<Endpoint>) {
    let fake = Fake::new(answer).await;
    let cluster = cluster([&fake.url]);
    cluster.decide().await.expect("it answers");
    (fake, Rc::clone(&cluster.endpoints()[0]))
}

/// Answers requests for the cluster with the cluster in use, and others with `otherwise`.
fn or_ours(method: &str, otherwise: Answer) -> Answer {
    if method == "Txn" { message(OURS, 1, 0) } else { otherwise }
}

/// Another cluster behind a load balancer may have a lease with the same ID.
#[tokio::test]
async fn another_cluster_neither_keeps_a_lease_alive_nor_revokes_it() {
    for (cluster, ttl, alive) in [(OURS, 15, Some(true)), (OURS, 0, Some(false)), (STRAY, 15, None), (STRAY, 0, None)] {
        let (_fake, endpoint) = endpoint(move |method| or_ours(method, message(cluster, LEASE.0, ttl))).await;
        assert_eq!(endpoint.keep_alive(LEASE).await.ok(), alive, "{cluster:x}, {ttl}");
        let (_fake, endpoint) = self::endpoint(move |method| or_ours(method, message(cluster, 0, 0))).await;
        assert_eq!(endpoint.revoke(LEASE).await.ok(), (cluster == OURS).then_some(true), "{cluster:x}");
    }
    let (_fake, endpoint) = endpoint(|method| or_ours(method, message(OURS, LEASE.0 + 1, 15))).await;
    endpoint.keep_alive(LEASE).await.expect_err("another lease");
}

#[tokio::test]
async fn a_grant_that_differs_from_the_request_is_retried_after_pauses() {
    for (id, ttl) in [(LEASE.0, 0), (LEASE.0, -1), (LEASE.0, 14), (LEASE.0, i64::MAX), (0, 15), (LEASE.0 + 1, 15)] {
        let fake = Fake::new(move |method| or_ours(method, message(OURS, id, ttl))).await;
        let cluster = cluster([&fake.url]);
        let started = Instant::now();
        let asked_again = async {
            while fake.count("LeaseGrant") < 4 {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let first = async {
            tokio::select! { granted = cluster.grant(LEASE, TTL) => Some(granted), () = asked_again => None }
        };
        let granted = timeout(Duration::from_secs(60), first).await.expect("it asks again");
        assert!(granted.is_none(), "{id}, {ttl}: {granted:?}");
        // The pauses are 50, 100 and 200 ms, each up to an eighth less or more.
        assert!(started.elapsed() >= Duration::from_millis(350) * 7 / 8, "{id}, {ttl}: {:?}", started.elapsed());
    }
    let (_fake, endpoint) = endpoint(|method| or_ours(method, message(OURS, LEASE.0, 15))).await;
    assert_eq!(endpoint.grant(LEASE, TTL).await.map(|granted| granted.ttl), Ok(TTL));
}

#[tokio::test]
async fn a_denial_of_one_endpoint_is_not_final() {
    let txn = Txn::default();
    let works = async || Fake::new(|_| message(OURS, 1, 0)).await;
    let denies = async || {
        let asked = Arc::new(AtomicBool::new(false));
        // The first request is for its cluster.
        Fake::new(move |_| match asked.swap(true, Ordering::Relaxed) {
            false => message(OURS, 1, 0),
            true => Err((7, "etcdserver: permission denied")),
        })
        .await
    };
    let (one, two, three) = (denies().await, works().await, works().await);
    let cluster = cluster([&one.url, &two.url, &three.url]);
    cluster.decide().await.expect("they answer");
    assert!(matches!(cluster.commit(&txn).await, Ok(Outcome::Then(_))));
    assert!(one.count("Txn") >= 2, "it was asked first");
}

/// Another protocol is not a failure of TLS verification, so it is retried.
#[tokio::test]
async fn a_server_that_is_not_etcd_is_a_temporary_failure_with_its_url() {
    for text in
        ["SSH-2.0-OpenSSH_9.9\r\n", "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", "hello, who is there?\n"]
    {
        for https in [true, false] {
            let url = text_server(text).await.replace("http:", if https { "https:" } else { "http:" });
            let cluster = cluster([&url]);
            let failure = cluster.endpoints()[0].cluster_id().await.expect_err(text);
            let StoreError::Unavailable(text) = failure else { panic!("{text:?}: {failure:?}") };
            assert!(text.starts_with(&url), "{text}");
            assert_eq!(text.contains("no TLS handshake; use http://"), https, "{text:?}: {text}");
        }
    }
}
