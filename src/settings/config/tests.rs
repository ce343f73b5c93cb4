use std::{
    ffi::OsStr,
    os::unix::ffi::{OsStrExt, OsStringExt},
    path::Path,
    time::Duration,
};

use proptest::prelude::*;

use super::*;
use crate::settings::{Discovery, Endpoints, Mode, NotifyReady, OnLoss, Secret, Variables, parse, variables::PREFIX};

/// Reads variables that are given without their prefix; `LOCK_NAME` and `ENDPOINTS` are there unless given.
fn read(variables: &[(&str, &OsStr)]) -> (Result<Config, StartError>, Vec<String>) {
    let defaults = [("LOCK_NAME", OsStr::new("l")), ("ENDPOINTS", OsStr::new("e"))];
    let variables: Variables = defaults
        .iter()
        .chain(variables)
        .map(|(name, value)| (format!("{PREFIX}{name}").into(), value.into()))
        .collect();
    match parse(["program", "true"].map(OsString::from), &variables) {
        Ok(invocation) => match invocation.mode {
            Mode::Gate(config) => (Ok(*config), invocation.remarks),
            other => panic!("not gated but {other:?}"),
        },
        Err(refused) => (Err(refused), Vec::new()),
    }
}

fn config(variables: &[(&str, &str)]) -> Config {
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, OsStr::new(*value))).collect();
    read(&variables).0.expect("understood")
}

#[track_caller]
fn listed(etcd: &EtcdConfig) -> &[String] {
    match &etcd.endpoints {
        Endpoints::Listed(urls) => urls,
        Endpoints::Discovered(discovery) => panic!("{discovery:?}"),
    }
}

#[track_caller]
fn refused(exit: Exit, variables: &[(&str, &str)], why: &[&str]) {
    let given: Vec<_> = variables.iter().map(|(name, value)| (*name, OsStr::new(*value))).collect();
    let refused = read(&given).0.expect_err("must be refused");
    assert_eq!(refused.exit, exit, "{refused}");
    for part in why {
        assert!(refused.to_string().contains(part), "{variables:?}: {refused}");
    }
}

/// A directory with `ca.pem`, `cert.pem`, `key.pem` and `password`, and the path of each.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(tempfile::tempdir().expect("a directory"));
        let pem = |label| format!("-----BEGIN {label}-----\nTUlJQg==\n-----END {label}-----\n");
        files.write("ca.pem", &pem("CERTIFICATE"));
        files.write("cert.pem", &pem("CERTIFICATE"));
        files.write("key.pem", &pem("PRIVATE KEY"));
        files.write("password", "s3cret\n");
        files
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).expect("written");
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().expect("UTF-8").to_owned()
    }
}

#[test]
fn the_defaults() {
    let config = config(&[]);
    let election = &config.election;
    let timing =
        Timing::new(Duration::from_secs(15), Duration::from_secs(10), Duration::from_secs(2), Duration::from_secs(10));
    assert_eq!(Ok(election.timing), timing);
    assert_eq!(election.lock.as_str(), "l");
    assert_eq!((election.force, election.acquire_timeout, election.on_loss), (false, None, OnLoss::Exit));
    assert_eq!((config.stop_signal, config.notify_ready), (15, NotifyReady::Started));
    assert_eq!(config.status_endpoint, None);
    assert_eq!(
        config.etcd,
        EtcdConfig {
            endpoints: Endpoints::Listed(vec!["http://e:2379".into()]),
            cluster_id: None,
            tls: TlsFiles::default(),
            credentials: None
        }
    );
}

#[test]
fn an_identity_that_nobody_set_is_another_each_time() {
    let (one, other) = (config(&[]).election, config(&[]).election);
    assert!(!one.identity_is_explicit);
    assert_ne!(one.identity, other.identity);
    let (host, random) = one.identity.rsplit_once('_').expect("an underscore");
    assert!(!host.is_empty() && random.len() == 8 && random.bytes().all(|b| b.is_ascii_hexdigit()), "{}", one.identity);
    let set = config(&[("IDENTITY", "me")]).election;
    assert!(set.identity_is_explicit && set.identity == "me");
}

#[test]
fn tls_follows_from_the_certificates() {
    let files = Files::new();
    let (ca, cert, key) = (files.path("ca.pem"), files.path("cert.pem"), files.path("key.pem"));
    let etcd = config(&[("CACERT", &ca)]).etcd;
    assert_eq!(listed(&etcd), ["https://e:2379"]);
    assert_eq!((etcd.tls.cacert.as_deref(), etcd.tls.client), (Some(Path::new(&ca)), None));
    let etcd = config(&[("CERT", &cert), ("KEY", &key), ("ENDPOINTS", "https://a,b")]).etcd;
    assert_eq!(listed(&etcd), ["https://a:2379", "https://b:2379"]);
    assert_eq!(etcd.tls.client, Some((cert.clone().into(), key.clone().into())));
    assert_eq!(listed(&config(&[("TLS_SERVER_NAME", "x")]).etcd), ["https://e:2379"]);

    let plain = ("ENDPOINTS", "https://a,http://b");
    assert_eq!(listed(&config(&[plain]).etcd), ["https://a:2379", "http://b:2379"]);
    refused(Exit::Usage, &[plain, ("CACERT", &ca)], &["_ENDPOINTS: http://b:2379 does not use TLS", "_CACERT is set"]);
    refused(Exit::Usage, &[("CERT", &cert)], &["_CERT: requires --key (or ETCD_AWAIT_ELECTION_KEY)"]);
    refused(Exit::Usage, &[("KEY", &key)], &["_KEY: requires --cert (or ETCD_AWAIT_ELECTION_CERT)"]);
    refused(Exit::Config, &[("CACERT", &key)], &["_CACERT: ", &key, "holds no certificate"]);
    refused(Exit::Config, &[("CERT", &key), ("KEY", &cert)], &["_CERT: ", "holds no certificate, but PRIVATE KEY"]);
    refused(Exit::Config, &[("CACERT", "/nowhere/ca")], &["_CACERT: /nowhere/ca cannot be read"]);
}

/// An empty variable is an unset one.
const UNSET: (&str, &str) = ("ENDPOINTS", "");

#[test]
fn srv_records_are_instead_of_endpoints() {
    let discovery = |more: &[(&str, &str)]| match config(&[&[UNSET], more].concat()).etcd.endpoints {
        Endpoints::Discovered(discovery) => discovery,
        Endpoints::Listed(urls) => panic!("{urls:?}"),
    };
    let domain = ("DISCOVERY_SRV", "example.com.");
    let expected = Discovery { domain: "example.com".into(), suffix: None, tls_only: false };
    assert_eq!(discovery(&[domain]), expected);
    let tls = [domain, ("DISCOVERY_SRV_NAME", "west"), ("TLS_SERVER_NAME", "x")];
    assert_eq!(discovery(&tls), Discovery { suffix: Some("west".into()), tls_only: true, ..expected });
    refused(Exit::Usage, &[domain], &["_DISCOVERY_SRV: ETCD_AWAIT_ELECTION_ENDPOINTS is set as well"]);
    refused(Exit::Usage, &[("DISCOVERY_SRV_NAME", "west")], &["_DISCOVERY_SRV_NAME: requires --discovery-srv (or"]);
    refused(Exit::Usage, &[UNSET, ("DISCOVERY_SRV", "a b")], &["_DISCOVERY_SRV: 'a b' has characters"]);
    refused(Exit::Usage, &[UNSET, domain, ("DISCOVERY_SRV_NAME", "a.b")], &["_DISCOVERY_SRV_NAME: 'a.b' is not"]);
    let remarks = |more: &[(&str, &str)]| {
        let all = [&[UNSET, domain, ("USER", "u"), ("PASSWORD", "p")], more].concat();
        let all: Vec<_> = all.iter().map(|(name, value)| (*name, OsStr::new(*value))).collect();
        read(&all).1
    };
    assert!(remarks(&[]).iter().any(|remark| remark.contains("without encryption to members of example.com")));
    assert_eq!(remarks(&[("TLS_SERVER_NAME", "x")]), [""; 0]);
}

#[test]
fn user_and_password() {
    let files = Files::new();
    let file = files.path("password");
    let credentials = |variables: &[(&str, &str)]| config(variables).etcd.credentials.expect("credentials");
    let value = credentials(&[("USER", "root"), ("PASSWORD", "pw")]);
    assert_eq!((value.user.as_str(), value.password), ("root", Password::Value(Secret("pw".into()))));
    let from_file = credentials(&[("USER", "root"), ("PASSWORD_FILE", &file)]).password;
    assert_eq!(from_file, Password::File(file.clone().into()));
    assert_eq!(from_file.read(), Ok("s3cret".to_owned()));

    refused(Exit::Usage, &[("USER", "root")], &["_USER: ", "--password-file (or"]);
    refused(Exit::Usage, &[("PASSWORD", "pw")], &["_PASSWORD: ", "--user (or"]);
    refused(Exit::Usage, &[("PASSWORD_FILE", &file)], &["_PASSWORD_FILE: ", "--user (or"]);
    refused(
        Exit::Usage,
        &[("USER", "u"), ("PASSWORD", "pw"), ("PASSWORD_FILE", &file)],
        &["_PASSWORD: ETCD_AWAIT_ELECTION_PASSWORD_FILE is set as well"],
    );
    refused(
        Exit::Config,
        &[("USER", "u"), ("PASSWORD_FILE", "/nowhere/pw")],
        &["_PASSWORD_FILE: /nowhere/pw cannot be"],
    );
    let (_, remarks) = read(&[("USER", OsStr::new("u")), ("PASSWORD", OsStr::new("hunter2"))]);
    assert!(remarks.len() == 1 && remarks[0].contains("without encryption"), "{remarks:?}");
}

#[test]
fn a_password_is_in_no_error_and_no_debug_output() {
    let (result, _) = read(&[("USER", OsStr::new("u")), ("PASSWORD", OsStr::from_bytes(b"hunter2\xff"))]);
    let text = result.expect_err("not UTF-8").to_string();
    assert!(text.contains("UTF-8") && !text.contains("hunter2"), "{text}");
    assert!(!format!("{:?}", config(&[("USER", "u"), ("PASSWORD", "hunter2")])).contains("hunter2"));
    refused(Exit::Usage, &[("ENDPOINTS", "http://u:hunter2@e")], &["contains a user"]);
}

#[test]
fn each_bad_value_is_told_with_its_name_and_what_would_be_right() {
    for (name, value, why) in [
        ("LOCK_NAME", "a/", "must not end with '/'"),
        ("IDENTITY", "a\nb", "'a\\nb' contains control characters"),
        ("ENDPOINTS", "a:b", "'a:b' has no port"),
        ("STATUS_ENDPOINT", "8080", "'8080' has no port; use host:port"),
        ("LEASE_DURATION", "15x", "'15x' is not a valid duration; use"),
        ("LEASE_DURATION", "15500ms", "(15500ms) must be whole seconds"),
        ("RENEW_DEADLINE", "15", "(15s) must be at most 13s with the default of LEASE_DURATION (15s)"),
        ("RETRY_PERIOD", "6", "(6s) must be at most 5s, half of the default of RENEW_DEADLINE (10s)"),
        ("STOP_GRACE", "-1", "'-1' is not a valid duration"),
        ("ACQUIRE_TIMEOUT", "never", "'never' is not a valid duration"),
        ("STOP_SIGNAL", "0", "'0' is not a valid signal"),
        ("PRIORITY", "2147483648", "'2147483648' is not a valid priority; use a whole number from"),
        ("PRIORITY", "high", "'high' is not a valid priority"),
        ("ON_LOSS", "restart", "'restart' is not a valid value; use exit or campaign"),
        ("NOTIFY_READY", "Elected", "'Elected' is not a valid value; use started or campaigning or elected"),
        ("TLS_SERVER_NAME", "a:1", "'a:1' is not a valid server name"),
    ] {
        refused(Exit::Usage, &[(name, value)], &[&format!("{PREFIX}{name}"), why]);
    }
    assert_eq!(config(&[("ACQUIRE_TIMEOUT", "0")]).election.acquire_timeout, Some(Duration::ZERO));
}

/// The module for NixOS is held to the same table.
#[test]
fn timing_is_accepted_and_refused_as_the_table_says() {
    let cases: Vec<serde_json::Value> =
        serde_json::from_str(include_str!("../../../tests/timing.json")).expect("a table");
    for case in &cases {
        let text = |option: &str| case[option].as_str().expect("a duration").to_owned();
        let settings =
            [("LEASE_DURATION", "leaseDuration"), ("RENEW_DEADLINE", "renewDeadline"), ("RETRY_PERIOD", "retryPeriod")];
        let variables = settings.map(|(name, option)| (name, OsString::from(text(option))));
        let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_os_str())).collect();
        let refused = read(&variables).0.err().map(|refused| refused.to_string());
        let begins = |(name, option): &(&str, &'static str)| {
            refused.as_ref()?.starts_with(&format!("{PREFIX}{name} (")).then_some(*option)
        };
        assert_eq!(settings.iter().find_map(begins), case["refused"].as_str(), "{case}: {refused:?}");
        assert_eq!(refused.is_some(), case["refused"].is_string(), "{case}: {refused:?}");
    }
}

/// The variable of a setting, without its prefix.
fn setting(which: prop::sample::Index) -> String {
    let definition = crate::settings::definition();
    let variables = definition.get_arguments().filter_map(|arg| arg.get_env()?.to_str()?.strip_prefix(PREFIX));
    which.get(&variables.collect::<Vec<_>>()).to_string()
}

proptest! {
    /// Whatever bytes a setting has: a value or a refusal with its name, on lines that a terminal survives; no panic.
    #[test]
    fn any_bytes_in_any_setting(which in any::<prop::sample::Index>(), bytes in proptest::collection::vec(1u8.., 1..80)) {
        let setting = setting(which);
        let value = OsString::from_vec(bytes);
        if let Err(refused) = read(&[(&setting, &value)]).0 {
            let text = refused.to_string();
            prop_assert!(text.contains(&setting), "{}", text);
        }
    }

    /// The same for text that is nearly right.
    #[test]
    fn any_text_in_any_setting(which in any::<prop::sample::Index>(), text in "[0-9a-z:/@,.\\[\\]+ms-]{1,20}|\\PC{1,20}") {
        let setting = setting(which);
        if let Err(refused) = read(&[(&setting, OsStr::new(&text))]).0 {
            prop_assert!(refused.to_string().contains(&setting), "{}", refused);
        }
    }
}
