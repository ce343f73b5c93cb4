//! Discovery of etcd's members by SRV records, as with `etcdctl --discovery-srv`.
//!
//! The records of both services are used, those for TLS first. With a TLS setting only those for TLS are used, so that a forged
//! answer cannot lead to a server without TLS.

use std::{cell::RefCell, cmp::Reverse, collections::BTreeSet, fs, rc::Rc, time::Duration};

use futures_util::future;
use hickory_resolver::{
    TokioResolver,
    config::{ResolveHosts, ResolverConfig, ResolverOpts},
    lookup,
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::ResponseCode,
        rr::{RData, RecordType, rdata::SRV},
    },
    system_conf::parse_resolv_conf,
};
use tokio::{sync::Mutex, task::JoinHandle};

use super::resolve::one_at_a_time;
use crate::{
    core::clock::Clock as _,
    settings::{Discovery, is_host},
    system::clock::BootClock,
};

/// The SRV records of a domain, and the targets made of the members that they name.
pub(super) struct Records<T> {
    services: Vec<Service>,
    domain: String,
    /// The time limit of one call. A lookup that takes longer goes on, and the next call waits for it.
    limit: Duration,
    /// The lookup in progress.
    lookup: Mutex<Option<Lookup>>,
    failure: RefCell<Option<String>>,
    /// The targets of the latest successful lookup, by URL.
    targets: RefCell<Vec<(String, Rc<T>)>>,
}

/// A lookup of the URLs of the members.
type Lookup = JoinHandle<Result<Vec<String>, String>>;

/// One name that has SRV records.
#[derive(Clone)]
struct Service {
    name: String,
    scheme: &'static str,
}

/// The time limit of a lookup, whatever `/etc/resolv.conf` says.
const LOOKUP_LIMIT: Duration = Duration::from_secs(10);
/// The limit for a chain of aliases (CNAME records).
const MAX_ALIASES: usize = 8;
/// More members than this has no etcd.
const MAX_TARGETS: usize = 64;

impl<T> Records<T> {
    pub(super) fn new(discovery: &Discovery, limit: Duration) -> Self {
        let Discovery { domain, suffix, tls_only } = discovery;
        let suffix = suffix.as_ref().map(|suffix| format!("-{suffix}")).unwrap_or_default();
        let service = |scheme, service: &str| Service { name: format!("_{service}{suffix}._tcp.{domain}"), scheme };
        let mut services = vec![service("https", "etcd-client-ssl"), service("http", "etcd-client")];
        if *tls_only {
            services.truncate(1);
        }
        Self {
            services,
            domain: domain.clone(),
            limit,
            lookup: Mutex::default(),
            failure: RefCell::default(),
            targets: RefCell::default(),
        }
    }

    /// Returns the name of the records for messages.
    pub(super) fn name(&self) -> String {
        format!("the SRV records of {}", self.domain)
    }

    /// Returns why no member is known.
    pub(super) fn failure(&self) -> String {
        self.failure.borrow().clone().unwrap_or_else(|| "no answer from the resolver yet".to_owned())
    }

    /// Looks up the records, and the names in them by `look_up`. Keeps the targets if that fails or finds nothing.
    pub(super) async fn look_up<F: Future<Output = ()>>(
        &self,
        make: impl Fn(&str) -> T,
        look_up: impl Fn(Rc<T>) -> F,
    ) -> Vec<Rc<T>> {
        let look_up_all = |targets: Vec<Rc<T>>| future::join_all(targets.into_iter().map(&look_up));
        let known = self.targets();
        let records = async {
            let found = self.ask().await;
            self.failure.replace(found.as_ref().err().cloned());
            match found {
                Ok(urls) => drop(look_up_all(self.set_targets(urls, make)).await),
                Err(failure) => tracing::debug!("{}: {failure}", self.name()),
            }
        };
        // Uses all that has been found within the limit.
        let _ = BootClock.before(BootClock.now() + self.limit, future::join(records, look_up_all(known))).await;
        self.targets()
    }

    fn targets(&self) -> Vec<Rc<T>> {
        self.targets.borrow().iter().map(|(_, target)| Rc::clone(target)).collect()
    }

    /// Sets the targets. Returns the new ones.
    fn set_targets(&self, urls: Vec<String>, make: impl Fn(&str) -> T) -> Vec<Rc<T>> {
        let mut targets = self.targets.borrow_mut();
        let before = std::mem::take(&mut *targets);
        let mut new = Vec::new();
        for url in urls {
            let known = before.iter().find(|(other, _)| *other == url).map(|(_, target)| Rc::clone(target));
            let target = known.unwrap_or_else(|| {
                let target = Rc::new(make(&url));
                new.push(Rc::clone(&target));
                target
            });
            targets.push((url, target));
        }
        let urls = |targets: &[(String, Rc<T>)]| targets.iter().map(|(url, _)| url.clone()).collect::<BTreeSet<_>>();
        if urls(&before) != urls(&targets) {
            let list: Vec<_> = targets.iter().map(|(url, _)| &**url).collect();
            tracing::info!("{} name {}", self.name(), list.join(", "));
        }
        new
    }

    /// Looks up the records.
    async fn ask(&self) -> Result<Vec<String>, String> {
        let all = look_up_all(self.services.clone());
        let lookup = async move {
            let limit = format!("could not look up SRV records: no answer within {}s", LOOKUP_LIMIT.as_secs());
            BootClock.before(BootClock.now() + LOOKUP_LIMIT, all).await.unwrap_or(Err(limit))
        };
        one_at_a_time(&self.lookup, lookup).await.map_err(|error| error.to_string())?
    }
}

/// Looks up the records of these services. Fails if one lookup fails, because its members would seem to have been removed.
async fn look_up_all(services: Vec<Service>) -> Result<Vec<String>, String> {
    let resolver = resolver().map_err(|error| format!("could not look up SRV records: {error}"))?;
    let answers = services.iter().map(async |service| {
        let records = ask(&resolver, &service.name).await;
        records.map_err(|error| format!("could not look up {}: {error}", service.name))
    });
    let mut all = Vec::new();
    for (service, answer) in services.iter().zip(future::join_all(answers).await) {
        all.extend(urls(service, answer?)?);
    }
    let names: Vec<_> = services.iter().map(|service| &*service.name).collect();
    match all.len() {
        0 => Err(format!("there are no SRV records {}", names.join(" or "))),
        1..=MAX_TARGETS => Ok(all),
        n => {
            Err(format!("the SRV records {} name {n} members, and at most {MAX_TARGETS} are used", names.join(" and ")))
        }
    }
}

/// Looks up the SRV records of a name, or of the name that it is an alias of, as hickory does not follow aliases to SRV records.
/// Returns no records if DNS says that there are none.
async fn ask(resolver: &TokioResolver, name: &str) -> Result<Vec<SRV>, NetError> {
    let mut name = format!("{name}.");
    for _ in 0..MAX_ALIASES {
        let records = or_none(resolver.srv_lookup(&*name).await)?;
        let records: Vec<_> = records.iter().filter_map(srv).cloned().collect();
        if !records.is_empty() {
            return Ok(records);
        }
        let aliases = or_none(resolver.lookup(&*name, RecordType::CNAME).await)?;
        let target = aliases.iter().find_map(|data| match data {
            RData::CNAME(target) => Some(target.to_string()),
            _ => None,
        });
        let Some(target) = target else { break };
        name = target;
    }
    Ok(Vec::new())
}

/// Returns the data of an answer; none if DNS says that there are no records.
fn or_none(answer: Result<lookup::Lookup, NetError>) -> Result<Vec<RData>, NetError> {
    match answer {
        Ok(lookup) => Ok(lookup.answers().iter().map(|record| record.data.clone()).collect()),
        Err(error) if is_empty(&error) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Creates a resolver from the present `/etc/resolv.conf`, without a cache, so that changes are noticed.
fn resolver() -> Result<TokioResolver, NetError> {
    let (config, mut options) = system(&fs::read("/etc/resolv.conf").unwrap_or_default())?;
    options.cache_size = 0;
    options.use_hosts_file = ResolveHosts::Never;
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    *builder.options_mut() = options;
    builder.build()
}

/// Parses a `resolv.conf` as the system's resolver does: skips invalid lines, and uses the server on this machine if it names none.
/// Ignores search domains, as all names here are fully qualified.
fn system(resolv_conf: &[u8]) -> Result<(ResolverConfig, ResolverOpts), NetError> {
    let is_search = |line: &&[u8]| line.starts_with(b"search") || line.starts_with(b"domain");
    let lines: Vec<_> = resolv_conf.split(|byte| *byte == b'\n').filter(|line| !is_search(line)).collect();
    let (config, mut options) =
        parse_resolv_conf(lines.join(&b'\n')).or_else(|_| parse_resolv_conf("nameserver 127.0.0.1"))?;
    options.timeout = options.timeout.max(Duration::from_secs(1));
    options.attempts = options.attempts.max(1);
    Ok((config, options))
}

fn srv(data: &RData) -> Option<&SRV> {
    match data {
        RData::SRV(srv) => Some(srv),
        _ => None,
    }
}

/// Returns whether this is the answer that there are no such records, and not a failure.
fn is_empty(error: &NetError) -> bool {
    match error {
        NetError::Dns(DnsError::NoRecordsFound(answer)) => {
            matches!(answer.response_code, ResponseCode::NoError | ResponseCode::NXDomain)
        }
        _ => false,
    }
}

/// Returns the URLs of the records of one service, the preferred ones first.
fn urls(service: &Service, mut records: Vec<SRV>) -> Result<Vec<String>, String> {
    records.sort_by_key(|record| (record.priority, Reverse(record.weight), record.target.clone(), record.port));
    // A record whose target is the root means that there is no such service.
    let records = records.iter().filter(|record| !record.target.is_root() && record.port > 0);
    records
        .map(|record| {
            let target = record.target.to_ascii().to_ascii_lowercase();
            let host = target.trim_end_matches('.');
            if is_host(host) {
                Ok(format!("{}://{host}:{}", service.scheme, record.port))
            } else {
                Err(format!("the SRV record {} names {host:?}, which is not a valid host name", service.name))
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use hickory_resolver::{
        config::{ConnectionConfig, NameServerConfig},
        proto::rr::{Name, domain::Label},
    };
    use tokio::net::UdpSocket;

    use super::*;

    fn record(priority: u16, weight: u16, port: u16, target: &str) -> SRV {
        SRV::new(priority, weight, port, target.parse().expect("a name"))
    }

    fn records(suffix: Option<&str>, tls_only: bool) -> Records<String> {
        let suffix = suffix.map(str::to_owned);
        Records::new(&Discovery { domain: "example.com".into(), suffix, tls_only }, Duration::from_millis(50))
    }

    #[test]
    fn the_services_are_those_of_etcdctl() {
        for (suffix, tls_only, expected) in [
            (None, false, &["_etcd-client-ssl._tcp.example.com", "_etcd-client._tcp.example.com"][..]),
            (None, true, &["_etcd-client-ssl._tcp.example.com"]),
            (Some("x"), false, &["_etcd-client-ssl-x._tcp.example.com", "_etcd-client-x._tcp.example.com"]),
        ] {
            let services = records(suffix, tls_only).services;
            assert_eq!(services.iter().map(|service| &*service.name).collect::<Vec<_>>(), expected);
            assert_eq!(services[0].scheme, "https");
        }
    }

    #[test]
    fn records_become_urls_in_the_order_of_preference() {
        let service = Service { name: "_etcd-client._tcp.example.com".into(), scheme: "http" };
        let found = [
            record(2, 9, 2379, "last.example.com."),
            record(1, 1, 2379, "second.example.com."),
            record(1, 5, 23790, "First.example.com."),
            record(0, 0, 2379, "."),
            record(0, 0, 0, "no-port.example.com."),
        ];
        let expected = ["first.example.com:23790", "second.example.com:2379", "last.example.com:2379"];
        assert_eq!(urls(&service, found.to_vec()), Ok(expected.map(|host| format!("http://{host}")).to_vec()));
        let label = Label::from_raw_bytes(b"a/b").expect("a label");
        let odd = SRV::new(0, 0, 1, Name::from_labels([label]).expect("a name"));
        assert!(urls(&service, vec![odd]).is_err_and(|why| why.contains("not a valid host name")));
    }

    #[test]
    fn targets_are_kept_while_the_records_name_them() {
        let records = records(None, false);
        let set = |urls: &[&str]| records.set_targets(urls.iter().map(ToString::to_string).collect(), str::to_owned);
        assert_eq!(set(&["a", "b"]).len(), 2);
        let before = records.targets();
        assert_eq!(set(&["c", "b"]), ["c".to_owned().into()]);
        assert!(Rc::ptr_eq(&records.targets()[1], &before[1]));
        assert_eq!(records.targets()[0].as_str(), "c");
    }

    #[tokio::test]
    async fn while_records_cannot_be_looked_up_the_targets_are_kept_and_resolved() {
        let records = records(None, false);
        records.set_targets(vec!["a".into()], str::to_owned);
        let looked_up = Cell::new(0);
        for answer in [Some(Err("dark".to_owned())), None] {
            *records.lookup.lock().await = Some(tokio::spawn(async {
                match answer {
                    Some(answer) => answer,
                    None => future::pending().await,
                }
            }));
            let targets = records.look_up(str::to_owned, async |_| looked_up.set(looked_up.get() + 1)).await;
            assert_eq!(targets, ["a".to_owned().into()]);
            assert_eq!(records.failure(), "dark");
        }
        assert_eq!(looked_up.get(), 2);
    }

    #[test]
    fn invalid_lines_of_resolv_conf_are_skipped_and_the_default_server_is_this_machine() {
        for (text, servers) in [
            ("nameserver 192.0.2.1\nnameserver 2001:db8::1\n", &["192.0.2.1", "2001:db8::1"][..]),
            ("nameserver dns.example\nnameserver 192.0.2.1", &["192.0.2.1"]),
            ("search a..b \u{e4}\ndomain c..d\nnameserver 192.0.2.1\noptions new:1 x\nodd\n", &["192.0.2.1"]),
            ("nameserver fe80::1%lo\nnameserver 192.0.2.1", &["fe80::1", "192.0.2.1"]),
            ("", &["127.0.0.1"]),
            ("\0\u{1}", &["127.0.0.1"]),
            ("nameserver dns.example", &["127.0.0.1"]),
        ] {
            let (config, _) = system(text.as_bytes()).expect(text);
            let found: Vec<_> = config.name_servers().iter().map(|server| server.ip.to_string()).collect();
            assert_eq!(found, servers, "{text:?}");
        }
        let (_, options) = system(b"nameserver 192.0.2.1\noptions timeout:0 attempts:0").expect("understood");
        assert_eq!((options.timeout, options.attempts), (Duration::from_secs(1), 1));
        let (_, options) = system(b"options timeout:3 attempts:4\nnameserver 192.0.2.1").expect("understood");
        assert_eq!((options.timeout, options.attempts), (Duration::from_secs(3), 4));
    }

    const A: &[u8] = b"\x01a\x01t\0";
    const B: &[u8] = b"\x01b\x01t\0";
    const MEMBER: &[u8] = b"\x01m\x01t\0";

    /// Returns a resolver whose server has these aliases and one SRV record at their end, and answers as a recursive one.
    async fn resolver_with(aliases: &'static [(&'static [u8], &'static [u8])]) -> TokioResolver {
        let server = UdpSocket::bind(("127.0.0.1", 0)).await.expect("a port");
        let mut udp = ConnectionConfig::udp();
        udp.port = server.local_addr().expect("an address").port();
        tokio::spawn(async move {
            let mut packet = [0; 512];
            while let Ok((_, from)) = server.recv_from(&mut packet).await {
                let end = 12 + packet[12..].iter().position(|byte| *byte == 0).expect("a name") + 1;
                let (mut name, kind) = (packet[12..end].to_vec(), packet[end + 1]);
                let record = |name: &[u8], kind: u8, data: &[u8]| {
                    let length = u8::try_from(data.len()).expect("short");
                    [name, &[0, kind, 0, 1, 0, 0, 0, 0, 0, length], data].concat()
                };
                let mut answers = Vec::new();
                while let Some((alias, target)) = aliases.iter().find(|(alias, _)| *alias == name) {
                    answers.push(record(alias, 5, target));
                    name = target.to_vec();
                    if kind == 5 || answers.len() > aliases.len() {
                        break;
                    }
                }
                if kind == 33 && name != MEMBER {
                    answers.push(record(&name, 33, &[&[0, 0, 0, 0, 9, 75], MEMBER].concat()));
                }
                let count = u8::try_from(answers.len()).expect("few");
                let header = [packet[0], packet[1], 0x81, 0x80, 0, 1, 0, count, 0, 0, 0, 0];
                let answer = [&header[..], &packet[12..end + 4], &answers.concat()].concat();
                let _ = server.send_to(&answer, from).await;
            }
        });
        let server = NameServerConfig::new([127, 0, 0, 1].into(), true, vec![udp]);
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default()).build().expect("a resolver")
    }

    #[tokio::test]
    async fn the_records_of_an_alias_are_those_of_its_target() {
        let resolver = resolver_with(&[(A, B)]).await;
        for name in ["a.t", "b.t"] {
            let records = ask(&resolver, name).await.expect("an answer");
            assert_eq!(records, [record(0, 0, 2379, "m.t.")], "{name}");
        }
        let resolver = resolver_with(&[(A, B), (B, A)]).await;
        assert_eq!(ask(&resolver, "a.t").await.expect("an answer"), []);
    }

    #[tokio::test]
    async fn the_next_call_returns_the_result_of_a_slow_lookup() {
        let records = records(None, false);
        let (tell, told) = tokio::sync::oneshot::channel();
        *records.lookup.lock().await = Some(tokio::spawn(async { told.await.map_err(|_| "never told".to_owned()) }));
        assert!(records.look_up(str::to_owned, async |_| ()).await.is_empty());
        tell.send(vec!["a".to_owned()]).expect("it still waits");
        assert_eq!(records.look_up(str::to_owned, async |_| future::pending().await).await, ["a".to_owned().into()]);
    }
}
