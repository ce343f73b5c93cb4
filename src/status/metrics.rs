//! The metrics, as Prometheus text or OpenMetrics.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeMetric as _, prometheus_text, text},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge, info::Info},
    registry::Registry,
};

use super::{Phase, Status};
use crate::core::{clock::Instant, timing::Deadlines};

/// The text format of the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// The Prometheus text format, version 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.0, for clients whose `Accept` header has it.
    OpenMetrics,
}

impl Format {
    /// Returns the format for a client that sends this `Accept` header.
    #[must_use]
    pub fn accepted(accept: &str) -> Self {
        let wants = accept.split(',').any(|range| {
            let mut parts = range.split(';').map(str::trim);
            let is_it = parts.next().is_some_and(|kind| kind.eq_ignore_ascii_case("application/openmetrics-text"));
            let excluded = |part: &str| part.strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0));
            is_it && !parts.any(excluded)
        });
        if wants { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// Returns the value of the `Content-Type` header.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Returns all metrics as text.
#[must_use]
pub fn render(status: &Status, now: Instant, format: Format) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Snapshot { status: status.clone(), now }));
    let mut text = String::new();
    // Writing into a string cannot fail.
    let _ = match format {
        Format::Prometheus => prometheus_text::encode(&mut text, &registry),
        Format::OpenMetrics => text::encode(&mut text, &registry),
    };
    text
}

/// The status that all samples of one answer are taken from, so that they are consistent with each other.
#[derive(Debug)]
struct Snapshot {
    status: Status,
    now: Instant,
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Self { status, now } = self;
        let mut page = Page(encoder);
        // client-go's name, which existing dashboards use.
        page.labelled(
            "leader_election_master_status",
            "Whether the command runs here: 1, or 0 on a standby.",
            [([("name", status.lock.as_str())], status.is_leading(*now))],
        )?;
        let info =
            [("version", env!("CARGO_PKG_VERSION")), ("lock", &status.lock), ("identity", &status.identity)].to_vec();
        Info::new(info).encode(page.0.encode_descriptor(
            "etcd_await_election",
            "The version of the program, its lock and its identity.",
            None,
            MetricType::Info,
        )?)?;
        page.labelled(
            "etcd_await_election_phase",
            "The phase of this instance: 1 for the current one, 0 for the others.",
            Phase::NAMES.map(|name| ([("phase", name)], name == status.phase.name())),
        )?;
        let number = match status.phase {
            Phase::Waiting { number, .. } => number,
            _ => 0,
        };
        page.gauge(
            "queue_number",
            "The number in the queue: 1 for the first standby, 0 if this instance is not a standby.",
            number,
        )?;
        page.gauge("healthy", "Whether /healthz returns 200.", u32::from(status.is_alive(*now)))?;
        page.gauge("ready", "Whether /readyz returns 200.", u32::from(status.is_ready(*now)))?;
        page.gauge(
            "fencing_token",
            "The fencing token; 0 if this instance does not hold the lock.",
            status.token.unwrap_or(0),
        )?;
        page.gauge("lease_ttl_seconds", "The time to live that etcd granted to the lease.", status.ttl.as_secs_f64())?;

        // An unknown value has no sample: 0 would look like a renewal that was just made.
        let since = |at: Instant| now.saturating_since(at).as_secs_f64();
        let until = |at: Instant| at.saturating_since(*now).as_secs_f64();
        if let Some(at) = status.renewed_at {
            page.gauge(
                "last_renewal_age_seconds",
                "Seconds since the latest confirmed renewal of the lease was sent.",
                since(at),
            )?;
        }
        if let Some(at) = status.elected_at {
            page.gauge("leading_seconds", "Seconds since this instance became leader.", since(at))?;
        }
        if let Some(Deadlines { stop_at, kill_at }) = status.deadlines {
            let (stop, kill) = (until(stop_at), until(kill_at));
            page.gauge("stop_deadline_seconds", "Seconds until the command is stopped if no renewal succeeds.", stop)?;
            page.gauge("kill_deadline_seconds", "Seconds until the command is killed if no renewal succeeds.", kill)?;
        }

        let counters = status.counters;
        page.counter("elections", "How often this instance became leader.", counters.elections)?;
        page.counter("losses", "How often this instance lost leadership.", counters.losses)?;
        page.counter("renewals", "Renewals that etcd confirmed.", counters.renewals)?;
        page.counter("late_renewals", "Renewals not confirmed within RETRY_PERIOD.", counters.late_renewals)
    }
}

struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue) -> fmt::Result {
        let name = format!("etcd_await_election_{name}");
        ConstGauge::new(value).encode(self.0.encode_descriptor(&name, help, None, MetricType::Gauge)?)
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let name = format!("etcd_await_election_{name}");
        ConstCounter::new(value).encode(self.0.encode_descriptor(&name, help, None, MetricType::Counter)?)
    }

    fn labelled<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        samples: [([(&str, &str); 1], bool); N],
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in &samples {
            ConstGauge::new(u32::from(*value)).encode(family.encode_family(labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{at, joining, leader, standby},
        *,
    };

    #[test]
    fn a_leader_in_both_formats() {
        let text = render(&leader(), at(102), Format::Prometheus);
        for line in [
            "leader_election_master_status{name=\"db\"} 1",
            "# TYPE etcd_await_election_info gauge",
            "etcd_await_election_phase{phase=\"running\"} 1",
            "etcd_await_election_phase{phase=\"waiting\"} 0",
            "etcd_await_election_fencing_token 42",
            "etcd_await_election_last_renewal_age_seconds 2.0",
            "etcd_await_election_leading_seconds 12.0",
            "etcd_await_election_stop_deadline_seconds 8.0",
            "etcd_await_election_kill_deadline_seconds 12.0",
            "# TYPE etcd_await_election_renewals_total counter",
            "etcd_await_election_renewals_total 5",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("EOF"));
        let text = render(&leader(), at(102), Format::OpenMetrics);
        for line in [
            "# TYPE etcd_await_election info",
            "# TYPE etcd_await_election_renewals counter",
            "etcd_await_election_renewals_total 5",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }

    #[test]
    fn an_instance_that_does_not_lead() {
        for (status, number) in [(standby(), 2), (joining(), 0)] {
            let text = render(&status, at(101), Format::Prometheus);
            assert!(text.contains("leader_election_master_status{name=\"db\"} 0\n"), "{text}");
            assert!(text.contains(&format!("etcd_await_election_queue_number {number}\n")), "{text}");
            assert!(!text.contains("deadline"), "{text}");
        }
        let late = render(&leader(), at(110), Format::Prometheus);
        assert!(late.contains("leader_election_master_status{name=\"db\"} 0\n"), "a deadline has passed:\n{late}");
    }

    #[test]
    fn labels_are_escaped() {
        let status = Status { lock: "a\"b\\c\nd".into(), ..standby() };
        let text = render(&status, at(101), Format::Prometheus);
        assert!(text.contains("{name=\"a\\\"b\\\\c\\nd\"} 0\n"), "{text}");
    }

    /// Every sample belongs to the family announced just before it, and no family is announced twice.
    #[test]
    fn the_samples_of_a_family_stand_together() {
        let text = render(&leader(), at(101), Format::Prometheus);
        let mut families = Vec::new();
        for line in text.lines() {
            match line.strip_prefix("# TYPE ") {
                Some(family) => families.push(family.split(' ').next().expect("a name")),
                None if line.starts_with('#') => {}
                None => assert_eq!(line.split(['{', ' ']).next(), families.last().copied(), "{line}"),
            }
        }
        let count = families.len();
        families.sort_unstable();
        families.dedup();
        assert_eq!(families.len(), count);
    }

    #[test]
    fn the_format_follows_from_accept() {
        for (accept, format) in [
            ("", Format::Prometheus),
            ("text/plain;version=0.0.4", Format::Prometheus),
            ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3,*/*;q=0.1", Format::OpenMetrics),
            ("text/plain, application/openmetrics-text; q=0", Format::Prometheus),
        ] {
            assert_eq!(Format::accepted(accept), format, "{accept}");
        }
    }
}
