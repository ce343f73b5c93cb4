//! A simulated command: a main process and its descendants. It takes some time to start, may exit by itself, ignore
//! SIGTERM and leave descendants; only SIGKILL always works, within milliseconds.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

use etcd_await_election::guard::{CommandEnd, Program, switch::Event};
use tokio::sync::{Notify, mpsc::UnboundedSender};

use crate::{
    oracle::Oracle,
    sim::{MS, SECOND, Sim, Time},
};

/// The behavior of commands in one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habits {
    /// The percentage of commands that exit by themselves, and the longest time until then.
    pub(crate) ends: u64,
    pub(crate) lives: (Time, Time),
    /// The percentage of processes that ignore SIGTERM.
    pub(crate) stubborn: u64,
    /// The longest time from SIGTERM to the end of a process.
    pub(crate) slowest: Time,
}

/// All processes of one instance's commands.
pub(crate) struct Tree {
    sim: Sim,
    name: String,
    oracle: Rc<Oracle>,
    habits: Rc<Cell<Habits>>,
    /// The time from SIGTERM to the end of each process; `None` ignores it.
    alive: RefCell<BTreeMap<i32, Option<Time>>>,
    main: Cell<Option<i32>>,
    next_pid: Cell<i32>,
    /// The token of the term.
    token: Cell<i64>,
    /// Whether the first program of the term has not been started.
    is_first: Cell<bool>,
    /// The receiver of exits: the guard, while it lives.
    reaper: RefCell<Option<UnboundedSender<Event>>>,
    gone: Notify,
}

impl Tree {
    pub(crate) fn new(sim: &Sim, name: &str, oracle: &Rc<Oracle>, habits: &Rc<Cell<Habits>>) -> Rc<Self> {
        Rc::new(Self {
            sim: sim.clone(),
            name: name.to_owned(),
            oracle: Rc::clone(oracle),
            habits: Rc::clone(habits),
            alive: RefCell::default(),
            main: Cell::default(),
            next_pid: Cell::new(100),
            token: Cell::default(),
            is_first: Cell::default(),
            reaper: RefCell::default(),
            gone: Notify::new(),
        })
    }

    pub(crate) fn is_gone(&self) -> bool {
        self.alive.borrow().is_empty()
    }

    /// Completes when all processes have ended.
    pub(crate) async fn gone(&self) {
        while !self.is_gone() {
            self.gone.notified().await;
        }
    }

    fn tell(&self, event: Event) {
        if let Some(reaper) = &*self.reaper.borrow() {
            // The guard may have ended.
            let _ = reaper.send(event);
        }
    }

    /// The next program is the first one with this token.
    pub(crate) fn begin(&self, token: i64) {
        self.token.set(token);
        self.is_first.set(true);
    }

    /// Forks and executes a program for `reaper`. To the oracle a hook is a command as well.
    pub(crate) fn start(self: &Rc<Self>, program: Program, reaper: &UnboundedSender<Event>) {
        *self.reaper.borrow_mut() = Some(reaper.clone());
        if program == Program::Command && self.habits.get().ends > 0 && self.sim.chance(1) {
            self.tell(Event::MainEnded(CommandEnd::NotFound));
            return self.tell(Event::TreeExited);
        }
        if self.is_first.take() {
            self.oracle.start(&self.name, self.token.get());
        } else {
            self.oracle.go_on(&self.name, self.token.get());
        }
        let main = self.fork();
        self.main.set(Some(main));
        let habits = self.habits.get();
        let execution = if self.sim.chance(10) { self.sim.between(0, SECOND) } else { self.sim.between(MS, 20 * MS) };
        self.later(execution, main, move |tree| {
            tree.tell(Event::Started(main));
            for _ in 0..tree.sim.between(0, 3) {
                tree.later(tree.sim.between(0, 3 * SECOND), main, |tree| {
                    tree.fork();
                });
            }
            if program != Program::Command {
                // ON_STOPPED may hang.
                let hangs = program == Program::OnStopped && tree.sim.chance(20);
                let code = u8::from(tree.sim.chance(10));
                let life = tree.sim.between(MS, SECOND);
                if !hangs {
                    tree.later(life, main, move |tree| tree.end(main, CommandEnd::Exited(code)));
                }
                return;
            }
            if tree.sim.chance(habits.ends) {
                let code = u8::try_from(tree.sim.between(0, 3)).expect("small");
                let life = tree.sim.between(habits.lives.0, habits.lives.1);
                tree.later(life, main, move |tree| tree.end(main, CommandEnd::Exited(code)));
            }
        });
    }

    fn fork(self: &Rc<Self>) -> i32 {
        let pid = self.next_pid.replace(self.next_pid.get() + 1);
        let habits = self.habits.get();
        let follows = (!self.sim.chance(habits.stubborn)).then(|| self.sim.between(MS, habits.slowest));
        self.alive.borrow_mut().insert(pid, follows);
        pid
    }

    /// Calls `what` later, if the process still lives then.
    fn later(self: &Rc<Self>, delay: Time, pid: i32, what: impl FnOnce(&Rc<Self>) + 'static) {
        let tree = Rc::clone(self);
        self.sim.after(delay, move || {
            if tree.alive.borrow().contains_key(&pid) {
                what(&tree);
            }
        });
    }

    fn end(&self, pid: i32, how: CommandEnd) {
        self.alive.borrow_mut().remove(&pid);
        let is_main = self.main.get() == Some(pid);
        if is_main {
            self.main.set(None);
        }
        if self.is_gone() {
            self.oracle.stop(&self.name);
        }
        if is_main {
            self.tell(Event::MainEnded(how));
        }
        if self.is_gone() {
            self.tell(Event::TreeExited);
            self.gone.notify_waiters();
        }
    }

    fn signal(self: &Rc<Self>, pid: i32) {
        let follows = self.alive.borrow().get(&pid).copied().flatten();
        if let Some(delay) = follows {
            self.later(delay, pid, move |tree| tree.end(pid, CommandEnd::Signaled(15)));
        }
    }

    /// Sends SIGTERM to the main process.
    pub(crate) fn terminate(self: &Rc<Self>) {
        self.oracle.stopping();
        self.main.get().iter().for_each(|main| self.signal(*main));
    }

    fn processes(&self) -> Vec<i32> {
        self.alive.borrow().keys().copied().collect()
    }

    /// Sends SIGTERM to all processes except the main process.
    pub(crate) fn terminate_rest(self: &Rc<Self>) {
        let main = self.main.get();
        self.processes().into_iter().filter(|pid| Some(*pid) != main).for_each(|pid| self.signal(pid));
    }

    /// Sends SIGKILL to all present processes.
    pub(crate) fn kill(self: &Rc<Self>) {
        self.processes().into_iter().for_each(|pid| self.kill_one(pid));
    }

    fn kill_one(self: &Rc<Self>, pid: i32) {
        self.later(self.sim.between(MS / 10, 8 * MS), pid, move |tree| tree.end(pid, CommandEnd::Signaled(9)));
    }

    /// After the death of the guard the kernel kills the main process, and the gatekeeper adopts the other ones.
    pub(crate) fn orphaned(self: &Rc<Self>) {
        *self.reaper.borrow_mut() = None;
        self.main.get().iter().for_each(|main| self.kill_one(*main));
    }
}
