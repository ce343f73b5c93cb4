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

/// The number of servers, of clusters in which tests cause faults, that run at once.
static SERVERS: Semaphore = Semaphore::new(6);

/// The time that a cluster may take to form or to recover.
const HEALTHY: Duration = Duration::from_secs(30);

/// A running cluster, which is killed when dropped.
#[derive(Debug)]
pub struct Cluster {
    members: Vec<Member>,
    /// Also created for a cluster without TLS, which does not use them.
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
    /// Returns the cluster of three members with TLS that all tests without faults of etcd share.
    #[must_use]
    pub fn shared() -> Arc<Self> {
        static SHARED: LazyLock<Arc<Cluster>> = LazyLock::new(|| Arc::new(Cluster::builder().build(None, None)));
        Arc::clone(&SHARED)
    }

    /// Returns the version of etcd under test.
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

    /// Configures a cluster for one test.
    pub const fn builder() -> ClusterBuilder {
        ClusterBuilder { size: 3, tls: true, auth: None, options: Vec::new(), jwt: None, start: true, program: None }
    }

    /// Returns all members.
    #[must_use]
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Returns one member.
    #[must_use]
    pub fn member(&self, index: usize) -> &Member {
        &self.members[index]
    }

    /// The certificates.
    #[must_use]
    pub const fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// Returns whether clients need TLS and a client certificate.
    #[must_use]
    pub const fn tls(&self) -> bool {
        self.tls
    }

    /// Returns user and password, if clients need them.
    #[must_use]
    pub fn auth(&self) -> Option<(&str, &str)> {
        self.auth.as_ref().map(|(user, password)| (user.as_str(), password.as_str()))
    }

    /// Returns the URLs of all members.
    #[must_use]
    pub fn endpoints(&self) -> Vec<String> {
        self.members.iter().map(Member::endpoint).collect()
    }

    /// Returns one URL for all members, for processes that resolve [`NAME`] to their addresses; see
    /// [`Names`](crate::Names).
    #[must_use]
    pub fn endpoint_by_name(&self) -> String {
        format!("{}://{NAME}:{CLIENT_PORT}", self.members[0].scheme)
    }

    /// Returns the addresses of all members.
    #[must_use]
    pub fn ips(&self) -> Vec<IpAddr> {
        self.members.iter().map(|member| member.client_address().ip()).collect()
    }

    /// Returns an `etcdctl` for all members.
    #[must_use]
    pub fn etcdctl(&self) -> Etcdctl {
        self.etcdctl_at(&self.endpoints().join(","))
    }

    /// Returns an `etcdctl` for this member only.
    #[must_use]
    pub fn etcdctl_of(&self, index: usize) -> Etcdctl {
        self.etcdctl_at(&self.members[index].endpoint())
    }

    /// Returns an `etcdctl` that logs in as root.
    #[must_use]
    pub fn etcdctl_as_root(&self) -> Etcdctl {
        self.as_user(&self.endpoints().join(","), Some(("root", ROOT_PASSWORD)))
    }

    /// Creates a user who may read and write below the prefix only; returns an `etcdctl` that logs in as that user.
    #[must_use]
    pub fn etcdctl_as_new(&self, user: &str, prefix: &str) -> Etcdctl {
        let root = self.etcdctl_as_root();
        root.must(&["role", "add", user]);
        root.must(&["role", "grant-permission", user, "readwrite", prefix, "--prefix"]);
        root.must(&["user", "add", &format!("{user}:{user}")]);
        root.must(&["user", "grant-role", user, user]);
        self.as_user(&self.endpoints().join(","), Some((user, user)))
    }

    /// Enables authentication with this `user` and `password` in a running cluster.
    pub fn enable_auth(&self, user: &str, password: &str) {
        add_users(&self.as_user(&self.endpoints().join(","), None), user, password);
    }

    /// Returns the index of the raft leader.
    ///
    /// # Errors
    /// If there is no raft leader, or no member answers.
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

    /// Returns the index of a follower.
    ///
    /// # Panics
    /// If there is no raft leader.
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

    /// Waits until every member answers, which requires a raft leader.
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

    /// Returns an `etcdctl` for these endpoints only.
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

/// Enables authentication for `root` and for a user who may read and write below the prefix `tests/` only.
fn add_users(etcdctl: &Etcdctl, user: &str, password: &str) {
    etcdctl.must(&["user", "add", &format!("root:{ROOT_PASSWORD}")]);
    // Some versions create this role themselves.
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

/// The configuration of a cluster.
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
    /// Sets the number of members; the default is three.
    pub const fn size(mut self, size: usize) -> Self {
        self.size = size;
        self
    }

    /// Disables TLS.
    pub const fn plain(mut self) -> Self {
        self.tls = false;
        self
    }

    /// Enables authentication; the user may use the keys below `tests/`.
    pub fn auth(mut self, user: &str, password: &str) -> Self {
        self.auth = Some((user.into(), password.into()));
        self
    }

    /// Makes logins return a JWT that expires after this time even if it is used; each use extends a simple token.
    pub const fn jwt(mut self, ttl: Duration) -> Self {
        self.jwt = Some(ttl);
        self
    }

    /// Adds an option for every member.
    pub fn option(mut self, name: &str, value: &str) -> Self {
        self.options.push((name.into(), value.into()));
        self
    }

    /// Sets the folder with the server to start, which must be at least 3.5.
    pub fn programs_in(mut self, folder: &Path) -> Self {
        self.program = Some(folder.join("etcd").into());
        self
    }

    /// Creates everything but starts no member; see [`Cluster::start`].
    pub const fn unstarted(mut self) -> Self {
        self.start = false;
        self
    }

    /// Starts the members, as soon as few enough servers run, and waits until they are healthy.
    #[must_use]
    pub fn create(self) -> Arc<Cluster> {
        let permit = SERVERS.acquire(self.size);
        Arc::new(self.build(Some(permit), None))
    }

    /// Creates a second cluster for a test that has one. It does not wait for a permit, as two tests that do would
    /// deadlock.
    #[must_use]
    pub fn create_beside(self, _first: &Cluster) -> Arc<Cluster> {
        Arc::new(self.build(None, None))
    }

    /// Creates another cluster, of one member, that the clients of the first one trust: like a member that was rebuilt
    /// alone.
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
    // The election timeout is half a second; etcd's shortest lease is one and a half of it.
    option("heartbeat-interval", &"50");
    option("election-timeout", &"500");
    // By default a login costs etcd a tenth of a second of CPU time.
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
        // No data has to survive a crash of the machine.
        option("unsafe-no-fsync", &"true");
    }
    arguments
}

/// Returns the option for tokens that the members sign with a shared key. Clients cannot tell them from those of other
/// signing methods.
fn jwt(directory: &Path, ttl: Duration) -> OsString {
    let key = directory.join("jwt.key");
    fs::write(&key, "a key that all members share").expect("writing the key");
    format!("--auth-token=jwt,priv-key={},sign-method=HS256,ttl={}s", key.display(), ttl.as_secs()).into()
}

/// Returns the version of etcd under test.
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

    /// The stray cluster has certificates of the same CA, and answers under the same name.
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
