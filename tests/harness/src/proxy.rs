//! A TCP proxy between a candidate and a member that causes network faults.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use crate::{
    address::{Address, CLIENT_PORT},
    member::Member,
    wait::lock,
};

/// The interval at which the threads look for changes.
const LOOK: Duration = Duration::from_millis(5);

/// A proxy in front of one member; closes all its connections when dropped.
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
    /// The destinations of new connections, in turn.
    upstreams: Vec<SocketAddr>,
    /// The number of connections so far.
    connections: usize,
    /// New connections are refused.
    refuse: bool,
    /// Whether bytes in this direction are held until healed.
    hold: [bool; 2],
    /// The delay of every chunk in this direction.
    delay: [Duration; 2],
    /// Increased to close all connections.
    generation: u64,
    closed: bool,
}

impl State {
    fn next(&mut self) -> SocketAddr {
        self.connections += 1;
        self.upstreams[(self.connections - 1) % self.upstreams.len()]
    }
}

impl Proxy {
    /// Starts a proxy on the member's own address, for which its certificate is valid.
    #[must_use]
    pub fn of(member: &Member) -> Self {
        Self::at(member, (member.address.ip(), 0).into())
    }

    /// Starts a proxy on an address that no certificate names, at the members' port, so that one name can resolve to
    /// several proxies.
    #[must_use]
    pub fn elsewhere(member: &Member, address: &Address) -> Self {
        Self::at(member, (address.ip(), CLIENT_PORT).into())
    }

    /// Starts a proxy on this address, which the caller has claimed.
    #[must_use]
    pub fn at(member: &Member, address: SocketAddr) -> Self {
        Self::start(member.scheme, address, vec![member.client_address()])
    }

    /// Starts a proxy that forwards connections to these in turn.
    pub(crate) fn start(scheme: &'static str, address: SocketAddr, upstreams: Vec<SocketAddr>) -> Self {
        let listener = TcpListener::bind(address).expect("the address is ours");
        let address = listener.local_addr().expect("it is bound");
        let state = Arc::new(Mutex::new(State {
            upstreams,
            connections: 0,
            refuse: false,
            hold: [false; 2],
            delay: [Duration::ZERO; 2],
            generation: 0,
            closed: false,
        }));
        thread::spawn({
            let state = Arc::clone(&state);
            move || accept(listener, address, &state)
        });
        Self { scheme, address, state }
    }

    pub(crate) const fn scheme(&self) -> &'static str {
        self.scheme
    }

    /// Returns its address.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns its URL.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Closes all connections and refuses new ones, as if the server's process had ended.
    pub fn cut(&self) {
        self.change(|state| {
            state.refuse = true;
            state.generation += 1;
        });
        self.listens(false);
    }

    /// Refuses new connections; existing ones continue.
    pub fn refuse(&self) {
        self.change(|state| state.refuse = true);
        self.listens(false);
    }

    /// Closes all connections; new ones are accepted.
    pub fn reset(&self) {
        self.change(|state| state.generation += 1);
    }

    /// Closes all connections, and forwards new ones to this member.
    pub fn forward_to(&self, member: &Member) {
        self.change(|state| {
            state.upstreams = vec![member.client_address()];
            state.generation += 1;
        });
    }

    /// Accepts connections and data, and delivers nothing until healed. The held data then arrives late, as it may in a
    /// network that recovers.
    pub fn black_hole(&self) {
        self.change(|state| state.hold = [true; 2]);
    }

    /// Does so in one direction only.
    pub fn hold(&self, direction: Direction) {
        self.change(|state| state.hold[direction as usize] = true);
    }

    /// Delays all data in each direction; a new connection takes both delays before its first byte.
    pub fn delay(&self, delay: Duration) {
        self.change(|state| state.delay = [delay; 2]);
    }

    /// Does so in one direction only.
    pub fn delay_one_way(&self, direction: Direction, delay: Duration) {
        self.change(|state| state.delay[direction as usize] = delay);
    }

    /// Ends all faults: accepts connections, and delivers the held data and then all other at once.
    pub fn heal(&self) {
        let mut refused = false;
        self.change(|state| {
            refused = std::mem::take(&mut state.refuse);
            state.hold = [false; 2];
            state.delay = [Duration::ZERO; 2];
        });
        if refused {
            self.listens(true);
        }
    }

    /// Waits until the listener has been opened or closed, so that the fault is in effect.
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

/// Accepts connections until the proxy is dropped. The listener is closed to refuse connections; no other process can
/// take its port, as the address is claimed.
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

/// Handles one connection: connects to the member when bytes may flow both ways, and starts the threads of each
/// direction.
fn connect(candidate: TcpStream, generation: u64, state: &Arc<Mutex<State>>) {
    let begun = Instant::now();
    let arrived = || {
        let state = lock(state);
        // The TCP handshake, which the kernel completed without delay, would have taken a round trip.
        state.hold == [false; 2] && begun.elapsed() >= state.delay[0] + state.delay[1]
    };
    while !arrived() {
        if ended(state, generation) {
            return;
        }
        thread::sleep(LOOK);
    }
    let upstream = lock(state).next();
    let Ok(member) = TcpStream::connect(upstream) else { return };
    let _ = (candidate.set_nodelay(true), member.set_nodelay(true));
    let (candidate, member) = (Arc::new(candidate), Arc::new(member));
    let back = (Arc::clone(&member), Arc::clone(&candidate), Arc::clone(state));
    thread::spawn(move || carry(&back.0, &back.1, Direction::ToCandidate, generation, &back.2));
    carry(&candidate, &member, Direction::ToMember, generation, state);
}

/// The bytes that were read at an instant. An empty chunk is the end of the connection, which is delayed like data.
type Piece = (Instant, Vec<u8>);

/// Carries one direction until one end closes or the proxy ends it. It continues to read while earlier chunks are
/// delayed, so that delays do not add up.
fn carry(from: &Arc<TcpStream>, to: &Arc<TcpStream>, direction: Direction, generation: u64, state: &Arc<Mutex<State>>) {
    let _ = from.set_nonblocking(false);
    let _ = from.set_read_timeout(Some(LOOK));
    // A reader that stopped must not keep the other thread from ending.
    let _ = to.set_write_timeout(Some(Duration::from_secs(5)));
    let (pieces, line) = mpsc::channel();
    let ends = (Arc::clone(from), Arc::clone(to), Arc::clone(state));
    thread::spawn(move || deliver(&line, &ends.0, &ends.1, direction, generation, &ends.2));
    let mut buffer = vec![0; 64 * 1024];
    while !ended(state, generation) {
        let count = match (&**from).read(&mut buffer) {
            Ok(count) => count,
            Err(error) if retry(&error) => continue,
            Err(_) => 0,
        };
        if pieces.send((Instant::now(), buffer[..count].to_vec())).is_err() || count == 0 {
            break;
        }
    }
}

/// Delivers each chunk after its delay.
fn deliver(
    line: &mpsc::Receiver<Piece>,
    from: &TcpStream,
    mut to: &TcpStream,
    direction: Direction,
    generation: u64,
    state: &Mutex<State>,
) {
    let arrived = |read_at: Instant| {
        let state = lock(state);
        !state.hold[direction as usize] && read_at.elapsed() >= state.delay[direction as usize]
    };
    'connection: for (read_at, piece) in line {
        while !arrived(read_at) {
            if ended(state, generation) {
                break 'connection;
            }
            thread::sleep(LOOK.min(Duration::from_millis(1)));
        }
        if piece.is_empty() || to.write_all(&piece).is_err() {
            break;
        }
    }
    // Both directions end together: half-closed connections are not supported.
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
    use super::*;

    /// A server that echoes, behind a proxy.
    struct Echo {
        _address: Address,
        proxy: Proxy,
    }

    impl Echo {
        fn start() -> Self {
            let address = Address::claim();
            let listener = TcpListener::bind((address.ip(), CLIENT_PORT)).expect("ours");
            let upstream = listener.local_addr().expect("it is bound");
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    thread::spawn(move || io::copy(&mut &stream, &mut &stream));
                }
            });
            let proxy = Proxy::start("http", (address.ip(), 0).into(), vec![upstream]);
            Self { _address: address, proxy }
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
    fn bytes_pass_in_both_directions() {
        let echo = Echo::start();
        let mut stream = echo.connect();
        say(&mut stream);
        hear(&mut stream).expect("an echo");
    }

    #[test]
    fn a_cut_closes_connections_and_refuses_new_ones_until_healed() {
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
    fn a_black_hole_accepts_bytes_and_delivers_them_when_healed() {
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
    fn a_one_way_fault_delivers_requests_but_no_responses() {
        let echo = Echo::start();
        let mut stream = echo.connect();
        echo.proxy.hold(Direction::ToCandidate);
        say(&mut stream);
        stream.set_read_timeout(Some(Duration::from_millis(100))).expect("a socket option");
        assert!(retry(&hear(&mut stream).expect_err("no answer")));
    }

    #[test]
    fn a_delay_applies_once_per_chunk_in_both_directions() {
        const DELAY: Duration = Duration::from_millis(50);
        const PIECES: u32 = 20;
        let echo = Echo::start();
        let mut stream = echo.connect();
        say(&mut stream);
        hear(&mut stream).expect("an echo");
        echo.proxy.delay(DELAY);
        let begun = Instant::now();
        let mut writer = stream.try_clone().expect("a second handle");
        thread::spawn(move || {
            for _ in 0..PIECES {
                say(&mut writer);
                thread::sleep(DELAY / 10);
            }
        });
        hear(&mut stream).expect("the first");
        assert!(begun.elapsed() >= 2 * DELAY);
        for _ in 1..PIECES {
            hear(&mut stream).expect("the others");
        }
        assert!(begun.elapsed() < PIECES * DELAY, "one after the other: {:?}", begun.elapsed());
    }

    #[test]
    fn a_one_way_delay_applies_to_that_direction_and_connecting_takes_a_round_trip() {
        const DELAY: Duration = Duration::from_millis(100);
        let echo = Echo::start();
        echo.proxy.delay_one_way(Direction::ToCandidate, DELAY);
        let begun = Instant::now();
        let mut stream = echo.connect();
        for least in [2 * DELAY, 3 * DELAY] {
            say(&mut stream);
            hear(&mut stream).expect("an echo");
            assert!(begun.elapsed() >= least, "{:?}", begun.elapsed());
        }
        assert!(begun.elapsed() < 4 * DELAY, "{:?}", begun.elapsed());
    }
}
