//! One endpoint: a lazily opened connection, and the calls of [`Store`] over it.

use std::{
    cell::{Cell, RefCell},
    hash::{BuildHasher as _, Hasher as _, RandomState},
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};

use etcd_client::{Client, Error, GetOptions, LeaseGrantOptions, ResponseHeader, Txn as EtcdTxn, TxnOpResponse};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::transport::Channel;
use tower::service_fn;

use super::{
    convert,
    discovery::Records,
    failure::{Meaning, translate},
    handshake::{self, Handshake},
    lease,
    login::{Authorized, Login, Token, client},
    resolve::Name,
    tls,
    watch::Watch,
};
use crate::{
    core::{
        kv::{Get, Granted, KeyOnly, Outcome, Range, Snapshot, StoreError, Txn},
        names::LeaseId,
        timing::show,
    },
    etcd::{
        membership::{AddressFamily, Membership},
        store::Store,
    },
    settings::{Credentials, EtcdConfig},
};

/// One address of the cluster, or a name that has not been resolved.
pub struct Endpoint {
    configured: Rc<Configured>,
    /// `None` before the name is resolved: then no request can be sent.
    address: Option<SocketAddr>,
    /// The URL, and the address if it is not in the URL.
    name: String,
    /// The connection; `None` before the first call.
    channel: RefCell<Option<Channel>>,
    /// Whether there was a response over it: then TLS verification has succeeded.
    has_answered: Cell<bool>,
}

/// The parts that all addresses of one URL share.
struct Configured {
    url: String,
    host: Host,
    shared: Rc<Shared>,
}

/// The parts that all endpoints share.
pub(super) struct Shared {
    pub(super) config: EtcdConfig,
    pub(super) connect_limit: Duration,
    pub(super) membership: Rc<Membership>,
    pub(super) login: Login,
}

/// The host of an endpoint, which has to be resolved.
pub(super) enum Host {
    /// A name or an address.
    Name(Name),
    /// SRV records that name members, which are resolved in turn.
    Records(Box<Records<Target>>),
}

/// A member that an SRV record names.
pub(super) struct Target {
    configured: Rc<Configured>,
    /// The addresses of the latest successful lookup.
    addresses: RefCell<Vec<SocketAddr>>,
}

/// HTTP/2 pings, in addition to the time limits of the callers. etcd closes connections that ping more often than every 5 s or
/// while idle (`grpc-keepalive-min-time`).
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest minimum TTL of etcd, which is 1.5 election timeouts of at most 50 s (`maxElectionMs`, server/etcdmain; `minTTL`,
/// server/etcdserver). A server that grants more than that and more than was requested is not etcd.
const LONGEST_MINIMUM: Duration = Duration::from_secs(76);

impl Endpoint {
    /// Creates an endpoint without connecting.
    #[must_use]
    pub(super) fn new(url: String, host: Host, shared: Rc<Shared>) -> Self {
        let configured = Configured { url, host, shared };
        Self::at(configured.address(), Rc::new(configured))
    }

    fn at(address: Option<SocketAddr>, configured: Rc<Configured>) -> Self {
        let url = &configured.url;
        let name = match address {
            Some(address) if configured.address().is_none() => format!("{url} ({})", address.ip()),
            _ => url.clone(),
        };
        Self { configured, address, name, channel: RefCell::default(), has_answered: Cell::new(false) }
    }

    /// Returns the version of the server.
    ///
    /// # Errors
    /// If the request fails.
    pub async fn version(&self) -> Result<String, StoreError> {
        Ok(self.call(async |client| client.status().await).await?.version().to_owned())
    }

    /// Returns the number of members that vote.
    ///
    /// # Errors
    /// If the request fails.
    pub async fn voters(&self) -> Result<usize, StoreError> {
        let answer = self.call(async |client| client.member_list().await).await?;
        Ok(answer.members().iter().filter(|member| !member.is_learner()).count())
    }

    /// Returns the remaining time to live of a lease, in whole seconds; `None` if there is no such lease.
    ///
    /// # Errors
    /// If the request fails.
    pub async fn time_to_live(&self, lease: LeaseId) -> Result<Option<Duration>, StoreError> {
        let answer = self.call(async |client| client.lease_time_to_live(lease.0, None).await).await?;
        Ok(u64::try_from(answer.ttl()).ok().map(Duration::from_secs))
    }

    /// Sends a request after verifying that the endpoint belongs to the cluster in use.
    async fn call<T>(&self, ask: impl AsyncFn(&mut Client) -> Result<T, Error>) -> Result<T, StoreError> {
        self.verify().await?;
        self.request(async |channel| ask(&mut client(channel).await?).await).await
    }

    /// Verifies that the endpoint belongs to the cluster in use, by its latest response or else by another request.
    async fn verify(&self) -> Result<(), StoreError> {
        if self.configured.shared.membership.includes(&self.name) {
            return Ok(());
        }
        if self.configured.shared.membership.ours().is_none() {
            return Err(StoreError::Unavailable(format!("{}: the etcd cluster to use is not decided yet", self.name)));
        }
        // Boxed, as it would make the future of every call larger.
        Box::pin(self.cluster_id()).await.and_then(|id| self.record_cluster(id))
    }

    /// Sends a request, and once more after a new login if the token was not valid any more; in that case it was not applied.
    async fn request<T>(&self, ask: impl AsyncFn(Authorized) -> Result<T, Error>) -> Result<T, StoreError> {
        let channel = self.authorized().await?;
        let result = match ask(channel.clone()).await {
            Err(error) if self.can_log_in_again(&error) => {
                self.configured.shared.login.forget(&channel.token);
                ask(self.authorized().await?).await
            }
            result => result,
        };
        match result {
            Ok(answer) => {
                self.has_answered.set(true);
                Ok(answer)
            }
            Err(error) => Err(self.explain(&error).await),
        }
    }

    /// Returns whether a new login may help: the token has expired, or authentication was enabled after the login.
    fn can_log_in_again(&self, error: &Error) -> bool {
        match Meaning::of(error) {
            Meaning::StaleToken => true,
            Meaning::NotLoggedIn => self.configured.shared.config.credentials.is_some(),
            _ => false,
        }
    }

    /// Returns the error for the election. With TLS 1.3 a server rejects the client certificate only after the handshake, and hyper
    /// reports only that the connection was closed; so another connection is made to learn the cause.
    async fn explain(&self, error: &Error) -> StoreError {
        if Meaning::of(error) == Meaning::Other
            && !self.has_answered.get()
            && let Some(address) = self.address
        {
            let Configured { url, host, shared } = &*self.configured;
            let outcome = handshake::probe(address, host.name(), &shared.config.tls).await;
            let unavailable = |why: &str| StoreError::Unavailable(format!("{}: {why}", self.name));
            match (url.starts_with("https://"), outcome) {
                (true, Some(Handshake::Untrusted(why))) => {
                    return StoreError::Untrusted(format!("{}: {why}", self.name));
                }
                (true, Some(Handshake::NotTls)) => {
                    return unavailable("no TLS handshake; use http:// if it does not speak TLS");
                }
                (false, Some(Handshake::Tls | Handshake::Untrusted(_))) => {
                    return unavailable("speaks TLS; use https://");
                }
                _ => {}
            }
        }
        translate(&self.name, error)
    }

    /// Returns the connection with the present token, or with that of a new login.
    async fn authorized(&self) -> Result<Authorized, StoreError> {
        let channel = self.channel()?;
        let token = self.token(&channel).await?;
        Ok(Authorized { channel, token })
    }

    async fn token(&self, channel: &Channel) -> Result<Token, StoreError> {
        let Shared { login, config, .. } = &*self.configured.shared;
        let Some(Credentials { user, password }) = &config.credentials else { return Ok(Token::none()) };
        loop {
            if let Some(token) = login.token() {
                return Ok(token);
            }
            if login.wait().await {
                continue;
            }
            // The file was checked at the start. It may be missing for a moment while it is rotated.
            let password = password.read();
            let password = password.map_err(|error| StoreError::Unavailable(format!("{}: {error}", self.name)))?;
            if let Err(status) = login.log_in(channel.clone(), user.clone(), password).await {
                return Err(self.explain(&status.into()).await);
            }
        }
    }

    /// Returns the connection that all requests to this endpoint share. It is opened when it is used.
    fn channel(&self) -> Result<Channel, StoreError> {
        if let Some(channel) = &*self.channel.borrow() {
            return Ok(channel.clone());
        }
        let channel = self.new_channel()?;
        self.channel.replace(Some(channel.clone()));
        Ok(channel)
    }

    /// Creates a connection to the address, with the host of the URL for TLS and in the requests.
    fn new_channel(&self) -> Result<Channel, StoreError> {
        let unavailable = |error: &dyn std::fmt::Display| StoreError::Unavailable(format!("{}: {error}", self.name));
        let Configured { url, host, shared } = &*self.configured;
        let address = self.address.ok_or_else(|| unavailable(&host.failure()))?;
        let mut endpoint = tonic::transport::Endpoint::from_shared(url.clone())
            .map_err(|error| unavailable(&error))?
            .connect_timeout(shared.connect_limit)
            .http2_keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .keep_alive_while_idle(false);
        if url.starts_with("https://") {
            let tls = tls::options(&shared.config.tls).map_err(|error| unavailable(&error))?;
            endpoint = endpoint.tls_config(tls).map_err(|error| unavailable(&error))?;
        }
        Ok(endpoint.connect_with_connector_lazy(service_fn(move |_| async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok::<_, std::io::Error>(TokioIo::new(stream))
        })))
    }

    /// Checks that a response is from the cluster in use. Otherwise it must not be used.
    fn check_answer(&self, header: Option<&ResponseHeader>) -> Result<(), StoreError> {
        self.check_cluster(header.map(ResponseHeader::cluster_id))
    }

    fn check_cluster(&self, id: Option<u64>) -> Result<(), StoreError> {
        self.cluster_of(id).and_then(|id| self.record_cluster(id))
    }

    fn cluster_of(&self, id: Option<u64>) -> Result<u64, StoreError> {
        id.ok_or_else(|| StoreError::Unavailable(format!("{}: the answer has no header", self.name)))
    }

    /// Records a response from this cluster. Returns an error if it is not the cluster in use.
    fn record_cluster(&self, id: u64) -> Result<(), StoreError> {
        self.configured.shared.membership.record(&self.name, id);
        match self.configured.shared.membership.ours() {
            Some(ours) if ours == id => Ok(()),
            _ => Err(StoreError::Unavailable(format!("{}: belongs to another etcd cluster, {id:x}", self.name))),
        }
    }

    /// Checks that the response that a lease does not exist is from the cluster in use. That response has no header, so an empty read
    /// is sent.
    async fn lease_is_gone(&self) -> Result<(), StoreError> {
        self.read(&[]).await.map(drop)
    }

    /// Reads several ranges at one revision, in one transaction. If the response is too large, reads them one by one at that
    /// revision, with lower limits.
    async fn get(&self, gets: &[Get], options: &GetOptions) -> Result<Snapshot, StoreError> {
        if let Some(snapshot) = self.get_at_once(gets, options).await? {
            return Ok(snapshot);
        }
        if let [get] = gets {
            let fewer = Get { limit: (get.limit / 8).max(1), ..get.clone() };
            if get.limit == 1 {
                return Err(StoreError::Unavailable(format!(
                    "{}: could not read a key: it is larger than the limit of a response",
                    self.name()
                )));
            }
            return Box::pin(self.get(&[fewer], options)).await;
        }
        let mut all = Snapshot::default();
        for (n, get) in gets.iter().enumerate() {
            let at = if n == 0 { get.at } else { get.at.or(Some(all.revision)) };
            let part = Box::pin(self.get(&[Get { at, ..get.clone() }], options)).await?;
            if n == 0 {
                all.revision = part.revision;
            }
            all.keys.extend(part.keys);
            all.names.extend(part.names);
            all.cut.extend(part.cut.into_iter().map(|(_, last)| (n, last)));
        }
        Ok(all)
    }

    /// Returns `None` if the response is too large.
    async fn get_at_once(&self, gets: &[Get], options: &GetOptions) -> Result<Option<Snapshot>, StoreError> {
        let ops: Vec<_> = gets.iter().map(|each| convert::get(each, options.clone())).collect();
        let answer = self.call(async |client| match client.txn(EtcdTxn::new().and_then(ops.clone())).await {
            Err(error) if Meaning::of(&error) == Meaning::TooLarge => Ok(None),
            answer => answer.map(Some),
        });
        let Some(answer) = answer.await? else { return Ok(None) };
        self.check_answer(answer.header())?;
        let revision = answer.header().map_or(0, ResponseHeader::revision);
        let mut snapshot = Snapshot { revision, ..Snapshot::default() };
        for (n, response) in answer.op_responses().into_iter().enumerate() {
            if let TxnOpResponse::Get(mut got) = response {
                let last = got.kvs().last().filter(|_| got.more()).map(|kv| (n, kv.key().to_vec()));
                snapshot.cut.extend(last);
                let keys = got.take_kvs().into_iter().map(convert::key_value);
                if gets[n].values {
                    snapshot.keys.extend(keys);
                } else {
                    snapshot.names.extend(keys.map(KeyOnly::from));
                }
            }
        }
        Ok(Some(snapshot))
    }
}

impl Host {
    pub(super) fn of_url(url: &str) -> Self {
        Self::Name(Name::of_url(url))
    }

    /// Returns the name for TLS.
    fn name(&self) -> &str {
        match self {
            Self::Name(name) => &name.host,
            Self::Records(_) => "",
        }
    }

    /// Returns why there is no address.
    fn failure(&self) -> String {
        match self {
            Self::Name(name) => name.failure(),
            Self::Records(records) => records.failure(),
        }
    }
}

impl Configured {
    /// Returns the address, if the host is an address.
    fn address(&self) -> Option<SocketAddr> {
        match &self.host {
            Host::Name(name) => name.address(),
            Host::Records(_) => None,
        }
    }

    /// Creates a target with the same settings and another URL.
    fn target(&self, url: &str) -> Target {
        let configured = Self { url: url.to_owned(), host: Host::of_url(url), shared: Rc::clone(&self.shared) };
        Target { configured: Rc::new(configured), addresses: RefCell::default() }
    }
}

impl Target {
    /// Resolves its name. Keeps the addresses if that fails.
    async fn look_up(self: Rc<Self>) {
        if let Host::Name(name) = &self.configured.host
            && let Ok(found) = name.look_up().await
        {
            self.addresses.replace(found);
        }
    }

    fn addresses(&self) -> Vec<Option<SocketAddr>> {
        let addresses = self.addresses.borrow();
        if addresses.is_empty() { vec![None] } else { addresses.iter().copied().map(Some).collect() }
    }
}

impl Store for Endpoint {
    type Watch = Watch;

    fn name(&self) -> &str {
        &self.name
    }

    fn address(&self) -> String {
        self.address.map_or_else(|| self.name.clone(), |address| address.to_string())
    }

    fn address_family(&self) -> Option<AddressFamily> {
        let address = self.address.filter(|_| self.configured.address().is_none())?;
        Some(AddressFamily { name: self.configured.url.clone(), is_ipv6: address.is_ipv6() })
    }

    async fn resolve(&self) -> Result<Vec<Self>, StoreError> {
        let at = |address, configured: &Rc<Configured>| Self::at(address, Rc::clone(configured));
        let found = match &self.configured.host {
            Host::Name(name) => {
                name.look_up().await.map(|found| found.into_iter().map(|it| at(Some(it), &self.configured)).collect())
            }
            Host::Records(records) => {
                let targets = records.look_up(|url| self.configured.target(url), Target::look_up).await;
                // A target without an address has a vote, too, as a configured name has.
                Ok(targets
                    .iter()
                    .flat_map(|target| target.addresses().into_iter().map(|it| at(it, &target.configured)))
                    .collect())
            }
        };
        match found {
            Ok(found) if !Vec::is_empty(&found) => Ok(found),
            _ => Err(StoreError::Unavailable(format!("{}: {}", self.name, self.configured.host.failure()))),
        }
    }

    fn new_connection(&self) -> Self {
        Self::at(self.address, Rc::clone(&self.configured))
    }

    fn set_urgent(&self, urgent: bool) {
        self.configured.shared.login.set_urgent(urgent);
    }

    fn new_lease(&self) -> LeaseId {
        // The keys of the hasher are random numbers of the kernel.
        let random = RandomState::new().build_hasher().finish() >> 1;
        LeaseId(i64::try_from(random).unwrap_or(i64::MAX).max(1))
    }

    /// Sends an empty transaction, which needs neither a quorum nor a login.
    async fn cluster_id(&self) -> Result<u64, StoreError> {
        let client = client(etcd_client::Channel::Tonic(self.channel()?)).await;
        let answer = match client {
            Ok(mut client) => client.txn(EtcdTxn::new()).await,
            Err(error) => Err(error),
        };
        match answer {
            Ok(answer) => {
                self.has_answered.set(true);
                self.cluster_of(answer.header().map(ResponseHeader::cluster_id))
            }
            Err(error) => Err(self.explain(&error).await),
        }
    }

    async fn grant(&self, lease: LeaseId, ttl: Duration) -> Result<Granted, StoreError> {
        let seconds = ttl.as_secs().try_into().unwrap_or(i64::MAX);
        let granted = self.call(async |client| {
            let options = LeaseGrantOptions::new().with_id(lease.0);
            match client.lease_grant(seconds, Some(options)).await {
                Ok(answer) => Ok((answer.header().cloned(), answer.id(), answer.ttl())),
                // An earlier attempt has granted it.
                Err(error) if Meaning::of(&error) == Meaning::LeaseExists => {
                    let answer = client.lease_time_to_live(lease.0, None).await?;
                    Ok((answer.header().cloned(), answer.id(), answer.granted_ttl()))
                }
                Err(error) => Err(error),
            }
        });
        let (header, id, granted) = granted.await?;
        self.check_answer(header.as_ref())?;
        let granted = u64::try_from(granted).map_or(Duration::ZERO, Duration::from_secs);
        if id != lease.0 || granted < ttl || granted > ttl.max(LONGEST_MINIMUM) {
            return Err(StoreError::Unavailable(format!(
                "{}: granted lease {id:x} with a TTL of {}, not lease {lease} with {}: not used",
                self.name,
                show(granted),
                show(ttl)
            )));
        }
        Ok(Granted { lease, ttl: granted })
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<bool, StoreError> {
        self.verify().await?;
        let alive = self.request(async |channel| match lease::keep_alive(channel, lease).await {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if Meaning::of(&error) == Meaning::LeaseGone => Ok(None),
            Err(error) => Err(error),
        });
        let Some(answer) = alive.await? else { return self.lease_is_gone().await.map(|()| false) };
        // Another cluster may have a lease with this ID, as the instance chose it.
        self.check_cluster(answer.cluster())?;
        if answer.lease != lease.0 {
            let kept = answer.lease;
            return Err(StoreError::Unavailable(format!("{}: kept lease {kept:x} alive, not {lease}", self.name)));
        }
        Ok(answer.ttl > 0)
    }

    async fn revoke(&self, lease: LeaseId) -> Result<bool, StoreError> {
        let revoked = self.call(async |client| match client.lease_revoke(lease.0).await {
            Ok(answer) => Ok(Some(answer)),
            Err(error) if Meaning::of(&error) == Meaning::LeaseGone => Ok(None),
            Err(error) => Err(error),
        });
        let Some(answer) = revoked.await? else { return self.lease_is_gone().await.map(|()| false) };
        self.check_answer(answer.header())?;
        Ok(true)
    }

    async fn read(&self, gets: &[Get]) -> Result<Snapshot, StoreError> {
        self.get(gets, &GetOptions::new()).await
    }

    async fn serializable_read(&self, gets: &[Get]) -> Result<Snapshot, StoreError> {
        self.get(gets, &GetOptions::new().with_serializable()).await
    }

    async fn commit(&self, txn: &Txn) -> Result<Outcome, StoreError> {
        let answer = self.call(async |client| client.txn(convert::txn(txn)).await).await?;
        // Compares in another cluster are meaningless.
        self.check_answer(answer.header())?;
        let revision = answer.header().map_or(0, ResponseHeader::revision);
        if answer.succeeded() {
            return Ok(Outcome::Then(revision));
        }
        let otherwise = answer.op_responses().into_iter().next();
        Ok(match otherwise {
            Some(TxnOpResponse::Txn(nested)) if nested.succeeded() => Outcome::Otherwise(revision),
            _ => Outcome::Nothing,
        })
    }

    async fn watch(&self, ranges: &[Range], from: i64) -> Result<Watch, StoreError> {
        self.verify().await?;
        let membership = Rc::clone(&self.configured.shared.membership);
        let client = client(self.authorized().await?).await;
        let mut client = client.map_err(|error| translate(&self.name, &error))?;
        Watch::open(&self.name, membership, &mut client, ranges, from).await
    }
}
