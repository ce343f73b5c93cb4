//! The machines: each with its clock, its links to etcd, and one instance at a time, started by a supervisor.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use etcd_await_election::{
    core::{clock::Clock as _, exit_code::Exit, names::LeaseId},
    etcd::{
        client::{EtcdClient, RequestTimeouts},
        membership::Membership,
        store::Store as _,
    },
    gatekeeper::{self, RunSettings, lifecycle::Instance as Gatekeeper},
    guard::switch::Hooks,
    settings::ElectionConfig,
};
use futures_util::stream;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::{
    command::{Habits, Tree},
    endpoint::{Endpoint, Mutated},
    guard::{GuardProcess, Handle, Mutation},
    mutant::Mutant,
    net::Net,
    oracle::Oracle,
    sim::{MS, MachineClock, Process, SECOND, Sim},
};

/// Everything in one run.
pub(crate) struct World {
    pub(crate) sim: Sim,
    pub(crate) net: Net,
    pub(crate) oracle: Rc<Oracle>,
    pub(crate) machines: Vec<Machine>,
    pub(crate) habits: Rc<Cell<Habits>>,
    pub(crate) hooks: Hooks,
    pub(crate) mutant: Option<Mutant>,
    /// The percentage of instances that start with FORCE_ACQUIRE.
    pub(crate) forces: Cell<u64>,
    /// Whether faults occur and peers take part.
    pub(crate) troubled: Cell<bool>,
}

/// One machine with one configuration.
pub(crate) struct Machine {
    pub(crate) clock: MachineClock,
    pub(crate) config: ElectionConfig,
    pub(crate) current: RefCell<Option<Instance>>,
    pub(crate) started: Cell<u32>,
    /// Whether the supervisor restarts an instance that has ended.
    pub(crate) wanted: Cell<bool>,
}

/// One instance: gatekeeper, guard and command.
#[derive(Clone)]
pub(crate) struct Instance {
    pub(crate) name: String,
    pub(crate) gatekeeper: Process,
    pub(crate) guard: Process,
    pub(crate) tree: Rc<Tree>,
    pub(crate) signals: UnboundedSender<i32>,
}

impl Instance {
    /// Returns whether it has no fault yet, so that another one is its only fault.
    pub(crate) fn is_sound(&self) -> bool {
        [&self.gatekeeper, &self.guard].iter().all(|process| process.is_alive() && !process.is_frozen())
    }

    pub(crate) fn is_over(&self) -> bool {
        !self.gatekeeper.is_alive() && !self.guard.is_alive() && self.tree.is_gone()
    }
}

impl World {
    pub(crate) fn instance(&self, machine: usize) -> Option<Instance> {
        self.machines[machine].current.borrow().clone()
    }

    fn cluster(&self, machine: usize) -> EtcdClient<Mutated, MachineClock> {
        let Machine { clock, config, .. } = &self.machines[machine];
        let own = Rc::default();
        let endpoint = |member| Mutated {
            endpoint: Endpoint::new(&self.net, machine, member),
            mutant: self.mutant,
            lock: config.lock.clone(),
            oracle: Rc::clone(&self.oracle),
            own: Rc::clone(&own),
        };
        let endpoints: Vec<_> = (0..self.net.members()).map(endpoint).collect();
        let membership = Membership::of(endpoints.iter().map(|endpoint| endpoint.name().to_owned()), None);
        EtcdClient::new(endpoints, membership.into(), clock.clone(), RequestTimeouts::of(&config.timing))
    }

    /// Starts an instance on a machine.
    pub(crate) fn start(self: &Rc<Self>, machine: usize, force: bool) {
        let place = &self.machines[machine];
        let name = format!("i{machine}.{}", place.started.get());
        place.started.set(place.started.get() + 1);
        self.sim.log(|| format!("{name} starts{}", if force { ", forcing" } else { "" }));
        let tree = Tree::new(&self.sim, &name, &self.oracle, &self.habits);
        let (orders, events) = unbounded_channel();
        let (reports_in, reports) = unbounded_channel();
        let (gatekeeper, guard) = (Process::new(&name), Process::new(&format!("{name} guard")));
        let world = Rc::clone(self);
        let process = GuardProcess {
            clock: place.clock.clone(),
            stop_grace: place.config.timing.stop_grace(),
            hooks: self.hooks,
            tree: Rc::clone(&tree),
            events,
            own: orders.clone(),
            reports: reports_in,
            name: name.clone(),
            release: Box::new(move |lease| world.release(machine, lease)),
        };
        self.sim.spawn(&guard, process.run());
        let mutation = Mutation::new(self.mutant, place.config.timing);
        let handle = Handle::new(place.clock.clone(), guard.clone(), Rc::clone(&tree), orders, reports, mutation);
        let (signals, mut signals_out) = unbounded_channel();
        *place.current.borrow_mut() = Some(Instance { name, gatekeeper: gatekeeper.clone(), guard, tree, signals });
        let world = Rc::clone(self);
        let config = ElectionConfig { force, ..place.config.clone() };
        self.sim.spawn(&gatekeeper, async move {
            let instance = Gatekeeper::new(&config, world.machines[machine].clock.clone());
            let etcd = world.cluster(machine);
            let settings = RunSettings { stop_signal: 15, restart_pause: Duration::ZERO };
            let signals = stream::poll_fn(move |context| signals_out.poll_recv(context));
            let exit = gatekeeper::run(&etcd, &config, settings, &handle, signals, None, &instance).await;
            world.ended(machine, Some(exit));
        });
    }

    /// Restarts an instance whose gatekeeper has ended.
    pub(crate) fn ended(self: &Rc<Self>, machine: usize, exit: Option<Exit>) {
        let n = self.machines[machine].started.get();
        self.sim.log(|| format!("i{machine}.{} ended: {exit:?}", n - 1));
        // Two machines with one identity would replace each other for ever.
        if exit == Some(Exit::IdentityTaken) {
            self.machines[machine].wanted.set(false);
        }
        let world = Rc::clone(self);
        self.sim.after(self.sim.between(50 * MS, 3 * SECOND), move || {
            let place = &world.machines[machine];
            if place.wanted.get() && place.started.get() == n {
                world.start(machine, world.sim.chance(world.forces.get()));
            }
        });
    }

    /// Sends SIGKILL to the gatekeeper.
    pub(crate) fn kill_gatekeeper(self: &Rc<Self>, machine: usize) {
        if let Some(instance) = self.instance(machine) {
            self.sim.kill(&instance.gatekeeper);
            self.ended(machine, None);
        }
    }

    /// SIGTERM to the gatekeeper.
    pub(crate) fn terminate(&self, machine: usize) {
        if let Some(instance) = self.instance(machine) {
            self.sim.log(|| format!("{} gets SIGTERM", instance.name));
            let _ = instance.signals.send(15);
        }
    }

    /// The process that revokes the lease of a killed gatekeeper.
    fn release(self: &Rc<Self>, machine: usize, lease: LeaseId) {
        let world = Rc::clone(self);
        self.sim.spawn(&Process::new(&format!("i{machine} release")), async move {
            world.sim.sleep(world.sim.between(5 * MS, 60 * MS)).await;
            let Machine { clock, config, .. } = &world.machines[machine];
            let limit = clock.now() + config.timing.lease().min(Duration::from_secs(10));
            let _ = clock.before(limit, world.cluster(machine).revoke(lease)).await;
        });
    }
}
