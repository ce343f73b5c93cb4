//! etcd is restored from a backup.

use harness::{Cluster, End, Timing, etcdctl::etcdutl};

use crate::world_on;

const TIMING: Timing = Timing::SHORT;

/// A snapshot is older than the latest fencing token; the steps of docs/operations.md keep tokens growing.
#[test]
fn fencing_tokens_still_grow_after_a_restore_that_bumps_the_revision() {
    // etcdutl has the option since 3.5.10.
    let Some(etcdutl) = etcdutl().filter(|_| Cluster::version() >= (3, 5, 10)) else {
        eprintln!("SKIPPED: this etcd has no etcdutl that can bump the revision");
        return;
    };
    let world = world_on(Cluster::builder().size(1).create());
    let member = world.cluster().member(0);
    let etcdctl = world.cluster().etcdctl();
    let snapshot = world.directory().join("snapshot");
    let term = |name: &str| {
        let candidate = world.candidate(name).timing(TIMING).start();
        let token = candidate.leads_within(TIMING.latest_failover() + Timing::START);
        (candidate, token)
    };
    let (a, _) = term("a");
    etcdctl.must(&["snapshot", "save", &snapshot.display().to_string()]);
    a.terminate();
    a.wait_exit(Timing::SWIFT);
    let (b, before) = term("b");
    b.terminate();
    assert_eq!(b.wait_exit(Timing::SWIFT), End::Code(0));

    // Without the bump the next token would have been used before.
    member.restore(&etcdutl, &snapshot, &[]).expect("restoring it");
    world.cluster().wait_healthy();
    let revision = etcdctl.revision().expect("it answers");
    assert!(revision < before, "revision {revision}, token {before}");

    member.restore(&etcdutl, &snapshot, &["--bump-revision=1000000000", "--mark-compacted"]).expect("restoring it");
    world.cluster().wait_healthy();
    let (_c, after) = term("c");
    assert!(after > before, "{after} after {before}");
    world.verdict();
}
