//! `ctl show --watch`: a lock that is followed on a terminal and through a pipe.

use std::{
    io::{BufRead as _, BufReader, PipeWriter, Write as _},
    os::fd::AsRawFd as _,
    time::Duration,
};

use harness::{Candidate, Cluster, End, Proxy, Setup, Terminal, Timing, World, eventually, throughout};
use nix::{libc, sys::signal::Signal};

use crate::{program, shared_world, shell_gatekeeper, world_on};

/// Without an answer the state is stale after this time: the period of reads, and the limit of one of them.
const STALE: Duration = Duration::from_secs(5 + 3);

fn watching(world: &World) -> Setup {
    let watching = world.candidate("watching").unset("STATUS_ENDPOINT").command::<&str>([]);
    watching.flag("ctl").flag("show").flag("--watch")
}

/// Waits until the last document is about this holder, and returns the number of documents.
#[track_caller]
fn shows(watching: &Candidate, limit: Duration, identity: &str, stale: bool) -> usize {
    eventually(limit, &format!("{identity} is shown, stale: {stale}"), || {
        let text = watching.stdout();
        let complete = text.rfind('\n').map_or("", |end| &text[..end]);
        let documents: Vec<serde_json::Value> =
            complete.lines().map(|line| serde_json::from_str(line).expect("a document on each line")).collect();
        let last = documents.last().ok_or_else(|| watching.stderr())?;
        let is_shown = last["holder"]["identity"] == identity && last["stale_seconds"].is_null() != stale;
        if is_shown { Ok(documents.len()) } else { Err(format!("{documents:?} {}", watching.stderr())) }
    })
}

#[test]
fn a_stream_has_one_document_for_each_change_and_survives_outages() {
    let world = world_on(Cluster::builder().size(1).plain().create());
    let etcdctl = world.cluster().etcdctl();
    etcdctl.must(&["put", world.lock(), "first"]);
    let watching = watching(&world).flag("--json").start();
    let shows = |limit, identity: &str, stale| shows(&watching, limit, identity, stale);
    assert_eq!(shows(Timing::START, "first", false), 1);
    etcdctl.must(&["put", world.lock(), "second"]);
    assert_eq!(shows(Timing::SWIFT, "second", false), 2);

    world.cluster().member(0).pause();
    assert_eq!(shows(STALE + Timing::SWIFT, "second", true), 3);
    world.cluster().member(0).resume();
    assert_eq!(shows(Timing::START, "second", false), 4);

    world.cluster().member(0).stop();
    assert_eq!(shows(STALE + Timing::SWIFT, "second", true), 5);
    world.cluster().member(0).start();
    world.cluster().wait_healthy();
    etcdctl.must(&["put", world.lock(), "third"]);
    shows(Timing::START, "third", false);
    // It is not only read every few seconds.
    etcdctl.must(&["put", world.lock(), "fourth"]);
    shows(Timing::SWIFT, "fourth", false);

    watching.terminate();
    assert_eq!(watching.wait_exit(Timing::SWIFT), End::Code(128 + Signal::SIGTERM as i32), "{}", watching.stderr());
    etcdctl.must(&["del", world.lock()]);
    world.verdict();
}

#[test]
fn a_terminal_of_any_size_is_redrawn_and_restored() {
    let world = shared_world();
    let a = world.candidate("alpha").start();
    let token = a.leads();
    for (rows, columns) in [(24, 80), (6, 20)] {
        let terminal = Terminal::open();
        let resize = |rows, columns| {
            let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
            // SAFETY: the request reads a `winsize`, which lives until the call returns.
            assert_eq!(unsafe { libc::ioctl(terminal.slave().as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }, 0);
        };
        resize(rows, columns);
        let watching = watching(&world).variable("TERM", "xterm").on(&terminal).stderr(terminal.slave()).start();
        let mut begin = terminal.read_until("\x1b[J");
        assert!(begin.contains("\x1b[?1049h"), "{begin:?}");
        if columns == 80 {
            assert!(begin.contains("held by alpha") && begin.contains(&token.to_string()), "{begin:?}");
            let b = world.candidate("beta").start();
            b.waits();
            begin += &terminal.read_until("beta");
            b.terminate();
            b.wait_exit(Timing::SWIFT);
            begin += &terminal.read_until("nobody waits");
        }
        let frames: Vec<_> = begin.split("\x1b[H").skip(1).collect();
        for frame in frames {
            let lines: Vec<_> = frame.split("\r\n").map(|line| line.split('\x1b').next().unwrap_or_default()).collect();
            assert!(lines.iter().all(|line| line.chars().count() <= columns.into()), "{lines:?}");
        }
        resize(2, 10);
        let _ = terminal.read_until("… and 2 m…");
        watching.signal(Signal::SIGINT);
        let end = terminal.read_until("\x1b[?1049l");
        assert!(end.contains("\x1b[?7h\x1b[?25h"), "{end:?}");
        assert_eq!(watching.wait_exit(Timing::SWIFT), End::Code(128 + Signal::SIGINT as i32));
    }
    world.verdict();
}

/// Ctrl-Z restores the terminal for the shell, `bg` draws nothing over it, and `fg` draws the screen again.
#[test]
fn a_suspended_terminal_is_restored_and_drawn_again() {
    let world = shared_world();
    let script = format!(
        "set -m; '{}' ctl show --watch; echo suspended $?; read -r go; bg; sleep 1.5; echo in background; read -r go; fg; \
         echo ended $?",
        program().display()
    );
    let terminal = Terminal::open();
    let shell = world.candidate("shell").unset("STATUS_ENDPOINT").program(shell_gatekeeper(&world, "shell", &script));
    let shell = shell.variable("TERM", "xterm").on(&terminal).stderr(terminal.slave()).start();
    let _ = terminal.read_until("nobody waits");
    terminal.press("\x1a");
    let suspended = terminal.read_until("suspended 1");
    assert!(suspended.contains("\x1b[?1049l"), "{suspended:?}");
    terminal.press("\r");
    let background = terminal.read_until("in background");
    assert!(!background.contains('\x1b'), "{background:?}");
    terminal.press("\r");
    let foreground = terminal.read_until("nobody waits");
    assert!(foreground.contains("\x1b[?1049h"), "{foreground:?}");
    terminal.press("\x03");
    let ended = terminal.read_until("ended 130");
    assert!(ended.contains("\x1b[?1049l"), "{ended:?}");
    assert_eq!(shell.wait_exit(Timing::SWIFT), End::Code(0));
    world.verdict();
}

#[test]
fn another_cluster_at_the_endpoint_is_shown_once_it_is_certain() {
    let world = shared_world();
    let stray = Cluster::builder().size(1).create_stray(world.cluster());
    world.cluster().etcdctl().must(&["put", world.lock(), "first"]);
    stray.etcdctl().must(&["put", world.lock(), "stray"]);
    let proxy = Proxy::of(world.cluster().member(0));
    let watching = watching(&world).via([&proxy]).flag("--json").start();
    shows(&watching, Timing::START, "first", false);
    proxy.forward_to(stray.member(0));
    shows(&watching, STALE + Timing::SWIFT, "first", true);
    // It asks for 10 s before it decides again.
    shows(&watching, Duration::from_secs(10) + Timing::START, "stray", false);
    watching.terminate();
    watching.wait_exit(Timing::SWIFT);
    world.cluster().etcdctl().must(&["del", world.lock()]);
    world.verdict();
}

/// As with `ctl show --watch | head -n 1`, also if nothing changes any more.
#[test]
fn a_stream_that_nobody_reads_any_more_ends_it() {
    let world = shared_world();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let watching = watching(&world).stdout(writer).start();
    let mut line = String::new();
    BufReader::new(reader).read_line(&mut line).expect("a line");
    assert!(line.contains("nobody holds it"), "{line}");
    assert_eq!(watching.wait_exit(Timing::SWIFT), End::Code(0), "{}", watching.stderr());
    assert!(!watching.stderr().contains("panic"), "{}", watching.stderr());
    world.verdict();
}

/// As with a pager that shows an earlier page.
#[test]
fn a_stream_that_is_not_read_for_now_does_not_keep_it_from_ending() {
    let world = shared_world();
    let (reader, writer) = std::io::pipe().expect("a pipe");
    fill(&writer);
    let watching = watching(&world).stdout(writer).start();
    watching.logs("using etcd cluster");
    // It has read the lock by then, and is blocked.
    throughout(Duration::from_secs(1), "it waits", || match watching.end() {
        None => Ok(()),
        Some(end) => Err(format!("{end:?} {}", watching.stderr())),
    });
    watching.terminate();
    assert_eq!(watching.wait_exit(Timing::SWIFT), End::Code(128 + Signal::SIGTERM as i32));
    drop(reader);
    world.verdict();
}

/// Leaves no room in a pipe.
fn fill(pipe: &PipeWriter) {
    let set = |flags: libc::c_int| {
        // SAFETY: a flag of a descriptor that is open.
        assert_eq!(unsafe { libc::fcntl(pipe.as_raw_fd(), libc::F_SETFL, flags) }, 0);
    };
    set(libc::O_WRONLY | libc::O_NONBLOCK);
    while (&mut &*pipe).write(&[b'x'; 4096]).is_ok() {}
    set(libc::O_WRONLY);
}
