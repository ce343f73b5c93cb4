//! Members of etcd that are discovered by DNS SRV records.

use std::{net::IpAddr, sync::Arc, time::Duration};

use harness::{
    Candidate, Cluster, End, Names, Proxy, Setup, Timing, World,
    address::{Address, CLIENT_PORT},
    certificates::NAME,
    eventually, throughout,
};

use crate::{undisturbed, world_on};

const TIMING: Timing = Timing::MEDIUM;
const DOMAIN: &str = "example.test";
const PLAIN: &str = "_etcd-client._tcp.example.test";
const TLS: &str = "_etcd-client-ssl._tcp.example.test";
const TARGETS: [&str; 4] = ["m0.example.test", "m1.example.test", "m2.example.test", "m3.example.test"];

fn setup(world: &World, names: &Names, name: &str) -> Setup {
    world.candidate(name).timing(TIMING).names(names).unset("ENDPOINTS").set("DISCOVERY_SRV", DOMAIN)
}

/// Sets the addresses of the targets and the records of the service.
fn serve(names: &Names, service: &str, ips: &[IpAddr]) {
    for (target, ip) in TARGETS.iter().zip(ips) {
        names.set(target, &[*ip]);
    }
    let records: Vec<_> = TARGETS.iter().take(ips.len()).map(|target| (service, *target, CLIENT_PORT)).collect();
    names.dns_serves(&records);
}

/// Start, `ctl show`, DNS that fails or hangs under a leader, and the end.
#[test]
fn members_are_discovered_and_kept_while_dns_fails() {
    let Some(names) = Names::with_dns() else { return };
    let world = world_on(Cluster::builder().plain().create());
    serve(&names, PLAIN, &world.cluster().ips());
    let a = setup(&world, &names, "a").start();
    a.leads();
    a.logs("name http://m0.example.test:23790, http://m1.example.test:23790, http://m2.example.test:23790");
    let show = setup(&world, &names, "asking").unset("STATUS_ENDPOINT").flag("ctl").flag("show").command::<&str>([]);
    let (end, asking) = show.run();
    assert_eq!(end, End::Code(0), "{}", asking.stderr());
    assert!(asking.stdout().contains("held by a"), "{}", asking.stdout());
    names.dns_fails();
    // One of them is the member that it is connected to.
    for (n, member) in world.cluster().members().iter().enumerate() {
        match n {
            1 => names.dns_hangs(),
            2 => names.dns_serves(&[]),
            _ => {}
        }
        member.kill();
        undisturbed(&a, TIMING.renew);
        member.start();
        world.cluster().wait_healthy();
    }
    a.terminate();
    assert_eq!(a.wait_exit(Timing::SWIFT), End::Code(0));
    assert_eq!(world.keys(), Ok(Vec::new()));
    world.verdict();
}

/// As when the members are replaced one after the other.
#[test]
fn changed_records_are_used_without_a_restart() {
    let Some(names) = Names::with_dns() else { return };
    let world = world_on(Cluster::builder().plain().create());
    let places = [(); 3].map(|()| Address::claim());
    let members = world.cluster().members().iter().zip(&places);
    let proxies: Vec<Proxy> = members.map(|(member, place)| Proxy::elsewhere(member, place)).collect();
    for (target, place) in TARGETS.iter().zip(&places) {
        names.set(target, &[place.ip().into()]);
    }
    let serve = |n: usize| names.dns_serves(&[(PLAIN, TARGETS[n], CLIENT_PORT)]);
    serve(0);
    let a = setup(&world, &names, "a").start();
    a.leads();
    for (from, to) in [(0, 1), (1, 2), (2, 0)] {
        serve(to);
        proxies[from].cut();
        undisturbed(&a, TIMING.renew);
        proxies[from].heal();
    }
    world.verdict();
}

/// At the start there are no earlier records: the instance logs what is missing and waits.
#[test]
fn an_instance_waits_for_missing_records() {
    let Some(names) = Names::with_dns() else { return };
    let world = world_on(Cluster::builder().size(1).plain().create());
    let a = setup(&world, &names, "a").start();
    a.logs(&format!("could not look up {TLS}"));
    names.dns_serves(&[]);
    a.logs(&format!("there are no SRV records {TLS} or {PLAIN}"));
    assert!(a.lives().is_empty() && a.end().is_none(), "{}", a.stderr());
    serve(&names, PLAIN, &world.cluster().ips());
    a.leads();
    assert!(a.stderr().lines().filter(|line| line.contains("WARN")).count() <= 4, "{}", a.stderr());
    world.verdict();
}

#[test]
fn the_suffix_is_part_of_the_service_name() {
    let Some(names) = Names::with_dns() else { return };
    let world = world_on(Cluster::builder().size(1).plain().create());
    serve(&names, "_etcd-client-west._tcp.example.test", &world.cluster().ips());
    let b = setup(&world, &names, "b").start();
    b.logs("there are no SRV records");
    let a = setup(&world, &names, "a").set("DISCOVERY_SRV_NAME", "west").start();
    a.leads();
    assert!(b.lives().is_empty(), "{}", b.stderr());
    world.verdict();
}

/// The certificate must be for the target, and records without TLS are not used where a setting for TLS is set.
#[test]
fn the_certificate_is_verified_against_the_record_target() {
    let Some(names) = Names::with_dns() else { return };
    let world = world_on(Cluster::builder().size(1).create());
    names.set(NAME, &world.cluster().ips());
    names.set(TARGETS[0], &world.cluster().ips());
    names.dns_serves(&[(TLS, TARGETS[0], CLIENT_PORT), (PLAIN, NAME, CLIENT_PORT)]);
    let refused = setup(&world, &names, "refused").start();
    refused.logs("certificate");
    assert!(refused.lives().is_empty(), "{}", refused.stderr());
    let a = setup(&world, &names, "a").set("TLS_SERVER_NAME", "localhost").start();
    a.leads();
    a.terminate();
    assert_eq!(a.wait_exit(Timing::SWIFT), End::Code(0));
    names.dns_serves(&[(TLS, NAME, CLIENT_PORT)]);
    let b = setup(&world, &names, "b").start();
    b.leads();
    names.dns_serves(&[(PLAIN, NAME, CLIENT_PORT)]);
    let c = setup(&world, &names, "c").start();
    c.logs(&format!("there are no SRV records {TLS}"));
    assert!(c.lives().is_empty(), "{}", c.stderr());
    world.verdict();
}

/// However many servers of another cluster the records name, and even while the right cluster does not answer.
#[test]
fn records_of_another_cluster_are_never_used() {
    let Some(names) = Names::with_dns() else { return };
    let world = world_on(Cluster::builder().plain().create());
    let stray = Cluster::builder().size(1).plain().create_beside(world.cluster());
    let places = [(); 4].map(|()| Address::claim());
    let proxies: Vec<Proxy> = places.iter().map(|place| Proxy::elsewhere(stray.member(0), place)).collect();
    serve(&names, PLAIN, &world.cluster().ips());
    let start = |name| setup(&world, &names, name).set("ON_LOSS", "campaign").start();
    let a: Arc<Candidate> = start("a");
    a.leads();
    let b = start("b");
    b.waits();
    let ips: Vec<IpAddr> = places.iter().map(|place| place.ip().into()).collect();
    serve(&names, PLAIN, &ips);
    for member in world.cluster().members() {
        member.kill();
        undisturbed(&a, TIMING.renew);
        member.start();
        world.cluster().wait_healthy();
    }
    a.logs("different etcd clusters");
    world.cluster().members().iter().for_each(harness::Member::kill);
    eventually(TIMING.lease() + Timing::SWIFT, "the command has ended", || {
        if a.living().is_empty() { Ok(()) } else { Err(a.stderr()) }
    });
    throughout(TIMING.lease() + Duration::from_secs(2), "nothing is started", || {
        if a.living().is_empty() && b.lives().is_empty() {
            Ok(())
        } else {
            Err(format!("{}{}", a.stderr(), b.stderr()))
        }
    });
    assert_eq!(stray.etcdctl().revision(), Ok(1), "something was written to it");
    assert_eq!(stray.etcdctl().leases(), Ok(Vec::new()));
    world.cluster().start();
    world.cluster().wait_healthy();
    eventually(TIMING.lease() + Timing::START, "one of them leads again", || {
        let living = a.living().len() + b.living().len();
        if living == 1 { Ok(()) } else { Err(format!("{}{}", a.stderr(), b.stderr())) }
    });
    drop(proxies);
    world.verdict();
}

#[test]
fn records_and_endpoints_exclude_each_other() {
    let world = crate::shared_world();
    let (end, candidate) = world.candidate("a").flag("--discovery-srv=example.test").run();
    assert_eq!(end, End::Code(64), "{}", candidate.stderr());
    let says = "--discovery-srv: ETCD_AWAIT_ELECTION_ENDPOINTS is set as well";
    assert!(candidate.stderr().contains(says), "{}", candidate.stderr());
    world.verdict();
}
