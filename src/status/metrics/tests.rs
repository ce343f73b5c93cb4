use std::time::Duration;

use super::{
    super::tests::{at, joining, leader, standby},
    *,
};
use crate::status::{Status, certificates::CertificateFile};

/// Returns the metrics `seconds` after the boot of a machine that booted 1,000,000 seconds after 1970.
fn render(status: &Status, seconds: u64, format: Format) -> String {
    let certificates = vec![
        CertificateFile { role: "client", readable: true, not_after: Some(Duration::from_secs(2_000_000)) },
        CertificateFile { role: "ca", readable: false, not_after: None },
    ];
    let time_of_day = Duration::from_secs(1_000_000 + seconds);
    super::render(Snapshot { status: status.clone(), certificates, now: at(seconds), time_of_day }, format)
}

#[track_caller]
fn has(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|l| l == *line), "{line} is not in\n{text}");
    }
}

#[test]
fn a_leader_in_both_formats() {
    let text = render(&leader(), 102, Format::Prometheus);
    has(
        &text,
        &[
            "leader_election_master_status{name=\"db\"} 1",
            "# TYPE etcd_await_election_info gauge",
            "etcd_await_election_phase{phase=\"running\"} 1",
            "etcd_await_election_phase{phase=\"waiting\"} 0",
            "etcd_await_election_priority 7",
            "etcd_await_election_lock_held 1",
            "etcd_await_election_leader_info{leader=\"me\"} 1",
            "etcd_await_election_leader_change_timestamp_seconds 1000090.0",
            "etcd_await_election_fencing_token 42",
            "etcd_await_election_last_renewal_age_seconds 2.0",
            "etcd_await_election_leading_seconds 12.0",
            "etcd_await_election_stop_deadline_seconds 8.0",
            "etcd_await_election_kill_deadline_seconds 12.0",
            "# TYPE etcd_await_election_renewal_duration_seconds histogram",
            "etcd_await_election_renewal_duration_seconds_bucket{le=\"0.005\"} 5",
            "etcd_await_election_renewal_duration_seconds_bucket{le=\"10\"} 5",
            "etcd_await_election_renewal_duration_seconds_bucket{le=\"+Inf\"} 5",
            "etcd_await_election_renewal_duration_seconds_sum 0.02",
            "etcd_await_election_renewal_duration_seconds_count 5",
            "etcd_await_election_certificate_expiry_timestamp_seconds{certificate=\"client\"} 2000000.0",
            "etcd_await_election_certificate_readable{certificate=\"client\"} 1",
            "etcd_await_election_certificate_readable{certificate=\"ca\"} 0",
            "# TYPE etcd_await_election_renewals_total counter",
            "etcd_await_election_renewals_total 5",
        ],
    );
    assert!(!text.contains("EOF"));
    let text = render(&leader(), 102, Format::OpenMetrics);
    has(
        &text,
        &[
            "# TYPE etcd_await_election info",
            "# TYPE etcd_await_election_renewals counter",
            "etcd_await_election_renewals_total 5",
        ],
    );
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn an_instance_that_does_not_lead() {
    for (status, number) in [(standby(), 2), (joining(), 0)] {
        let text = render(&status, 101, Format::Prometheus);
        assert!(text.contains("leader_election_master_status{name=\"db\"} 0\n"), "{text}");
        assert!(text.contains(&format!("etcd_await_election_queue_number {number}\n")), "{text}");
        assert!(!text.contains("deadline_seconds"), "{text}");
    }
    let late = render(&leader(), 110, Format::Prometheus);
    assert!(late.contains("leader_election_master_status{name=\"db\"} 0\n"), "a deadline has passed:\n{late}");
}

#[test]
fn labels_are_escaped() {
    let evil = String::from("a\"b\\c\nd");
    let status = Status { lock: evil.clone(), identity: evil.clone(), leader: Some(evil), ..standby() };
    for format in [Format::Prometheus, Format::OpenMetrics] {
        let text = render(&status, 101, format);
        has(
            &text,
            &[
                "leader_election_master_status{name=\"a\\\"b\\\\c\\nd\"} 0",
                "etcd_await_election_leader_info{leader=\"a\\\"b\\\\c\\nd\"} 1",
            ],
        );
    }
}

#[test]
fn the_leader_is_absent_while_it_is_not_known() {
    has(
        &render(&standby(), 101, Format::Prometheus),
        &[
            "etcd_await_election_lock_held 1",
            "etcd_await_election_leader_info{leader=\"a\"} 1",
            "etcd_await_election_leader_change_timestamp_seconds 1000060.0",
        ],
    );
    let free = render(&Status { leader: None, ..standby() }, 101, Format::Prometheus);
    has(&free, &["etcd_await_election_lock_held 0", "etcd_await_election_leader_change_timestamp_seconds 1000060.0"]);
    assert!(!free.contains("leader_info"), "{free}");
    for (status, seconds) in [(standby(), 116), (joining(), 101)] {
        let text = render(&status, seconds, Format::Prometheus);
        for name in ["lock_held", "leader_info", "leader_change"] {
            assert!(!text.contains(name), "{name} is in\n{text}");
        }
    }
}

/// The time of day was set while the instance ran, or had not been set when it was started.
#[test]
fn a_timestamp_follows_the_time_of_day() {
    let snapshot = |time_of_day| Snapshot {
        status: standby(),
        certificates: Vec::new(),
        now: at(101),
        time_of_day: Duration::from_secs(time_of_day),
    };
    for (time_of_day, since) in [(2_000_041, "2000000.0"), (0, "0.0")] {
        let text = super::render(snapshot(time_of_day), Format::Prometheus);
        has(&text, &[&format!("etcd_await_election_leader_change_timestamp_seconds {since}")]);
    }
}

/// Every sample belongs to the family announced just before it, and no family is announced twice.
#[test]
fn the_samples_of_a_family_stand_together() {
    let text = render(&leader(), 101, Format::Prometheus);
    let mut families = Vec::new();
    for line in text.lines() {
        match line.strip_prefix("# TYPE ") {
            Some(family) => families.push(family.split(' ').next().expect("a name")),
            None if line.starts_with('#') => {}
            None => {
                let name = line.split(['{', ' ']).next().expect("a name");
                let family = families.last().copied().expect("a family");
                let suffix = name.strip_prefix(family).unwrap_or_else(|| panic!("{line} is not of {family}"));
                assert!(["", "_bucket", "_sum", "_count"].contains(&suffix), "{line}");
            }
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
