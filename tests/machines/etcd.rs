//! A cluster of three members with TLS, each a machine of its own.

use std::{path::Path, sync::Arc, time::Duration};

use harness::{certificates::Certificates, eventually, scratch::Scratch};

use crate::engine::{Machine, Network};

/// How long a cluster may take to form.
const HEALTHY: Duration = Duration::from_secs(60);

/// Where the certificates are on a member.
const FOLDER: &str = "/certificates";

/// A running cluster.
pub(crate) struct Cluster {
    members: Vec<Machine>,
    certificates: Certificates,
    _scratch: Scratch,
}

impl Cluster {
    /// Starts it, and waits until it is healthy.
    ///
    /// # Panics
    /// If that takes too long.
    #[must_use]
    pub(crate) fn start(network: &Arc<Network>) -> Self {
        let scratch = Scratch::new("etcd");
        let blueprints = ["etcd1", "etcd2", "etcd3"].map(|name| (name, network.machine(name)));
        let ips: Vec<String> = blueprints.iter().map(|(_, blueprint)| blueprint.ip().to_owned()).collect();
        let certificates = Certificates::create(scratch.path(), &ips);
        let peers: Vec<String> =
            blueprints.iter().map(|(name, blueprint)| format!("{name}=https://{}:2380", blueprint.ip())).collect();
        let peers = peers.join(",");
        let members = blueprints.map(|(name, blueprint)| {
            let ip = blueprint.ip().to_owned();
            let mut command = vec!["etcd".to_owned()];
            let mut option = |name: &str, value: &str| command.push(format!("--{name}={value}"));
            option("name", name);
            // Neither on a tmpfs nor the directory of the package.
            option("data-dir", "/var/lib/member");
            option("listen-client-urls", &format!("https://{ip}:2379,https://127.0.0.1:2379"));
            option("advertise-client-urls", &format!("https://{ip}:2379"));
            option("listen-peer-urls", &format!("https://{ip}:2380"));
            option("initial-advertise-peer-urls", &format!("https://{ip}:2380"));
            option("initial-cluster", &peers);
            option("logger", "zap");
            option("log-level", "warn");
            for kind in ["", "peer-"] {
                option(&format!("{kind}cert-file"), &format!("{FOLDER}/server.crt"));
                option(&format!("{kind}key-file"), &format!("{FOLDER}/server.key"));
                option(&format!("{kind}trusted-ca-file"), &format!("{FOLDER}/ca.crt"));
                option(&format!("{kind}client-cert-auth"), "true");
            }
            blueprint.mount(scratch.path(), FOLDER, "ro").command(command).start()
        });
        let cluster = Self { members: members.into(), certificates, _scratch: scratch };
        for member in 0..cluster.members.len() {
            eventually(HEALTHY, "the cluster is healthy", || cluster.etcdctl(member, &["endpoint", "health"]));
        }
        cluster
    }

    /// Returns the client endpoints.
    pub(crate) fn endpoints(&self) -> String {
        let urls: Vec<String> = self.members.iter().map(|member| format!("https://{}:2379", member.ip())).collect();
        urls.join(",")
    }

    /// The folder with `ca.crt`, `client.crt` and `client.key`.
    ///
    /// # Panics
    /// Never, as the certificates are in a folder.
    pub(crate) fn certificates(&self) -> &Path {
        self.certificates.ca.parent().expect("a folder")
    }

    /// Runs `etcdctl` on a member for that member.
    ///
    /// # Errors
    /// With its output, if it does not succeed.
    pub(crate) fn etcdctl(&self, member: usize, words: &[&str]) -> Result<String, String> {
        let tls = ["ca.crt", "client.crt", "client.key"].map(|file| format!("{FOLDER}/{file}"));
        let [ca, cert, key] = &tls;
        let mut all = vec!["env", "ETCDCTL_API=3", "etcdctl", "--endpoints=https://127.0.0.1:2379"];
        all.extend(["--cacert", ca, "--cert", cert, "--key", key]);
        all.extend(words);
        self.members[member].exec(&all)
    }
}
