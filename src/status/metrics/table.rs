//! All metrics, in the order of the page. `docs/operations.md` is generated from this table.

use super::metric::{Kind, Metric, Sample, Snapshot, Value};
use crate::{
    core::{clock::Instant, timing::Deadlines},
    status::{Phase, Status},
};

/// Returns a gauge without labels.
const fn gauge(name: &'static str, help: &'static str, samples: fn(&Snapshot) -> Vec<Sample>) -> Metric {
    Metric { name, kind: Kind::Gauge, labels: &[], help, samples }
}

/// Returns a counter without labels.
const fn counter(name: &'static str, help: &'static str, samples: fn(&Snapshot) -> Vec<Sample>) -> Metric {
    Metric { name, kind: Kind::Counter, labels: &[], help, samples }
}

pub(super) const METRICS: &[Metric] = &[
    Metric {
        // client-go's name, which existing dashboards use.
        name: "leader_election_master_status",
        kind: Kind::Gauge,
        labels: &["name"],
        help: "1 if the command runs here, otherwise 0. The label has the name of the lock. client-go has the same metric.",
        samples: |it| labelled(&it.status.lock, flag(it.status.is_leading(it.now))),
    },
    Metric {
        name: "etcd_await_election",
        kind: Kind::Info,
        labels: &["version", "lock", "identity"],
        help: "Always 1. The labels have the version of the program, the lock, and the identity of this instance.",
        samples: |Snapshot { status: Status { lock, identity, .. }, .. }| {
            vec![Sample(vec![env!("CARGO_PKG_VERSION").into(), lock.clone(), identity.clone()], Value::One)]
        },
    },
    Metric {
        name: "etcd_await_election_phase",
        kind: Kind::Gauge,
        labels: &["phase"],
        help: "1 for the phase of this instance, 0 for the others: joining, waiting, elected, running, stopping, released.",
        samples: |it| {
            let is_now = |name| Sample(vec![String::from(name)], flag(name == it.status.phase.name()));
            Phase::NAMES.map(is_now).into()
        },
    },
    gauge(
        "etcd_await_election_queue_number",
        "The number in the queue: 1 for the first standby, 0 if this instance is not a standby.",
        |it| match it.status.phase {
            Phase::Waiting { number, .. } => one(Value::Whole(i64::try_from(number).unwrap_or(i64::MAX))),
            _ => one(Value::Whole(0)),
        },
    ),
    gauge("etcd_await_election_priority", "The priority of this instance, as PRIORITY sets it.", |it| {
        one(Value::Whole(it.status.priority.into()))
    }),
    gauge(
        "etcd_await_election_lock_held",
        "1 if the lock is held by an instance or another client, 0 if it is free, as this instance read it last. Absent while etcd \
         does not answer.",
        |it| it.status.has_leader(it.now).map_or_else(Vec::new, |held| one(flag(held))),
    ),
    Metric {
        name: "etcd_await_election_leader",
        kind: Kind::Info,
        labels: &["leader"],
        help: "Always 1. The label has the identity of the leader. Absent if the lock is free, and while etcd does not answer.",
        samples: |it| {
            let leader = it.status.has_leader(it.now).and(it.status.leader.as_ref());
            leader.map_or_else(Vec::new, |leader| labelled(leader, Value::One))
        },
    },
    gauge(
        "etcd_await_election_leader_change_timestamp_seconds",
        "When this instance saw that the leader changed, or that the lock became free. Absent while etcd does not answer.",
        |it| {
            let since = it.status.leader_since.filter(|_| it.status.has_leader(it.now).is_some());
            timestamp(it, since)
        },
    ),
    gauge("etcd_await_election_paused", "1 if the lock is paused, as this instance read it last, otherwise 0.", |it| {
        one(flag(it.status.pause.is_some()))
    }),
    gauge(
        "etcd_await_election_pause_end_timestamp_seconds",
        "When the pause was to end, as the operator wrote it. Absent if the lock is not paused.",
        |it| {
            let until = it.status.pause.as_ref().and_then(|pause| pause.until);
            until.map_or_else(Vec::new, |until| one(Value::Whole(i64::try_from(until).unwrap_or(i64::MAX))))
        },
    ),
    gauge("etcd_await_election_healthy", "1 if /healthz returns 200, otherwise 0.", |it| {
        one(flag(it.status.is_alive(it.now)))
    }),
    gauge("etcd_await_election_ready", "1 if /readyz returns 200, otherwise 0.", |it| {
        one(flag(it.status.is_ready(it.now)))
    }),
    gauge(
        "etcd_await_election_eligible",
        "1 if this host may lead, by ELIGIBLE, otherwise 0. Absent if it is not set, and before the first answer.",
        |it| it.status.eligible.map_or_else(Vec::new, |eligible| one(flag(eligible))),
    ),
    gauge(
        "etcd_await_election_command_healthy",
        "1 if the command that runs here works, by CHECK, otherwise 0. Absent if it is not set, on a standby, and until the first success or CHECK_START.",
        |it| it.status.command_healthy.map_or_else(Vec::new, |healthy| one(flag(healthy))),
    ),
    gauge("etcd_await_election_fencing_token", "The fencing token; 0 if this instance does not hold the lock.", |it| {
        one(Value::Whole(it.status.token.unwrap_or(0)))
    }),
    gauge("etcd_await_election_lease_ttl_seconds", "The time to live that etcd granted to the lease.", |it| {
        one(Value::Seconds(it.status.ttl.as_secs_f64()))
    }),
    // An unknown value has no sample: 0 would look like a renewal that was just made.
    gauge(
        "etcd_await_election_last_renewal_age_seconds",
        "The time since the latest confirmed renewal of the lease was sent. Absent before the first one.",
        |it| since(it, it.status.renewed_at),
    ),
    gauge(
        "etcd_await_election_leading_seconds",
        "The time since this instance became the leader. Absent on a standby.",
        |it| since(it, it.status.elected_at),
    ),
    gauge(
        "etcd_await_election_stop_deadline_seconds",
        "The time left until the command is stopped unless a renewal is confirmed. Absent while no command runs.",
        |it| until(it, |deadlines| deadlines.stop_at),
    ),
    gauge(
        "etcd_await_election_kill_deadline_seconds",
        "The time left until the command is killed unless a renewal is confirmed. Absent while no command runs.",
        |it| until(it, |deadlines| deadlines.kill_at),
    ),
    Metric {
        name: "etcd_await_election_renewal_duration_seconds",
        kind: Kind::Histogram,
        labels: &[],
        help: "The time from sending a renewal to its confirmation, for the renewals that were confirmed while this instance led.",
        samples: |it| one(Value::Durations(it.status.counters.renewals)),
    },
    Metric {
        name: "etcd_await_election_certificate_expiry_timestamp_seconds",
        kind: Kind::Gauge,
        labels: &["certificate"],
        help: "The earliest end of validity (notAfter) in CERT (client) and CACERT (ca). The files are read every 10 seconds. Absent \
               if the file is not set or not readable.",
        samples: |it| {
            let ends = it.certificates.iter().filter_map(|file| Some((file.role, file.not_after?)));
            ends.map(|(role, end)| Sample(vec![role.into()], Value::Seconds(end.as_secs_f64()))).collect()
        },
    },
    Metric {
        name: "etcd_await_election_certificate_readable",
        kind: Kind::Gauge,
        labels: &["certificate"],
        help: "0 if CERT (client) or CACERT (ca) cannot be read or has a certificate that cannot be parsed, otherwise 1. Absent if the \
               file is not set.",
        samples: |it| it.certificates.iter().map(|file| Sample(vec![file.role.into()], flag(file.readable))).collect(),
    },
    counter("etcd_await_election_elections", "How often this instance became the leader.", |it| {
        one(Value::Count(it.status.counters.elections))
    }),
    counter("etcd_await_election_losses", "How often this instance lost leadership.", |it| {
        one(Value::Count(it.status.counters.losses))
    }),
    counter(
        "etcd_await_election_sick_terms",
        "How often this instance handed over because the check of its command failed.",
        |it| one(Value::Count(it.status.counters.sick_terms)),
    ),
    counter("etcd_await_election_renewals", "How many renewals were confirmed while this instance led.", |it| {
        one(Value::Count(it.status.counters.renewals.count()))
    }),
    counter(
        "etcd_await_election_late_renewals",
        "How many renewals were not confirmed within RETRY_PERIOD while this instance led.",
        |it| one(Value::Count(it.status.counters.late_renewals)),
    ),
];

fn flag(is_set: bool) -> Value {
    Value::Whole(i64::from(is_set))
}

fn one(value: Value) -> Vec<Sample> {
    vec![Sample(Vec::new(), value)]
}

fn labelled(label: &str, value: Value) -> Vec<Sample> {
    vec![Sample(vec![label.to_owned()], value)]
}

fn since(it: &Snapshot, instant: Option<Instant>) -> Vec<Sample> {
    instant.map_or_else(Vec::new, |at| one(Value::Seconds(it.now.saturating_since(at).as_secs_f64())))
}

fn until(it: &Snapshot, which: fn(&Deadlines) -> Instant) -> Vec<Sample> {
    let left = |deadlines| which(deadlines).saturating_since(it.now).as_secs_f64();
    it.status.deadlines.as_ref().map_or_else(Vec::new, |deadlines| one(Value::Seconds(left(deadlines))))
}

fn timestamp(it: &Snapshot, instant: Option<Instant>) -> Vec<Sample> {
    instant.map_or_else(Vec::new, |at| one(Value::Seconds(it.time_of_day_at(at).as_secs_f64())))
}
