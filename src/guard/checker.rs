//! The checker: a process that runs check commands, so that no process of a check outlives it.
//!
//! It is forked before the runtime exists, and only if a check command is set. It is a subreaper with a process tree of its own, which is
//! not part of that of the command: nothing that a check does delays a stop. It kills its tree at the end of a check, at the timeout, and
//! when the gatekeeper is gone.
//!
//! A request is one byte: its number, and the command in the lowest bit. An answer has its request, a length, and why the check failed.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, ErrorKind, PipeReader, Read as _, Write as _},
    os::{
        fd::{AsFd, AsRawFd, FromRawFd},
        unix::net::UnixStream,
    },
    time::Duration,
};

use nix::{
    errno::Errno,
    fcntl::{FcntlArg, FdFlag, OFlag, fcntl},
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::prctl,
    unistd::{Pid, getpid, setpgid},
};
use tokio::net::UnixStream as AsyncStream;

use super::{
    protocol::CommandEnd,
    signals::{self, Original, Signals},
    spawn::{self, Executed, Spawned},
    tree::Tree,
    wait::{self, Waited},
};
use crate::{
    core::{clock::Instant, text::excerpt, timing::show},
    system::fork::fork_unreported,
};

/// The check commands: that of the command, and that of this host.
pub type Commands = [Option<Vec<OsString>>; 2];

/// How long the checker tries to end the tree after the gatekeeper is gone.
const LONGEST_END: Duration = Duration::from_secs(10);
/// How much of the output is kept.
const KEPT: usize = 200;

/// The gatekeeper's end of a checker that has just been started.
#[derive(Debug)]
pub struct Checker(UnixStream);

/// Forks the checker. Must be called before the runtime or any thread exists, and before the guard is forked, which otherwise would not
/// notice that the gatekeeper is gone.
///
/// # Errors
/// If a limit of the system prevents it.
pub fn start(commands: Commands, timeout: Duration, original: Original) -> io::Result<Checker> {
    let (ours, theirs) = UnixStream::pair()?;
    signals::block();
    let gatekeeper = getpid();
    let serve = || {
        if let Ok(mut process) = Process::new(commands, timeout, original, &theirs, gatekeeper) {
            process.serve();
        }
    };
    // SAFETY: there is no other thread.
    unsafe { fork_unreported(serve) }?;
    Ok(Checker(ours))
}

struct Process {
    commands: Commands,
    timeout: Duration,
    original: Original,
    gatekeeper: Pid,
    socket: UnixStream,
    signals: Signals,
    /// What the check commands print.
    output: PipeReader,
    tree: Tree,
    run: Option<Run>,
    /// The request that is carried out when the process tree of the previous one has exited, and its deadline.
    next: Option<(u8, Instant)>,
    is_gone: bool,
}

/// One run of a check command, until its process tree has exited.
struct Run {
    request: u8,
    deadline: Instant,
    /// The main process, until it is reaped.
    main: Option<Spawned>,
    not_executed: Option<Errno>,
    output: Vec<u8>,
    is_answered: bool,
}

impl Process {
    fn new(
        commands: Commands,
        timeout: Duration,
        original: Original,
        socket: &UnixStream,
        gatekeeper: Pid,
    ) -> io::Result<Self> {
        let socket = alone_with(socket)?;
        prctl::set_child_subreaper(true)?;
        let _ = prctl::set_name(c"checker");
        let _ = setpgid(Pid::from_raw(0), Pid::from_raw(0));
        // Wakes the loop when the gatekeeper dies, as the guard may hold the other end of the socket.
        // SAFETY: no memory is involved.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGCHLD) };
        let (output, pipe) = io::pipe()?;
        fcntl(&output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let null = File::open("/dev/null")?;
        for (stream, by) in [(0, null.as_raw_fd()), (1, pipe.as_raw_fd()), (2, pipe.as_raw_fd())] {
            // SAFETY: standard streams have no owner that closes them.
            Errno::result(unsafe { libc::dup2(by, stream) })?;
        }
        Ok(Self {
            commands,
            timeout,
            original,
            gatekeeper,
            socket,
            signals: Signals::open()?,
            output,
            tree: Tree::new(None),
            run: None,
            next: None,
            is_gone: false,
        })
    }

    fn serve(&mut self) {
        let mut end_at = None;
        loop {
            self.wait();
            while self.signals.read().is_some() {} // SIGCHLD only wakes the loop.
            self.receive();
            self.read_output();
            self.check_execution();
            self.reap();
            self.kill_if_over();
            self.start_next();
            if self.is_gone || Pid::parent() != self.gatekeeper {
                let end_at = *end_at.get_or_insert_with(|| Instant::now() + LONGEST_END);
                self.next = None;
                self.run.iter_mut().for_each(|run| run.is_answered = true);
                if self.run.is_none() || Instant::now() >= end_at {
                    return;
                }
            }
        }
    }

    /// Waits for a request, output, the end of a process, or the timeout.
    fn wait(&self) {
        let mut sources = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.output.as_fd(), PollFlags::POLLIN),
        ];
        if !self.is_gone {
            sources.push(PollFd::new(self.socket.as_fd(), PollFlags::POLLIN));
        }
        sources.extend(
            self.run
                .iter()
                .filter_map(|run| run.main.as_ref()?.pending())
                .map(|pending| PollFd::new(pending, PollFlags::POLLIN)),
        );
        const ROUND: Duration = Duration::from_millis(5);
        // A process that cannot be killed waits in a system call, or runs as another user. SIGCHLD wakes the loop at once.
        const SLOW_ROUND: Duration = Duration::from_secs(1);
        let timeout = match &self.run {
            _ if self.is_gone => PollTimeout::from(5u8),
            None => PollTimeout::NONE,
            Some(run) => {
                let left = run.deadline.saturating_since(Instant::now());
                let is_stuck = Instant::now() >= run.deadline + SLOW_ROUND;
                let wait = match run.is_answered {
                    true if is_stuck => SLOW_ROUND,
                    true => ROUND,
                    false => left + Duration::from_millis(1),
                };
                PollTimeout::try_from(wait).unwrap_or(PollTimeout::MAX)
            }
        };
        if poll(&mut sources, timeout).is_err_and(|errno| errno != Errno::EINTR) {
            std::thread::sleep(ROUND);
        }
    }

    /// Receives requests. A new one ends the run before it, whose answer is not awaited any more.
    fn receive(&mut self) {
        let mut requests = [0; 16];
        loop {
            match (&self.socket).read(&mut requests) {
                Ok(0) => {
                    self.is_gone = true;
                    return;
                }
                Ok(length) => {
                    self.next = Some((requests[length - 1], Instant::now() + self.timeout));
                    self.run.iter_mut().for_each(|run| run.is_answered = true);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.is_gone = true;
                    return;
                }
            }
        }
    }

    /// Reads what was printed, so that a check does not wait for it, but not without end. Keeps the beginning.
    fn read_output(&mut self) {
        let mut piece = [0; 4096];
        for _ in 0..16 {
            let Ok(length @ 1..) = self.output.read(&mut piece) else { return };
            if let Some(run) = &mut self.run {
                let room = KEPT.saturating_sub(run.output.len());
                run.output.extend_from_slice(&piece[..length.min(room)]);
            }
        }
    }

    fn check_execution(&mut self) {
        if let Some(run) = &mut self.run
            && let Some(Executed::No(errno)) = run.main.as_mut().map(Spawned::executed)
        {
            run.not_executed = Some(errno);
        }
    }

    fn reap(&mut self) {
        loop {
            match wait::reap(None) {
                Waited::Ended(pid, end) => {
                    if self.run.as_ref().and_then(|run| run.main.as_ref()).is_some_and(|main| main.pid == pid) {
                        // What it printed and how its execution failed may have arrived in the meantime.
                        self.read_output();
                        self.check_execution();
                        self.ended(end);
                    }
                }
                Waited::Stopped(..) => {}
                Waited::Nothing => return,
                Waited::NoChildren => {
                    if self.tree.has_exited() && self.run.as_ref().is_some_and(|run| run.main.is_none()) {
                        self.run = None;
                    }
                    return;
                }
            }
        }
    }

    fn ended(&mut self, end: CommandEnd) {
        let Some(run) = &mut self.run else { return };
        run.main = None;
        let output = String::from_utf8_lossy(&run.output);
        let line = output.lines().find(|line| !line.trim().is_empty());
        let printed = line.map(|line| format!(": {}", excerpt(line.trim()))).unwrap_or_default();
        let failure = match (run.not_executed, end) {
            (Some(errno), _) => Some(format!("could not execute it: {}", errno.desc())),
            (None, CommandEnd::Exited(0)) => None,
            (None, CommandEnd::Exited(code)) => Some(format!("it exited with code {code}{printed}")),
            (None, CommandEnd::Signaled(signal)) => Some(format!("signal {signal} ended it{printed}")),
            (None, _) => Some("it did not start".to_owned()),
        };
        self.answer(failure);
    }

    /// Answers the present request, once.
    fn answer(&mut self, failure: Option<String>) {
        let Some(run) = self.run.as_mut().filter(|run| !run.is_answered) else { return };
        run.is_answered = true;
        let request = run.request;
        self.send(request, failure);
    }

    fn send(&mut self, request: u8, failure: Option<String>) {
        let mut failure = failure.unwrap_or_default().into_bytes();
        failure.truncate(usize::from(u8::MAX));
        let length = u8::try_from(failure.len()).unwrap_or(u8::MAX);
        let answer = [&[request, length], failure.as_slice()].concat();
        // A gatekeeper that does not read does not wait for it, either.
        let _ = self.socket.write_all(&answer);
    }

    fn kill_if_over(&mut self) {
        if self.run.as_ref().is_some_and(|run| Instant::now() >= run.deadline) {
            self.answer(Some(format!("it did not finish within {}", show(self.timeout))));
        }
        if let Some(run) = self.run.as_ref().filter(|run| run.is_answered) {
            let _ = self.tree.kill(run.main.as_ref().map(|main| main.pid));
        }
    }

    fn start_next(&mut self) {
        let Some((request, deadline)) = self.next else { return };
        if self.run.is_some() {
            if Instant::now() >= deadline {
                self.next = None;
                self.send(request, Some("could not kill the previous run".to_owned()));
            }
            return;
        }
        self.next = None;
        let Some(command) = &self.commands[usize::from(request & 1)] else {
            return self.send(request, Some("there is no command".to_owned()));
        };
        match spawn::start_check(command, &self.original) {
            Ok(main) => {
                let (not_executed, output) = (None, Vec::new());
                self.run = Some(Run { request, deadline, main: Some(main), not_executed, output, is_answered: false });
            }
            Err(error) => self.send(request, Some(format!("could not execute it: {error}"))),
        }
    }
}

/// Closes all inherited descriptors but the standard streams and this one. They stay open where the kernel lacks this call (before 5.9).
fn alone_with(socket: &UnixStream) -> io::Result<UnixStream> {
    const KEPT: i32 = 3;
    // SAFETY: closes what no code of this process uses from here on; it ends by `_exit`.
    let socket = unsafe {
        if socket.as_raw_fd() != KEPT {
            Errno::result(libc::dup2(socket.as_raw_fd(), KEPT))?;
        }
        libc::syscall(libc::SYS_close_range, KEPT + 1, libc::c_uint::MAX, 0);
        UnixStream::from_raw_fd(KEPT)
    };
    fcntl(&socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

impl Checker {
    /// Registers the socket with the runtime.
    ///
    /// # Errors
    /// Outside of a tokio runtime with IO.
    pub fn into_handle(self) -> io::Result<Handle> {
        self.0.set_nonblocking(true)?;
        Ok(Handle { socket: AsyncStream::from_std(self.0)?, latest: 0, received: Vec::new(), is_lost: false })
    }
}

/// The gatekeeper's end of the checker.
#[derive(Debug)]
pub struct Handle {
    socket: AsyncStream,
    latest: u8,
    received: Vec<u8>,
    is_lost: bool,
}

impl Handle {
    /// Returns whether the checker has exited: no check command can run any more.
    #[must_use]
    pub const fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// Runs one of the commands. If the future is dropped, the next run ends this one.
    ///
    /// # Errors
    /// With why the check failed.
    pub async fn run(&mut self, command: usize) -> Result<(), String> {
        match self.ask(command).await {
            Some(failure) if failure.is_empty() => Ok(()),
            Some(failure) => Err(failure),
            None => {
                self.is_lost = true;
                Err("the process that runs check commands has exited".to_owned())
            }
        }
    }

    /// Returns why the check failed, which is empty if it succeeded; `None` if the checker has exited.
    async fn ask(&mut self, command: usize) -> Option<String> {
        self.latest = self.latest.wrapping_add(2);
        let request = self.latest | u8::from(command > 0);
        loop {
            self.socket.writable().await.ok()?;
            match self.socket.try_write(&[request]) {
                Ok(_) => break,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return None,
            }
        }
        loop {
            while let Some((answered, failure)) = self.answer() {
                if answered == request {
                    return Some(failure);
                }
            }
            self.socket.readable().await.ok()?;
            let mut piece = [0; 512];
            match self.socket.try_read(&mut piece) {
                Ok(0) => return None,
                Ok(length) => self.received.extend_from_slice(&piece[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return None,
            }
        }
    }

    /// Returns the next answer that was received as a whole.
    fn answer(&mut self) -> Option<(u8, String)> {
        let [request, length, rest @ ..] = self.received.as_slice() else { return None };
        let (request, length) = (*request, usize::from(*length));
        let failure = String::from_utf8_lossy(rest.get(..length)?).into_owned();
        self.received.drain(..2 + length);
        Some((request, failure))
    }
}
