//! What a metric is, and what its samples are taken from.

use std::{fmt, time::Duration};

use prometheus_client::{
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet},
    metrics::MetricType,
};

use crate::{
    core::clock::Instant,
    status::{Status, certificates::CertificateFile, renewals::Renewals},
};

/// What all samples of one answer are taken from, so that they are consistent with each other.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The status.
    pub status: Status,
    /// The certificate files.
    pub certificates: Vec<CertificateFile>,
    /// The present instant.
    pub now: Instant,
    /// The time of day at that instant, since 1970.
    pub time_of_day: Duration,
}

impl Snapshot {
    /// Returns the time of day at an instant, since 1970. It follows when the time of day is set.
    pub(super) fn time_of_day_at(&self, instant: Instant) -> Duration {
        let ahead = instant.saturating_since(self.now);
        (self.time_of_day + ahead).saturating_sub(self.now.saturating_since(instant))
    }
}

/// A metric: its documentation, and how its samples are taken.
pub(super) struct Metric {
    /// The name, without the suffix of its kind.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// The names of the labels.
    pub(super) labels: &'static [&'static str],
    /// The text for Prometheus and for the documentation.
    pub(super) help: &'static str,
    pub(super) samples: fn(&Snapshot) -> Vec<Sample>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Gauge,
    Counter,
    Histogram,
    /// Always 1; only its labels tell something.
    Info,
}

/// The values of the labels, in the order of [`Metric::labels`], and that of the metric.
pub(super) struct Sample(pub(super) Vec<String>, pub(super) Value);

pub(super) enum Value {
    Whole(i64),
    Count(u64),
    Seconds(f64),
    Durations(Renewals),
    /// The value of [`Kind::Info`].
    One,
}

impl Metric {
    pub(super) fn encode(&self, snapshot: &Snapshot, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let samples = (self.samples)(snapshot);
        if samples.is_empty() {
            return Ok(());
        }
        let kind = match self.kind {
            Kind::Gauge => MetricType::Gauge,
            Kind::Counter => MetricType::Counter,
            Kind::Histogram => MetricType::Histogram,
            Kind::Info => MetricType::Info,
        };
        let mut metric = encoder.encode_descriptor(self.name, self.help, None, kind)?;
        for Sample(values, value) in samples {
            let labels: Vec<(&str, String)> = self.labels.iter().copied().zip(values).collect();
            match value {
                value if labels.is_empty() => value.encode(&mut metric)?,
                value => value.encode(&mut metric.encode_family(&labels)?)?,
            }
        }
        Ok(())
    }
}

impl Value {
    fn encode(&self, metric: &mut MetricEncoder<'_>) -> fmt::Result {
        match self {
            Self::Whole(value) => metric.encode_gauge(value),
            Self::Seconds(value) => metric.encode_gauge(value),
            Self::Count(value) => metric.encode_counter::<NoLabelSet, _, u64>(value, None),
            Self::Durations(renewals) => {
                let buckets: Vec<_> = renewals.buckets().collect();
                metric.encode_histogram::<NoLabelSet>(renewals.sum(), renewals.count(), &buckets, None)
            }
            Self::One => metric.encode_info(&[("", ""); 0]),
        }
    }
}
