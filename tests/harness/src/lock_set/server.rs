//! Both registers behind a socket, in the test process, which no fault reaches.

use std::{
    io::{self, BufRead, BufReader, BufWriter, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
};

use super::register::{Mode, Register};
use crate::{
    process::{Stat, lives},
    wait::lock,
};

/// The server; it accepts no connections any more when it is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    socket: PathBuf,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Under one lock, as a request is atomic.
    registers: Mutex<[Register; 2]>,
    closed: Mutex<bool>,
}

impl Server {
    /// # Panics
    /// If the socket cannot be made.
    pub(crate) fn start(socket: &Path) -> Self {
        let listener = UnixListener::bind(socket).expect("the socket of the registers");
        let registers = Mutex::new(Mode::ALL.map(Register::new));
        let shared = Arc::new(Shared { registers, closed: Mutex::new(false) });
        thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        Self { socket: socket.to_owned(), shared }
    }

    /// Looks at one register.
    pub(crate) fn with<T>(&self, mode: Mode, look: impl FnOnce(&Register) -> T) -> T {
        look(&lock(&self.shared.registers)[mode as usize])
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        *lock(&self.shared.closed) = true;
        // Wakes the thread that accepts.
        let _ = UnixStream::connect(&self.socket);
    }
}

fn accept(listener: &UnixListener, shared: &Arc<Shared>) {
    for stream in listener.incoming().flatten() {
        if *lock(&shared.closed) {
            return;
        }
        let shared = Arc::clone(shared);
        // It ends with the process of the command.
        thread::spawn(move || serve(&stream, &shared));
    }
}

/// Answers the requests of one process.
fn serve(stream: &UnixStream, shared: &Shared) -> io::Result<()> {
    let mut requests = BufReader::new(stream).lines();
    let mut replies = BufWriter::new(stream);
    let hello = requests.next().ok_or(io::ErrorKind::UnexpectedEof)??;
    let process = parse_hello(&hello).ok_or(io::ErrorKind::InvalidData)?;
    for request in requests {
        let request = request?;
        let reply = {
            let mut registers = lock(&shared.registers);
            // A request of a process that has exited is a message that was delayed on its way. No lock can hold it back,
            // and the test is about commands, so it is dropped. The lock keeps the next reader out until it is applied.
            if !lives(process.0, process.1) {
                return Ok(());
            }
            answer(&request, &mut registers).ok_or(io::ErrorKind::InvalidData)?
        };
        replies.write_all(reply.as_bytes())?;
        replies.flush()?;
    }
    Ok(())
}

fn answer(request: &str, registers: &mut [Register; 2]) -> Option<String> {
    let mut words = request.splitn(4, ' ');
    let mode = Mode::named(words.next()?)?;
    let (verb, token) = (words.next()?, words.next()?.parse().ok()?);
    let register = &mut registers[mode as usize];
    let answer = match verb {
        "read" => register.read(token).map(str::to_owned),
        "write" => register.write(token, words.next()?.to_owned()).map(|()| String::new()),
        _ => return None,
    };
    Some(answer.map_or_else(|| "refused\n".to_owned(), |value| format!("ok {value}\n")))
}

fn parse_hello(line: &str) -> Option<(i32, u64)> {
    let (pid, started) = line.split_once(' ')?;
    Some((pid.parse().ok()?, started.parse().ok()?))
}

/// A connection of this process to both registers.
pub(crate) struct Client {
    requests: UnixStream,
    replies: BufReader<UnixStream>,
}

impl Client {
    /// # Errors
    /// If the server has ended.
    pub(crate) fn connect(socket: &Path, pid: i32) -> io::Result<Self> {
        let requests = UnixStream::connect(socket)?;
        let replies = BufReader::new(requests.try_clone()?);
        let started = Stat::of(pid).ok_or(io::ErrorKind::NotFound)?.started;
        let mut client = Self { requests, replies };
        client.requests.write_all(format!("{pid} {started}\n").as_bytes())?;
        Ok(client)
    }

    /// Returns the value of a register, or `None` if the token is refused.
    ///
    /// # Errors
    /// If the server has ended.
    pub(crate) fn read(&mut self, mode: Mode, token: i64) -> io::Result<Option<String>> {
        self.request(&format!("{} read {token}\n", mode.name()))
    }

    /// Replaces the value of a register; returns `None` if the token is refused.
    ///
    /// # Errors
    /// If the server has ended.
    pub(crate) fn write(&mut self, mode: Mode, token: i64, value: &str) -> io::Result<Option<()>> {
        Ok(self.request(&format!("{} write {token} {value}\n", mode.name()))?.map(drop))
    }

    fn request(&mut self, request: &str) -> io::Result<Option<String>> {
        self.requests.write_all(request.as_bytes())?;
        let mut reply = String::new();
        self.replies.read_line(&mut reply)?;
        match reply.strip_suffix('\n') {
            Some("refused") => Ok(None),
            Some(reply) => Ok(reply.strip_prefix("ok ").map(str::to_owned)),
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process;

    use super::*;

    #[test]
    fn values_are_read_and_written_over_the_socket() {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("register");
        let server = Server::start(&socket);
        let pid = i32::try_from(process::id()).expect("a pid");
        let mut client = Client::connect(&socket, pid).expect("connecting");
        assert_eq!(client.read(Mode::Plain, 5).expect("reading"), Some(String::new()));
        assert_eq!(client.write(Mode::Plain, 5, "5.1 5.2 ").expect("writing"), Some(()));
        assert_eq!(client.read(Mode::Plain, 4).expect("reading"), Some("5.1 5.2 ".into()));
        assert_eq!(client.write(Mode::Fenced, 5, "5.1 ").expect("writing"), Some(()));
        assert_eq!(client.read(Mode::Fenced, 4).expect("reading"), None);
        assert_eq!(server.with(Mode::Fenced, |register| register.value.clone()), "5.1 ");
    }

    #[test]
    fn a_request_of_a_process_that_has_exited_is_dropped() {
        let directory = tempfile::tempdir().expect("a directory");
        let socket = directory.path().join("register");
        let server = Server::start(&socket);
        let mut stream = UnixStream::connect(&socket).expect("connecting");
        // No process has this start time.
        let requests = format!("{} 0\nplain write 5 5.1 \n", process::id());
        stream.write_all(requests.as_bytes()).expect("writing");
        assert_eq!(io::read_to_string(&stream).expect("the end of the connection"), "");
        assert_eq!(server.with(Mode::Plain, |register| register.value.clone()), "");
    }
}
