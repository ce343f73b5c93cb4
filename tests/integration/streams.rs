//! What a command shares with its caller: standard streams, the terminal, a process namespace.

use std::{
    fs,
    io::{Read, Write, pipe},
    net::{Shutdown, TcpStream},
    thread,
    time::Duration,
};

use harness::{
    Behavior, End, Terminal, Timing, eventually,
    process::{Stat, children},
    throughout,
};
use nix::sys::{
    signal::{Signal, kill},
    socket::{setsockopt, sockopt},
};
use nix::unistd::Pid;

use crate::{program, shared_world, shell_gatekeeper, undisturbed};

/// More than a pipe buffers, in both directions at once; the command also sees the end of its input.
#[test]
fn the_command_uses_the_pipes_of_the_caller() {
    let world = shared_world();
    let (input, mut feeder) = pipe().expect("a pipe");
    let (mut reader, output) = pipe().expect("a pipe");
    let text: Vec<u8> = (0..1 << 20).map(|number: u32| number.to_le_bytes()[1]).collect();
    let a = world.candidate("a").command(["cat"]).stdin(input).stdout(output).start();
    let fed = thread::spawn({
        let text = text.clone();
        move || feeder.write_all(&text).expect("it is read")
    });
    let mut read = Vec::new();
    // Ends only if neither gatekeeper nor guard keeps the command's streams open.
    reader.read_to_end(&mut read).expect("it can be read");
    fed.join().expect("everything was fed");
    assert_eq!(a.wait_exit(Timing::START), End::Code(0), "{}", a.stderr());
    assert!(read == text, "{} bytes came back", read.len());
    world.verdict();
}

/// The program ignores SIGPIPE, as Rust programs do, but its command must not.
#[test]
fn a_closed_stdout_reader_ends_the_command() {
    let world = shared_world();
    let (mut reader, output) = pipe().expect("a pipe");
    let a = world.candidate("a").command(["yes"]).stdout(output).start();
    let mut two = [0; 2];
    reader.read_exact(&mut two).expect("it writes");
    assert_eq!(&two, b"y\n");
    drop(reader);
    assert_eq!(a.wait_exit(Timing::START), End::Code(128 + 13), "{}", a.stderr());
    world.verdict();
}

/// A closed log and clients of the status endpoint that disconnect early must not affect the command.
#[test]
fn broken_pipes_of_the_program_do_not_affect_the_command() {
    let world = shared_world();
    let (mut reader, log) = pipe().expect("a pipe");
    let logged = shell_gatekeeper(&world, "logged", &format!("exec '{}' -- \"$@\" 2>&0", program().display()));
    let command = ["sh", "-c", "trap 'sleep 1; exit 7' TERM; while :; do sleep 0.01; done"];
    let a = world.candidate("a").program(logged).stdin(log).command(command).start();
    let mut text = String::new();
    while !text.contains("command started") {
        let mut piece = [0; 4096];
        let count = reader.read(&mut piece).expect("the log");
        text += &String::from_utf8_lossy(&piece[..count]);
    }
    for late in 0..300 {
        let mut stream = TcpStream::connect(a.status_address()).expect("it listens");
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").expect("it takes a request");
        stream.shutdown(Shutdown::Write).expect("our end");
        thread::sleep(Duration::from_micros(late * 5));
        let linger = nix::libc::linger { l_onoff: 1, l_linger: 0 };
        setsockopt(&stream, sockopt::Linger, &linger).expect("a socket option");
    }
    drop(reader);
    // The program logs a line now.
    a.terminate();
    assert_eq!(a.wait_exit(Timing::START), End::Code(7));
    world.verdict();
}

#[test]
fn a_command_on_a_terminal_reads_keys_and_ctrl_c_reaches_it() {
    let world = shared_world();
    let terminal = Terminal::open();
    let script = "read -r line; echo \"got $line\"; trap 'exit 7' INT; while :; do sleep 0.01; done";
    let a = world.candidate("a").command(["sh", "-c", script]).on(&terminal).start();
    terminal.press("hello\r");
    let _ = terminal.read_until("got hello");
    // The shell sets its trap after its response; an earlier Ctrl-C ends it, as it would without this program.
    terminal.press("\x03");
    let end = a.wait_exit(Timing::START);
    assert!([End::Code(7), End::Code(130)].contains(&end), "{end:?}: {}", a.stderr());
    world.verdict();
}

#[test]
fn ctrl_c_hands_over_and_ctrl_z_does_not_suspend_a_leader() {
    let world = shared_world();
    let terminal = Terminal::open();
    let (a, b) = crate::leader_and_standby(world.candidate("a").on(&terminal), world.candidate("b"));
    terminal.press("\x1a");
    eventually(Timing::START, "the log says that a leader cannot be suspended", || match a.stderr() {
        log if log.contains("suspended") => Ok(()),
        log => Err(log),
    });
    undisturbed(&a, Timing::LONG.retry);
    assert!(Stat::of(a.command_pid()).is_some_and(|stat| stat.state != 'T'));
    terminal.press("\x03");
    b.leads_within(Timing::SWIFT);
    assert_eq!(a.wait_exit(Timing::SWIFT), End::Code(0));
    world.verdict();
}

/// Before it leads, the program reacts to the terminal like any other.
#[test]
fn a_standby_on_a_terminal_can_be_suspended_and_interrupted() {
    let world = shared_world();
    let a = world.candidate("a").start();
    a.leads();
    let terminal = Terminal::open();
    let b = world.candidate("b").on(&terminal).start();
    b.waits();
    terminal.press("\x1a");
    eventually(Timing::SWIFT, "b is stopped", || match Stat::of(b.pid()) {
        Some(Stat { state: 'T', .. }) => Ok(()),
        other => Err(format!("{other:?}")),
    });
    b.resume();
    b.waits();
    terminal.press("\x03");
    assert_eq!(b.wait_exit(Timing::SWIFT), End::Code(130));
    undisturbed(&a, Timing::LONG.retry / 2);
    world.verdict();
}

/// In a container without an init all orphans are reaped, and SIGTERM works, which the kernel only delivers to PID 1 if
/// it is handled.
#[test]
fn as_pid_1_the_program_reaps_orphans_and_exits() {
    let world = shared_world();
    let unshare = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
    if !std::process::Command::new(unshare[0])
        .args(&unshare[1..])
        .arg("true")
        .status()
        .is_ok_and(|status| status.success())
    {
        eprintln!("skipped: a pid namespace needs root");
        return world.verdict();
    }
    let wrapper =
        shell_gatekeeper(&world, "unshare", &format!("exec {} '{}' -- \"$@\"", unshare.join(" "), program().display()));
    let zombies = world.directory().join("zombies");
    // Orphans of orphans, which end at once or later.
    let script = format!(
        "for i in 1 2 3 4 5 6 7 8 9 10; do (setsid sh -c 'sleep 0.05 & sleep 0.1 & exit' &); done; sleep 1; \
         grep -l '^State:.Z' /proc/[0-9]*/status | wc -l >{0}.partial; echo $PPID >>{0}.partial; trap 'exit 5' TERM; \
         mv {0}.partial {0}; while :; do sleep 0.01; done",
        zombies.display()
    );
    let a = world.candidate("a").program(wrapper).command(["sh", "-c", &script]).start();
    let text = eventually(Timing::START, "the command has finished its search", || {
        fs::read_to_string(&zombies).map_err(|error| format!("{error}: {}", a.stderr()))
    });
    // The guard is its parent, and is the third process, after the log writer.
    assert_eq!(text, "0\n3\n");
    let first = children(a.pid())[0];
    kill(Pid::from_raw(first), Signal::SIGTERM).expect("it is there");
    assert_eq!(a.wait_exit(Timing::SWIFT), End::Code(5), "{}", a.stderr());
    world.no_keys_left_within(Timing::SWIFT);
    world.verdict();
}

/// The caller closed them: files that the program opens must not become standard streams.
#[test]
fn a_gatekeeper_works_with_closed_standard_streams() {
    let world = shared_world();
    let closed = shell_gatekeeper(&world, "closed", &format!("exec '{}' -- \"$@\" <&- >&-", program().display()));
    let a = world.candidate("a").program(closed).behavior(Behavior::default()).start();
    a.leads();
    throughout(Duration::from_millis(300), "a leads", || match a.living().len() {
        1 => Ok(()),
        living => Err(format!("{living}")),
    });
    a.terminate();
    assert_eq!(a.wait_exit(Timing::SWIFT), End::Code(0));
    world.verdict();
}
