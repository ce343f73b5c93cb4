//! A leader whose check fails, and a host that is not eligible.

use super::*;

fn orders(actions: &[Action]) -> Vec<Order> {
    let orders = actions.iter().filter_map(|action| match action {
        Action::Order(order) => Some(*order),
        _ => None,
    });
    orders.collect()
}

const OWN: [(&str, &str, i64, i64); 2] = [("L/~entry/1", "me", 1, 5), ("L", "me", 1, 5)];
const STANDBY: (&str, &str, i64, i64) = ("L/~entry/2", "other", 2, 7);

#[test]
fn a_sick_leader_hands_over_only_if_a_read_or_a_change_shows_a_standby() {
    let mut driven = Driven::new(config());
    driven.lead();
    assert_eq!(orders(&driven.on(Event::Healthy(false))), []);
    // Nobody: the command keeps running, and renewals feed the guard.
    assert!(driven.answer(Answer::Read(snapshot(&OWN))).contains(&Action::Progress(Progress::Stranded)));
    let renewed = |keys: &[_], now| Answer::Renewed { sent: now, read: snapshot(keys) };
    assert!(matches!(orders(&driven.answer(renewed(&OWN, at(0))))[..], [Order::Feed(_)]));
    // Somebody joins.
    let actions = driven.answer(renewed(&[OWN[0], OWN[1], STANDBY], at(0)));
    assert_eq!(orders(&actions), [Order::Stop]);

    // Somebody is there, as the read shows.
    let mut driven = Driven::new(config());
    driven.lead();
    driven.on(Event::Healthy(false));
    assert_eq!(orders(&driven.answer(Answer::Read(snapshot(&[OWN[0], OWN[1], STANDBY])))), [Order::Stop]);

    // The command is well again before the read is answered.
    let mut driven = Driven::new(config());
    driven.lead();
    driven.on(Event::Healthy(false));
    driven.on(Event::Healthy(true));
    let actions = driven.answer(renewed(&[OWN[0], OWN[1], STANDBY], at(0)));
    assert!(matches!(orders(&actions)[..], [Order::Feed(_)]));
}

/// What is known about a standby does not count: nobody can take over while etcd does not answer.
#[test]
fn a_check_that_fails_while_etcd_is_dark_or_the_command_stops_changes_nothing() {
    let both = [OWN[0], OWN[1], STANDBY];
    let mut driven = Driven::new(config());
    driven.lead();
    driven.answer(Answer::Renewed { sent: at(0), read: snapshot(&both) });
    let actions = driven.on(Event::Healthy(false));
    assert_eq!(orders(&actions), []);
    driven.now = at(9);
    assert_eq!(orders(&driven.on(Event::Woken)), []);
    // The watch breaks.
    let watch = driven.requests.iter().find(|(_, request)| matches!(request, Request::Watch { .. })).map(|(id, _)| *id);
    let failure = Answer::Failed { failure: StoreError::Unavailable(String::new()), retry_at: at(5) };
    assert_eq!(orders(&driven.on(Event::Answer(watch.expect("it watches"), failure))), []);
    // The guard stops the command, as it does without a check.
    let actions = driven.on(Event::Report(Report::Ending(crate::guard::Reason::RenewDeadline)));
    assert_eq!(orders(&actions), [Order::Stop]);
    assert_eq!(driven.on(Event::Healthy(false)), []);

    let mut driven = Driven::new(config());
    driven.lead();
    let term = Signal { number: 15, meaning: Meaning::Shutdown };
    assert_eq!(orders(&driven.on(Event::Signal(term))), [Order::Signal(15)]);
    assert_eq!(driven.on(Event::Healthy(false)), [Action::Progress(Progress::Healthy(false))]);
    let actions = driven.answer(Answer::Renewed { sent: at(0), read: snapshot(&both) });
    assert!(matches!(orders(&actions)[..], [Order::Feed(_)]));
}

#[test]
fn a_sick_instance_stays_out_for_longer_each_time_until_a_success() {
    let both = [OWN[0], OWN[1], STANDBY];
    // ON_LOSS=exit would let a service manager restart it at once.
    let mut driven = Driven::new(ElectionConfig { acquire_timeout: Some(S), ..config() });
    let mut out = Vec::new();
    for healthy_first in [false, false, false, true, false, false, false, false, false, false, false] {
        driven.lead();
        if healthy_first {
            driven.on(Event::Healthy(true));
        }
        driven.on(Event::Healthy(false));
        driven.answer(Answer::Read(snapshot(&both)));
        driven.on(Event::Report(Report::TreeExited(CommandEnd::Signaled(15))));
        driven.answer(Answer::Read(snapshot(&both)));
        driven.answer(Answer::Committed(Outcome::Then(9)));
        driven.now = driven.candidate.next_wake().expect("it waits for the release");
        driven.on(Event::Woken);
        let released = driven.now;
        driven.answer(Answer::Revoked(true));
        driven.now = driven.candidate.next_wake().expect("it joins again");
        out.push(driven.now.saturating_since(released).as_secs());
    }
    assert_eq!(out, [60, 120, 240, 60, 120, 240, 480, 960, 1800, 1800, 1800]);
}

/// There may be no other instance.
#[test]
fn a_sick_instance_joins_again_if_the_standby_is_gone() {
    let mut driven = Driven::new(config());
    driven.lead();
    driven.on(Event::Healthy(false));
    driven.answer(Answer::Read(snapshot(&[OWN[0], OWN[1], STANDBY])));
    driven.on(Event::Report(Report::TreeExited(CommandEnd::Signaled(15))));
    driven.answer(Answer::Read(snapshot(&OWN)));
    let released = driven.now;
    driven.answer(Answer::Revoked(true));
    let wake = driven.candidate.next_wake().expect("it joins again");
    assert_eq!(wake.saturating_since(released), config().timing.retry_period());
}

#[test]
fn an_ineligible_instance_is_not_in_the_queue() {
    let mut driven = Driven::new(ElectionConfig { asks_eligibility: true, ..config() });
    let asks = |actions: &[Action]| actions.contains(&Action::NewLease);
    assert!(!asks(&driven.on(Event::Woken)) && !asks(&driven.on(Event::Eligible(false))));
    assert!(driven.requests.is_empty() && driven.candidate.next_wake().is_none());
    assert!(asks(&driven.on(Event::Eligible(true))));
    // It becomes ineligible in each phase of a campaign.
    let answers = [Answer::Granted { sent: at(0), ttl: 15 * S }, Answer::Committed(Outcome::Otherwise(5))];
    for steps in 0..=2 {
        driven.on(Event::NewLease(LeaseId(1)));
        answers[..steps].iter().for_each(|answer| drop(driven.answer(answer.clone())));
        driven.on(Event::Eligible(false));
        assert!(matches!(driven.requests[..], [(_, Request::Revoke(LeaseId(1)))]), "{steps}: {:?}", driven.requests);
        assert!(!asks(&driven.answer(Answer::Revoked(true))), "{steps}");
        assert!(asks(&driven.on(Event::Eligible(true))), "{steps}");
    }
    // A leader is not asked, and asks again before it joins.
    driven.on(Event::NewLease(LeaseId(1)));
    answers.into_iter().for_each(|answer| drop(driven.answer(answer)));
    assert!(started(&driven.answer(Answer::Read(snapshot(&OWN)))));
    assert_eq!(orders(&driven.on(Event::Eligible(false))), []);
    assert!(driven.candidate.leads());
}
