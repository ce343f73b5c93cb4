//! Names that only some processes can resolve: they have their own `/etc/hosts` and DNS server, in a mount namespace,
//! so that a test decides what the system's resolver returns.

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

/// The length of all files. They are replaced in place by one write: a bind mount would not follow a rename, and a
/// reader must not find an empty file.
const LENGTH: usize = 4096;
const DNS_PORT: u16 = 53;
/// The files that the system's resolver reads.
const FILES: [&str; 3] = ["hosts", "resolv.conf", "nsswitch.conf"];

/// A set of names. All other names fail to resolve at once, as the DNS server refuses connections.
#[derive(Clone, Debug)]
pub struct Names {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    scratch: Scratch,
    /// The address of the DNS server.
    address: Address,
    known: Mutex<BTreeMap<String, Vec<IpAddr>>>,
    silent: Mutex<Option<UdpSocket>>,
    dns: Mutex<Option<Process>>,
}

/// An SRV record: the service with its protocol and domain, the target, and its port. All have the same priority.
pub type Srv<'a> = (&'a str, &'a str, u16);

impl Names {
    /// Creates an empty set. Prints SKIPPED and returns `None` where mounts are not permitted.
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

    /// Makes `name` resolve to these addresses.
    pub fn set(&self, name: &str, addresses: &[IpAddr]) {
        let mut known = lock(&self.inner.known);
        known.insert(name.to_owned(), addresses.to_vec());
        self.write_hosts(&known);
    }

    /// Removes `name`, so that DNS is queried for it.
    pub fn forget(&self, name: &str) {
        let mut known = lock(&self.inner.known);
        known.remove(name);
        self.write_hosts(&known);
    }

    /// Creates an empty set that can serve DNS. Prints SKIPPED and returns `None` where that is impossible.
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

    /// Starts a DNS server with these SRV records only.
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

    /// Stops the DNS server, so that queries fail at once.
    pub fn dns_fails(&self) {
        *lock(&self.inner.dns) = None;
        *lock(&self.inner.silent) = None;
        self.write_resolv_conf(1);
    }

    /// Makes DNS queries hang until the longest timeout that the resolver allows: half a minute.
    ///
    /// # Panics
    /// If the DNS port cannot be bound, which requires root.
    pub fn dns_hangs(&self) {
        *lock(&self.inner.dns) = None;
        let socket =
            UdpSocket::bind((self.inner.address.ip(), DNS_PORT)).expect("the address is ours, and we are root");
        *lock(&self.inner.silent) = Some(socket);
        self.write_resolv_conf(30);
    }

    /// Makes the process of `command`, and its descendants, resolve names by these.
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
        // SAFETY: system calls on data that was allocated before the fork, and writes to files with short names, for
        // which the standard library does not allocate.
        unsafe {
            command.pre_exec(move || {
                enter(&maps)?;
                let none = None::<&str>;
                // The mounts must not propagate to other namespaces.
                mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
                for (source, target) in &mounts {
                    mount(Some(source.as_c_str()), target.as_c_str(), none, MsFlags::MS_BIND, none)?;
                }
                Ok(())
            });
        }
    }

    /// Resolves `name` with the system's resolver; returns the addresses in its order.
    ///
    /// # Errors
    /// If there are none.
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

/// Enters a new mount namespace, which requires a user namespace if not root.
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
        // The shell prints the first result, and resolves again when it reads a line.
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
