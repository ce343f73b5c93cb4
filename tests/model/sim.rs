//! A small executor on simulated time. Time jumps to the next event. All random numbers come from one seeded generator,
//! and the order of tasks is fixed, so that a seed determines the whole run.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, VecDeque},
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};

use etcd_await_election::core::clock::{Clock, Instant};
use harness::Random;

/// Microseconds of true time since the start of the run.
pub(crate) type Time = u64;

/// A second of true time.
pub(crate) const SECOND: Time = 1_000_000;
/// A millisecond of true time.
pub(crate) const MS: Time = 1_000;

/// An action at an instant.
enum Event {
    Wake(Waker),
    Call(Box<dyn FnOnce()>),
}

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// A task with the process it belongs to; `None` while it is being polled.
struct Slot {
    task: Option<Task>,
    process: Process,
    waker: Arc<TaskWaker>,
}

struct TaskWaker {
    id: u64,
    queued: AtomicBool,
    ready: Arc<Mutex<VecDeque<u64>>>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            self.ready.lock().expect("one thread").push_back(self.id);
        }
    }
}

/// The time, random numbers and tasks of the simulated world.
#[derive(Clone)]
pub(crate) struct Sim(Rc<Inner>);

struct Inner {
    now: Cell<Time>,
    next_id: Cell<u64>,
    rng: RefCell<Random>,
    events: RefCell<BTreeMap<(Time, u64), Event>>,
    tasks: RefCell<BTreeMap<u64, Slot>>,
    ready: Arc<Mutex<VecDeque<u64>>>,
    log: Option<RefCell<Vec<String>>>,
    /// The process of the task that is being polled.
    current: RefCell<Option<Process>>,
}

impl Sim {
    /// More polls than this at one instant are a busy loop.
    const BUSY: u32 = 100_000;

    pub(crate) fn new(seed: u64, log: bool) -> Self {
        Self(Rc::new(Inner {
            now: Cell::new(0),
            next_id: Cell::new(0),
            rng: RefCell::new(Random::new(seed)),
            events: RefCell::default(),
            tasks: RefCell::default(),
            ready: Arc::default(),
            log: log.then(RefCell::default),
            current: RefCell::default(),
        }))
    }

    pub(crate) fn now(&self) -> Time {
        self.0.now.get()
    }

    /// Returns a number from `from` up to, but not including, `to`.
    pub(crate) fn between(&self, from: u64, to: u64) -> u64 {
        from + self.0.rng.borrow_mut().below((to - from).max(1))
    }

    /// Returns true with this probability in percent.
    pub(crate) fn chance(&self, percent: u64) -> bool {
        self.between(0, 100) < percent
    }

    pub(crate) fn pick<'a, T>(&self, from: &'a [T]) -> &'a T {
        &from[self.0.rng.borrow_mut().index(from.len())]
    }

    /// Writes a line to the log of this run, if it has one.
    pub(crate) fn log(&self, line: impl FnOnce() -> String) {
        if let Some(log) = &self.0.log {
            let (seconds, millis) = (self.now() / SECOND, self.now() % SECOND / MS);
            log.borrow_mut().push(format!("{seconds:4}.{millis:03} {}", line()));
        }
    }

    /// Returns the process of the running task.
    pub(crate) fn current(&self) -> String {
        self.0.current.borrow().as_ref().map(|process| process.0.name.clone()).unwrap_or_default()
    }

    pub(crate) fn take_log(&self) -> Vec<String> {
        self.0.log.as_ref().map(RefCell::take).unwrap_or_default()
    }

    fn id(&self) -> u64 {
        self.0.next_id.set(self.0.next_id.get() + 1);
        self.0.next_id.get()
    }

    /// Calls `what` at `at`.
    pub(crate) fn at(&self, at: Time, what: impl FnOnce() + 'static) {
        self.0.events.borrow_mut().insert((at.max(self.now()), self.id()), Event::Call(Box::new(what)));
    }

    /// Calls `what` after this time.
    pub(crate) fn after(&self, delay: Time, what: impl FnOnce() + 'static) {
        self.at(self.now().saturating_add(delay), what);
    }

    pub(crate) fn sleep_until(&self, at: Time) -> Sleep {
        Sleep { sim: self.clone(), at, key: None }
    }

    pub(crate) fn sleep(&self, delay: Time) -> Sleep {
        self.sleep_until(self.now().saturating_add(delay))
    }

    /// Runs `task` as part of `process`.
    pub(crate) fn spawn(&self, process: &Process, task: impl Future<Output = ()> + 'static) {
        let id = self.id();
        let waker = Arc::new(TaskWaker { id, queued: AtomicBool::new(false), ready: Arc::clone(&self.0.ready) });
        let slot = Slot { task: Some(Box::pin(task)), process: process.clone(), waker: Arc::clone(&waker) };
        self.0.tasks.borrow_mut().insert(id, slot);
        process.0.tasks.borrow_mut().push(id);
        waker.wake();
    }

    /// Ends a process and all its tasks.
    pub(crate) fn kill(&self, process: &Process) {
        process.0.alive.set(false);
        for id in process.0.tasks.take() {
            // Dropped after the borrow, as dropping a task may affect other tasks.
            let slot = self.0.tasks.borrow_mut().remove(&id);
            drop(slot);
        }
    }

    /// Stops a process as SIGSTOP does: it receives all events later.
    pub(crate) fn freeze(&self, process: &Process) {
        process.0.frozen.set(true);
    }

    pub(crate) fn thaw(&self, process: &Process) {
        process.0.frozen.set(false);
        let mut ready = self.0.ready.lock().expect("one thread");
        ready.extend(process.0.missed.take());
    }

    /// Advances time until `end`.
    pub(crate) fn run_until(&self, end: Time) {
        loop {
            self.run_ready();
            let next = self.0.events.borrow().first_key_value().map(|(key, _)| *key);
            let Some(key) = next.filter(|(at, _)| *at <= end) else { break };
            let event = self.0.events.borrow_mut().remove(&key);
            self.0.now.set(key.0);
            match event {
                Some(Event::Wake(waker)) => waker.wake(),
                Some(Event::Call(call)) => call(),
                None => {}
            }
        }
        self.0.now.set(end);
    }

    fn run_ready(&self) {
        let mut polls = 0;
        loop {
            let next = self.0.ready.lock().expect("one thread").pop_front();
            let Some(id) = next else { return };
            polls += 1;
            assert!(polls < Self::BUSY, "a busy loop: time does not advance");
            let (mut task, process, waker) = {
                let mut tasks = self.0.tasks.borrow_mut();
                let Some(slot) = tasks.get_mut(&id) else { continue };
                if slot.process.0.frozen.get() {
                    slot.process.0.missed.borrow_mut().push(id);
                    continue;
                }
                slot.waker.queued.store(false, Ordering::Relaxed);
                let Some(task) = slot.task.take() else { continue };
                (task, slot.process.clone(), Arc::clone(&slot.waker))
            };
            self.0.current.replace(Some(process.clone()));
            let done = task.as_mut().poll(&mut Context::from_waker(&waker.into())).is_ready();
            if done {
                self.0.tasks.borrow_mut().remove(&id);
                process.0.tasks.borrow_mut().retain(|task| *task != id);
                if process.0.tasks.borrow().is_empty() {
                    process.0.alive.set(false);
                }
            } else if let Some(slot) = self.0.tasks.borrow_mut().get_mut(&id) {
                slot.task = Some(task);
            }
        }
    }

    /// Drops all remaining tasks, which may hold references to this simulation.
    pub(crate) fn end(&self) {
        drop(self.0.tasks.take());
        drop(self.0.events.take());
    }
}

/// One process of a machine: a group of tasks that is killed and frozen as one.
#[derive(Clone)]
pub(crate) struct Process(Rc<ProcessState>);

struct ProcessState {
    name: String,
    alive: Cell<bool>,
    frozen: Cell<bool>,
    tasks: RefCell<Vec<u64>>,
    /// The tasks that were woken while frozen.
    missed: RefCell<Vec<u64>>,
}

impl Process {
    pub(crate) fn new(name: &str) -> Self {
        Self(Rc::new(ProcessState {
            name: name.to_owned(),
            alive: Cell::new(true),
            frozen: Cell::default(),
            tasks: RefCell::default(),
            missed: RefCell::default(),
        }))
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.0.alive.get()
    }

    pub(crate) fn is_frozen(&self) -> bool {
        self.0.frozen.get()
    }
}

/// Completes at an instant of true time.
pub(crate) struct Sleep {
    sim: Sim,
    at: Time,
    key: Option<(Time, u64)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if self.sim.now() >= self.at {
            return Poll::Ready(());
        }
        let key = self.key.unwrap_or_else(|| (self.at, self.sim.id()));
        self.key = Some(key);
        self.sim.0.events.borrow_mut().insert(key, Event::Wake(context.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let (Some(key), Ok(mut events)) = (self.key, self.sim.0.events.try_borrow_mut()) {
            events.remove(&key);
        }
    }
}

/// The clock of one machine, with its own rate and offset.
#[derive(Clone)]
pub(crate) struct MachineClock {
    pub(crate) sim: Sim,
    /// Its rate, in parts per million of true time.
    pub(crate) rate: u64,
    /// Its time at the start of the run.
    pub(crate) offset: u64,
}

impl MachineClock {
    const TRUE: u128 = 1_000_000;

    /// Returns the first instant of true time at which this clock shows `deadline` or later.
    fn true_time(&self, deadline: Instant) -> Time {
        // Rounded up, or it would wake before the deadline again and again.
        let shown = deadline.since_boot().as_nanos().div_ceil(1_000).saturating_sub(u128::from(self.offset));
        Time::try_from((shown.saturating_mul(Self::TRUE)).div_ceil(u128::from(self.rate))).unwrap_or(Time::MAX)
    }
}

impl Clock for MachineClock {
    fn now(&self) -> Instant {
        let shown = u128::from(self.sim.now()) * u128::from(self.rate) / Self::TRUE;
        Instant::from_boot(Duration::from_micros(self.offset + Time::try_from(shown).unwrap_or(Time::MAX)))
    }

    async fn sleep_until(&self, deadline: Instant) {
        self.sim.sleep_until(self.true_time(deadline)).await;
    }
}
