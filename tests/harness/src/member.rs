//! One member of a cluster, with the verbs of failure.

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
    /// Everything it is started with, the first time and again.
    pub(crate) arguments: Vec<OsString>,
    pub(crate) log: PathBuf,
    /// The server that it is started with the next time.
    pub(crate) program: Mutex<OsString>,
    pub(crate) process: Mutex<Option<Process>>,
}

impl Member {
    /// Where it serves clients, as a URL.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("{}://{}", self.scheme, self.client_address())
    }

    /// Where it serves clients.
    #[must_use]
    pub fn client_address(&self) -> SocketAddr {
        (self.address.ip(), CLIENT_PORT).into()
    }

    /// Where it writes what it has to say.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// What it counts, in Prometheus' text format.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn metrics(&self) -> io::Result<String> {
        http::request(self.metrics_address(), "GET", "/metrics").map(|answer| answer.body)
    }

    /// Where it serves its metrics: without TLS, beside what serves its clients.
    pub(crate) fn metrics_address(&self) -> SocketAddr {
        (self.address.ip(), METRICS_PORT).into()
    }

    pub(crate) fn peer_url(&self) -> String {
        format!("{}://{}:{PEER_PORT}", self.scheme, self.address.ip())
    }

    /// SIGKILL, and gone.
    pub fn kill(&self) {
        if let Some(process) = lock(&self.process).take() {
            process.signal(Signal::SIGKILL);
            process.wait_exit(Duration::from_secs(10));
        }
    }

    /// Asks it to end, and waits until it has.
    pub fn stop(&self) {
        if let Some(process) = lock(&self.process).take() {
            process.signal(Signal::SIGTERM);
            process.wait_exit(Duration::from_secs(20));
        }
    }

    /// SIGSTOP: it keeps every connection and answers nothing.
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    /// Stops it as an administrator does, and starts it again with its data: with the `etcd` of this folder if there is one.
    pub fn roll(&self, folder: Option<&Path>) {
        self.stop();
        if let Some(folder) = folder {
            *lock(&self.program) = folder.join("etcd").into();
        }
        self.start();
    }

    /// Ends it if it runs, and starts it again with the data that it had.
    pub fn restart(&self) {
        self.kill();
        self.start();
    }

    /// Ends it, replaces its data by a snapshot as an operator does, with these further options, and starts it again.
    ///
    /// # Errors
    /// With what `etcdutl` said, if it did not succeed.
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

    /// Starts it; what it says is added to its log.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(&self) {
        let log = OpenOptions::new().append(true).create(true).open(&self.log).expect("the member's log");
        let mut command = Command::new(&*lock(&self.program));
        // Its own variables would be settings.
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

/// `etcd`, or what `ETCD_BIN` names.
pub(crate) fn binary() -> OsString {
    std::env::var_os("ETCD_BIN").unwrap_or_else(|| "etcd".into())
}
