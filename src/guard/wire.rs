//! The connection between gatekeeper and guard: messages of a fixed size over a `SOCK_SEQPACKET` pair.
//!
//! Neither end ever blocks. Messages that do not fit into the socket wait in an outbox, where a new feed replaces an old one.
//! After an invalid message the other end counts as closed.

use std::{
    cell::RefCell,
    collections::VecDeque,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, send, socketpair},
};

use super::protocol::{CommandEnd, Order, Program, Reason, Report};
use crate::core::{clock::Instant, names::LeaseId, timing::Deadlines};

/// An encoded message: its kind and four numbers, of which unused ones are zero.
pub type Packet = [u8; 40];

/// A message that can be sent over a [`Line`].
pub trait Message: Copy + Sized {
    /// Encodes the message. Both ends are the same program on the same machine.
    fn encode(&self) -> Packet;

    /// Decodes a message; `None` unless [`encode`](Self::encode) would return exactly these bytes.
    fn decode(packet: &Packet) -> Option<Self>;

    /// Returns whether `later` makes this message needless.
    fn is_superseded_by(&self, later: &Self) -> bool;

    /// Returns whether the number of such messages in the outbox has no limit, so that they are refused when it is full. All
    /// others are always accepted.
    fn is_unlimited(&self) -> bool;
}

/// The result of receiving from the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received<M> {
    /// A message.
    Message(M),
    /// There is no message.
    Nothing,
    /// The other end is closed or has sent an invalid message.
    Gone,
}

/// One end of the connection, which sends `Out`.
#[derive(Debug)]
pub struct Line<Out> {
    socket: OwnedFd,
    outbox: RefCell<VecDeque<Out>>,
}

/// Returns two connected sockets that do not block and are closed by `execve`.
///
/// # Errors
/// If the process has no descriptors left.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?)
}

impl<Out: Message> Line<Out> {
    /// How many unsent messages there can be before [unlimited](Message::is_unlimited) ones are refused.
    const MOST_UNSENT: usize = 64;

    /// Returns the end of the connection that uses `socket`.
    #[must_use]
    pub const fn new(socket: OwnedFd) -> Self {
        Self { socket, outbox: RefCell::new(VecDeque::new()) }
    }

    /// Sends `message` or keeps it for the next [`flush`](Self::flush); returns false if it was refused or the other end is closed.
    pub fn send(&self, message: Out) -> bool {
        let mut outbox = self.outbox.borrow_mut();
        outbox.retain(|earlier| !earlier.is_superseded_by(&message));
        if message.is_unlimited() && outbox.len() >= Self::MOST_UNSENT {
            return false;
        }
        outbox.push_back(message);
        drop(outbox);
        self.flush()
    }

    /// Sends the messages that wait, as far as there is room; returns false if the other end is closed.
    pub fn flush(&self) -> bool {
        let mut outbox = self.outbox.borrow_mut();
        while let Some(message) = outbox.front() {
            let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
            match send(self.socket.as_raw_fd(), &message.encode(), flags) {
                Ok(_) => drop(outbox.pop_front()),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::ENOMEM) => return true,
                Err(_) => {
                    outbox.clear();
                    return false;
                }
            }
        }
        true
    }

    /// Returns whether messages wait until the socket is writable.
    #[must_use]
    pub fn has_unsent(&self) -> bool {
        !self.outbox.borrow().is_empty()
    }

    /// Receives one message, if there is one.
    pub fn receive<In: Message>(&self) -> Received<In> {
        // One byte more than a message, so that a longer one is noticed.
        let mut buffer = [0; size_of::<Packet>() + 1];
        loop {
            return match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Err(Errno::EINTR) => continue,
                Err(Errno::EAGAIN) => Received::Nothing,
                Ok(length) if length == size_of::<Packet>() => {
                    buffer.first_chunk().and_then(In::decode).map_or(Received::Gone, Received::Message)
                }
                Ok(_) | Err(_) => Received::Gone,
            };
        }
    }
}

impl<Out> AsFd for Line<Out> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl<Out> AsRawFd for Line<Out> {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.socket.as_raw_fd()
    }
}

impl Message for Order {
    fn encode(&self) -> Packet {
        match *self {
            Self::Lease(None) => pack(1, []),
            Self::Lease(Some(LeaseId(lease))) => pack(2, [bits(lease)]),
            Self::Start { deadlines: Deadlines { stop_at, kill_at }, token, lease: LeaseId(lease) } => {
                pack(3, [nanos(stop_at), nanos(kill_at), bits(token), bits(lease)])
            }
            Self::Feed(Deadlines { stop_at, kill_at }) => pack(4, [nanos(stop_at), nanos(kill_at)]),
            Self::Signal(signal) => pack(5, [bits(i64::from(signal))]),
            Self::Stop => pack(6, []),
            Self::Dismiss => pack(7, []),
            Self::Cluster(cluster) => pack(8, [cluster]),
        }
    }

    fn decode(packet: &Packet) -> Option<Self> {
        Some(match unpack(packet)? {
            (1, [0, 0, 0, 0]) => Self::Lease(None),
            (2, [lease, 0, 0, 0]) => Self::Lease(Some(LeaseId(number(lease)))),
            (3, [term, kill, token, lease]) => {
                Self::Start { deadlines: deadlines(term, kill), token: number(token), lease: LeaseId(number(lease)) }
            }
            (4, [term, kill, 0, 0]) => Self::Feed(deadlines(term, kill)),
            (5, [signal @ 1..=64, 0, 0, 0]) => Self::Signal(i32::try_from(signal).ok()?),
            (6, [0, 0, 0, 0]) => Self::Stop,
            (7, [0, 0, 0, 0]) => Self::Dismiss,
            (8, [cluster, 0, 0, 0]) => Self::Cluster(cluster),
            _ => return None,
        })
    }

    fn is_superseded_by(&self, later: &Self) -> bool {
        match (self, later) {
            (Self::Feed(_), Self::Feed(_))
            | (Self::Lease(_), Self::Lease(_))
            | (Self::Cluster(_), Self::Cluster(_))
            | (Self::Stop, Self::Stop) => true,
            // As in the kernel, a standard signal is pending only once.
            (Self::Signal(earlier), Self::Signal(later)) => earlier == later && !self.is_unlimited(),
            _ => false,
        }
    }

    fn is_unlimited(&self) -> bool {
        // Only real-time signals are counted.
        matches!(self, Self::Signal(32..))
    }
}

impl Message for Report {
    fn encode(&self) -> Packet {
        match *self {
            Self::Started(pid) => pack(1, [bits(i64::from(pid))]),
            Self::Fed(Deadlines { stop_at, kill_at }) => pack(2, [nanos(stop_at), nanos(kill_at)]),
            Self::Ending(reason) => pack(3, [place(&REASONS, &reason)]),
            Self::Ended(end) => pack(4, encode_end(end)),
            Self::TreeExited(end) => pack(5, encode_end(end)),
            Self::Starting(program) => pack(6, [place(&PROGRAMS, &program)]),
            // The guard never sends this. Its encoding is invalid, which has the same meaning at the other end.
            Self::GuardLost => pack(0, []),
        }
    }

    fn decode(packet: &Packet) -> Option<Self> {
        Some(match unpack(packet)? {
            (1, [pid, 0, 0, 0]) => Self::Started(i32::try_from(number(pid)).ok()?),
            (2, [term, kill, 0, 0]) => Self::Fed(deadlines(term, kill)),
            (3, [reason, 0, 0, 0]) => Self::Ending(*REASONS.get(usize::try_from(reason).ok()?)?),
            (4, [kind, value, 0, 0]) => Self::Ended(decode_end(kind, value)?),
            (5, [kind, value, 0, 0]) => Self::TreeExited(decode_end(kind, value)?),
            (6, [program, 0, 0, 0]) => Self::Starting(*PROGRAMS.get(usize::try_from(program).ok()?)?),
            _ => return None,
        })
    }

    fn is_superseded_by(&self, later: &Self) -> bool {
        matches!((self, later), (Self::Fed(_), Self::Fed(_)))
    }

    fn is_unlimited(&self) -> bool {
        // There are a few per term, and the gatekeeper waits for the last of them before the next start.
        true
    }
}

const REASONS: [Reason; 5] =
    [Reason::RenewDeadline, Reason::KillDeadline, Reason::StopGrace, Reason::GatekeeperGone, Reason::OnStoppedLimit];
const PROGRAMS: [Program; 3] = [Program::OnElected, Program::Command, Program::OnStopped];

/// Returns the place of a value in the list of all values.
fn place<T: PartialEq>(all: &[T], value: &T) -> u64 {
    all.iter().position(|other| other == value).map_or(u64::MAX, |place| place as u64)
}

fn encode_end(end: CommandEnd) -> [u64; 2] {
    match end {
        CommandEnd::Exited(code) => [1, code.into()],
        CommandEnd::Signaled(signal) => [2, signal.into()],
        CommandEnd::NotFound => [3, 0],
        CommandEnd::NotExecutable => [4, 0],
        CommandEnd::NotStarted => [5, 0],
        CommandEnd::OnElectedFailed => [6, 0],
    }
}

fn decode_end(kind: u64, value: u64) -> Option<CommandEnd> {
    let small = u8::try_from(value).ok()?;
    Some(match (kind, small) {
        (1, code) => CommandEnd::Exited(code),
        (2, signal) => CommandEnd::Signaled(signal),
        (3, 0) => CommandEnd::NotFound,
        (4, 0) => CommandEnd::NotExecutable,
        (5, 0) => CommandEnd::NotStarted,
        (6, 0) => CommandEnd::OnElectedFailed,
        _ => return None,
    })
}

fn pack<const N: usize>(tag: u64, numbers: [u64; N]) -> Packet {
    let mut packet = [0; size_of::<Packet>()];
    for (word, number) in packet.chunks_exact_mut(8).zip(std::iter::once(tag).chain(numbers)) {
        word.copy_from_slice(&number.to_ne_bytes());
    }
    packet
}

fn unpack(packet: &Packet) -> Option<(u64, [u64; 4])> {
    let mut words = packet.chunks_exact(8).map(|word| word.try_into().map(u64::from_ne_bytes).ok());
    Some((words.next()??, [words.next()??, words.next()??, words.next()??, words.next()??]))
}

/// Returns an instant in nanoseconds, at most 584 years after the boot.
fn nanos(instant: Instant) -> u64 {
    u64::try_from(instant.since_boot().as_nanos()).unwrap_or(u64::MAX)
}

const fn deadlines(term: u64, kill: u64) -> Deadlines {
    Deadlines {
        stop_at: Instant::from_boot(Duration::from_nanos(term)),
        kill_at: Instant::from_boot(Duration::from_nanos(kill)),
    }
}

const fn bits(number: i64) -> u64 {
    number.cast_unsigned()
}

const fn number(bits: u64) -> i64 {
    bits.cast_signed()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_deadlines() -> impl Strategy<Value = Deadlines> {
        (any::<u64>(), any::<u64>()).prop_map(|(term, kill)| deadlines(term, kill))
    }

    fn any_order() -> impl Strategy<Value = Order> {
        prop_oneof![
            any::<Option<i64>>().prop_map(|lease| Order::Lease(lease.map(LeaseId))),
            (any_deadlines(), any::<i64>(), any::<i64>()).prop_map(|(deadlines, token, lease)| Order::Start {
                deadlines,
                token,
                lease: LeaseId(lease)
            }),
            any_deadlines().prop_map(Order::Feed),
            (1i32..=64).prop_map(Order::Signal),
            Just(Order::Stop),
            Just(Order::Dismiss),
            any::<u64>().prop_map(Order::Cluster),
        ]
    }

    fn any_end() -> impl Strategy<Value = CommandEnd> {
        prop_oneof![
            any::<u8>().prop_map(CommandEnd::Exited),
            any::<u8>().prop_map(CommandEnd::Signaled),
            Just(CommandEnd::NotFound),
            Just(CommandEnd::NotExecutable),
            Just(CommandEnd::NotStarted),
            Just(CommandEnd::OnElectedFailed),
        ]
    }

    fn any_report() -> impl Strategy<Value = Report> {
        prop_oneof![
            any::<i32>().prop_map(Report::Started),
            any_deadlines().prop_map(Report::Fed),
            proptest::sample::select(REASONS.to_vec()).prop_map(Report::Ending),
            any_end().prop_map(Report::Ended),
            any_end().prop_map(Report::TreeExited),
            proptest::sample::select(PROGRAMS.to_vec()).prop_map(Report::Starting),
        ]
    }

    proptest! {
        #[test]
        fn orders_and_reports_arrive_as_they_were_sent(order in any_order(), report in any_report()) {
            prop_assert_eq!(Order::decode(&order.encode()), Some(order));
            prop_assert_eq!(Report::decode(&report.encode()), Some(report));
        }

        #[test]
        fn only_what_encode_makes_is_understood(words in any::<[u8; 40]>(), tag in 0u8..10, zeros in 1usize..40) {
            let mut packet = words;
            packet[..8].fill(0);
            packet[0] = tag;
            packet[40 - zeros.min(32)..].fill(0);
            for packet in [packet, words] {
                prop_assert!(Order::decode(&packet).is_none_or(|order| order.encode() == packet));
                prop_assert!(Report::decode(&packet).is_none_or(|report| report.encode() == packet));
            }
        }
    }

    #[test]
    fn invalid_messages_count_as_a_closed_connection() {
        for invalid in [&[0u8; 40][..], &[6], &[], &[&Order::Stop.encode()[..], &[0]].concat(), &[255; 40]] {
            let (ours, theirs) = pair().expect("a pair");
            send(theirs.as_raw_fd(), invalid, MsgFlags::empty()).expect("room");
            assert_eq!(Line::<Report>::new(ours).receive::<Order>(), Received::Gone, "{invalid:?}");
        }
        assert_eq!(Report::decode(&Report::GuardLost.encode()), None);
    }

    /// The guard is stopped meanwhile, and another process sends signals without end.
    #[test]
    fn only_real_time_signals_are_refused_when_the_outbox_is_full() {
        let (ours, theirs) = pair().expect("a pair");
        let (sender, receiver) = (Line::<Order>::new(ours), Line::<Report>::new(theirs));
        assert!((0..10_000).any(|_| !sender.send(Order::Signal(40))), "a message is refused when the outbox is full");
        for _ in 0..100 {
            let wanted =
                (1..32).map(Order::Signal).chain([Order::Feed(deadlines(1, 2)), Order::Lease(None), Order::Stop]);
            wanted.for_each(|order| assert!(sender.send(order), "{order:?}"));
        }
        assert!(sender.outbox.borrow().len() < 200);
        assert!(sender.send(Order::Dismiss));
        let mut received = Vec::new();
        loop {
            match receiver.receive::<Order>() {
                Received::Message(order) => received.push(order),
                Received::Nothing if sender.has_unsent() => assert!(sender.flush()),
                Received::Nothing => break,
                Received::Gone => panic!("gone"),
            }
        }
        received.retain(|order| *order != Order::Signal(40));
        let once = (1..32).map(Order::Signal);
        let once = once.chain([Order::Feed(deadlines(1, 2)), Order::Lease(None), Order::Stop, Order::Dismiss]);
        assert_eq!(received, once.collect::<Vec<_>>());
    }

    #[test]
    fn an_end_that_does_not_read_does_not_block_and_receives_the_latest_feed() {
        let (ours, theirs) = pair().expect("a pair");
        let (sender, receiver) = (Line::<Report>::new(ours), Line::<Order>::new(theirs));
        let fed = |n| Report::Fed(deadlines(n, n));
        for n in 0..10_000 {
            assert!(sender.send(fed(n)));
        }
        assert_eq!(*sender.outbox.borrow(), [fed(9_999)]);
        assert!(sender.send(Report::TreeExited(CommandEnd::Exited(0))));

        let mut last = None;
        loop {
            match receiver.receive::<Report>() {
                Received::Message(report) => last = Some(report),
                Received::Nothing if sender.has_unsent() => assert!(sender.flush()),
                Received::Nothing => break,
                Received::Gone => panic!("gone"),
            }
        }
        assert_eq!(last, Some(Report::TreeExited(CommandEnd::Exited(0))));
        assert!((0..1000).any(|_| !sender.send(Report::Started(1))), "a message is refused when the outbox is full");

        drop(sender);
        while let Received::Message(_) = receiver.receive::<Report>() {}
        assert_eq!(receiver.receive::<Report>(), Received::Gone);
        assert!(!{ receiver }.send(Order::Stop), "the other end is closed");
    }
}
