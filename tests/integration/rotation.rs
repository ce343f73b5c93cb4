//! Certificates that are replaced under a leader and a standby.

use std::{fs, time::Duration};

use harness::{Cluster, Proxy, Timing, certificates::Pair, eventually, journal::now};

use crate::{between, shared_world, undisturbed, world_on};

const TIMING: Timing = Timing::MEDIUM;

/// The old certificates have expired when the connections break, so only the new files can work.
#[test]
fn an_expiring_client_certificate_is_replaced_in_time() {
    let world = shared_world();
    let certificates = world.cluster().certificates();
    let (cert, key) = (world.directory().join("client.crt"), world.directory().join("client.key"));
    let install = |pair: &Pair| {
        fs::copy(&pair.key, &key).expect("copying the key");
        fs::copy(&pair.cert, &cert).expect("copying the certificate");
    };
    let lifetime = Duration::from_secs(12);
    let issued = now();
    let ending = certificates.short_lived("ending", lifetime);
    install(&ending);
    let proxies = world.proxies();
    let start =
        |name: &str| world.candidate(name).timing(TIMING).via(&proxies).set("CERT", &cert).set("KEY", &key).start();
    let a = start("a");
    a.leads();
    let b = start("b");
    b.waits();
    install(&certificates.client);
    // Certificates have a resolution of one second.
    let left = (lifetime + Duration::from_secs(2)).saturating_sub(between(issued, now()));
    undisturbed(&a, left);
    let path = |path: &std::path::Path| path.display().to_string();
    let old = [format!("--cert={}", path(&ending.cert)), format!("--key={}", path(&ending.key))];
    let etcdctl = world.cluster().etcdctl().with(&[&old[0], &old[1]]).within(Duration::from_secs(2));
    etcdctl.revision().expect_err("the old one has ended");
    proxies.iter().for_each(Proxy::reset);
    undisturbed(&a, TIMING.lease());
    a.terminate();
    b.leads_within(Timing::SWIFT);
    world.verdict();
}

/// As operators do it: trust both CAs, replace the certificates, trust only the new CA, and restart the members one at
/// a time.
#[test]
fn replacing_the_ca_does_not_disturb_leader_and_standby() {
    let world = world_on(Cluster::builder().create());
    let cluster = world.cluster();
    let (a, b) = crate::leader_and_standby(world.candidate("a").timing(TIMING), world.candidate("b").timing(TIMING));
    let pid = a.command_pid();
    let one_at_a_time = || {
        for member in cluster.members() {
            member.restart();
            cluster.wait_healthy();
        }
    };
    let next = cluster.certificates().next_ca();
    next.trust_both();
    one_at_a_time();
    next.issue();
    one_at_a_time();
    next.trust_only_new();
    one_at_a_time();
    assert_eq!((a.command_pid(), a.lives().len()), (pid, 1), "{}", a.stderr());
    undisturbed(&a, TIMING.renew);
    a.terminate();
    b.leads_within(Timing::SWIFT);
    let c = world.candidate("c").timing(TIMING).start();
    c.waits();
    world.verdict();
}

/// A rotation is not atomic: a certificate and key that do not match, or a truncated file, must not end an instance.
#[test]
fn inconsistent_certificate_files_for_a_moment_do_not_disturb_the_leader() {
    let world = shared_world();
    let good = &world.cluster().certificates().client;
    let (cert, key) = (world.directory().join("client.crt"), world.directory().join("client.key"));
    let restore = || {
        fs::copy(&good.key, &key).expect("copying the key");
        fs::copy(&good.cert, &cert).expect("copying the certificate");
    };
    restore();
    let proxies = world.proxies();
    let start =
        |name: &str| world.candidate(name).timing(TIMING).via(&proxies).set("CERT", &cert).set("KEY", &key).start();
    let a = start("a");
    a.leads();
    let b = start("b");
    b.waits();
    let text = fs::read_to_string(&good.cert).expect("a certificate");
    let foreign = &world.cluster().certificates().foreign;
    let tears: [&dyn Fn(); 4] = [
        &|| drop(fs::copy(&foreign.key, &key)),
        &|| drop(fs::write(&cert, &text[..text.len() / 2])),
        &|| drop(fs::write(&key, "")),
        &|| drop(fs::remove_file(&cert)),
    ];
    for tear in tears {
        tear();
        proxies.iter().for_each(Proxy::reset);
        undisturbed(&a, TIMING.earliest_stop() / 3);
        restore();
        undisturbed(&a, 2 * TIMING.retry);
        assert_eq!(b.end(), None, "{}", b.stderr());
    }
    eventually(Timing::START, "b stands in the queue", || match b.code("/readyz") {
        200 => Ok(()),
        code => Err(format!("{code}: {}", b.stderr())),
    });
    a.terminate();
    b.leads_within(Timing::SWIFT);
    world.verdict();
}
