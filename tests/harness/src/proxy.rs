//! A TCP proxy between one candidate and one member, with the verbs of a bad network.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use crate::{address::Address, member::Member, wait::lock};

/// How soon a change of mind reaches the threads.
const LOOK: Duration = Duration::from_millis(5);

/// A proxy in front of one member; ends all its connections when dropped.
#[derive(Debug)]
pub struct Proxy {
    scheme: &'static str,
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

/// One way through a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the candidate to etcd.
    ToMember,
    /// From etcd to the candidate.
    ToCandidate,
}

#[derive(Debug)]
struct State {
    /// Where new connections lead.
    upstream: SocketAddr,
    /// Nobody listens: connecting fails at once.
    refuse: bool,
    /// Bytes in this direction wait until healed.
    hold: [bool; 2],
    /// Every piece of data is this late.
    delay: Duration,
    /// Moves on when all connections must end.
    generation: u64,
    closed: bool,
}

impl Proxy {
    /// Starts a proxy on the member's own address: its certificate is good for it.
    #[must_use]
    pub fn of(member: &Member) -> Self {
        Self::start(member, member.address.ip(), member.scheme)
    }

    /// Starts a proxy on an address that no certificate names.
    #[must_use]
    pub fn elsewhere(member: &Member, address: &Address) -> Self {
        Self::start(member, address.ip(), member.scheme)
    }

    fn start(member: &Member, ip: Ipv4Addr, scheme: &'static str) -> Self {
        let listener = TcpListener::bind((ip, 0)).expect("the address is ours");
        let address = listener.local_addr().expect("it is bound");
        let upstream = member.client_address();
        let state =
            State { upstream, refuse: false, hold: [false; 2], delay: Duration::ZERO, generation: 0, closed: false };
        let state = Arc::new(Mutex::new(state));
        thread::spawn({
            let state = Arc::clone(&state);
            move || accept(listener, address, &state)
        });
        Self { scheme, address, state }
    }

    /// Where it listens, as a URL.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Ends all connections and refuses new ones: the server's process is gone.
    pub fn cut(&self) {
        self.change(|state| {
            state.refuse = true;
            state.generation += 1;
        });
        self.listens(false);
    }

    /// Refuses new connections; those that stand go on.
    pub fn refuse(&self) {
        self.change(|state| state.refuse = true);
        self.listens(false);
    }

    /// Ends all connections; new ones are welcome.
    pub fn reset(&self) {
        self.change(|state| state.generation += 1);
    }

    /// Leads to this member from now on; all connections end.
    pub fn lead_to(&self, member: &Member) {
        self.change(|state| {
            state.upstream = member.client_address();
            state.generation += 1;
        });
    }

    /// Takes connections and data, and delivers nothing: the network is gone. Like in a network that comes back, what was
    /// held arrives late when healed, and that is the nastier case.
    pub fn black_hole(&self) {
        self.change(|state| state.hold = [true; 2]);
    }

    /// The same in one direction only.
    pub fn hold(&self, direction: Direction) {
        self.change(|state| state.hold[direction as usize] = true);
    }

    /// Delivers everything this much later.
    pub fn delay(&self, delay: Duration) {
        self.change(|state| state.delay = delay);
    }

    /// As if nothing had been: listening, delivering at once, first what was held.
    pub fn heal(&self) {
        self.change(|state| {
            state.refuse = false;
            state.hold = [false; 2];
            state.delay = Duration::ZERO;
        });
        self.listens(true);
    }

    /// Waits until the listener is there or gone: from here on the fault counts.
    fn listens(&self, wanted: bool) {
        crate::eventually(Duration::from_secs(5), &format!("listening is {wanted}"), || {
            let seen = TcpStream::connect(self.address);
            if seen.is_ok() == wanted { Ok(()) } else { Err(format!("{seen:?}")) }
        });
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut lock(&self.state));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.change(|state| state.closed = true);
    }
}

/// Takes connections until the proxy is dropped. To refuse is to have no listener; nobody else can take its port
/// meanwhile, because nobody else has its address.
fn accept(listener: TcpListener, address: SocketAddr, state: &Arc<Mutex<State>>) {
    let mut listener = Some(listener);
    loop {
        let (refuse, closed, generation) = {
            let state = lock(state);
            (state.refuse, state.closed, state.generation)
        };
        if closed {
            return;
        }
        if refuse {
            listener = None;
        } else if listener.is_none() {
            listener = TcpListener::bind(address).ok();
        }
        if let Some(listener) = &listener {
            listener.set_nonblocking(true).expect("a socket option");
            while let Ok((candidate, _)) = listener.accept() {
                let state = Arc::clone(state);
                thread::spawn(move || connect(candidate, generation, &state));
            }
        }
        thread::sleep(LOOK);
    }
}

/// One connection: the member is dialled when bytes may flow both ways, then each direction has its thread.
fn connect(candidate: TcpStream, generation: u64, state: &Arc<Mutex<State>>) {
    while lock(state).hold != [false; 2] {
        if ended(state, generation) {
            return;
        }
        thread::sleep(LOOK);
    }
    let upstream = lock(state).upstream;
    let Ok(member) = TcpStream::connect(upstream) else { return };
    let _ = (candidate.set_nodelay(true), member.set_nodelay(true));
    let (Ok(candidate_again), Ok(member_again)) = (candidate.try_clone(), member.try_clone()) else { return };
    let other = Arc::clone(state);
    thread::spawn(move || pump(member_again, candidate_again, Direction::ToCandidate, generation, &other));
    pump(candidate, member, Direction::ToMember, generation, state);
}

/// Carries one direction until either end is done, or the proxy says so.
fn pump(mut from: TcpStream, mut to: TcpStream, direction: Direction, generation: u64, state: &Mutex<State>) {
    let _ = from.set_nonblocking(false);
    let _ = from.set_read_timeout(Some(LOOK));
    // A reader that stopped must not keep this thread from seeing the end.
    let _ = to.set_write_timeout(Some(Duration::from_secs(5)));
    let mut buffer = vec![0; 64 * 1024];
    'connection: while !ended(state, generation) {
        let count = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if retry(&error) => continue,
            Err(_) => break,
        };
        let read_at = Instant::now();
        loop {
            if ended(state, generation) {
                break 'connection;
            }
            let (hold, delay) = {
                let state = lock(state);
                (state.hold[direction as usize], state.delay)
            };
            if !hold && read_at.elapsed() >= delay {
                break;
            }
            thread::sleep(LOOK.min(Duration::from_millis(1)));
        }
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    // Both directions end together: half-closed connections are not among the faults.
    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
}

fn ended(state: &Mutex<State>, generation: u64) -> bool {
    let state = lock(state);
    state.closed || state.generation != generation
}

fn retry(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// A server that echoes, behind a proxy.
    struct Echo {
        _address: Address,
        proxy: Proxy,
    }

    impl Echo {
        fn start() -> Self {
            let address = Address::claim();
            let listener = TcpListener::bind((address.ip(), crate::address::CLIENT_PORT)).expect("ours");
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    thread::spawn(move || io::copy(&mut &stream, &mut &stream));
                }
            });
            let upstream_owner = Address::claim();
            let member = Member {
                name: "echo".into(),
                address,
                scheme: "http",
                arguments: Vec::new(),
                log: "/dev/null".into(),
                process: Mutex::new(None),
            };
            let proxy = Proxy::elsewhere(&member, &upstream_owner);
            // The member is dropped here and its address with it, but not the listener on it.
            Self { _address: upstream_owner, proxy }
        }

        fn connect(&self) -> TcpStream {
            let stream = TcpStream::connect(self.proxy.address).expect("the proxy listens");
            stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a socket option");
            stream
        }
    }

    fn say(stream: &mut TcpStream) {
        stream.write_all(b"hello").expect("the proxy takes it");
    }

    fn hear(stream: &mut TcpStream) -> io::Result<()> {
        let mut answer = [0; 5];
        stream.read_exact(&mut answer)
    }

    #[test]
    fn what_is_said_is_heard() {
        let echo = Echo::start();
        let mut stream = echo.connect();
        say(&mut stream);
        hear(&mut stream).expect("an echo");
    }

    #[test]
    fn cut_ends_connections_and_refuses_new_ones_until_healed() {
        let echo = Echo::start();
        let mut stream = echo.connect();
        say(&mut stream);
        hear(&mut stream).expect("an echo");
        echo.proxy.cut();
        assert!(hear(&mut stream).is_err());
        let refused = TcpStream::connect(echo.proxy.address).expect_err("nobody listens");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        echo.proxy.heal();
        let mut stream = echo.connect();
        say(&mut stream);
        hear(&mut stream).expect("an echo");
    }

    #[test]
    fn a_black_hole_takes_everything_and_delivers_it_when_healed() {
        let echo = Echo::start();
        let mut old = echo.connect();
        say(&mut old);
        hear(&mut old).expect("an echo");
        echo.proxy.black_hole();
        let mut new = echo.connect();
        for stream in [&mut old, &mut new] {
            say(stream);
            stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket option");
            assert!(retry(&hear(stream).expect_err("nothing comes back")));
            stream.set_read_timeout(Some(Duration::from_secs(5))).expect("a socket option");
        }
        echo.proxy.heal();
        hear(&mut old).expect("what was held");
        hear(&mut new).expect("what was held");
    }

    #[test]
    fn one_way_lets_the_question_through_but_not_the_answer() {
        let echo = Echo::start();
        let mut stream = echo.connect();
        echo.proxy.hold(Direction::ToCandidate);
        say(&mut stream);
        stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket option");
        assert!(retry(&hear(&mut stream).expect_err("no answer")));
    }

    #[test]
    fn delay_makes_both_ways_late() {
        let echo = Echo::start();
        let mut stream = echo.connect();
        echo.proxy.delay(Duration::from_millis(50));
        let (done, heard) = mpsc::channel();
        let begun = Instant::now();
        thread::spawn(move || {
            say(&mut stream);
            done.send(hear(&mut stream).is_ok())
        });
        assert!(heard.recv().expect("an answer"));
        assert!(begun.elapsed() >= Duration::from_millis(100));
    }
}
