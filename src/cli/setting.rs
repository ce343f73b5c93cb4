//! Every setting: its one name, its default, its one help text.
//!
//! The flag is written here and the variable follows from it. `--help`, the table in docs/settings.md and every error are rendered
//! from this table.

/// What all variables begin with.
pub const PREFIX: &str = "ETCD_AWAIT_ELECTION_";

/// One setting, given as a flag or a variable.
#[derive(Debug)]
pub struct Setting {
    /// The flag without its dashes.
    pub flag: &'static str,
    /// What the help calls the value.
    pub value: &'static str,
    /// The value if nothing is given, as it would be written; read by the same parser.
    pub default: Option<&'static str>,
    /// What holds if nothing is given and there is no value to write for it.
    pub otherwise: Option<&'static str>,
    /// What it means, in one line.
    pub help: &'static str,
    /// Whether errors must not show the value.
    pub secret: bool,
    /// Whether setting it asks for an election; the logging settings do not.
    pub of_election: bool,
}

impl Setting {
    const fn new(flag: &'static str, value: &'static str, help: &'static str) -> Self {
        Self { flag, value, default: None, otherwise: None, help, secret: false, of_election: true }
    }

    const fn default(self, default: &'static str) -> Self {
        Self { default: Some(default), ..self }
    }

    const fn otherwise(self, otherwise: &'static str) -> Self {
        Self { otherwise: Some(otherwise), ..self }
    }

    /// The variable: `lock-name` is `ETCD_AWAIT_ELECTION_LOCK_NAME`.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("{PREFIX}{}", self.short())
    }

    /// The variable without its prefix.
    #[must_use]
    pub fn short(&self) -> String {
        self.flag.replace('-', "_").to_ascii_uppercase()
    }

    /// Both spellings, for a setting that is not there yet.
    #[must_use]
    pub fn either(&self) -> String {
        format!("--{} or {}", self.flag, self.variable())
    }
}

/// The lock.
pub const LOCK_NAME: Setting = Setting::new(
    "lock-name",
    "NAME",
    "The lock: one name for all instances of one service. No segment between slashes begins with ~",
);
/// etcd's addresses.
pub const ENDPOINTS: Setting = Setting::new(
    "endpoints",
    "URLS",
    "The members of etcd, separated by commas: host:port, or a URL. Without a scheme it is https if a certificate is \
     set, else http",
);
/// The domain whose SRV records name etcd's members.
pub const DISCOVERY_SRV: Setting = Setting::new(
    "discovery-srv",
    "DOMAIN",
    "Instead of endpoints: use the members that the SRV records _etcd-client-ssl._tcp.DOMAIN and _etcd-client._tcp.DOMAIN \
     name, only the former if a certificate is set",
);
/// What follows the service in the names of those records.
pub const DISCOVERY_SRV_NAME: Setting = Setting::new(
    "discovery-srv-name",
    "SUFFIX",
    "With a domain: look up _etcd-client-ssl-SUFFIX._tcp.DOMAIN and _etcd-client-SUFFIX._tcp.DOMAIN",
);
/// The only cluster to use.
pub const CLUSTER_ID: Setting =
    Setting::new("cluster-id", "HEX", "Use only the etcd cluster of this id, and endpoints of no other")
        .otherwise("the cluster that more than half of the endpoints report");
/// Who we are.
pub const IDENTITY: Setting = Setting::new(
    "identity",
    "NAME",
    "The name of this instance. Set it only if it is unique and lasting: an instance takes leadership over from an \
     earlier one of its own name",
)
.otherwise("the host name, `_` and 8 random digits");
/// The status endpoint.
pub const STATUS_ENDPOINT: Setting =
    Setting::new("status-endpoint", "HOST:PORT", "Serve status, health and metrics here; :PORT is all interfaces")
        .otherwise("no endpoint");
/// The lease.
pub const LEASE_DURATION: Setting = Setting::new(
    "lease-duration",
    "SECONDS",
    "How long etcd keeps the lock for an instance that is not heard of; whole seconds",
)
.default("15");
/// The renew deadline.
pub const RENEW_DEADLINE: Setting =
    Setting::new("renew-deadline", "TIME", "The command is stopped when its lease was not renewed for so long")
        .default("10");
/// The retry period.
pub const RETRY_PERIOD: Setting =
    Setting::new("retry-period", "TIME", "How often a leader renews; at most half of RENEW_DEADLINE").default("2");
/// How long to wait.
pub const ACQUIRE_TIMEOUT: Setting = Setting::new(
    "acquire-timeout",
    "TIME",
    "Give up when leadership was not acquired after this time; 0 tries once and does not wait",
)
.otherwise("wait for ever");
/// Force.
pub const FORCE_ACQUIRE: Setting = Setting::new(
    "force-acquire",
    "VALUE",
    "Ask the leader to end its command and hand over. Any value means yes, but 0, f, false, no and off; the flag is \
     --force-acquire or --force-acquire=VALUE",
)
.otherwise("no");
/// What to do on loss.
pub const ON_LOSS: Setting = Setting::new(
    "on-loss",
    "exit|campaign",
    "After leadership was lost and the command has ended: exit, or campaign again",
)
.default("exit");
/// The stop grace.
pub const STOP_GRACE: Setting = Setting::new(
    "stop-grace",
    "TIME",
    "How long the command may take to stop before it is killed; less if its lease runs out",
)
.default("10");
/// The stop signal.
pub const STOP_SIGNAL: Setting =
    Setting::new("stop-signal", "SIGNAL", "The signal that asks the command to stop: TERM, SIGTERM or 15")
        .default("TERM");
/// The CA.
pub const CACERT: Setting =
    Setting::new("cacert", "FILE", "Verify etcd by this CA (PEM)").otherwise("the system's CAs, with https");
/// The client certificate.
pub const CERT: Setting = Setting::new("cert", "FILE", "The client certificate for etcd (PEM); with a key");
/// The client key.
pub const KEY: Setting = Setting::new("key", "FILE", "The key of the client certificate (PEM)");
/// The name in the server's certificate.
pub const TLS_SERVER_NAME: Setting =
    Setting::new("tls-server-name", "NAME", "The name that etcd's certificate must have")
        .otherwise("the host of the endpoint");
/// The etcd user.
pub const USER: Setting = Setting::new("user", "NAME", "The etcd user; with a password");
/// The password.
pub const PASSWORD: Setting = Setting {
    secret: true,
    ..Setting::new(
        "password",
        "TEXT",
        "The password of the user; as a flag it can be read by every user of the machine",
    )
};
/// The password's file.
pub const PASSWORD_FILE: Setting =
    Setting::new("password-file", "FILE", "A file whose first line is the password; read again at each login");
/// When systemd is told.
pub const NOTIFY_READY: Setting = Setting::new(
    "notify-ready",
    "started|campaigning|elected",
    "When to tell systemd that the service is ready: at once, when this instance is in the queue, or when the command was \
     started",
)
.default("started");
/// What to log.
pub const LOG: Setting = Setting {
    of_election: false,
    ..Setting::new("log", "FILTER", "What to log: off, error, warn, info, debug or trace, or target=level,…")
        .default("warn,etcd_await_election=info")
};
/// How to log.
pub const LOG_FORMAT: Setting = Setting {
    of_election: false,
    ..Setting::new("log-format", "text|json", "How to log: text, or one JSON object per line").default("text")
};

/// All of them, in the order of the help.
pub const ALL: [&Setting; 25] = [
    &LOCK_NAME,
    &ENDPOINTS,
    &DISCOVERY_SRV,
    &DISCOVERY_SRV_NAME,
    &CLUSTER_ID,
    &IDENTITY,
    &STATUS_ENDPOINT,
    &LEASE_DURATION,
    &RENEW_DEADLINE,
    &RETRY_PERIOD,
    &ACQUIRE_TIMEOUT,
    &FORCE_ACQUIRE,
    &ON_LOSS,
    &STOP_GRACE,
    &STOP_SIGNAL,
    &CACERT,
    &CERT,
    &KEY,
    &TLS_SERVER_NAME,
    &USER,
    &PASSWORD,
    &PASSWORD_FILE,
    &NOTIFY_READY,
    &LOG,
    &LOG_FORMAT,
];
