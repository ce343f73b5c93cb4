//! Processes that die with the test process, and what `/proc` says about any process.

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

/// A child of the test process, in a session of its own: what a terminal sends to the tests does not reach it.
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
        let child = spawn(command).unwrap_or_else(|error| panic!("{what} does not start: {error}"));
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
        Self { pid, child: Mutex::new(child) }
    }

    /// Its process id.
    #[must_use]
    pub const fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Sends a signal, unless it has ended: the lock keeps the id from being reaped and used again in between.
    pub fn signal(&self, signal: Signal) {
        let mut child = lock(&self.child);
        if let Ok(None) = child.try_wait() {
            let _ = kill(self.pid, signal);
        }
    }

    /// How it ended, if it has.
    ///
    /// # Panics
    /// If the system does not tell.
    #[must_use]
    pub fn end(&self) -> Option<End> {
        let status = lock(&self.child).try_wait().expect("waiting for a child of ours")?;
        Some(match status.code() {
            Some(code) => End::Code(code),
            None => End::Signal(status.signal().expect("ended by a code or by a signal")),
        })
    }

    /// Waits for its end.
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

/// How long a script that was just written may seem to be open for writing: a child that another thread forked meanwhile has
/// a copy of that descriptor until it executes its program.
const BUSY: Duration = Duration::from_secs(5);

/// Starts a process on the one thread that lives as long as the test process: the parent-death signal comes when the
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
    // SAFETY: a few system calls, which are all that happens between fork and exec; nothing allocates or locks.
    unsafe {
        command.pre_exec(|| {
            // A shell's `&` and nohup have some ignored, cargo and whatever else uses glibc's `posix_spawn` 32 and 33, and that
            // would be inherited. The kernel's call, as a C library refuses its own; all zeros is the default.
            let default = [0u64; 4];
            for number in 1..=64 {
                let none = ptr::null_mut::<u64>();
                libc::syscall(libc::SYS_rt_sigaction, number, default.as_ptr(), none, size_of::<u64>());
            }
            setsid()?;
            // If stdin is a terminal it becomes that of the session; else this fails.
            libc::ioctl(0, libc::TIOCSCTTY, 0);
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            Ok(())
        });
    }
    let (reply, answer) = mpsc::channel();
    lock(&SPAWNER).send((command, reply)).expect("the spawner lives");
    answer.recv().expect("the spawner answers")
}

/// What `/proc/PID/stat` says of a process that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// `R`, `S`, `T` (stopped), `Z` (ended, not reaped yet) and so on.
    pub state: char,
    /// The parent's process id.
    pub parent: i32,
    /// When it was started, in the kernel's ticks: tells two uses of one process id apart.
    pub started: u64,
}

impl Stat {
    /// Of this process; none if there is no such process.
    #[must_use]
    pub fn of(pid: i32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in parentheses, may hold anything; what follows the last one is numbers.
        let mut fields = text.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?.chars().next()?;
        let parent = fields.next()?.parse().ok()?;
        let started = fields.nth(17)?.parse().ok()?;
        Some(Self { state, parent, started })
    }
}

/// Whether that very process exists and is not just waiting to be reaped.
#[must_use]
pub fn lives(pid: i32, started: u64) -> bool {
    Stat::of(pid).is_some_and(|stat| stat.started == started && !matches!(stat.state, 'Z' | 'X'))
}

/// Kills that very process, if it is still there.
pub fn kill_exactly(pid: i32, started: u64) {
    if lives(pid, started) {
        let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

/// The processes that were started with this text in their environment, or forked from one that was.
#[must_use]
pub fn with_environment(text: &str) -> Vec<i32> {
    let has = |pid: &i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.windows(text.len()).any(|window| window == text.as_bytes())
    };
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(has).collect()
}

/// How many descriptors a process has open.
#[must_use]
pub fn descriptors(pid: i32) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

/// The children of a process, whichever of its threads forked them.
#[must_use]
pub fn children(pid: i32) -> Vec<i32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|text| text.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}
