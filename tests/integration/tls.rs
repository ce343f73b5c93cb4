//! TLS: valid certificates work, and with invalid ones the error is logged and no command runs.

use harness::{Cluster, End, Proxy, Setup, Timing, World, address::Address, eventually};

use crate::{shared_world, world_on};

/// Checks that the log has one of these words, and that no command was started.
fn refused(world: &World, setup: Setup, words: &[String]) {
    let candidate = setup.start();
    eventually(Timing::START, "the log says what is wrong", || {
        let log = candidate.stderr();
        if words.iter().any(|word| log.to_lowercase().contains(word)) { Ok(()) } else { Err(log) }
    });
    assert!(candidate.lives().is_empty());
    assert_eq!(world.keys().expect("etcd answers"), []);
    world.verdict();
}

/// The possible messages if the server rejects the client: it closes the connection, and the reason can be lost. Any
/// member can be the first to reject it.
fn members(world: &World) -> Vec<String> {
    world.cluster().members().iter().map(|member| member.client_address().to_string()).collect()
}

#[test]
fn a_server_of_another_ca_is_refused() {
    let world = shared_world();
    let setup = world.candidate("a").set("CACERT", &world.cluster().certificates().foreign_ca);
    refused(&world, setup, &["certificate".into()]);
}

#[test]
fn an_expired_client_certificate_is_refused() {
    let world = shared_world();
    let pair = &world.cluster().certificates().expired;
    let setup = world.candidate("a").set("CERT", &pair.cert).set("KEY", &pair.key);
    refused(&world, setup, &members(&world));
}

#[test]
fn a_client_certificate_of_another_ca_is_refused() {
    let world = shared_world();
    let pair = &world.cluster().certificates().foreign;
    let setup = world.candidate("a").set("CERT", &pair.cert).set("KEY", &pair.key);
    refused(&world, setup, &members(&world));
}

#[test]
fn a_missing_client_certificate_is_refused() {
    let world = shared_world();
    let setup = world.candidate("a").unset("CERT").unset("KEY");
    refused(&world, setup, &members(&world));
}

/// The file itself is invalid, so the program does not retry.
#[test]
fn a_version_1_client_certificate_is_refused_with_the_name_of_its_setting() {
    let world = shared_world();
    let directory = world.directory();
    let script = "openssl req -new -newkey rsa:2048 -nodes -keyout v1.key -subj /CN=a -out v1.csr && \
                  openssl x509 -req -in v1.csr -signkey v1.key -out v1.crt";
    let made = std::process::Command::new("sh").args(["-c", script]).current_dir(directory).output();
    assert!(made.as_ref().is_ok_and(|made| made.status.success()), "openssl: {made:?}");
    let (cert, key) = (directory.join("v1.crt"), directory.join("v1.key"));
    let (end, candidate) = world.candidate("a").set("CERT", &cert).set("KEY", &key).run();
    assert_eq!(end, End::Code(78), "{}", candidate.stderr());
    let said = format!("ETCD_AWAIT_ELECTION_CERT: {} holds a certificate of X.509 version 1", cert.display());
    assert!(candidate.stderr().contains(&said), "{}", candidate.stderr());
    world.verdict();
}

/// As in an image from scratch, where a retry cannot help.
#[test]
fn https_without_a_ca_is_refused_with_the_name_of_the_missing_setting() {
    let world = shared_world();
    let setup = world.candidate("a").unset("CACERT").unset("CERT").unset("KEY").variable("SSL_CERT_FILE", "/dev/null");
    let candidate = setup.start();
    assert_eq!(candidate.wait_exit(Timing::START), End::Code(78), "{}", candidate.stderr());
    assert!(candidate.stderr().contains("ETCD_AWAIT_ELECTION_CACERT) must be set for https"), "{}", candidate.stderr());
    world.verdict();
}

#[test]
fn a_server_whose_certificate_has_another_name_is_refused() {
    let world = shared_world();
    let address = Address::claim();
    let proxy = Proxy::elsewhere(world.cluster().member(0), &address);
    let setup = world.candidate("a").via([&proxy]);
    refused(&world, setup, &["certificate".into()]);
}

#[test]
fn the_expected_server_name_can_be_set() {
    let world = shared_world();
    let address = Address::claim();
    let proxy = Proxy::elsewhere(world.cluster().member(0), &address);
    let a = world.candidate("a").via([&proxy]).set("TLS_SERVER_NAME", "localhost").start();
    a.leads();
    world.verdict();
}

/// Without a scheme the certificate settings decide.
#[test]
fn endpoints_do_not_need_a_scheme() {
    let world = shared_world();
    let bare: Vec<String> =
        world.cluster().members().iter().map(|member| member.client_address().to_string()).collect();
    let a = world.candidate("a").set("ENDPOINTS", bare.join(",")).start();
    a.leads();
    world.verdict();

    let world = world_on(Cluster::builder().size(1).plain().create());
    let a = world.candidate("a").set("ENDPOINTS", world.cluster().member(0).client_address().to_string()).start();
    a.leads();
    world.verdict();
}

/// Certificates are read again at each connect, so that rotated files are used without a restart.
#[test]
fn rotated_certificates_are_used_at_the_next_connect() {
    let world = shared_world();
    let files = world.directory();
    let certificates = world.cluster().certificates();
    let (cert, key) = (files.join("client.crt"), files.join("client.key"));
    let install = |pair: &harness::certificates::Pair| {
        std::fs::copy(&pair.key, &key).expect("copying the key");
        std::fs::copy(&pair.cert, &cert).expect("copying the certificate");
    };
    install(&certificates.client);
    let proxies = world.proxies();
    let timing = Timing::MEDIUM;
    let a = world.candidate("a").timing(timing).via(&proxies).set("CERT", &cert).set("KEY", &key).start();
    a.leads();
    // While the files are invalid the connections stay; a broken connection needs valid files in time.
    install(&certificates.foreign);
    crate::undisturbed(&a, timing.retry);
    proxies.iter().for_each(Proxy::reset);
    crate::undisturbed(&a, timing.earliest_stop() / 3);
    install(&certificates.client);
    crate::undisturbed(&a, timing.lease());
    world.verdict();
}

/// An endpoint with another protocol is a temporary fault: the others are used, and it is reported if none works.
#[test]
fn endpoints_that_do_not_speak_etcd_are_reported() {
    let world = world_on(Cluster::builder().size(1).create());
    let plain = world_on(Cluster::builder().size(1).plain().create_beside(world.cluster()));
    let https = plain.cluster().member(0).endpoint().replace("http://", "https://");
    let setup = world.candidate("a").set("ENDPOINTS", https);
    says(&setup.start(), "no TLS handshake; use http:// if it does not speak TLS");
    let http = world.cluster().member(0).endpoint().replace("https://", "http://");
    let setup = world.candidate("b").unset("CACERT").unset("CERT").unset("KEY").set("ENDPOINTS", http);
    says(&setup.start(), "speaks TLS; use https://");
    plain.verdict();
    world.verdict();
}

/// Checks that the log has these words and the program still runs.
fn says(candidate: &harness::Candidate, words: &str) {
    candidate.logs(words);
    assert_eq!(candidate.end(), None, "{}", candidate.stderr());
}
