//! Conversions between the types of [`store`](super::store) and those of `etcd-client`.

use etcd_client::{
    Compare as EtcdCompare, CompareOp, DeleteOptions, GetOptions, PutOptions, SortOrder, SortTarget, Txn as EtcdTxn,
    TxnOp,
};

use crate::core::{
    kv::{Compare, Get, KeyValue, Op, Range, Txn},
    names::LeaseId,
};

pub(super) fn get(get: &Get, mut options: GetOptions) -> TxnOp {
    options = options.with_limit(get.limit.into()).with_revision(get.at.unwrap_or(0));
    if !get.values {
        options = options.with_keys_only();
    }
    if let Some(revision) = get.next_after {
        options = options.with_min_create_revision(revision + 1).with_sort(SortTarget::Create, SortOrder::Ascend);
    }
    match &get.range {
        Range::Key(key) => TxnOp::get(key.clone(), Some(options)),
        Range::Prefix(prefix) => TxnOp::get(prefix.clone(), Some(options.with_prefix())),
        Range::Between(from, to) => TxnOp::get(from.clone(), Some(options.with_range(to.clone()))),
    }
}

pub(super) fn key_value(kv: etcd_client::KeyValue) -> KeyValue {
    KeyValue {
        create_revision: kv.create_revision(),
        mod_revision: kv.mod_revision(),
        lease: (kv.lease() != 0).then(|| LeaseId(kv.lease())),
        key: kv.key().to_vec(),
        value: kv.value().to_vec(),
    }
}

pub(super) fn txn(txn: &Txn) -> EtcdTxn {
    let when: Vec<_> = txn.when.iter().map(compare_of).collect();
    let then: Vec<_> = txn.then.iter().map(op_of).collect();
    let etcd = EtcdTxn::new().when(when).and_then(then);
    match &txn.otherwise {
        Some(otherwise) => etcd.or_else([TxnOp::txn(self::txn(otherwise))]),
        None => etcd,
    }
}

fn compare_of(compare: &Compare) -> EtcdCompare {
    let each = |range: &Range, op, revision| {
        let created = |key: &Vec<u8>| EtcdCompare::create_revision(key.clone(), op, revision);
        match range {
            Range::Key(key) => created(key),
            Range::Prefix(prefix) => created(prefix).with_prefix(),
            Range::Between(from, to) => created(from).with_range(to.clone()),
        }
    };
    match compare {
        Compare::Absent(range) => each(range, CompareOp::Equal, 0),
        Compare::Older(range, revision) => each(range, CompareOp::Less, *revision),
        // etcd takes an empty range for a key that was created at revision 0.
        Compare::NotOlder(range, revision) => each(range, CompareOp::Greater, *revision - 1),
        Compare::Unchanged(key, revision) => EtcdCompare::mod_revision(key.clone(), CompareOp::Equal, *revision),
    }
}

fn op_of(op: &Op) -> TxnOp {
    match op {
        Op::Put(key, value, lease) => {
            TxnOp::put(key.clone(), value.clone(), Some(PutOptions::new().with_lease(lease.0)))
        }
        Op::Delete(key) => TxnOp::delete(key.clone(), Some(DeleteOptions::new())),
    }
}
