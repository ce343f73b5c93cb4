//! Names that only some processes know: they have an `/etc/hosts` and a DNS server of their own, in a mount namespace, so
//! that the system's resolver answers what a test says.

use std::{
    collections::BTreeMap,
    ffi::CString,
    fs,
    io::{self, Error},
    net::{IpAddr, TcpStream, UdpSocket},
    os::unix::{ffi::OsStrExt, fs::FileExt, process::CommandExt},
    path::PathBuf,
    process::{Command, Stdio},
    sync::{Arc, LazyLock, Mutex},
};

use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    unistd::{getgid, getuid},
};

use crate::{address::Address, process::Process, scratch::Scratch, wait::lock};

/// Files are replaced in place and always this long, by one write: a bind mount would not see a new file under the old
/// name, and a reader must not find an empty one.
const LENGTH: usize = 4096;
const DNS_PORT: u16 = 53;
/// The files that the system's resolver reads.
const FILES: [&str; 3] = ["hosts", "resolv.conf", "nsswitch.conf"];

/// Some names, and who knows them. The DNS server that is asked for all others refuses, so that resolving fails at once.
#[derive(Clone, Debug)]
pub struct Names {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    scratch: Scratch,
    /// Of the DNS server.
    address: Address,
    known: Mutex<BTreeMap<String, Vec<IpAddr>>>,
    silent: Mutex<Option<UdpSocket>>,
    dns: Mutex<Option<Process>>,
}

/// An SRV record: the service with its protocol and domain, the target, and its port. All have the same priority.
pub type Srv<'a> = (&'a str, &'a str, u16);

impl Names {
    /// Knows nothing yet. None, and a line that says so, where the machine does not let us mount anything: then there is
    /// nothing to test.
    ///
    /// # Panics
    /// If the files cannot be written.
    #[must_use]
    pub fn new() -> Option<Self> {
        static POSSIBLE: LazyLock<Result<(), String>> = LazyLock::new(|| {
            let names = Names::unchecked();
            let mut command = Command::new("true");
            names.apply_to(&mut command);
            command.status().map(drop).map_err(|error| error.to_string())
        });
        match &*POSSIBLE {
            Ok(()) => Some(Self::unchecked()),
            Err(why) => {
                eprintln!("SKIPPED: names: could not give a process an /etc/hosts of its own: {why}");
                None
            }
        }
    }

    fn unchecked() -> Self {
        let inner = Inner {
            scratch: Scratch::new("names"),
            address: Address::claim(),
            known: Mutex::default(),
            silent: Mutex::default(),
            dns: Mutex::default(),
        };
        let names = Self { inner: Arc::new(inner) };
        names.write("hosts", "");
        names.write("nsswitch.conf", "hosts: files dns\n");
        names.dns_fails();
        names
    }

    /// From now on `name` stands for these addresses, in this order as far as the resolver leaves it.
    pub fn set(&self, name: &str, addresses: &[IpAddr]) {
        let mut known = lock(&self.inner.known);
        known.insert(name.to_owned(), addresses.to_vec());
        self.write_hosts(&known);
    }

    /// From now on `name` is left to DNS.
    pub fn forget(&self, name: &str) {
        let mut known = lock(&self.inner.known);
        known.remove(name);
        self.write_hosts(&known);
    }

    /// With a DNS server that is asked for all others. None, and a line that says so, where there can be none.
    #[must_use]
    pub fn with_dns() -> Option<Self> {
        let names = Self::new()?;
        let has_server = Command::new("dnsmasq").arg("--version").stdout(Stdio::null()).status().is_ok();
        if has_server && getuid().is_root() {
            return Some(names);
        }
        eprintln!("SKIPPED: DNS: needs dnsmasq, and root for its port");
        None
    }

    /// DNS has these SRV records, and no others.
    ///
    /// # Panics
    /// If the server does not start.
    pub fn dns_serves(&self, records: &[Srv]) {
        let ip = self.inner.address.ip();
        self.dns_fails();
        let mut command = Command::new("dnsmasq");
        command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--user=root"]);
        command.args(["--pid-file=", "--log-facility=-", "--bind-interfaces", "--local=/test/"]);
        command.arg(format!("--listen-address={ip}"));
        command.args(records.iter().map(|(service, target, port)| format!("--srv-host={service},{target},{port}")));
        command.stdin(Stdio::null()).stderr(Stdio::null());
        *lock(&self.inner.dns) = Some(Process::start(command));
        crate::eventually(crate::Timing::SWIFT, "DNS is served", || {
            TcpStream::connect((ip, DNS_PORT)).map(drop).map_err(|error| error.to_string())
        });
    }

    /// Nobody listens where DNS is asked.
    pub fn dns_fails(&self) {
        *lock(&self.inner.dns) = None;
        *lock(&self.inner.silent) = None;
        self.write_resolv_conf(1);
    }

    /// DNS does not answer, and is waited for as long as the resolver can be told to: half a minute.
    ///
    /// # Panics
    /// If the port of DNS cannot be bound, which takes root.
    pub fn dns_hangs(&self) {
        *lock(&self.inner.dns) = None;
        let socket =
            UdpSocket::bind((self.inner.address.ip(), DNS_PORT)).expect("the address is ours, and we are root");
        *lock(&self.inner.silent) = Some(socket);
        self.write_resolv_conf(30);
    }

    /// Lets the process that `command` starts, and its children, resolve names by these.
    pub fn apply_to(&self, command: &mut Command) {
        let path = |path: PathBuf| CString::new(path.as_os_str().as_bytes()).expect("a path without zeros");
        let mounts: Vec<(CString, CString)> = FILES
            .into_iter()
            .map(|file| (self.inner.scratch.path().join(file), PathBuf::from("/etc").join(file)))
            .filter(|(_, target)| target.exists())
            .map(|(source, target)| (path(source), path(target)))
            .collect();
        let (uid, gid) = (format!("{0} {0} 1", getuid()), format!("{0} {0} 1", getgid()));
        let maps =
            [("/proc/self/setgroups", "deny".to_owned()), ("/proc/self/uid_map", uid), ("/proc/self/gid_map", gid)];
        // SAFETY: system calls on what was made before the fork, and writes to files with short names, for which the
        // standard library does not allocate.
        unsafe {
            command.pre_exec(move || {
                enter(&maps)?;
                let none = None::<&str>;
                // What is mounted here must not be seen elsewhere.
                mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
                for (source, target) in &mounts {
                    mount(Some(source.as_c_str()), target.as_c_str(), none, MsFlags::MS_BIND, none)?;
                }
                Ok(())
            });
        }
    }

    /// The addresses of `name` in the order in which the system's resolver gives them.
    ///
    /// # Errors
    /// If it gives none.
    pub fn resolve(&self, name: &str) -> Result<Vec<IpAddr>, String> {
        let mut command = Command::new("getent");
        command.args(["ahosts", name]);
        self.apply_to(&mut command);
        let output = command.output().map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let streams = text.lines().filter(|line| line.contains("STREAM"));
        let found: Vec<IpAddr> = streams.filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect();
        if found.is_empty() { Err(format!("{}: {text:?}", output.status)) } else { Ok(found) }
    }

    fn write_hosts(&self, known: &BTreeMap<String, Vec<IpAddr>>) {
        let lines = known.iter().flat_map(|(name, addresses)| addresses.iter().map(move |ip| format!("{ip} {name}\n")));
        self.write("hosts", &lines.collect::<String>());
    }

    fn write_resolv_conf(&self, timeout: u8) {
        let ip = self.inner.address.ip();
        self.write("resolv.conf", &format!("nameserver {ip}\noptions timeout:{timeout} attempts:1\n"));
    }

    fn write(&self, file: &str, text: &str) {
        assert!(text.len() <= LENGTH, "too many names");
        let path = self.inner.scratch.path().join(file);
        fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .and_then(|handle| handle.write_all_at(format!("{text:\n<LENGTH$}").as_bytes(), 0))
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

/// A mount namespace of one's own; who is not root needs a user namespace for that.
fn enter(maps: &[(&str, String)]) -> io::Result<()> {
    match unshare(CloneFlags::CLONE_NEWNS) {
        Err(Errno::EPERM) => {
            unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUSER)?;
            maps.iter().try_for_each(|(file, text)| fs::write(file, text))
        }
        other => other.map_err(Error::from),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::certificates::NAME;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn a_name_resolves_to_all_its_addresses_until_it_is_changed() {
        let Some(names) = Names::new() else { return };
        let all = ["127.100.1.1", "127.100.1.2", "127.100.1.3"].map(ip);
        names.set(NAME, &all);
        let mut resolved = names.resolve(NAME).expect("it is in the file");
        resolved.sort();
        assert_eq!(resolved, all);
        names.set(NAME, &all[2..]);
        assert_eq!(names.resolve(NAME), Ok(all[2..].to_vec()));
        names.set(NAME, &[ip("::1"), all[0]]);
        let resolved = names.resolve(NAME).expect("it is in the file");
        assert!(resolved.contains(&ip("::1")) && resolved.contains(&all[0]), "{resolved:?}");
    }

    #[test]
    fn a_running_process_sees_changed_names() {
        let Some(names) = Names::new() else { return };
        names.set(NAME, &[ip("127.100.1.1")]);
        let mut command = Command::new("sh");
        // It tells when it looked first, and looks again when it is told to.
        command.args(["-c", &format!("getent hosts {NAME}; read line; getent hosts {NAME}")]);
        names.apply_to(&mut command);
        command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut child = command.spawn().expect("sh");
        let mut stdout = io::BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        io::BufRead::read_line(&mut stdout, &mut line).expect("a line");
        assert!(line.starts_with("127.100.1.1 "), "{line:?}");
        names.set(NAME, &[ip("127.100.1.2")]);
        drop(child.stdin.take());
        line.clear();
        io::BufRead::read_line(&mut stdout, &mut line).expect("a line");
        assert!(line.starts_with("127.100.1.2 "), "{line:?}");
        child.wait().expect("it ends");
    }

    #[test]
    fn names_are_private_and_dns_can_fail_at_once() {
        let Some(names) = Names::new() else { return };
        names.set(NAME, &[ip("127.100.1.1")]);
        let hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
        assert!(!hosts.contains(NAME), "{hosts}");
        names.forget(NAME);
        let begun = Instant::now();
        assert!(names.resolve(NAME).is_err());
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }

    #[test]
    fn a_lookup_waits_while_dns_hangs() {
        let Some(names) = Names::new().filter(|_| getuid().is_root()) else { return };
        names.dns_hangs();
        let mut command = Command::new("getent");
        command.args(["ahosts", NAME]);
        names.apply_to(&mut command);
        let mut child = command.spawn().expect("getent");
        crate::throughout(Duration::from_secs(2), "it waits", || match child.try_wait() {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        });
        child.kill().and_then(|()| child.wait()).expect("it is killed");
        names.dns_fails();
        assert!(names.resolve(NAME).is_err());
    }
}
