//! The container engine, and its machines: containers that are removed when dropped.
//!
//! A running Docker is used, or one is started for the tests. mmdebstrap creates the images once, and they are kept in
//! `target/machines/`. The base image is the release of this machine; those of Debian's suites are for the tests of
//! systemd and of the packages.

use std::{
    collections::{BTreeMap, hash_map::DefaultHasher},
    env,
    fmt::Write as _,
    fs,
    hash::{Hash, Hasher},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicU8, AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use harness::{Timing, eventually};

/// The packages of every machine.
const PACKAGES: [&str; 12] = [
    // Three services of the distribution with a PID file, to be gated.
    "cron",
    "nginx-light",
    "postgresql",
    "dbus",
    "etcd-client",
    "etcd-server",
    // The proxy of the example for Kubernetes.
    "haproxy",
    "iproute2",
    "procps",
    // A service of the distribution, to be gated.
    "redis-server",
    "systemd",
    "systemd-sysv",
];

/// Returns the packages that only this release has in a version that is tested, and their unit: they move a virtual IP.
fn additions(release: &str) -> (&'static [&'static str], &'static str) {
    match release {
        "bookworm" => (&["curl", "keepalived"], "keepalived.service"),
        "forky" => (&["vip-manager2"], "vip-manager.service"),
        _ => (&[], ""),
    }
}

/// One of Debian's suites.
pub(crate) type Suite = &'static str;

/// The limit of a boot.
const BOOT: Duration = Duration::from_secs(60);

/// Runs `docker` with these arguments; returns its output.
///
/// # Errors
/// With its output, if it does not succeed.
pub(crate) fn docker<S: AsRef<str>>(words: &[S]) -> Result<String, String> {
    let words: Vec<&str> = words.iter().map(AsRef::as_ref).collect();
    run(ENGINE.docker().args(&words)).map_err(|error| format!("docker {}: {error}", words.join(" ")))
}

/// Returns a `docker` command to run in the background.
pub(crate) fn docker_command() -> Command {
    ENGINE.docker()
}

/// Returns the label of everything that these tests create in the engine.
pub(crate) fn label() -> &'static str {
    &ENGINE.label
}

/// Returns the base image, which is created if necessary.
pub(crate) fn base_image() -> &'static str {
    static IMAGE: LazyLock<String> = LazyLock::new(|| make_image(&OWN.release, Some(&OWN.sources)));
    &IMAGE
}

/// Returns the image of one of Debian's suites, which is created if necessary.
fn image_of(suite: Suite) -> String {
    if suite == OWN.release {
        return base_image().to_owned();
    }
    // One at a time, as all suites share the network.
    static IMAGES: Mutex<BTreeMap<&str, String>> = Mutex::new(BTreeMap::new());
    let mut images = IMAGES.lock().expect("no image could be made before");
    let make = || {
        let source = |mirror| format!("deb [signed-by={KEYRING}] {mirror} {suite} main\n");
        make_image(suite, env::var("DEBIAN_MIRROR").ok().map(source).as_deref())
    };
    images.entry(suite).or_insert_with(make).clone()
}

/// Builds an image from a folder and a Dockerfile with these `NAME=value` arguments; returns its name. Removed when the
/// tests end.
///
/// # Panics
/// If the engine cannot build it.
#[must_use]
pub(crate) fn build(name: &str, folder: &Path, recipe: &str, arguments: &[&str]) -> String {
    let (image, file) = (unique(name), folder.join("Dockerfile"));
    fs::write(&file, recipe).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let mut words = vec!["build", "--quiet", "--label", &ENGINE.label, "--tag", &image];
    words.extend(arguments.iter().flat_map(|argument| ["--build-arg", argument]));
    let folder = folder.display().to_string();
    words.push(&folder);
    docker(&words).unwrap_or_else(|error| panic!("{error}"));
    image
}

/// A network with known addresses.
pub(crate) struct Network {
    name: String,
    prefix: String,
    hosts: AtomicU8,
}

impl Network {
    /// # Panics
    /// If there is no room for one.
    pub(crate) fn new() -> Arc<Self> {
        let name = unique("net");
        // One of these subnets is free.
        let first = std::process::id() % 200;
        for number in (first..250).chain(0..first) {
            let prefix = format!("10.213.{number}");
            let words = ["network", "create", "--label", &ENGINE.label, "--subnet", &format!("{prefix}.0/24"), &name];
            match docker(&words) {
                Ok(_) => return Arc::new(Self { name, prefix, hosts: AtomicU8::new(10) }),
                Err(error) if error.contains("overlaps") => {}
                Err(error) => panic!("{error}"),
            }
        }
        panic!("all of 10.213.0.0/16 is taken");
    }

    /// Returns an address that no machine has.
    pub(crate) fn unused_ip(&self) -> String {
        format!("{}.250", self.prefix)
    }

    /// Returns an address for a machine that is configured otherwise.
    pub(crate) fn free_ip(&self) -> String {
        format!("{}.{}", self.prefix, self.hosts.fetch_add(1, Ordering::Relaxed))
    }

    /// Configures a machine.
    pub(crate) fn machine(self: &Arc<Self>, name: &str) -> Blueprint {
        Blueprint {
            network: Arc::clone(self),
            name: name.to_owned(),
            ip: self.free_ip(),
            image: None,
            options: Vec::new(),
            command: Vec::new(),
        }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = docker(&["network", "rm", &self.name]);
    }
}

/// The configuration of a machine.
#[must_use]
pub(crate) struct Blueprint {
    network: Arc<Network>,
    name: String,
    ip: String,
    image: Option<String>,
    options: Vec<String>,
    command: Vec<String>,
}

impl Blueprint {
    /// Returns its address.
    pub(crate) fn ip(&self) -> &str {
        &self.ip
    }

    /// Sets another image than the base image.
    pub(crate) fn image(mut self, image: &str) -> Self {
        self.image = Some(image.to_owned());
        self
    }

    /// Selects one of Debian's suites instead of the release of this machine.
    pub(crate) fn suite(self, suite: Suite) -> Self {
        let image = image_of(suite);
        self.image(&image)
    }

    /// Adds arguments for `docker run`.
    pub(crate) fn options<S: AsRef<str>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.options.extend(words.into_iter().map(|word| word.as_ref().to_owned()));
        self
    }

    /// Mounts a file or folder.
    pub(crate) fn mount(self, outside: &Path, inside: &str, mode: &str) -> Self {
        self.options(["--volume", &format!("{}:{inside}:{mode}", outside.display())])
    }

    /// Sets its command; the default is that of the image.
    pub(crate) fn command<S: AsRef<str>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.command = words.into_iter().map(|word| word.as_ref().to_owned()).collect();
        self
    }

    /// Starts it.
    ///
    /// # Panics
    /// If the engine does not.
    #[must_use]
    pub(crate) fn start(self) -> Machine {
        let id = unique(&self.name);
        let image = self.image.as_deref().unwrap_or_else(|| base_image());
        let mut words = ["run", "--detach", "--name", &id, "--label", &ENGINE.label, "--hostname", &self.name]
            .map(str::to_owned)
            .to_vec();
        words.extend(["--network", &self.network.name, "--ip", &self.ip].map(str::to_owned));
        words.extend(self.options);
        words.push(image.to_owned());
        words.extend(self.command);
        if let Err(error) = docker(&words) {
            let _ = docker(&["rm", "--force", "--volumes", &id]);
            panic!("{error}");
        }
        Machine { id, name: self.name, ip: self.ip, network: self.network }
    }

    /// Starts it with systemd as PID 1, and waits until it has booted.
    ///
    /// # Panics
    /// If it does not boot.
    #[must_use]
    pub(crate) fn boot(self) -> Machine {
        let cgroups = format!("{}:/sys/fs/cgroup:rw", cgroups().display());
        let machine = self
            // Less than --privileged, with which systemd would use the terminals and devices of the host.
            .options(["--cap-add", "SYS_ADMIN", "--security-opt", "seccomp=unconfined"])
            // PrivateUsers= beside ProtectProc=invisible needs to see its own process.
            .options(["--cap-add", "SYS_PTRACE", "--security-opt", "apparmor=unconfined"])
            .options(["--cgroupns", "host", "--volume", &cgroups])
            .options(["--tmpfs", "/run", "--tmpfs", "/run/lock", "--tmpfs", "/tmp", "--stop-signal", "SIGRTMIN+3"])
            // Without propagation of mounts systemd can hand over no credentials.
            .command(["sh", "-c", "mount --make-rshared / && exec /lib/systemd/systemd"])
            .start();
        machine.booted();
        machine
    }
}

/// A running container.
pub(crate) struct Machine {
    id: String,
    name: String,
    ip: String,
    network: Arc<Network>,
}

impl Machine {
    /// Returns its host name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Returns its container id.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Returns its address.
    pub(crate) fn ip(&self) -> &str {
        &self.ip
    }

    /// Runs a command in it; returns its output.
    ///
    /// # Errors
    /// With its output, if it does not succeed.
    pub(crate) fn exec<S: AsRef<str>>(&self, words: &[S]) -> Result<String, String> {
        let mut all = vec!["exec", &self.id];
        all.extend(words.iter().map(AsRef::as_ref));
        docker(&all)
    }

    /// Runs a shell command line, which must succeed.
    ///
    /// # Panics
    /// If it does not.
    #[track_caller]
    pub(crate) fn must(&self, line: &str) -> String {
        self.exec(&["sh", "-euc", line]).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// Waits until a shell command line succeeds; returns its output.
    #[track_caller]
    pub(crate) fn until(&self, limit: Duration, line: &str) -> String {
        eventually(limit, &format!("{}: {line}", self.name), || self.exec(&["sh", "-euc", line]))
    }

    /// Writes a file.
    #[track_caller]
    pub(crate) fn write(&self, path: &str, text: &str) {
        let folder = Path::new(path).parent().unwrap_or_else(|| Path::new("/"));
        self.must(&format!("mkdir -p '{}'\ncat >'{path}' <<'END-OF-FILE'\n{text}\nEND-OF-FILE", folder.display()));
    }

    /// Runs a command of the engine on it, such as `pause`, `kill`, `restart`.
    ///
    /// # Panics
    /// If the engine fails.
    #[track_caller]
    pub(crate) fn engine(&self, words: &[&str]) -> String {
        let mut all = words.to_vec();
        all.push(&self.id);
        docker(&all).unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// Freezes all its processes.
    #[track_caller]
    pub(crate) fn pause(&self) {
        self.engine(&["pause"]);
    }

    /// Kills all its processes, like a power failure.
    #[track_caller]
    pub(crate) fn kill(&self) {
        self.engine(&["kill"]);
    }

    /// Disconnects it from the network.
    #[track_caller]
    pub(crate) fn cut_off(&self) {
        self.engine(&["network", "disconnect", "--force", &self.network.name]);
    }

    /// Connects it again with its address.
    #[track_caller]
    pub(crate) fn rejoin(&self) {
        self.engine(&["network", "connect", "--ip", &self.ip, &self.network.name]);
    }

    /// Shuts systemd down and boots it again.
    #[track_caller]
    pub(crate) fn reboot(&self) {
        self.engine(&["restart", "--time", "60"]);
        self.booted();
    }

    /// Waits until systemd has booted.
    #[track_caller]
    pub(crate) fn booted(&self) {
        eventually(BOOT, &format!("{} has booted", self.name), || {
            // It also fails if a unit has failed, which is irrelevant here.
            let state = self.exec(&["sh", "-c", "systemctl is-system-running || true"])?;
            if matches!(state.trim(), "running" | "degraded") { Ok(()) } else { Err(state) }
        });
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if thread::panicking() {
            let log = docker(&["logs", "--tail", "50", &self.id]).unwrap_or_else(|error| error);
            let journal = "journalctl --no-pager --lines=60 --output=short-precise 2>/dev/null || true";
            let journal = self.exec(&["sh", "-c", journal]).unwrap_or_default();
            eprintln!("--- {} ({})\n{log}{journal}", self.name, self.id);
        }
        let _ = docker(&["rm", "--force", "--volumes", &self.id]);
    }
}

/// The engine that is used.
struct Engine {
    /// The label of everything that these tests create.
    label: String,
    /// The socket of an engine that these tests started.
    socket: Option<PathBuf>,
    /// Holds the input of the shell that cleans up when this process has ended.
    _sweeper: Child,
}

static ENGINE: LazyLock<Engine> = LazyLock::new(Engine::start);

/// Starts an engine if it has a folder for it, waits for the end of its input, and removes everything with the label.
const SWEEP: &str = r#"
label=$1
if [ $# -gt 1 ]; then
    dockerd --data-root "$2" --exec-root "$3/exec" --pidfile "$3/pid" --host "unix://$3/socket" >"$3/log" 2>&1 &
    export DOCKER_HOST="unix://$3/socket"
fi
read -r _
docker ps --all --quiet --filter "label=$label" | xargs -r docker rm --force --volumes
docker network ls --quiet --filter "label=$label" | xargs -r docker network rm
docker image ls --quiet --filter "label=$label" | xargs -r docker image rm --force
if [ $# -gt 1 ]; then
    kill $! && wait
    # It mounts its folder on itself, and forgets about it.
    umount "$2"
    rm -rf "$3"
fi
"#;

impl Engine {
    fn start() -> Self {
        let label = format!("etcd-await-election.tests={}", std::process::id());
        let runs = Command::new("docker").arg("info").stdout(Stdio::null()).stderr(Stdio::null()).status();
        // Not among the files of the tests, which are removed before the engine stops.
        let own = match runs {
            Ok(status) if status.success() => None,
            Ok(_) => Some(env::temp_dir().join(format!("etcd-await-election-engine.{}", std::process::id()))),
            Err(error) => panic!("docker: {error}; `cargo xtask verify` says what to install"),
        };
        let mut sweeper = Command::new("setsid");
        sweeper.args(["sh", "-c", SWEEP, "sweeper", &label]);
        if let Some(own) = &own {
            fs::create_dir_all(own).unwrap_or_else(|error| panic!("{}: {error}", own.display()));
            sweeper.arg(folder().join("docker")).arg(own);
        }
        let sweeper = sweeper
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("setsid and sh are needed");
        let socket = own.as_ref().map(|own| own.join("socket"));
        let engine = Self { label, socket, _sweeper: sweeper };
        if let Some(own) = &own {
            let log = own.join("log");
            eventually(Duration::from_secs(30), "dockerd is up", || {
                run(engine.docker().arg("info"))
                    .map_err(|error| format!("{error}; {}", fs::read_to_string(&log).unwrap_or_default()))
            });
        }
        engine
    }

    fn docker(&self) -> Command {
        let mut command = Command::new("docker");
        if let Some(socket) = &self.socket {
            command.env("DOCKER_HOST", format!("unix://{}", socket.display()));
        }
        command
    }
}

/// Returns the cgroup v2 hierarchy for systemd, which is mounted if the host uses cgroups v1.
fn cgroups() -> &'static Path {
    static TREE: LazyLock<PathBuf> = LazyLock::new(|| {
        let mounts = fs::read_to_string("/proc/self/mounts").expect("Linux has it");
        let mounted = mounts.lines().find_map(|line| {
            let mut words = line.split(' ').skip(1);
            let folder = words.next()?;
            (words.next()? == "cgroup2").then(|| PathBuf::from(folder))
        });
        mounted.unwrap_or_else(|| {
            let folder = PathBuf::from("/sys/fs/cgroup/unified");
            fs::create_dir_all(&folder).expect("making a folder for the cgroups");
            run(Command::new("mount").args(["-t", "cgroup2", "cgroup2"]).arg(&folder)).expect("mounting cgroups");
            folder
        })
    });
    &TREE
}

/// Returns a name that is unique in the engine.
fn unique(name: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    format!("machines-{}-{}-{name}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// `target/machines`.
fn folder() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in the target folder");
    let folder = target.join("machines");
    fs::create_dir_all(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    folder
}

/// Creates the image of a release, unless the engine or `target/machines/` has it. Without `sources`, mmdebstrap uses the
/// mirror that it knows for the release.
fn make_image(release: &str, sources: Option<&str>) -> String {
    // The name depends on the packages.
    let mut hasher = DefaultHasher::new();
    let (more, unit) = additions(release);
    let (packages, unused) = ([&PACKAGES, more].concat(), format!("{UNUSED} {unit}"));
    (&packages, &unused).hash(&mut hasher);
    let name = format!("{release}-{:08x}", hasher.finish() >> 32);
    let image = format!("etcd-await-election-machines:{name}");
    if docker(&["image", "inspect", &image]).is_ok() {
        return image;
    }
    let archive = folder().join(format!("{name}.tar"));
    if !archive.exists() {
        let list = sources.map(|sources| {
            let list = folder().join(format!("{name}.list"));
            fs::write(&list, sources).unwrap_or_else(|error| panic!("{}: {error}", list.display()));
            list
        });
        let partial = folder().join(format!("{name}.{}.partial", std::process::id()));
        run(Command::new("mmdebstrap")
            // The lists of a snapshot mirror may have expired.
            .args(["--variant=minbase", "--format=tar", "--aptopt=Acquire::Check-Valid-Until \"false\""])
            .arg(format!("--include={}", packages.join(",")))
            .arg(format!("--customize-hook=chroot \"$1\" systemctl disable {unused}"))
            .args([Path::new(release), &partial])
            .args(list))
        .and_then(|_| fs::rename(&partial, &archive).map_err(|error| error.to_string()))
        .unwrap_or_else(|error| panic!("mmdebstrap, for {}: {error}", archive.display()));
    }
    docker(&["import", &archive.display().to_string(), &image]).unwrap_or_else(|error| panic!("{error}"));
    image
}

/// The units that the packages would start.
const UNUSED: &str = "cron.service etcd.service haproxy.service nginx.service postgresql.service redis-server.service";

/// What signs Debian's suites, on Debian and where its package of this name is installed.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The release of this machine, and its package sources as lines of a `sources.list`.
struct Own {
    release: String,
    sources: String,
}

static OWN: LazyLock<Own> = LazyLock::new(|| {
    let format = "$(ORIGIN) $(REPO_URI) $(RELEASE) $(COMPONENT)";
    let targets = run(Command::new("apt-get").args(["indextargets", "--format", format, "Created-By: Packages"]))
        .expect("apt-get knows its sources");
    let mut sources = String::new();
    for target in targets.lines() {
        if let Some(source) = ["Debian ", "Ubuntu "].iter().find_map(|origin| target.strip_prefix(origin)) {
            let _ = writeln!(sources, "deb {source}");
        }
    }
    assert!(!sources.is_empty(), "apt-get has no lists of Debian or Ubuntu: run apt-get update");
    let release = sources.split(' ').nth(2).expect("a source has a release").to_owned();
    Own { release, sources }
});

/// Returns its output.
fn run(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    Err(format!("{}: {}{}", output.status, text(&output.stdout), text(&output.stderr)))
}

/// A removed machine leaves no state in the engine.
#[test]
fn dropping_a_machine_removes_it() {
    let network = Network::new();
    let machine = network.machine("short").command(["sleep", "60"]).start();
    assert_eq!(machine.must("hostname").trim(), "short");
    let id = machine.id().to_owned();
    machine.cut_off();
    assert!(!machine.must("ip -brief address").contains(machine.ip()));
    machine.rejoin();
    assert!(machine.must("ip -brief address").contains(machine.ip()));
    drop(machine);
    eventually(Timing::SWIFT, "the container has been removed", || match docker(&["inspect", &id]) {
        Ok(_) => Err("it is there".to_owned()),
        Err(_) => Ok(()),
    });
}
