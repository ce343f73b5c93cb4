//! Processes of the command that the program cannot see or may not signal, and what the command must not see of the
//! program. All of it needs root to set up.

use std::{
    ffi::{CString, OsString},
    fs,
    io::ErrorKind,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use harness::{Behavior, Candidate, End, Timing, World, eventually, process, throughout};
use nix::{
    libc,
    sys::signal::{Signal, kill},
    unistd::{Pid, geteuid},
};

use crate::{program, shared_world, shell_gatekeeper};

/// A user id that no other process has.
const NOBODY: u32 = 65_534;

fn is_root() -> bool {
    if !geteuid().is_root() {
        eprintln!("SKIPPED: namespaces and other users need root");
    }
    geteuid().is_root()
}

/// Without it processes that leave the main process's group could not be found, and process ids of another namespace
/// are those of other processes.
#[test]
fn without_the_proc_of_its_pid_namespace_the_program_refuses_to_start() {
    if !is_root() {
        return;
    }
    let world = shared_world();
    let program = program().display();
    for (name, script) in [
        (
            "none",
            format!("exec unshare --mount sh -c 'mount -t tmpfs none /proc; exec \"$@\"' sh '{program}' -- \"$@\""),
        ),
        ("outer", format!("exec unshare --pid --fork --kill-child '{program}' -- \"$@\"")),
        ("children", format!("exec unshare --pid '{program}' -- \"$@\"")),
    ] {
        let (end, a) = world.candidate(name).program(shell_gatekeeper(&world, name, &script)).run();
        assert_eq!(end, End::Code(71), "{name}: {}", a.stderr());
        assert!(a.stderr().contains("could not use /proc: "), "{name}: {}", a.stderr());
        assert!(a.lives().is_empty(), "{name}");
    }
    world.verdict();
}

/// Makes the files of the test writable for other users.
fn open_to_everybody(world: &World) {
    let allow =
        |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a file of ours");
    for directory in [world.directory(), world.directory().parent().expect("a directory")] {
        allow(directory, 0o755);
    }
    let journal = world.journal().path();
    for file in [journal.to_owned(), journal.with_extension("start_records")] {
        fs::OpenOptions::new().append(true).create(true).open(&file).expect("the journal");
        allow(&file, 0o666);
    }
    if world.cluster().tls() {
        let certificates = world.cluster().certificates();
        for file in [&certificates.ca, &certificates.client.cert, &certificates.client.key] {
            allow(file.as_ref(), 0o644);
        }
    }
}

/// Returns the journaling command, started a second time as another user.
fn with_another(world: &World, changes_its_user: &str) -> Vec<OsString> {
    let script = format!("{changes_its_user} \"$@\" & exec \"$@\"");
    let mut command: Vec<OsString> = ["sh", "-c", &script, "sh"].into_iter().map(Into::into).collect();
    command.extend_from_slice(world.journaled());
    command
}

/// A gatekeeper may not signal one process of its command: it logs that at once and waits, and no standby leads until
/// that process has exited.
fn kept_while_it_lives(gatekeeper: &str, changes_its_user: &str, fault: impl Fn(&Candidate)) {
    if !is_root() {
        return;
    }
    let world = shared_world();
    open_to_everybody(&world);
    let script = format!("{changes_its_user} \"$@\" & exec \"$@\"");
    let mut command: Vec<OsString> = ["sh", "-c", &script, "sh"].into_iter().map(Into::into).collect();
    command.extend_from_slice(world.journaled());
    let wrapper =
        shell_gatekeeper(&world, "limited", &format!("exec setpriv {gatekeeper} '{}' -- \"$@\"", program().display()));
    let timing = Timing { grace: Duration::from_secs(1), ..Timing::LONG };
    let a = world.candidate("a").timing(timing).program(wrapper).command(command).start();
    eventually(Timing::START, "both run", || match a.living().len() {
        2 => Ok(()),
        _ => Err(a.stderr()),
    });
    let main = a.living().iter().find(|life| process::children(a.guard_pid()).contains(&life.pid)).expect("one").pid;
    let other = a.living().iter().find(|life| life.pid != main).expect("another").pid;
    let b = world.candidate("b").start();
    b.waits();
    fault(&a);
    eventually(Timing::SWIFT, "the log has the process and the remedy", || match a.stderr() {
        log if log.contains(&format!("could not signal process {other} ")) && log.contains("CAP_KILL") => Ok(()),
        log => Err(log),
    });
    throughout(2 * timing.grace, "the lease is kept", || match (a.living().len(), b.lives().len()) {
        (1, 0) => Ok(()),
        other => Err(format!("{other:?}: {}", a.stderr())),
    });
    assert_eq!(a.stderr().matches("could not signal").count(), 1, "{}", a.stderr());
    kill(Pid::from_raw(other), Signal::SIGKILL).expect("it is there");
    b.leads_within(Timing::SWIFT);
    world.verdict();
}

/// Root without the capability, as in a container with `--cap-drop=ALL --cap-add=SETUID`.
const NO_CAP_KILL: &str = "--bounding-set=-kill";
const TO_NOBODY: &str = "setpriv --reuid=65534 --clear-groups";

#[test]
fn without_cap_kill_the_lease_is_kept_while_a_process_of_another_user_runs() {
    kept_while_it_lives(NO_CAP_KILL, TO_NOBODY, Candidate::terminate);
}

#[test]
fn without_cap_kill_a_gatekeeper_keeps_the_lease_also_if_its_guard_is_killed() {
    kept_while_it_lives(NO_CAP_KILL, TO_NOBODY, |a| a.signal_guard(Signal::SIGKILL));
}

/// The program is not root, and the command runs a setuid program that changes all its user ids.
#[test]
fn the_lease_is_kept_while_a_setuid_program_runs() {
    let directory = tempfile::tempdir().expect("a directory");
    let setuid = directory.path().join("setpriv");
    fs::copy("/usr/bin/setpriv", &setuid).expect("util-linux");
    fs::set_permissions(&setuid, fs::Permissions::from_mode(0o4755)).expect("a file of ours");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("a directory of ours");
    kept_while_it_lives(
        &format!("--reuid={NOBODY} --regid={NOBODY} --clear-groups"),
        &format!("'{}' --reuid=0 --clear-groups", setuid.display()),
        Candidate::terminate,
    );
}

/// A cgroup v2, as systemd delegates one to a unit with `Delegate=yes`. It is removed at the end, with its processes.
struct Delegated(PathBuf);

impl Delegated {
    fn new(name: &str) -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").expect("mounts");
        let mount = mounts.lines().find(|mount| mount.contains(" - cgroup2 "))?.split(' ').nth(4)?;
        let path = Path::new(mount).join(format!("{}-{}", std::process::id(), name.replace('/', "-")));
        fs::create_dir(&path).ok()?;
        let cgroup = Self(path);
        let path = CString::new(cgroup.0.as_os_str().as_encoded_bytes()).expect("no NUL");
        // SAFETY: both strings end with NUL, and the value has one byte.
        let marked = unsafe { libc::setxattr(path.as_ptr(), c"user.delegate".as_ptr(), c"1".as_ptr().cast(), 1, 0) };
        (marked == 0 && cgroup.0.join("cgroup.kill").exists()).then_some(cgroup)
    }
}

impl Drop for Delegated {
    fn drop(&mut self) {
        // After a failure the processes still run, in this cgroup or in one below.
        let _ = fs::write(self.0.join("cgroup.kill"), "1");
        for _ in 0..100 {
            for below in fs::read_dir(&self.0).into_iter().flatten().flatten() {
                let _ = fs::remove_dir(below.path());
            }
            match fs::remove_dir(&self.0) {
                Err(error) if error.kind() != ErrorKind::NotFound => thread::sleep(Duration::from_millis(10)),
                _ => return,
            }
        }
        eprintln!("could not remove {}", self.0.display());
    }
}

#[test]
fn in_a_delegated_cgroup_processes_of_other_users_are_killed() {
    if !is_root() {
        return;
    }
    for fault in [Candidate::terminate, |a: &Candidate| a.signal_guard(Signal::SIGKILL)] {
        let world = shared_world();
        let Some(cgroup) = Delegated::new(world.lock()) else {
            eprintln!("SKIPPED: no cgroup v2 that can be written, with cgroup.kill");
            return world.verdict();
        };
        open_to_everybody(&world);
        let timing = Timing { grace: Duration::from_secs(1), ..Timing::LONG };
        let wrapper = format!(
            "echo $$ >{}/cgroup.procs; exec setpriv {NO_CAP_KILL} '{}' -- \"$@\"",
            cgroup.0.display(),
            program().display()
        );
        let command = with_another(&world, TO_NOBODY);
        let a = world
            .candidate("a")
            .timing(timing)
            .program(shell_gatekeeper(&world, "delegated", &wrapper))
            .command(command)
            .start();
        eventually(Timing::START, "both run", || match a.living().len() {
            2 => Ok(()),
            _ => Err(a.stderr()),
        });
        let b = world.candidate("b").start();
        b.waits();
        fault(&a);
        b.leads_within(timing.grace + Timing::SWIFT);
        assert!(a.living().is_empty());
        a.wait_exit(Timing::SWIFT);
        eventually(Timing::SWIFT, "the cgroup is empty", || {
            fs::remove_dir(&cgroup.0).map_err(|error| error.to_string())
        });
        world.verdict();
    }
}

/// A part of the command enters the PID namespace of a container, where PID 1 of that namespace adopts orphans.
#[test]
fn descendants_in_another_pid_namespace_are_killed() {
    if !is_root() {
        return;
    }
    for fault in [Candidate::pause, |a: &Candidate| a.signal_guard(Signal::SIGSTOP)] {
        let left = left_in_another_pid_namespace(fault);
        assert!(left.is_empty(), "left in the other namespace: {left:?}");
    }
}

/// How many shells the command has in the other namespace, each with a child.
const SHELLS: usize = 20;

/// Returns the processes that a command leaves in another PID namespace when the next instance leads.
fn left_in_another_pid_namespace(fault: fn(&Candidate)) -> Vec<i32> {
    let timing = Timing::SHORT;
    let world = shared_world();
    let mut unshare = Command::new("unshare");
    unshare.args(["--pid", "--fork", "--kill-child", "sleep", "1000"]).stdin(Stdio::null());
    let container = process::Process::start(unshare);
    let first = eventually(Timing::START, "the container's first process", || {
        process::children(container.pid()).first().copied().ok_or_else(|| "none".to_owned())
    });
    // Also in several runs of this test at once.
    let mark = format!("INSIDE={}-{}", std::process::id(), world.lock());
    // Many shells in one process group: the kernel sends SIGHUP to those that are stopped when the parent of all is killed.
    let shell = "sh -c \"setsid sleep 1000 & wait\"";
    let script = format!(
        "trap '' TERM; {mark} nsenter --pid --target {first} sh -c 'for i in $(seq {SHELLS}); do {shell} & done; wait' & \
         exec \"$@\""
    );
    let mut command: Vec<OsString> = ["sh", "-c", &script, "sh"].into_iter().map(Into::into).collect();
    command.extend_from_slice(world.journaled());
    let a = world.candidate("a").timing(timing).behavior(Behavior::stubborn()).command(command).start();
    a.leads();
    let inside = || process::with_environment(&mark);
    eventually(Timing::START, "nsenter, a shell, and shells with a child each", || {
        let found = inside();
        if found.len() == 2 + 2 * SHELLS { Ok(()) } else { Err(format!("{found:?}")) }
    });
    let b = world.candidate("b").timing(timing).start();
    b.waits();
    fault(&a);
    b.leads_within(timing.latest_failover());
    let left = inside();
    a.resume();
    a.wait_exit(Timing::START);
    world.verdict();
    left
}

/// Both run as the same user, who is not root. The log writer, a copy of the gatekeeper, is not readable either.
#[test]
fn the_command_cannot_read_the_memory_of_the_program() {
    if !is_root() {
        return;
    }
    for fault in [Candidate::kill, |a: &Candidate| a.signal_guard(Signal::SIGKILL)] {
        let world = shared_world();
        open_to_everybody(&world);
        fs::set_permissions(world.directory(), fs::Permissions::from_mode(0o777)).expect("a directory of ours");
        let seen = world.directory().join("seen");
        let script = format!(
            "gatekeeper=$(cut -d' ' -f4 /proc/$PPID/stat)
             for process in $PPID $(cat /proc/$gatekeeper/task/*/children) $gatekeeper; do
               head -c 1 /proc/$process/environ; head -c 1 /proc/$process/mem; ls /proc/$process/fd/
             done >{0}.partial 2>&1; mv {0}.partial {0}; exec \"$@\"",
            seen.display()
        );
        let mut command: Vec<OsString> = ["sh", "-c", &script, "sh"].into_iter().map(Into::into).collect();
        command.extend_from_slice(world.journaled());
        let user = format!("--reuid={NOBODY} --regid={NOBODY} --clear-groups");
        let wrapper =
            shell_gatekeeper(&world, "nobody", &format!("exec setpriv {user} '{}' -- \"$@\"", program().display()));
        let behavior = Behavior { daemon: true, children: 1, ..Behavior::default() };
        let a = world.candidate("a").program(wrapper).behavior(behavior).command(command).start();
        eventually(Timing::START, "the whole tree runs", || match a.living().len() {
            3 => Ok(()),
            _ => Err(a.stderr()),
        });
        let seen = fs::read_to_string(seen).expect("what it saw");
        // Guard (twice), log writer, gatekeeper.
        assert_eq!(seen.matches("Permission denied").count(), 3 * 4, "{seen}");
        let b = world.candidate("b").start();
        b.waits();
        fault(&a);
        // Long before the lease would expire: the guard has revoked it by executing the program again.
        b.leads_within(Timing::SWIFT);
        assert!(a.living().is_empty());
        world.verdict();
    }
}
