//! The part of the command that adds to the set.

use std::{
    env,
    fs::{File, OpenOptions},
    io::{self, Write},
    path::Path,
    process, thread,
};

use super::{
    DIRECTORY, element,
    oracle::{Record, Step},
    records,
    register::Mode,
    server::Client,
    socket,
};
use crate::random::Random;

/// The time between read and write in milliseconds: the greater part of an addition, so that most faults fall into it.
const BETWEEN: (u64, u64) = (10, 50);
/// The time between two additions. A late write that falls into it removes all that another command has added, and
/// otherwise the write of that command removes the late addition.
const PAUSE: (u64, u64) = (1, 30);

/// Adds elements on a thread for as long as this process runs, if it was started for that.
pub(crate) fn start(token: i64) {
    let Some(directory) = env::var_os(DIRECTORY) else { return };
    thread::spawn(move || {
        // The end of the test, which then waits for the end of this process.
        let _ = add(Path::new(&directory), token);
    });
}

fn add(directory: &Path, token: i64) -> io::Result<()> {
    let mut client = Client::connect(&socket(directory), i32::try_from(process::id()).unwrap_or(0))?;
    let mut file = OpenOptions::new().append(true).open(records(directory))?;
    let mut random = Random::new(token.unsigned_abs());
    let mut refused = [false; 2];
    for number in 1.. {
        let element = element(token, number);
        let mut sets = Vec::new();
        for mode in Mode::ALL.into_iter().filter(|&mode| !refused[mode as usize]) {
            sets.push((mode, client.read(mode, token)?));
        }
        thread::sleep(random.between(BETWEEN.0, BETWEEN.1));
        for (mode, set) in sets {
            let mut record = |step| write(&mut file, &Record { element: element.clone(), mode, step });
            record(Step::Attempted)?;
            let written = match set {
                Some(set) => client.write(mode, token, &format!("{set}{element} "))?,
                None => None,
            };
            // A real command would end here. This one goes on without the fence, for the comparison.
            refused[mode as usize] = written.is_none();
            record(if written.is_some() { Step::Confirmed } else { Step::Refused })?;
        }
        thread::sleep(random.between(PAUSE.0, PAUSE.1));
    }
    Ok(())
}

/// By one system call, which a kill cannot interrupt.
fn write(file: &mut File, record: &Record) -> io::Result<()> {
    file.write_all(record.to_string().as_bytes())
}
