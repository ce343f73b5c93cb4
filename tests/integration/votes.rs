//! A stray cluster is not joined although the endpoints of the right cluster are unknown or do not answer.

use std::time::Duration;

use harness::{Balancer, Candidate, Cluster, Names, Proxy, Timing, address::Address, certificates::NAME, throughout};

use crate::shared_world;

const TIMING: Timing = Timing::SHORT;

#[track_caller]
fn does_not_start(candidate: &Candidate, span: Duration) {
    throughout(span, &format!("{} does not start", candidate.name()), || {
        if candidate.living().is_empty() { Ok(()) } else { Err(candidate.stderr()) }
    });
}

/// DNS omits two members for a while, as a headless service does with pods that are not ready, and the third one is a
/// stray. The omitted members still answer.
#[test]
fn a_name_reduced_to_a_stray_cluster_is_not_used() {
    let world = shared_world();
    let Some(names) = Names::new() else { return world.verdict() };
    let stray = Cluster::builder().create_stray(world.cluster());
    let addresses: Vec<_> = world.cluster().members().iter().map(|_| Address::claim()).collect();
    let members = world.cluster().members().iter().zip(&addresses);
    let proxies: Vec<_> = members.map(|(member, address)| Proxy::elsewhere(member, address)).collect();
    let ips: Vec<_> = proxies.iter().map(|proxy| proxy.address().ip()).collect();
    names.set(NAME, &ips);
    let a = world.candidate("a").start();
    a.leads();
    let b =
        world.candidate("b").timing(TIMING).names(&names).set("ENDPOINTS", world.cluster().endpoint_by_name()).start();
    b.waits();
    proxies[0].forward_to(stray.member(0));
    names.set(NAME, &ips[..1]);
    does_not_start(&b, 3 * TIMING.lease());
    world.verdict();
}

/// Half of the endpoints is not a majority if the other half does not answer.
#[test]
fn a_stray_cluster_beside_one_silent_endpoint_is_not_joined() {
    let world = shared_world();
    let stray = Cluster::builder().create_stray(world.cluster());
    let a = world.candidate("a").start();
    a.leads();
    let silent = Proxy::of(world.cluster().member(1));
    silent.cut();
    let endpoints = format!("{},{}", stray.endpoints()[0], silent.endpoint());
    let b = world.candidate("b").timing(TIMING).set("ENDPOINTS", endpoints).start();
    does_not_start(&b, 3 * TIMING.lease());
    world.verdict();
}

/// A second connection reaches another cluster.
#[test]
fn a_stray_cluster_behind_a_balancer_is_not_joined() {
    let world = shared_world();
    let stray = Cluster::builder().create_stray(world.cluster());
    let balancer = Balancer::of(world.cluster());
    balancer.member(0).forward_to(stray.member(0));
    let a = world.candidate("a").start();
    a.leads();
    let b = world.candidate("b").timing(TIMING).set("ENDPOINTS", balancer.endpoint()).start();
    does_not_start(&b, TIMING.lease());
    world.verdict();
}
