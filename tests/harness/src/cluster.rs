//! Real etcd clusters on loopback.

use std::{
    ffi::{OsStr, OsString},
    fs,
    net::IpAddr,
    path::Path,
    process::Command,
    sync::{Arc, LazyLock, Mutex},
    time::Duration,
};

use crate::{
    address::{Address, CLIENT_PORT},
    certificates::{Certificates, NAME},
    etcdctl::Etcdctl,
    member::{Member, binary},
    scratch::Scratch,
    wait::{Permit, Semaphore, eventually},
};

/// Servers of clusters that tests may hurt, alive at once: the machine is small.
static SERVERS: Semaphore = Semaphore::new(6);

/// How long a cluster may take to form, or to be whole again.
const HEALTHY: Duration = Duration::from_secs(30);

/// A running cluster; ended when dropped.
#[derive(Debug)]
pub struct Cluster {
    members: Vec<Member>,
    /// Made for TLS or not: a cluster without it uses none of them.
    certificates: Certificates,
    tls: bool,
    auth: Option<(String, String)>,
    _scratch: Scratch,
    _permit: Option<Permit>,
}

impl std::fmt::Debug for Permit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Permit")
    }
}

impl Cluster {
    /// The three members with TLS that all tests share which do nothing to them.
    #[must_use]
    pub fn shared() -> Arc<Self> {
        static SHARED: LazyLock<Arc<Cluster>> = LazyLock::new(|| Arc::new(Cluster::builder().build(None, None)));
        Arc::clone(&SHARED)
    }

    /// The version of the etcd that is used.
    #[must_use]
    pub fn version() -> (u32, u32, u32) {
        version()
    }

    /// Returns whether a member of this version that was the raft leader, was paused and continues, may revoke leases that were
    /// renewed meanwhile. Before etcd-io/etcd#16822 it did not check whether it still leads; since etcd-io/etcd#18428 it does
    /// not check if its first heartbeat tick comes before it looks for expired leases.
    #[must_use]
    pub fn revokes_after_a_pause() -> bool {
        let version = version();
        !((3, 4, 31)..(3, 4, 34)).contains(&version) && !((3, 5, 13)..(3, 5, 16)).contains(&version)
    }

    /// A cluster of one's own.
    pub const fn builder() -> ClusterBuilder {
        ClusterBuilder { size: 3, tls: true, auth: None, options: Vec::new(), jwt: None, start: true, program: None }
    }

    /// All members.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// One member.
    #[must_use]
    pub fn member(&self, index: usize) -> &Member {
        &self.members[index]
    }

    /// The certificates.
    #[must_use]
    pub const fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// Whether clients need TLS, and a certificate of their own.
    #[must_use]
    pub const fn tls(&self) -> bool {
        self.tls
    }

    /// User and password, if clients need them.
    #[must_use]
    pub fn auth(&self) -> Option<(&str, &str)> {
        self.auth.as_ref().map(|(user, password)| (user.as_str(), password.as_str()))
    }

    /// The URLs of all members.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(Member::endpoint).collect()
    }

    /// The URL of all members, for whoever resolves [`NAME`] to their addresses; see [`Names`](crate::Names).
    #[must_use]
    pub fn endpoint_by_name(&self) -> String {
        format!("{}://{NAME}:{CLIENT_PORT}", self.members[0].scheme)
    }

    /// The addresses of all members.
    #[must_use]
    pub fn ips(&self) -> Vec<IpAddr> {
        self.members.iter().map(|member| member.client_address().ip()).collect()
    }

    /// `etcdctl`, asking any member.
    #[must_use]
    pub fn etcdctl(&self) -> Etcdctl {
        self.etcdctl_at(&self.endpoints().join(","))
    }

    /// `etcdctl`, asking this member only.
    #[must_use]
    pub fn etcdctl_of(&self, index: usize) -> Etcdctl {
        self.etcdctl_at(&self.members[index].endpoint())
    }

    /// `etcdctl` as the user who may do everything, where clients need one.
    #[must_use]
    pub fn etcdctl_as_root(&self) -> Etcdctl {
        self.as_user(&self.endpoints().join(","), Some(("root", ROOT_PASSWORD)))
    }

    /// `etcdctl` as a new user who may do anything below the prefix, and nothing else.
    #[must_use]
    pub fn etcdctl_as_new(&self, user: &str, prefix: &str) -> Etcdctl {
        let root = self.etcdctl_as_root();
        root.must(&["role", "add", user]);
        root.must(&["role", "grant-permission", user, "readwrite", prefix, "--prefix"]);
        root.must(&["user", "add", &format!("{user}:{user}")]);
        root.must(&["user", "grant-role", user, user]);
        self.as_user(&self.endpoints().join(","), Some((user, user)))
    }

    /// Lets everybody log in with `user` and `password` from now on: for a cluster that learns of users while it runs.
    pub fn enable_auth(&self, user: &str, password: &str) {
        add_users(&self.as_user(&self.endpoints().join(","), None), user, password);
    }

    /// The index of the member that leads the cluster.
    ///
    /// # Errors
    /// If nobody leads, or nobody answers.
    pub fn leader(&self) -> Result<usize, String> {
        let mut last = "no members".to_owned();
        for index in 0..self.members.len() {
            match self.etcdctl_of(index).within(Duration::from_secs(1)).json(&["endpoint", "status"]) {
                Err(error) => last = error,
                Ok(answer) => {
                    let status = &answer[0]["Status"];
                    if status["leader"].as_u64().is_some_and(|leader| leader != 0)
                        && status["leader"] == status["header"]["member_id"]
                    {
                        return Ok(index);
                    }
                    last = format!("member {index} follows {}", status["leader"]);
                }
            }
        }
        Err(last)
    }

    /// The index of a member that does not lead.
    ///
    /// # Panics
    /// If nobody leads.
    #[must_use]
    pub fn follower(&self) -> usize {
        let leader = eventually(HEALTHY, "etcd has a leader", || self.leader());
        (leader + 1) % self.members.len()
    }

    /// Starts every member that a builder left unstarted.
    pub fn start(&self) {
        for member in &self.members {
            member.start();
        }
    }

    /// Waits until every member answers, which includes that there is a leader.
    ///
    /// # Panics
    /// If that takes too long.
    #[track_caller]
    pub fn wait_healthy(&self) {
        for (index, member) in self.members.iter().enumerate() {
            let etcdctl = self.etcdctl_of(index).within(Duration::from_secs(2));
            eventually(HEALTHY, &format!("{} is healthy", member.name), || {
                etcdctl.run(&["get", "tests/none"]).map_err(|error| format!("{error} (log: {})", member.log.display()))
            });
        }
    }

    /// `etcdctl`, asking these endpoints only.
    #[must_use]
    pub fn etcdctl_at(&self, endpoints: &str) -> Etcdctl {
        self.as_user(endpoints, self.auth())
    }

    fn as_user(&self, endpoints: &str, auth: Option<(&str, &str)>) -> Etcdctl {
        let mut options: Vec<OsString> = vec!["--endpoints".into(), endpoints.into()];
        if self.tls {
            let Certificates { ca, client, .. } = &self.certificates;
            for (option, path) in [("--cacert", ca), ("--cert", &client.cert), ("--key", &client.key)] {
                options.extend([option.into(), path.into()]);
            }
        }
        if let Some((user, password)) = auth {
            options.extend(["--user".into(), format!("{user}:{password}").into()]);
        }
        Etcdctl { options, names: None }
    }
}

const ROOT_PASSWORD: &str = "root-password";

/// Turns authentication on: `root`, and a user that may do anything below the prefix `tests/`, nothing else.
fn add_users(etcdctl: &Etcdctl, user: &str, password: &str) {
    etcdctl.must(&["user", "add", &format!("root:{ROOT_PASSWORD}")]);
    // With some versions it is there from the beginning.
    let _ = etcdctl.run(&["role", "add", "root"]);
    etcdctl.must(&["user", "grant-role", "root", "root"]);
    etcdctl.must(&["role", "add", "tests"]);
    etcdctl.must(&["role", "grant-permission", "tests", "readwrite", "tests/", "--prefix"]);
    etcdctl.must(&["user", "add", &format!("{user}:{password}")]);
    etcdctl.must(&["user", "grant-role", user, "tests"]);
    etcdctl.must(&["auth", "enable"]);
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in &self.members {
            member.kill();
        }
    }
}

/// What a cluster shall be like.
#[derive(Clone, Debug)]
#[must_use]
pub struct ClusterBuilder {
    size: usize,
    tls: bool,
    auth: Option<(String, String)>,
    options: Vec<(String, String)>,
    jwt: Option<Duration>,
    start: bool,
    program: Option<OsString>,
}

impl ClusterBuilder {
    /// How many members; three unless said otherwise.
    pub const fn size(mut self, size: usize) -> Self {
        self.size = size;
        self
    }

    /// Neither certificates nor encryption.
    pub const fn plain(mut self) -> Self {
        self.tls = false;
        self
    }

    /// Clients need this user and password; they may use keys below `tests/`.
    pub fn auth(mut self, user: &str, password: &str) -> Self {
        self.auth = Some((user.into(), password.into()));
        self
    }

    /// Logins give a JWT that ends after this time, used or not; the other kind of token is prolonged by every use.
    pub const fn jwt(mut self, ttl: Duration) -> Self {
        self.jwt = Some(ttl);
        self
    }

    /// One more option for every member.
    pub fn option(mut self, name: &str, value: &str) -> Self {
        self.options.push((name.into(), value.into()));
        self
    }

    /// The server to start, in this folder; the one of all tests unless said otherwise. At least 3.5.
    pub fn programs_in(mut self, folder: &Path) -> Self {
        self.program = Some(folder.join("etcd").into());
        self
    }

    /// Everything made, nothing started: see [`Cluster::start`].
    pub const fn unstarted(mut self) -> Self {
        self.start = false;
        self
    }

    /// Waits for a place among the clusters alive, starts the members and waits until they are healthy.
    #[must_use]
    pub fn create(self) -> Arc<Cluster> {
        let permit = SERVERS.acquire(self.size);
        Arc::new(self.build(Some(permit), None))
    }

    /// A second cluster for a test that has one: two that each wait for a second place would wait for ever.
    #[must_use]
    pub fn create_beside(self, _first: &Cluster) -> Arc<Cluster> {
        Arc::new(self.build(None, None))
    }

    /// Another cluster, of one member, that the clients of the first one trust: a member that was set up anew, alone.
    #[must_use]
    pub fn create_stray(mut self, first: &Cluster) -> Arc<Cluster> {
        self.size = 1;
        self.tls = first.tls;
        Arc::new(self.build(None, Some(&first.certificates)))
    }

    fn build(self, permit: Option<Permit>, trusted: Option<&Certificates>) -> Cluster {
        let scratch = Scratch::new("cluster");
        let addresses: Vec<Address> = (0..self.size).map(|_| Address::claim()).collect();
        let ips: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
        let certificates = trusted.map_or_else(
            || Certificates::create(scratch.path(), &ips),
            |trusted| trusted.for_others(scratch.path(), &ips),
        );
        let scheme = if self.tls { "https" } else { "http" };
        let mut members: Vec<Member> = addresses
            .into_iter()
            .enumerate()
            .map(|(index, address)| Member {
                name: format!("m{index}"),
                address,
                scheme,
                arguments: Vec::new(),
                log: scratch.path().join(format!("m{index}.log")),
                program: Mutex::new(self.program.clone().unwrap_or_else(binary)),
                process: Mutex::new(None),
            })
            .collect();
        let peers: Vec<String> = members.iter().map(|m| format!("{}={}", m.name, m.peer_url())).collect();
        let peers = peers.join(",");
        for member in &mut members {
            member.arguments = arguments(member, &peers, &scratch, self.tls.then_some(&certificates));
            member.arguments.extend(self.options.iter().map(|(name, value)| format!("--{name}={value}").into()));
            member.arguments.extend(self.jwt.map(|ttl| jwt(scratch.path(), ttl)));
        }
        let mut cluster =
            Cluster { members, certificates, tls: self.tls, auth: None, _scratch: scratch, _permit: permit };
        if self.start {
            cluster.start();
            cluster.wait_healthy();
            if let Some((user, password)) = self.auth {
                cluster.enable_auth(&user, &password);
                cluster.auth = Some((user, password));
            }
        }
        cluster
    }
}

/// The command line of one member.
fn arguments(member: &Member, peers: &str, scratch: &Scratch, tls: Option<&Certificates>) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    let mut option = |name: &str, value: &dyn AsRef<OsStr>| {
        let mut word = OsString::from(format!("--{name}="));
        word.push(value.as_ref());
        arguments.push(word);
    };
    option("name", &member.name);
    option("data-dir", &scratch.path().join(&member.name));
    option("listen-client-urls", &member.endpoint());
    option("advertise-client-urls", &member.endpoint());
    option("listen-peer-urls", &member.peer_url());
    option("initial-advertise-peer-urls", &member.peer_url());
    option("listen-metrics-urls", &format!("http://{}", member.metrics_address()));
    option("initial-cluster", &peers);
    // An election timeout of half a second: etcd's shortest lease is one and a half of it.
    option("heartbeat-interval", &"50");
    option("election-timeout", &"500");
    // A login costs etcd a tenth of a second of computing by default, and here are many on a small machine.
    option("bcrypt-cost", &"4");
    option("logger", &"zap");
    option("log-level", &"warn");
    if let Some(Certificates { ca, server, .. }) = tls {
        for kind in ["", "peer-"] {
            option(&format!("{kind}cert-file"), &server.cert);
            option(&format!("{kind}key-file"), &server.key);
            option(&format!("{kind}trusted-ca-file"), ca);
            option(&format!("{kind}client-cert-auth"), &"true");
        }
    }
    if version() >= (3, 5, 0) {
        // Nothing here has to outlive the machine.
        option("unsafe-no-fsync", &"true");
    }
    arguments
}

/// The option for tokens that the members sign with one shared key: to a client they are like those of any other method.
fn jwt(directory: &Path, ttl: Duration) -> OsString {
    let key = directory.join("jwt.key");
    fs::write(&key, "a key that all members share").expect("writing the key");
    format!("--auth-token=jwt,priv-key={},sign-method=HS256,ttl={}s", key.display(), ttl.as_secs()).into()
}

/// The version of the etcd that is used.
fn version() -> (u32, u32, u32) {
    static VERSION: LazyLock<(u32, u32, u32)> = LazyLock::new(|| {
        let output =
            Command::new(binary()).arg("--version").output().expect("etcd is needed: install it, or set ETCD_BIN");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let parse = || {
            let mut numbers = text.lines().next()?.rsplit(' ').next()?.split(['.', '-']).map(str::parse);
            Some((numbers.next()?.ok()?, numbers.next()?.ok()?, numbers.next()?.ok()?))
        };
        parse().unwrap_or_else(|| panic!("etcd --version says {text:?}"))
    });
    *VERSION
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Names;

    /// With the same certificates, and under the same name.
    #[test]
    fn a_stray_cluster_has_another_id_and_the_same_certificate_authority() {
        let first = Cluster::builder().size(1).create();
        let stray = Cluster::builder().create_stray(&first);
        let of_stray = first.etcdctl_at(&stray.endpoints().join(","));
        let id = |etcdctl: &Etcdctl| etcdctl.cluster_id().expect("etcd answers");
        assert_ne!(id(&first.etcdctl()), id(&of_stray));
        first.etcdctl().must(&["put", "tests/key", "value"]);
        assert_eq!(of_stray.keys("tests/"), Ok(Vec::new()));

        let Some(names) = Names::new() else { return };
        for cluster in [&first, &stray] {
            names.set(NAME, &cluster.ips());
            let by_name = first.etcdctl_at(&cluster.endpoint_by_name()).names(&names);
            assert_eq!(id(&by_name), id(&cluster.etcdctl()));
        }
    }
}
