use std::{cell::RefCell, rc::Rc, time::Duration};

use super::{
    super::{
        double::{Answer, Double},
        membership::Membership,
    },
    attempts::Attempts,
    *,
};
use crate::core::{
    clock::{Clock, Instant},
    kv::StoreError,
};

const HEDGE: Duration = Duration::from_millis(100);
const LIMIT: Duration = Duration::from_secs(2);
const PAUSE: Duration = Duration::from_millis(400);

/// Tokio's paused clock.
struct Paused(tokio::time::Instant);

impl Clock for Paused {
    fn now(&self) -> Instant {
        Instant::from_boot(self.0.elapsed())
    }

    async fn sleep_until(&self, deadline: Instant) {
        tokio::time::sleep(deadline.saturating_since(self.now())).await;
    }
}

fn after(time: Duration) -> Answer {
    (Some(time), Ok("answer"))
}

const SILENT: Answer = (None, Ok(""));

fn refused() -> Answer {
    (Some(Duration::ZERO), Err(StoreError::AccessDenied("no".into())))
}

/// Endpoints `a`, `b` and `c` with these responses over the first connection and over new ones.
fn cluster<const N: usize>(
    answers: [(Answer, Answer); N],
) -> (EtcdClient<Double, Paused>, Rc<RefCell<Vec<&'static str>>>) {
    let asked: Rc<RefCell<Vec<_>>> = Rc::default();
    let script = |(name, (first, later))| Double { first, later, asked: Rc::clone(&asked), ..Double::named(name) };
    let scripts: Vec<_> = ["a", "b", "c"].into_iter().zip(answers).map(script).collect();
    let membership = Membership::of(scripts.iter().map(|script| script.name.to_owned()), None).into();
    let timeouts = RequestTimeouts { hedge_delay: HEDGE, attempt_limit: LIMIT, pause: PAUSE };
    (EtcdClient::new(scripts, membership, Paused(tokio::time::Instant::now()), timeouts), asked)
}

/// Returns when the request with the first response was sent, and when the response came, in units of 10 ms.
async fn once(cluster: &EtcdClient<Double, Paused>) -> (u128, u128) {
    let begun = cluster.clock.now();
    let (sent, _) = Attempts::once(cluster, async |store: &Double| store.ask().await).next().await.expect("an answer");
    let since = |instant: Instant| instant.saturating_since(begun).as_millis();
    (since(sent) / 10 * 10, since(cluster.clock.now()) / 10 * 10)
}

#[tokio::test(start_paused = true)]
async fn after_the_hedge_delay_the_next_endpoint_is_asked_and_becomes_the_preferred_one() {
    let (cluster, asked) = cluster([(SILENT, SILENT), (after(Duration::ZERO), SILENT)]);
    assert_eq!(once(&cluster).await, (100, 100));
    assert_eq!(once(&cluster).await, (0, 0));
    assert_eq!(*asked.borrow(), ["a", "b", "b"]);
}

#[tokio::test(start_paused = true)]
async fn after_a_failure_the_next_endpoint_is_asked_at_once() {
    let failed = (Some(Duration::ZERO), Err(StoreError::Unavailable("down".into())));
    let (cluster, asked) = cluster([(failed.clone(), failed), (after(Duration::ZERO), SILENT)]);
    assert_eq!(once(&cluster).await, (0, 0));
    assert_eq!(*asked.borrow(), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_late_answer_counts_from_when_its_request_was_sent() {
    let (cluster, _) = cluster([(after(Duration::from_secs(1)), SILENT)]);
    assert_eq!(once(&cluster).await, (0, 1000));
}

#[tokio::test(start_paused = true)]
async fn at_a_single_address_the_hedge_is_a_new_connection() {
    let (cluster, _) = cluster([(SILENT, after(Duration::ZERO))]);
    assert_eq!(once(&cluster).await, (100, 100));
}

#[tokio::test(start_paused = true)]
async fn a_denial_of_most_endpoints_is_final_and_that_of_one_is_not() {
    let (one, _) = cluster([(refused(), refused()), (after(HEDGE), SILENT), (after(HEDGE), SILENT)]);
    assert_eq!(once(&one).await, (0, 100));
    let (two, _) = cluster([(refused(), refused()), (refused(), refused()), (SILENT, SILENT)]);
    let answer = Attempts::once(&two, async |store: &Double| store.ask().await).next().await;
    assert!(matches!(answer, Err(StoreError::AccessDenied(_))), "{answer:?}");
}

/// Returns the endpoints that are asked for their cluster until it is decided, and when that is, in milliseconds.
async fn vote<const N: usize>(clusters: [(Option<Duration>, Result<u64, StoreError>); N]) -> (Vec<&'static str>, u128) {
    let voted: Rc<RefCell<Vec<_>>> = Rc::default();
    let endpoint = |(name, cluster)| Double { cluster, voted: Rc::clone(&voted), ..Double::named(name) };
    let endpoints: Vec<_> = ["a", "b", "c", "d", "e"].into_iter().zip(clusters).map(endpoint).collect();
    let membership = Membership::of(endpoints.iter().map(|endpoint| endpoint.name.to_owned()), None).into();
    let timeouts = RequestTimeouts { hedge_delay: HEDGE, attempt_limit: LIMIT, pause: PAUSE };
    let client = EtcdClient::new(endpoints, membership, Paused(tokio::time::Instant::now()), timeouts);
    let begun = client.clock.now();
    client.decide().await.expect("a decision");
    let voted = voted.borrow().clone();
    (voted, client.clock.now().saturating_since(begun).as_millis() / 10 * 10)
}

#[tokio::test(start_paused = true)]
async fn no_more_endpoints_are_asked_for_their_cluster_than_are_needed() {
    let of = |id| (Some(Duration::ZERO), Ok(id));
    assert_eq!(vote([of(1), of(1), of(1)]).await, (vec!["a", "b"], 0));
    assert_eq!(vote([of(1), of(1), of(1), of(1), of(1)]).await, (vec!["a", "b", "c"], 0));
    assert_eq!(vote([of(1), of(2), of(1)]).await, (vec!["a", "b", "c"], 0), "a conflict");
    let down = (Some(Duration::ZERO), Err(StoreError::Unavailable("down".into())));
    assert_eq!(vote([down, (Some(HEDGE / 2), Ok(1)), of(1)]).await, (vec!["a", "b", "c"], 50), "a failure");
    assert_eq!(vote([of(1), (None, Ok(1)), of(1)]).await, (vec!["a", "b", "b", "c"], 100), "silence");
}

#[tokio::test(start_paused = true)]
async fn pauses_double_up_to_the_limit_and_stay_short_for_one_attempt_limit_without_a_leader() {
    let (cluster, _) = cluster([(SILENT, SILENT)]);
    let near = |pause: Duration, ms: u64| {
        let exact = Duration::from_millis(ms);
        assert!(pause >= exact * 7 / 8 && pause <= exact * 9 / 8, "{pause:?} instead of {exact:?}");
    };
    let (begin, mut pauses) = (cluster.clock.now(), Pauses::default());
    for ms in [50, 100, 200, 400, 400] {
        near(pauses.next(begin, false, &cluster.timeouts, &cluster.jitter), ms);
    }
    let mut pauses = Pauses::default();
    for ms in [10, 20, 40, 80, 100, 100] {
        near(pauses.next(begin, true, &cluster.timeouts, &cluster.jitter), ms);
    }
    near(pauses.next(begin + LIMIT, true, &cluster.timeouts, &cluster.jitter), 50);
    near(pauses.next(begin + LIMIT, true, &cluster.timeouts, &cluster.jitter), 100);
}
