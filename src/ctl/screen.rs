//! Where `ctl show --watch` prints: the screen of a terminal, which is redrawn, or a stream, with one line for each change.

use std::{
    cell::Cell,
    env,
    io::{self, IsTerminal as _, Write as _},
    os::fd::AsFd as _,
};

use nix::{
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    unistd::{getpgrp, tcgetpgrp},
};

use crate::system::runtime;

/// Where to print.
pub(super) enum Screen {
    /// The alternate screen of a terminal. Dropping it restores the terminal.
    Terminal {
        /// Whether the terminal shows it, which a shell must not find after Ctrl-Z.
        entered: Cell<bool>,
    },
    /// A pipe, a file, or a terminal without cursor movement.
    Stream,
}

impl Screen {
    /// Returns the screen of stdout. `lines` prints lines in any case.
    pub(super) fn of_stdout(lines: bool) -> Self {
        let can_move = env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb");
        if lines || !can_move || !io::stdout().is_terminal() {
            return Self::Stream;
        }
        Self::Terminal { entered: Cell::new(false) }
    }

    /// Replaces what the terminal shows with the text for this number of columns. Lines and columns without room are cut. Nothing is
    /// drawn while the terminal belongs to another process group, as after `bg` in a shell.
    pub(super) fn draw(&self, text: impl FnOnce(usize) -> String) -> io::Result<()> {
        let Self::Terminal { entered } = self else { return Ok(()) };
        if is_in_background() {
            return Ok(());
        }
        if !entered.replace(true) {
            // The alternate screen, without a cursor, and without wrapping, so that a wide character never moves the next line.
            write("\x1b[?1049h\x1b[?25l\x1b[?7l")?;
        }
        let (rows, columns) = size();
        write(&frame(&text(columns), rows, columns))
    }

    /// Restores the terminal, until something is drawn again.
    pub(super) fn leave(&self) {
        if matches!(self, Self::Terminal { entered } if entered.replace(false)) {
            // If the terminal is gone, there is nothing to restore.
            let _ = write("\x1b[?7h\x1b[?25h\x1b[?1049l");
        }
    }

    /// Prints one line to a stream. A reader that does not read blocks a thread of its own, so that a signal still ends the command.
    pub(super) async fn line(text: String) -> io::Result<()> {
        runtime::spawn_blocking(move || write(&(text + "\n"))).await?
    }

    /// Returns an error if the reader of stdout has closed it, which a write would report only at the next change.
    pub(super) fn check_reader() -> io::Result<()> {
        let stdout = io::stdout();
        let mut stdout = [PollFd::new(stdout.as_fd(), PollFlags::empty())];
        poll(&mut stdout, PollTimeout::ZERO)?;
        match stdout[0].revents() {
            Some(events) if events.contains(PollFlags::POLLERR) => Err(io::ErrorKind::BrokenPipe.into()),
            _ => Ok(()),
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Returns whether another process group is in the foreground of the terminal. Zero is one of another PID namespace.
fn is_in_background() -> bool {
    tcgetpgrp(io::stdout()).is_ok_and(|group| group.as_raw() > 0 && group != getpgrp())
}

fn write(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Returns the rows and columns of the terminal on stdout.
fn size() -> (usize, usize) {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the request writes to a `winsize`, which lives until the call returns.
    let answer = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) };
    let or = |value: u16, default| if answer == 0 && value > 0 { value.into() } else { default };
    (or(size.ws_row, 24), or(size.ws_col, 80))
}

/// Returns what draws a text on a terminal of this size, from its first cell.
fn frame(text: &str, rows: usize, columns: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let fits = lines.len() <= rows;
    let shown = if fits { lines.len() } else { rows.saturating_sub(1) };
    let more = (!fits).then(|| format!("… and {} more lines", lines.len() - shown));
    let lines = lines[..shown].iter().copied().chain(more.as_deref());
    // A row is erased before it is written: after its last cell the cursor is still there, and would erase that.
    let lines: Vec<_> = lines.map(|line| format!("\x1b[K{}", cut(line, columns))).collect();
    // In the last row of the terminal, a line feed would scroll.
    let rest = if lines.len() < rows { "\r\n\x1b[J" } else { "" };
    format!("\x1b[H{}{rest}", lines.join("\r\n"))
}

/// Returns at most this many characters of a line; the last one is `…` if there are more.
fn cut(line: &str, columns: usize) -> String {
    if line.chars().count() <= columns {
        return line.to_owned();
    }
    line.chars().take(columns.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the rows of a terminal of this size, without wrapping, after a frame.
    fn drawn(frame: &str, rows: usize, columns: usize) -> Vec<String> {
        let mut cells = vec![vec!['x'; columns]; rows];
        let (mut row, mut column) = (0, 0);
        let mut rest = frame.chars();
        while let Some(c) = rest.next() {
            match c {
                '\x1b' => match rest.by_ref().nth(1).expect("a sequence") {
                    'H' => (row, column) = (0, 0),
                    'K' => cells[row][column..].fill(' '),
                    'J' => {
                        cells[row][column..].fill(' ');
                        cells[row + 1..].iter_mut().for_each(|row| row.fill(' '));
                    }
                    other => panic!("{other}"),
                },
                '\r' => column = 0,
                '\n' => row += 1,
                _ => {
                    cells[row][column] = c;
                    column = (column + 1).min(columns - 1);
                }
            }
        }
        cells.into_iter().map(|row| row.into_iter().collect::<String>().trim_end().to_owned()).collect()
    }

    #[test]
    fn a_frame_fills_a_terminal_of_any_size_and_does_not_scroll_it() {
        let text = (100..600).map(|number| format!("{number} a-long-identity-that-does-not-fit\n")).collect::<String>();
        for (rows, columns, first, last) in [
            (24, 80, "100 a-long-identity-that-does-not-fit", "… and 477 more lines"),
            (5, 20, "100 a-long-identity…", "… and 496 more lines"),
            (2, 3, "10…", "… …"),
            (1, 1, "…", "…"),
            (600, 10, "100 a-lon…", ""),
            (500, 10, "100 a-lon…", "599 a-lon…"),
        ] {
            let drawn = drawn(&frame(&text, rows, columns), rows, columns);
            assert_eq!((drawn[0].as_str(), drawn[rows - 1].as_str()), (first, last), "{rows}x{columns}");
        }
        assert_eq!(drawn(&frame("a\nb\n", 3, 1), 3, 1), ["a", "b", ""]);
    }
}
