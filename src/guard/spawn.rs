//! Forks and executes the command.
//!
//! Everything that the child needs is prepared before the fork. Between fork and `execve` it only makes system calls.

use std::{
    env,
    ffi::{CStr, CString, OsStr, OsString},
    fs, io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    ptr,
};

use nix::{
    errno::Errno,
    fcntl::OFlag,
    libc::{self, c_char},
    unistd::{AccessFlags, ForkResult, Pid, eaccess, fork, getpid, pipe2, setpgid},
};

use super::{
    Executable,
    cgroup::{self, Cgroup},
    protocol::{CommandEnd, Program},
    signals::Original,
    terminal::Terminal,
};
use crate::core::{exit_code::Exit, names::LeaseId, start_error::StartError};

/// Finds `program` as `execvp` would, so that a typing error is reported at the start and not when this instance is elected.
///
/// # Errors
/// ENOENT if there is no such file; another error if the file cannot be executed.
pub fn resolve(program: &OsStr) -> Result<PathBuf, Errno> {
    if program.is_empty() {
        return Err(Errno::ENOENT);
    }
    if program.as_bytes().contains(&b'/') {
        return executable(Path::new(program));
    }
    let path = env::var_os("PATH").unwrap_or_else(|| OsString::from("/bin:/usr/bin"));
    let mut answer = Errno::ENOENT;
    for directory in env::split_paths(&path) {
        // An empty entry means the working directory. A bare file name would be looked up in PATH again later.
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { &directory };
        match executable(&directory.join(program)) {
            Ok(found) => return Ok(found),
            Err(errno) if exit_of(errno) == Exit::NotExecutable => answer = errno,
            Err(_) => {}
        }
    }
    Err(answer)
}

fn executable(path: &Path) -> Result<PathBuf, Errno> {
    if path.is_dir() {
        return Err(Errno::EISDIR);
    }
    eaccess(path, AccessFlags::X_OK).map(|()| path.to_owned())
}

/// Returns the exit code of a shell when `execve` fails: 127 if there is no such file, 126 if it cannot be executed.
pub(super) const fn exit_of(errno: Errno) -> Exit {
    match errno {
        Errno::ENOENT | Errno::ENOTDIR => Exit::NotFound,
        _ => Exit::NotExecutable,
    }
}

/// Returns the error for `what`, a command that cannot be executed.
pub fn not_executed(what: &str, command: &OsStr, errno: Errno) -> StartError {
    let exit = exit_of(errno);
    let why = match exit {
        Exit::NotFound => "was not found".to_owned(),
        _ => format!("cannot be executed: {}", errno.desc()),
    };
    StartError::new(exit, format!("{what} {} {why}", command.display()))
}

/// Executes `command` in this process, with the signal mask and dispositions that this process was started with. Returns only if
/// that fails.
#[must_use]
pub fn exec(command: &[OsString], original: &Original) -> Errno {
    let Some(program) = command.first() else { return Errno::ENOENT };
    let program = match resolve(program) {
        Ok(program) => program,
        Err(errno) => return errno,
    };
    let environment = env::vars_os().filter_map(|(name, value)| variable(&name, &value).ok());
    let environment: Vec<_> = environment.collect();
    let Ok(image) = Image::new(&program, command) else { return Errno::EINVAL };
    image.pointers(&environment).execute(original)
}

/// A program with its arguments.
#[derive(Debug)]
pub(super) struct Image {
    program: CString,
    arguments: Vec<CString>,
    /// `/bin/sh program arguments…`, which is executed for a script without `#!`, as `execvp` does.
    shell: Vec<CString>,
}

impl Image {
    pub(super) fn new(program: &Path, arguments: &[OsString]) -> io::Result<Self> {
        let program = CString::new(program.as_os_str().as_bytes())?;
        let arguments = arguments.iter().map(|a| CString::new(a.as_bytes())).collect::<Result<Vec<_>, _>>()?;
        let mut shell = vec![SHELL.to_owned(), program.clone()];
        shell.extend(arguments.iter().skip(1).cloned());
        Ok(Self { program, arguments, shell })
    }

    /// Returns the null-terminated lists that `execve` takes.
    fn pointers<'a>(&'a self, environment: &'a [CString]) -> Pointers<'a> {
        let list = |strings: &[CString]| strings.iter().map(|s| s.as_ptr()).chain([ptr::null()]).collect();
        Pointers {
            image: self,
            arguments: list(&self.arguments),
            shell: list(&self.shell),
            environment: list(environment),
        }
    }
}

const SHELL: &CStr = c"/bin/sh";

struct Pointers<'a> {
    image: &'a Image,
    arguments: Vec<*const c_char>,
    shell: Vec<*const c_char>,
    environment: Vec<*const c_char>,
}

impl Pointers<'_> {
    /// Async-signal-safe.
    fn execute(&self, original: &Original) -> Errno {
        original.restore();
        // SAFETY: each list ends with a null pointer, and its strings are borrowed as long as `self` lives.
        unsafe {
            libc::execve(self.image.program.as_ptr(), self.arguments.as_ptr(), self.environment.as_ptr());
            if Errno::last() == Errno::ENOEXEC {
                libc::execve(SHELL.as_ptr(), self.shell.as_ptr(), self.environment.as_ptr());
            }
        }
        Errno::last()
    }
}

pub(super) fn variable(name: &OsStr, value: &OsStr) -> io::Result<CString> {
    Ok(CString::new([name.as_bytes(), b"=", value.as_bytes()].concat())?)
}

/// The programs that the guard starts in each term.
#[derive(Debug)]
pub(super) struct Programs {
    command: Image,
    on_elected: Option<Image>,
    on_stopped: Option<Image>,
    /// The stdin of the hooks: the terminal or pipe is for the command only.
    no_input: Option<OwnedFd>,
    environment: Vec<CString>,
    /// The number of variables that are the same in all terms. Those of the term follow.
    inherited: usize,
    lock: String,
    original: Original,
    stderr: Option<OwnedFd>,
}

/// Returns the environment that this program was started with, without what is not meant for other programs.
fn inherited() -> io::Result<Vec<CString>> {
    env::vars_os()
        .filter(|(name, _)| !Programs::WITHHELD.iter().chain(&Programs::OURS).any(|ours| name == ours))
        .map(|(name, value)| variable(&name, &value))
        .collect()
}

impl Programs {
    /// Variables that are not passed to the command: the password, and those of systemd that are meant for this program only.
    const WITHHELD: [&str; 4] = ["ETCD_AWAIT_ELECTION_PASSWORD", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"];
    const OURS: [&str; 5] = [
        "ETCD_AWAIT_ELECTION_FENCING_TOKEN",
        "ETCD_AWAIT_ELECTION_LEADER_KEY",
        "ETCD_AWAIT_ELECTION_LEASE_ID",
        "ETCD_LOCK_KEY",
        "ETCD_LOCK_REV",
    ];

    pub(super) fn new(
        command: Executable,
        [on_elected, on_stopped]: [Option<Executable>; 2],
        lock: String,
        original: Original,
        stderr: Option<OwnedFd>,
    ) -> io::Result<Self> {
        let environment = inherited()?;
        // A lock name with a NUL byte must be refused now, not when the command is started.
        CString::new(lock.as_str())?;
        let has_hook = on_elected.is_some() || on_stopped.is_some();
        let image = |Executable { file, words }: Executable| Image::new(&file, &words);
        Ok(Self {
            command: image(command)?,
            on_elected: on_elected.map(image).transpose()?,
            on_stopped: on_stopped.map(image).transpose()?,
            no_input: has_hook.then(|| fs::File::open("/dev/null")).transpose()?.map(OwnedFd::from),
            inherited: environment.len(),
            environment,
            lock,
            original,
            stderr,
        })
    }

    /// Sets the environment of the programs of a term.
    pub(super) fn begin_term(&mut self, token: i64, lease: LeaseId) {
        let token = token.to_string();
        let ours = [&token, &self.lock, &lease.to_string(), &self.lock, &token];
        self.environment.truncate(self.inherited);
        for (name, value) in Self::OURS.iter().zip(ours) {
            // None of them contains a NUL byte: the lock was checked, and the others are numbers.
            self.environment.extend(variable(name.as_ref(), value.as_ref()));
        }
    }

    /// Forks and executes a program in its own process group. That of the command is put into the foreground if this program is there.
    pub(super) fn start(&self, program: Program, terminal: &Terminal, cgroup: Option<&Cgroup>) -> io::Result<Spawned> {
        let is_command = program == Program::Command;
        let image = match program {
            Program::OnElected => self.on_elected.as_ref(),
            Program::Command => Some(&self.command),
            Program::OnStopped => self.on_stopped.as_ref(),
        };
        let prepared = image.ok_or(Errno::ENOENT)?.pointers(&self.environment);
        let raw = |fd: &Option<OwnedFd>| fd.as_ref().map(AsRawFd::as_raw_fd);
        let own = Own {
            foreground: is_command && terminal.is_ours(),
            stdin: raw(&self.no_input).filter(|_| !is_command),
            stderr: raw(&self.stderr),
            cgroup: cgroup.map(Cgroup::entrance),
        };
        spawn(&prepared, &self.original, own)
    }
}

/// Forks and executes a check command in its own process group, with the standard streams of this process.
pub(super) fn start_check(command: &[OsString], original: &Original) -> io::Result<Spawned> {
    let program = resolve(&command[0])?;
    let image = Image::new(&program, command)?;
    let own = Own { foreground: false, stdin: None, stderr: None, cgroup: None };
    spawn(&image.pointers(&inherited()?), original, own)
}

/// What the child does not share with this process, beside its process group.
#[derive(Clone, Copy)]
struct Own {
    /// Whether its process group is put into the foreground.
    foreground: bool,
    /// The stdin of a hook.
    stdin: Option<RawFd>,
    /// The stderr that this program was started with.
    stderr: Option<RawFd>,
    cgroup: Option<RawFd>,
}

fn spawn(prepared: &Pointers<'_>, original: &Original, own: Own) -> io::Result<Spawned> {
    let (outcome, tell) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
    let parent = getpid();
    // SAFETY: the child makes only system calls, none of which allocates, until it executes or ends.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => {
            // The child does this, too, so that the group exists before either of them continues.
            let _ = setpgid(child, child);
            Ok(Spawned { pid: child, outcome: Some(outcome) })
        }
        ForkResult::Child => {
            let errno = become_image(prepared, original, own, parent);
            let told = (errno as i32).to_ne_bytes();
            // SAFETY: the length is that of `told`; write and _exit are async-signal-safe.
            unsafe {
                libc::write(tell.as_raw_fd(), told.as_ptr().cast(), told.len());
                libc::_exit(i32::from(exit_of(errno).code()))
            }
        }
    }
}

/// Prepares the child and executes the image; returns only on failure. Async-signal-safe.
fn become_image(prepared: &Pointers<'_>, original: &Original, own: Own, parent: Pid) -> Errno {
    if let Some(entrance) = own.cgroup {
        cgroup::enter(entrance);
    }
    for (own, number) in [(own.stdin, 0), (own.stderr, 2)] {
        if let Some(own) = own {
            // SAFETY: async-signal-safe; the descriptor is open.
            unsafe { libc::dup2(own, number) };
        }
    }
    let _ = setpgid(Pid::from_raw(0), Pid::from_raw(0));
    if own.foreground {
        // Before execve, as the command could otherwise be stopped when it reads from the terminal. SIGTTOU is still blocked.
        Terminal::give_to(getpid());
    }
    // SAFETY: no memory is involved.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    // The parent may have died before the line above. The new parent can be a subreaper, so its pid need not be 1.
    if Pid::parent() != parent {
        return Errno::ESRCH;
    }
    prepared.execute(original)
}

/// A child that was forked, before or after its `execve`.
#[derive(Debug)]
pub(super) struct Spawned {
    pub(super) pid: Pid,
    /// A successful `execve` closes it. Otherwise the error number can be read from it.
    outcome: Option<OwnedFd>,
}

/// The result of `execve`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Executed {
    Yes,
    No(Errno),
    Unknown,
}

/// Returns the end of a command that could not be executed.
pub(super) fn end_of(errno: Errno) -> CommandEnd {
    match exit_of(errno) {
        Exit::NotFound => CommandEnd::NotFound,
        _ => CommandEnd::NotExecutable,
    }
}

impl Spawned {
    /// Returns the descriptor to poll before [`executed`](Self::executed).
    pub(super) fn pending(&self) -> Option<BorrowedFd<'_>> {
        self.outcome.as_ref().map(AsFd::as_fd)
    }

    /// Returns the result of `execve`, once.
    pub(super) fn executed(&mut self) -> Executed {
        let Some(outcome) = &self.outcome else { return Executed::Unknown };
        let mut told = [0; size_of::<i32>()];
        let executed = match nix::unistd::read(outcome, &mut told) {
            Ok(0) => Executed::Yes,
            Err(Errno::EAGAIN | Errno::EINTR) => return Executed::Unknown,
            Ok(_) => Executed::No(Errno::from_raw(i32::from_ne_bytes(told))),
            Err(errno) => Executed::No(errno),
        };
        self.outcome = None;
        executed
    }
}
