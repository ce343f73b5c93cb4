//! Warns about versions of etcd that put the guarantee at risk, in one log line of each instance.
//!
//! `docs/guarantees.md` has the same table for operators.

use std::{fmt, time::Duration};

use futures_util::future::join_all;

use super::{client::EtcdClient, endpoint::Endpoint, store::Store as _};
use crate::core::{clock::Clock, timing::show};

/// The time limit for members to report their versions.
const LIMIT: Duration = Duration::from_secs(5);

/// A defect of etcd that concerns leases, the worst last. Each was fixed in all release branches that were maintained then.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Risk {
    /// Every user can keep every lease alive (CVE-2026-33413).
    KeptAliveByAnyUser,
    /// A keepalive may be confirmed while its lease is being revoked (<https://github.com/etcd-io/etcd/pull/20590>).
    ConfirmsRevoked,
    /// A raft leader that stalled revokes leases that were renewed meanwhile (<https://github.com/etcd-io/etcd/issues/15247>).
    RevokesLive,
}

impl Risk {
    /// The worst first, each with the first fixed version of each branch. Newer branches never had it.
    const FIXED: [(Self, &[Version]); 3] = [
        (Self::RevokesLive, &[Version(3, 4, 31), Version(3, 5, 13)]),
        (Self::ConfirmsRevoked, &[Version(3, 4, 38), Version(3, 5, 23), Version(3, 6, 5)]),
        (Self::KeptAliveByAnyUser, &[Version(3, 4, 42), Version(3, 5, 28), Version(3, 6, 9)]),
    ];

    /// Returns all risks of a version.
    fn of(version: Version) -> impl Iterator<Item = Self> {
        let has = move |fixed: &[Version]| {
            let branch = fixed.iter().find(|first| (first.0, first.1) == (version.0, version.1));
            branch.or_else(|| fixed.first()).is_some_and(|first| version < *first)
        };
        Self::FIXED.into_iter().filter(move |(_, fixed)| has(fixed)).map(|(risk, _)| risk)
    }

    /// Returns the first version of each branch without any of the risks.
    fn fixed_versions() -> String {
        let last = Self::FIXED.last().map_or(&[][..], |(_, fixed)| fixed);
        last.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    /// Returns whether an instance with this configuration is affected, and why.
    fn verdict(self, configuration: &Configuration) -> (bool, &'static str) {
        match self {
            Self::RevokesLive => match configuration.voters {
                Some(1) => (false, "etcd has a single member, which is always the raft leader"),
                Some(_) => (true, "etcd has more than one member, so the raft leader can change"),
                None => (true, "whether etcd has more than one member is unknown"),
            },
            Self::ConfirmsRevoked => {
                (false, "the command is stopped before its lease expires, and each renewal reads the holder key")
            }
            Self::KeptAliveByAnyUser if configuration.has_user => (true, "USER is set, so etcd has users"),
            Self::KeptAliveByAnyUser => (false, "USER is not set"),
        }
    }

    /// Describes what may happen.
    fn text(self, configuration: &Configuration) -> String {
        let lease = show(configuration.lease);
        match self {
            Self::RevokesLive => format!(
                "may revoke live leases: if its raft leader stalls for about LEASE_DURATION ({lease}), on a slow disk for example, two \
                 instances may lead"
            ),
            Self::ConfirmsRevoked => "may confirm the renewal of a lease that is being revoked".to_owned(),
            Self::KeptAliveByAnyUser => {
                "lets every etcd user keep the lease of a lost leader alive, so that no other instance can lead"
                    .to_owned()
            }
        }
    }
}

/// The settings and facts that decide whether an instance is affected.
struct Configuration {
    /// The number of etcd members that vote; `None` if unknown.
    voters: Option<usize>,
    /// Whether USER is set.
    has_user: bool,
    /// LEASE_DURATION.
    lease: Duration,
}

/// The version of a server, without suffixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version(u64, u64, u64);

impl Version {
    /// Returns `None` if the text is not a version of etcd.
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split(['.', '-', '+']).map(str::parse);
        let mut next = || numbers.next()?.ok();
        Some(Self(next()?, next()?, next()?))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// The line to log.
#[derive(Debug, PartialEq, Eq)]
struct Advice {
    affected: bool,
    message: String,
}

impl Advice {
    /// Returns the advice about the worst risk of all members; `None` if there is none. Risks that affect the configuration come first.
    fn of(versions: &[Version], configuration: &Configuration) -> Option<Self> {
        let risks = versions.iter().flat_map(|version| Risk::of(*version).map(|risk| (risk, *version)));
        // Of several members with that risk, the line names the oldest.
        let worst =
            risks.max_by_key(|(risk, version)| (risk.verdict(configuration).0, *risk, std::cmp::Reverse(*version)));
        let (risk, version) = worst?;
        let (affected, reason) = risk.verdict(configuration);
        let whether = if affected { "this instance is affected" } else { "this instance is not affected" };
        let text = risk.text(configuration);
        let fixed = Risk::fixed_versions();
        Some(Self {
            affected,
            message: format!("etcd {version} {text}; {whether}: {reason}; install etcd {fixed} or later"),
        })
    }
}

/// Logs one line if a member has a version with a known risk: a warning if this configuration is affected. Ignores members that do
/// not answer within 5 s.
pub async fn log_risks<C: Clock>(cluster: &EtcdClient<Endpoint, C>, lease: Duration, has_user: bool) {
    let limit = cluster.clock().now() + LIMIT;
    let endpoints = cluster.endpoints();
    let ask = async |endpoint: &Endpoint| {
        let version = cluster.clock().before(limit, endpoint.version()).await?.ok()?;
        Some((format!("{} {version}", endpoint.name()), Version::parse(&version)?))
    };
    let answers: Vec<_> = join_all(endpoints.iter().map(|it| ask(it))).await.into_iter().flatten().collect();
    let (members, versions): (Vec<_>, Vec<_>) = answers.into_iter().unzip();
    let mut configuration = Configuration { voters: None, has_user, lease };
    if Advice::of(&versions, &configuration).is_none() {
        return;
    }
    for endpoint in &endpoints {
        if let Some(Ok(voters)) = cluster.clock().before(limit, endpoint.voters()).await {
            configuration.voters = Some(voters);
            break;
        }
    }
    let Some(Advice { affected, message }) = Advice::of(&versions, &configuration) else { return };
    let members = members.join(", ");
    if affected {
        tracing::warn!(affected, members, "{message}");
    } else {
        tracing::info!(affected, members, "{message}");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Advice, Configuration, Risk, Version};

    fn version(text: &str) -> Version {
        Version::parse(text).expect("a version")
    }

    fn configuration(voters: Option<usize>, has_user: bool) -> Configuration {
        Configuration { voters, has_user, lease: Duration::from_secs(15) }
    }

    #[test]
    fn the_risks_of_each_version() {
        use Risk::{ConfirmsRevoked, KeptAliveByAnyUser, RevokesLive};
        let all = [RevokesLive, ConfirmsRevoked, KeptAliveByAnyUser].as_slice();
        for (text, risks) in [
            ("3.3.27", all),
            ("3.4.23", all),
            ("3.4.30", all),
            ("3.4.31", &all[1..]),
            ("3.4.37", &all[1..]),
            ("3.4.38", &all[2..]),
            ("3.4.41", &all[2..]),
            ("3.4.42", &[]),
            ("3.5.0", all),
            ("3.5.12", all),
            ("3.5.13", &all[1..]),
            ("3.5.22", &all[1..]),
            ("3.5.23", &all[2..]),
            ("3.5.27", &all[2..]),
            ("3.5.28", &[]),
            ("3.5.30+git", &[]),
            ("3.6.0-rc.1", &all[1..]),
            ("3.6.4", &all[1..]),
            ("3.6.5", &all[2..]),
            ("3.6.8", &all[2..]),
            ("3.6.9", &[]),
            ("3.6.16", &[]),
            ("3.7.0", &[]),
            ("4.0.0", &[]),
        ] {
            assert_eq!(Risk::of(version(text)).collect::<Vec<_>>(), risks, "{text}");
        }
        for nonsense in ["", "nonsense", "3.5", "3.x.1", "v3.5.1"] {
            assert_eq!(Version::parse(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn the_worst_risk_that_affects_the_configuration_is_logged() {
        const REVOKES: &str = "may revoke live leases";
        const CONFIRMS: &str = "may confirm the renewal";
        const KEEPS: &str = "keep the lease of a lost leader alive";
        for (versions, voters, has_user, expected) in [
            (&["3.5.12", "3.5.12", "3.5.12"][..], Some(3), false, Some(("3.5.12", REVOKES, true))),
            // Unknown: it may have several.
            (&["3.5.12"], None, false, Some(("3.5.12", REVOKES, true))),
            (&["3.5.12"], Some(1), false, Some(("3.5.12", REVOKES, false))),
            // A risk that affects the configuration comes before a worse one that does not.
            (&["3.5.12"], Some(1), true, Some(("3.5.12", KEEPS, true))),
            (&["3.5.16", "3.5.16"], Some(3), false, Some(("3.5.16", CONFIRMS, false))),
            (&["3.5.16", "3.5.16"], Some(3), true, Some(("3.5.16", KEEPS, true))),
            (&["3.5.27"], Some(3), false, Some(("3.5.27", KEEPS, false))),
            (&["3.5.28", "3.6.9", "3.7.3"], Some(3), true, None),
            // An upgrade under way.
            (&["3.6.16", "3.5.12", "3.6.16"], Some(3), false, Some(("3.5.12", REVOKES, true))),
            (&["3.4.30", "3.5.12", "3.4.23"], Some(3), false, Some(("3.4.23", REVOKES, true))),
            (&["3.4.31", "3.5.12"], Some(3), false, Some(("3.5.12", REVOKES, true))),
            (&["3.6.16", "3.5.23"], Some(3), true, Some(("3.5.23", KEEPS, true))),
            (&[], Some(3), true, None),
        ] {
            let advice = Advice::of(
                &versions.iter().map(|text| version(text)).collect::<Vec<_>>(),
                &configuration(voters, has_user),
            );
            let Some((named, text, affected)) = expected else {
                assert_eq!(advice, None, "{versions:?}");
                continue;
            };
            let advice = advice.expect("a risk");
            assert_eq!(advice.affected, affected, "{versions:?}: {advice:?}");
            let begins = advice.message.starts_with(&format!("etcd {named} "));
            assert!(begins && advice.message.contains(text), "{versions:?}: {advice:?}");
            assert!(advice.message.ends_with("install etcd 3.4.42, 3.5.28, 3.6.9 or later"), "{advice:?}");
        }
    }
}
