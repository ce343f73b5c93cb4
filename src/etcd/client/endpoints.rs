//! The endpoints of a cluster: one for each address that a configured name resolves to at present.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use super::super::store::Store;

/// Identifies an endpoint as long as the program runs: its requests may end after it was removed.
pub(super) type Id = usize;

/// All endpoints; never empty.
#[derive(Debug)]
pub(super) struct Endpoints<S> {
    /// The configured names.
    names: Vec<Rc<S>>,
    /// The latest result of each name; before that the name itself, to which no request can be sent.
    resolved: RefCell<Vec<Vec<Rc<S>>>>,
    /// Each address once, with its open connection; at the end those that no name resolves to any more.
    list: RefCell<Vec<(Id, Rc<S>)>>,
    next: Cell<Id>,
}

impl<S: Store> Endpoints<S> {
    pub(super) fn new(names: Vec<S>) -> Self {
        let names: Vec<_> = names.into_iter().map(Rc::new).collect();
        let resolved = RefCell::new(names.iter().map(|name| vec![Rc::clone(name)]).collect());
        let endpoints = Self { names, resolved, list: RefCell::default(), next: Cell::new(0) };
        endpoints.rebuild_list();
        endpoints
    }

    pub(super) fn names(&self) -> &[Rc<S>] {
        &self.names
    }

    /// Returns all endpoints in the order of the names.
    pub(super) fn all(&self) -> Vec<(Id, Rc<S>)> {
        self.list.borrow().clone()
    }

    pub(super) fn len(&self) -> usize {
        self.list.borrow().len()
    }

    /// Returns the endpoint that comes `steps` after this one, or after the first if this one was removed.
    pub(super) fn after(&self, id: Id, steps: usize) -> (Id, Rc<S>) {
        let list = self.list.borrow();
        let index = list.iter().position(|(other, _)| *other == id).unwrap_or(0);
        let (id, store) = &list[(index + steps) % list.len()];
        (*id, Rc::clone(store))
    }

    /// Sets the endpoints that a name resolves to. Those whose address is known keep their connections.
    pub(super) fn resolved(&self, name: usize, endpoints: Vec<S>) {
        if !endpoints.is_empty() {
            self.resolved.borrow_mut()[name] = endpoints.into_iter().map(Rc::new).collect();
            self.rebuild_list();
        }
    }

    /// Replaces the open connection of an endpoint, unless the endpoint was removed or `replace` returns `None`.
    pub(super) fn replace(&self, id: Id, replace: impl FnOnce(&Rc<S>) -> Option<Rc<S>>) {
        let mut list = self.list.borrow_mut();
        if let Some((_, open)) = list.iter_mut().find(|(other, _)| *other == id)
            && let Some(store) = replace(open)
        {
            *open = store;
        }
    }

    /// Returns the endpoints that a name resolves to at present.
    pub(super) fn present(&self) -> Vec<Rc<S>> {
        let present = self.resolved.borrow();
        let is_present = |store: &Rc<S>| present.iter().flatten().any(|other| other.address() == store.address());
        self.list.borrow().iter().map(|(_, store)| store).filter(|store| is_present(store)).cloned().collect()
    }

    /// Removes the endpoints that no name resolves to any more, except those to `keep`.
    pub(super) fn retain_departed(&self, keep: impl Fn(&S) -> bool) {
        let present: Vec<_> = self.present().iter().map(|store| store.address()).collect();
        self.list.borrow_mut().retain(|(_, store)| present.contains(&store.address()) || keep(store));
    }

    fn rebuild_list(&self) {
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
            // By another name it may be reached differently: with TLS instead of without.
            let known = known.map(|n| before.remove(n)).filter(|(_, known)| is_named(known.name()));
            list.push(known.unwrap_or_else(|| (self.next.replace(self.next.get() + 1), Rc::clone(store))));
        }
        list.append(&mut before);
        self.list.replace(list);
    }
}
