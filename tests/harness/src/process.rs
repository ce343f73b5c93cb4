//! Processes that die with the test process, and information from `/proc` about any process.

use std::{
    fs, io,
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Child, Command},
    ptr,
    sync::{LazyLock, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use nix::{
    libc,
    sys::{
        prctl,
        signal::{Signal, kill},
    },
    unistd::{Pid, setsid},
};

use crate::wait::{eventually, lock};

/// A child of the test process in its own session, so that signals of the terminal do not reach it.
#[derive(Debug)]
pub struct Process {
    pid: Pid,
    child: Mutex<Child>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// With this exit code.
    Code(i32),
    /// By this signal.
    Signal(i32),
}

impl Process {
    /// Starts `command`.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(command: Command) -> Self {
        let what = format!("{:?}", command.get_program());
        let child = spawn(command).unwrap_or_else(|error| panic!("could not start {what}: {error}"));
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
        Self { pid, child: Mutex::new(child) }
    }

    /// Its process id.
    #[must_use]
    pub const fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Sends a signal, unless it has ended.
    pub fn signal(&self, signal: Signal) {
        let _ = self.unless_ended(|pid| kill(Pid::from_raw(pid), signal));
    }

    /// Looks at it, unless it has ended. The lock prevents that it is reaped meanwhile: its id may then be that of another process, or
    /// of a thread of any process.
    pub fn unless_ended<T>(&self, look: impl FnOnce(i32) -> T) -> Option<T> {
        let mut child = lock(&self.child);
        matches!(child.try_wait(), Ok(None)).then(|| look(self.pid()))
    }

    /// Returns how it ended, if it has.
    ///
    /// # Panics
    /// If waiting for it fails.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        let status = lock(&self.child).try_wait().expect("waiting for a child of ours")?;
        Some(match status.code() {
            Some(code) => End::Code(code),
            None => End::Signal(status.signal().expect("ended by a code or by a signal")),
        })
    }

    /// Waits until it has ended.
    ///
    /// # Panics
    /// If it has not ended within `limit`.
    #[track_caller]
    pub fn wait_exit(&self, limit: Duration) -> End {
        eventually(limit, &format!("process {} ends", self.pid), || {
            self.end().ok_or_else(|| format!("{:?}", Stat::of(self.pid())))
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let child = self.child.get_mut().unwrap_or_else(std::sync::PoisonError::into_inner);
        let _ = child.kill();
        let _ = child.wait();
    }
}

/// The time for which starting a new script is retried: a child that another thread forked holds a copy of the
/// descriptor for writing until it executes its program.
const BUSY: Duration = Duration::from_secs(5);

/// Starts a process on a thread that lives as long as the test process: the parent-death signal is sent when the
/// *thread* that forked ends, and a test's thread ends with its test.
fn spawn(command: Command) -> io::Result<Child> {
    type Job = (Command, mpsc::Sender<io::Result<Child>>);
    static SPAWNER: LazyLock<Mutex<mpsc::Sender<Job>>> = LazyLock::new(|| {
        let (jobs, queue) = mpsc::channel::<Job>();
        thread::Builder::new()
            .name("spawner".into())
            .spawn(move || {
                for (mut command, reply) in queue {
                    let until = Instant::now() + BUSY;
                    let busy = |error: &io::Error| error.kind() == io::ErrorKind::ExecutableFileBusy;
                    let mut child = command.spawn();
                    while child.as_ref().is_err_and(busy) && Instant::now() < until {
                        thread::sleep(Duration::from_millis(1));
                        child = command.spawn();
                    }
                    let _ = reply.send(child);
                }
            })
            .expect("a thread");
        Mutex::new(jobs)
    });

    let mut command = command;
    // SAFETY: only system calls between fork and exec; nothing allocates or locks.
    unsafe {
        command.pre_exec(|| {
            // Ignored signals are inherited: some from a shell's `&` and nohup, 32 and 33 from glibc's `posix_spawn`.
            // The raw system call is used, as a C library rejects its reserved signals; all zeros is the default
            // action.
            let default = [0u64; 4];
            for number in 1..=64 {
                let none = ptr::null_mut::<u64>();
                libc::syscall(libc::SYS_rt_sigaction, number, default.as_ptr(), none, size_of::<u64>());
            }
            setsid()?;
            // If stdin is a terminal, it becomes the controlling terminal; otherwise this fails.
            libc::ioctl(0, libc::TIOCSCTTY, 0);
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            Ok(())
        });
    }
    let (reply, answer) = mpsc::channel();
    lock(&SPAWNER).send((command, reply)).expect("the spawner lives");
    answer.recv().expect("the spawner answers")
}

/// The fields of `/proc/PID/stat` that tests need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// `R`, `S`, `T` (stopped), `Z` (ended, not reaped yet) and so on.
    pub state: char,
    /// The parent's process id.
    pub parent: i32,
    /// The start time in kernel ticks, as process ids are reused.
    pub started: u64,
}

impl Stat {
    /// Reads the fields of a process; returns `None` if it does not exist.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name may contain parentheses; the fields follow the last one.
        let mut fields = text.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        let started = fields.nth(17)?.parse().ok()?;
        Some(Self { state, parent, started })
    }
}

/// Returns whether the process with this id and start time exists and is not a zombie.
#[must_use]
pub fn lives(pid: i32, started: u64) -> bool {
    Stat::of(pid).is_some_and(|stat| stat.started == started && !matches!(stat.state, 'Z' | 'X'))
}

/// Kills the process with this id and start time, if it still exists.
pub fn kill_exactly(pid: i32, started: u64) {
    if lives(pid, started) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

/// Returns all processes that have this text in their environment.
#[must_use]
pub fn with_environment(text: &str) -> Vec<i32> {
    let has = |pid: &i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.windows(text.len()).any(|window| window == text.as_bytes())
    };
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(has).collect()
}

/// Returns the number of open file descriptors of a process.
#[must_use]
pub fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// Returns the children of all threads of a process.
#[must_use]
pub fn children(pid: i32) -> Vec<i32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|text| text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}
