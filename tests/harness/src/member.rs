//! One member of a cluster, and its faults.

use std::{
    ffi::OsString,
    fs::OpenOptions,
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Mutex,
    time::Duration,
};

use nix::sys::signal::Signal;

use crate::{
    address::{Address, CLIENT_PORT, METRICS_PORT, PEER_PORT},
    http,
    process::Process,
    wait::lock,
};

/// One etcd server.
#[derive(Debug)]
pub struct Member {
    pub(crate) name: String,
    pub(crate) address: Address,
    pub(crate) scheme: &'static str,
    /// Its arguments at every start.
    pub(crate) arguments: Vec<OsString>,
    pub(crate) log: PathBuf,
    /// The server program for the next start.
    pub(crate) program: Mutex<OsString>,
    pub(crate) process: Mutex<Option<Process>>,
}

impl Member {
    /// Returns its client URL.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("{}://{}", self.scheme, self.client_address())
    }

    /// Returns its client address.
    #[must_use]
    pub fn client_address(&self) -> SocketAddr {
        (self.address.ip(), CLIENT_PORT).into()
    }

    /// Returns the path of its log.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Returns its metrics in the text format of Prometheus.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn metrics(&self) -> io::Result<String> {
        http::request(self.metrics_address(), "GET", "/metrics").map(|answer| answer.body)
    }

    /// Returns the address of its metrics, which are served without TLS.
    pub(crate) fn metrics_address(&self) -> SocketAddr {
        (self.address.ip(), METRICS_PORT).into()
    }

    pub(crate) fn peer_url(&self) -> String {
        format!("{}://{}:{PEER_PORT}", self.scheme, self.address.ip())
    }

    /// Kills it, and waits until it has ended.
    pub fn kill(&self) {
        if let Some(process) = lock(&self.process).take() {
            process.signal(Signal::SIGKILL);
            process.wait_exit(Duration::from_secs(10));
        }
    }

    /// Sends SIGTERM, and waits until it has ended.
    pub fn stop(&self) {
        if let Some(process) = lock(&self.process).take() {
            process.signal(Signal::SIGTERM);
            process.wait_exit(Duration::from_secs(20));
        }
    }

    /// Sends SIGSTOP: it keeps its connections but does not answer.
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Sends SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Stops it cleanly and starts it again with its data: with the `etcd` of `folder`, if given.
    pub fn roll(&self, folder: Option<&Path>) {
        self.stop();
        if let Some(folder) = folder {
            *lock(&self.program) = folder.join("etcd").into();
        }
        self.start();
    }

    /// Kills it and starts it again with its data.
    pub fn restart(&self) {
        self.kill();
        self.start();
    }

    /// Kills it, restores its data from a snapshot with these options of `etcdutl`, and starts it again.
    ///
    /// # Errors
    /// With the output of `etcdutl`, if it does not succeed.
    pub fn restore(&self, etcdutl: &Path, snapshot: &Path, options: &[&str]) -> Result<(), String> {
        self.kill();
        let own = |name: &str| {
            let prefix = format!("--{name}=");
            let text = |word: &OsString| word.to_string_lossy().into_owned();
            self.arguments.iter().map(text).find(|word| word.starts_with(&prefix)).unwrap_or_default()
        };
        let data = own("data-dir");
        let folder = data.trim_start_matches("--data-dir=");
        std::fs::remove_dir_all(folder).map_err(|error| format!("{folder}: {error}"))?;
        let mut command = Command::new(etcdutl);
        command.args(["snapshot", "restore"]).arg(snapshot).arg(&data).args(options);
        command.args(["name", "initial-cluster", "initial-advertise-peer-urls"].map(own));
        let output = command.output().map_err(|error| format!("{}: {error}", etcdutl.display()))?;
        if !output.status.success() {
            return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr)));
        }
        self.start();
        Ok(())
    }

    /// Starts it; its output is appended to its log.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(&self) {
        let log = OpenOptions::new().append(true).create(true).open(&self.log).expect("the member's log");
        let mut command = Command::new(&*lock(&self.program));
        // etcd reads `ETCD_*` variables as settings.
        command.env_clear().args(&self.arguments).stdin(Stdio::null());
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        command.stdout(log.try_clone().expect("a second handle")).stderr(log);
        *lock(&self.process) = Some(Process::start(command));
    }

    fn signal(&self, signal: Signal) {
        if let Some(process) = &*lock(&self.process) {
            process.signal(signal);
        }
    }
}

/// Returns the program that `ETCD_BIN` names, or `etcd`.
pub(crate) fn binary() -> OsString {
    std::env::var_os("ETCD_BIN").unwrap_or_else(|| "etcd".into())
}
