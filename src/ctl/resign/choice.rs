//! Which standby takes over, or why none can.

use std::cmp::Reverse;

use crate::{
    core::{kv::KeyValue, names::LeaseId, text::escaped},
    election::{
        keys::Request,
        pause::Pause,
        view::{Entry, View},
    },
};

/// A leader, and the standby that leadership moves to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) holder: KeyValue,
    pub(super) standby: Entry,
    pub(super) request: Request,
}

/// Chooses the standby with this identity, or the next one in the queue.
pub(super) fn choose(view: &View, to: Option<&str>) -> Result<Choice, String> {
    if let Some(pause) = &view.pause {
        return Err(format!("it is paused {}; end that with ctl resume first", Pause::read(&pause.value)));
    }
    let Some(holder) = &view.holder else { return Err("nobody leads".to_owned()) };
    let name = escaped(&holder.identity()).into_owned();
    let Some(lease) = holder.lease else {
        return Err(format!("the holder key of {name} has no lease: it was written by hand; delete it"));
    };
    if view.holder_without_entry().is_some() {
        return Err(format!("the leader, {name}, is the Go tool, which cannot be asked to hand over; stop it there"));
    }
    let standbys: Vec<&Entry> = view.entries.iter().filter(|entry| entry.ours && entry.lease != lease).collect();
    let standby = match to {
        // The oldest entry among those with the highest priority.
        None => *standbys.iter().min_by_key(|entry| Reverse(entry.priority)).ok_or_else(|| nobody(view, lease))?,
        Some(to) => named(to, &standbys, &holder.identity())?,
    };
    let request = Request { to: Some(lease), lease: standby.lease };
    Ok(Choice { holder: holder.clone(), standby: standby.clone(), request })
}

fn nobody(view: &View, leader: LeaseId) -> String {
    let others = view.entries.iter().filter(|entry| entry.lease != leader).count();
    match others {
        0 => "no standby can take over: nobody waits".to_owned(),
        1 => "no standby can take over: the only other entry in the queue belongs to another etcd client".to_owned(),
        _ => format!("no standby can take over: all {others} other entries in the queue belong to other etcd clients"),
    }
}

fn named<'a>(to: &str, standbys: &[&'a Entry], leader: &str) -> Result<&'a Entry, String> {
    let mut found = standbys.iter().filter(|entry| entry.kv.identity() == to);
    match (found.next(), found.count()) {
        (Some(entry), 0) => Ok(entry),
        (Some(_), others) => Err(format!("{} standbys have the identity {}", others + 1, escaped(to))),
        (None, _) if leader == to => Err(format!("{} leads already", escaped(to))),
        (None, _) => {
            let names: Vec<_> =
                standbys.iter().take(5).map(|entry| escaped(&entry.kv.identity()).into_owned()).collect();
            let there =
                if names.is_empty() { "there is none".to_owned() } else { format!("there are {}", names.join(", ")) };
            Err(format!("no standby has the identity {}; {there}", escaped(to)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::kv::Snapshot;

    fn view(keys: &[(&str, &str, i64)]) -> View {
        let kv = |(n, (key, value, lease)): (usize, &(&str, &str, i64))| KeyValue {
            key: (*key).into(),
            value: (*value).into(),
            create_revision: n as i64 + 1,
            mod_revision: n as i64 + 1,
            lease: (*lease != 0).then_some(LeaseId(*lease)),
        };
        let keys = keys.iter().enumerate().map(kv).collect();
        View::new(&"a".parse().expect("a name"), Snapshot { revision: 99, keys, ..Snapshot::default() })
    }

    #[test]
    fn the_next_standby_of_this_program_or_the_named_one() {
        let leader = [("a", "x", 1), ("a/~entry/1", "x", 1)];
        let queue = [&leader[..], &[("a/c0", "", 0xc0), ("a/~entry/2", "y", 2), ("a/~entry/3", "z", 3)]].concat();
        let chosen = |to| choose(&view(&queue), to).expect("a standby").request;
        assert_eq!(chosen(None), Request { to: Some(LeaseId(1)), lease: LeaseId(2) });
        assert_eq!(chosen(Some("z")), Request { to: Some(LeaseId(1)), lease: LeaseId(3) });
        let with = |more: &[(&'static str, &'static str, i64)]| [&queue, more].concat();
        for (keys, to, why) in [
            (vec![], None, "nobody leads"),
            (queue[1..].to_vec(), None, "nobody leads"),
            (leader.to_vec(), None, "no standby can take over: nobody waits"),
            (queue[..3].to_vec(), None, "the only other entry in the queue belongs to another etcd client"),
            ([&queue[..3], &[("a/c1", "", 0xc1)]].concat(), None, "all 2 other entries"),
            (vec![("a", "go", 9), ("a/~entry/2", "y", 2)], None, "the leader, go, is the Go tool"),
            (vec![("a", "x", 0), ("a/~entry/2", "y", 2)], None, "has no lease"),
            (with(&[("a/~pause", r#"{"by":"root@h"}"#, 7)]), None, "it is paused until an unknown time by root@h"),
            (queue.clone(), Some("x"), "x leads already"),
            (queue.clone(), Some("w"), "no standby has the identity w; there are y, z"),
            (leader.to_vec(), Some("w"), "no standby has the identity w; there is none"),
            (with(&[("a/~entry/4", "z", 4)]), Some("z"), "2 standbys have the identity z"),
        ] {
            let refused = choose(&view(&keys), to).expect_err(why);
            assert!(refused.contains(why), "{refused}");
        }
    }
}
