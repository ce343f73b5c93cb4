//! The endpoints of a cluster: one for each address that a configured name stands for at present.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use super::super::store::Store;

/// Which endpoint, for as long as the program runs: what was asked there may end after the endpoint has gone.
pub(super) type Id = usize;

/// All endpoints; never empty.
#[derive(Debug)]
pub(super) struct Endpoints<S> {
    /// As configured.
    names: Vec<Rc<S>>,
    /// What each name was resolved to last; before that it stands for itself, and cannot be asked anything.
    resolved: RefCell<Vec<Vec<Rc<S>>>>,
    /// Each address once, with its standing connection; at the end those that no name is resolved to any more.
    list: RefCell<Vec<(Id, Rc<S>)>>,
    next: Cell<Id>,
}

impl<S: Store> Endpoints<S> {
    pub(super) fn new(names: Vec<S>) -> Self {
        let names: Vec<_> = names.into_iter().map(Rc::new).collect();
        let resolved = RefCell::new(names.iter().map(|name| vec![Rc::clone(name)]).collect());
        let endpoints = Self { names, resolved, list: RefCell::default(), next: Cell::new(0) };
        endpoints.list_anew();
        endpoints
    }

    /// The names, as configured.
    pub(super) fn names(&self) -> &[Rc<S>] {
        &self.names
    }

    /// All endpoints, in the order of the names.
    pub(super) fn all(&self) -> Vec<(Id, Rc<S>)> {
        self.list.borrow().clone()
    }

    pub(super) fn len(&self) -> usize {
        self.list.borrow().len()
    }

    /// The endpoint that is `turns` after this one, or after the first if this one has gone.
    pub(super) fn after(&self, id: Id, turns: usize) -> (Id, Rc<S>) {
        let list = self.list.borrow();
        let place = list.iter().position(|(other, _)| *other == id).unwrap_or(0);
        let (id, store) = &list[(place + turns) % list.len()];
        (*id, Rc::clone(store))
    }

    /// Has this name stand for these endpoints. Those whose address was there before stay what they are.
    pub(super) fn resolved(&self, name: usize, endpoints: Vec<S>) {
        if !endpoints.is_empty() {
            self.resolved.borrow_mut()[name] = endpoints.into_iter().map(Rc::new).collect();
            self.list_anew();
        }
    }

    /// Replaces the standing connection of an endpoint, unless the endpoint has gone or `replace` leaves it.
    pub(super) fn replace(&self, id: Id, replace: impl FnOnce(&Rc<S>) -> Option<Rc<S>>) {
        let mut list = self.list.borrow_mut();
        if let Some((_, standing)) = list.iter_mut().find(|(other, _)| *other == id)
            && let Some(store) = replace(standing)
        {
            *standing = store;
        }
    }

    /// Those that a name stands for.
    pub(super) fn present(&self) -> Vec<Rc<S>> {
        let present = self.resolved.borrow();
        let is_present = |store: &Rc<S>| present.iter().flatten().any(|other| other.address() == store.address());
        self.list.borrow().iter().map(|(_, store)| store).filter(|store| is_present(store)).cloned().collect()
    }

    /// Of those that no name stands for any more, keeps only these.
    pub(super) fn retain_left(&self, keep: impl Fn(&S) -> bool) {
        let present: Vec<_> = self.present().iter().map(|store| store.address()).collect();
        self.list.borrow_mut().retain(|(_, store)| present.contains(&store.address()) || keep(store));
    }

    fn list_anew(&self) {
        let mut before = self.list.take();
        let mut list: Vec<(Id, Rc<S>)> = Vec::new();
        let resolved = self.resolved.borrow();
        let is_named = |name: &str| resolved.iter().flatten().any(|store| store.name() == name);
        for store in resolved.iter().flatten() {
            let address = store.address();
            if list.iter().any(|(_, other)| other.address() == address) {
                continue;
            }
            let known = before.iter().position(|(_, other)| other.address() == address);
            // At the same address there may be something else by another name: TLS instead of none.
            let known = known.map(|n| before.remove(n)).filter(|(_, known)| is_named(known.name()));
            list.push(known.unwrap_or_else(|| (self.next.replace(self.next.get() + 1), Rc::clone(store))));
        }
        list.append(&mut before);
        self.list.replace(list);
    }
}
