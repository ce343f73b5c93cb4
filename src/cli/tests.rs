use std::os::unix::ffi::OsStringExt;

use super::*;

/// Parses `args` (without the program's name), with variables given without their prefix.
fn run(args: &[&str], variables: &[(&str, &str)]) -> Result<Invocation, Refused> {
    let args = ["etcd-await-election"].iter().chain(args).map(OsString::from);
    let variables =
        variables.iter().map(|(name, value)| (format!("{}{name}", setting::PREFIX).into(), (*value).into()));
    parse(args, &variables.collect())
}

fn refused(args: &[&str], variables: &[(&str, &str)]) -> String {
    let refused = run(args, variables).expect_err("must be refused");
    assert_eq!(refused.exit, Exit::Usage, "{refused}");
    refused.to_string()
}

const ENOUGH: [(&str, &str); 2] = [("LOCK_NAME", "l"), ("ENDPOINTS", "e")];

fn command_of(mode: Mode) -> Vec<OsString> {
    match mode {
        Mode::PassThrough(command) => command,
        Mode::Gate(config) => config.command,
        other => panic!("no command in {other:?}"),
    }
}

/// The short way and the parser must agree on what is only a command.
#[test]
fn a_plain_command_is_what_the_parser_takes_for_one() {
    for words in [&["true"][..], &["sh", "-c", "exit 3"], &["echo", "--lock-name", "x"], &["echo", "--", "-x", "--"]] {
        let short = run(words, &[]).expect("a command");
        // A variable of ours that means nothing sends it the long way.
        let long = run(words, &[("LOG", "")]).expect("a command");
        assert_eq!(command_of(short.mode), command_of(long.mode), "{words:?}");
    }
    for words in [&["--", "true"][..], &["--version"], &[""], &[]] {
        let args: Vec<OsString> = ["program"].iter().chain(words).map(OsString::from).collect();
        assert_eq!(plain_command(&args, &Variables::new()), None, "{words:?}");
    }
}

#[test]
fn the_definition_is_sound() {
    command().debug_assert();
}

#[test]
fn without_settings_the_command_just_runs() {
    for variables in
        [vec![], vec![("LOG", "debug"), ("LOG_FORMAT", "json")], vec![("LOCK_NAME", "")], vec![("LOG", "inof")]]
    {
        let mode = run(&["sh", "-c", "exit 1"], &variables).expect("understood").mode;
        assert!(matches!(mode, Mode::PassThrough(_)), "{variables:?}: {mode:?}");
        assert_eq!(command_of(mode), ["sh", "-c", "exit 1"]);
    }
    assert!(refused(&[], &[]).contains("nothing to do"));
    assert!(refused(&[], &[("LOG", "debug")]).contains("nothing to do"));
    let typo = run(&["true"], &[("LOCKNAME", "l")]).expect("understood");
    assert_eq!(typo.remarks.len(), 1, "a misspelled variable is told even so");
}

#[test]
fn a_pid_file_of_the_unit_is_told() {
    let remarks = |more: &[(&str, &str)]| {
        let ours = ENOUGH.iter().map(|(name, value)| (setting::PREFIX.to_owned() + name, *value));
        let all = ours.chain(more.iter().map(|(name, value)| ((*name).to_owned(), *value)));
        let variables = all.map(|(name, value)| (name.into(), value.into())).collect();
        parse(["p", "true"].map(OsString::from), &variables).expect("understood").remarks
    };
    let told = remarks(&[("NOTIFY_SOCKET", "/run/systemd/notify"), ("PIDFILE", "/run/nginx.pid")]);
    assert!(told.len() == 1 && told[0].contains("PIDFile=/run/nginx.pid"), "{told:?}");
    // Without systemd it is an application's own variable.
    for more in
        [&[("PIDFILE", "/run/nginx.pid")][..], &[("NOTIFY_SOCKET", "@s")], &[("NOTIFY_SOCKET", "@s"), ("PIDFILE", "")]]
    {
        assert_eq!(remarks(more), [""; 0], "{more:?}");
    }
}

#[test]
fn a_part_of_the_settings_is_never_a_pass_through() {
    for setting in setting::ALL {
        let alone = [(&*setting.short(), "1")];
        if !setting.of_election {
            continue;
        }
        let text = refused(&["true"], &alone);
        assert!(text.starts_with(&format!("with {} there must also be", setting.variable())), "{text}");
        let text = refused(&[&format!("--{}=1", setting.flag), "true"], &[]);
        assert!(text.starts_with(&format!("with --{} there must also be", setting.flag)), "{text}");
    }
    let text = refused(&[], &[("IDENTITY", "me")]);
    for part in
        ["--lock-name or ETCD_AWAIT_ELECTION_LOCK_NAME", "--endpoints or ETCD_AWAIT_ELECTION_ENDPOINTS", "COMMAND"]
    {
        assert!(text.contains(part), "{text}");
    }
    assert!(refused(&[], &ENOUGH).ends_with("the COMMAND to run"));
    assert!(refused(&[""], &ENOUGH).contains("its name is empty"));
}

#[test]
fn a_flag_and_its_variable_mean_the_same() {
    let samples = [
        ("identity", "me"),
        ("status-endpoint", ":8080"),
        ("lease-duration", "30s"),
        ("renew-deadline", "9"),
        ("retry-period", "1500ms"),
        ("acquire-timeout", "0"),
        ("force-acquire", "yes"),
        ("on-loss", "campaign"),
        ("stop-grace", "2m"),
        ("stop-signal", "sigint"),
        ("notify-ready", "elected"),
        ("log", "debug"),
        ("log-format", "json"),
        ("tls-server-name", "etcd.example"),
    ];
    let comparable = |invocation: Invocation| {
        let Mode::Gate(mut config) = invocation.mode else { panic!("not gated") };
        if !config.election.identity_is_explicit {
            config.election.identity.clear();
        }
        format!("{config:?} {:?}", invocation.log)
    };
    let plain = comparable(run(&["true"], &ENOUGH).expect("enough"));
    for (flag, value) in samples {
        let by_flag = comparable(run(&[&format!("--{flag}={value}"), "true"], &ENOUGH).expect(flag));
        let name = flag.replace('-', "_").to_ascii_uppercase();
        let by_variable = comparable(run(&["true"], &[ENOUGH[0], ENOUGH[1], (&name, value)]).expect(flag));
        assert_ne!(by_flag, plain, "{flag} has no effect");
        assert_eq!(by_flag, by_variable, "{flag}");
    }
}

#[test]
fn a_flag_goes_before_its_variable() {
    let mode =
        run(&["--identity", "flag", "true"], &[ENOUGH[0], ENOUGH[1], ("IDENTITY", "variable")]).expect("enough").mode;
    assert!(matches!(mode, Mode::Gate(config) if config.election.identity == "flag"));
}

#[test]
fn everything_from_the_command_on_is_untouched() {
    for (args, expected) in [
        (vec!["c", "--help", "-x", "--lock-name", "y"], vec!["c", "--help", "-x", "--lock-name", "y"]),
        (vec!["--", "c", "--help"], vec!["c", "--help"]),
        (vec!["--", "-c", "--", "x"], vec!["-c", "--", "x"]),
        (vec!["c", "--", "x"], vec!["c", "--", "x"]),
        (vec!["c", ""], vec!["c", ""]),
    ] {
        assert_eq!(command_of(run(&args, &[]).expect("understood").mode), expected, "{args:?}");
    }
    let odd = OsString::from_vec(vec![b'a', 0xff]);
    let invocation = parse(["p".into(), "c".into(), odd.clone()], &Variables::new()).expect("understood");
    assert_eq!(command_of(invocation.mode), ["c".into(), odd]);
}

#[test]
fn force_as_a_flag_needs_no_value_and_takes_none_from_the_command() {
    let force = |args: &[&str]| {
        let invocation = run(args, &ENOUGH).expect("understood");
        let Mode::Gate(config) = invocation.mode else { panic!("not gated") };
        assert_eq!(config.command, ["true"]);
        (config.election.force, invocation.remarks.len())
    };
    assert_eq!(force(&["true"]), (false, 0));
    assert_eq!(force(&["--force-acquire", "true"]), (true, 0));
    assert_eq!(force(&["--force-acquire=1", "true"]), (true, 0));
    assert_eq!(force(&["--force-acquire=no", "true"]), (false, 1));
    assert!(refused(&["--force-acquire=", "true"], &ENOUGH).contains("--force-acquire"));
}

#[test]
fn questions() {
    let mode = |args: &[&str], variables: &[(&str, &str)]| run(args, variables).expect("understood").mode;
    assert!(matches!(mode(&["--show", "--json"], &ENOUGH), Mode::Show { json: true, .. }));
    assert!(matches!(mode(&["--show"], &ENOUGH), Mode::Show { json: false, .. }));
    assert!(matches!(mode(&["--healthcheck"], &[("STATUS_ENDPOINT", ":80")]), Mode::HealthCheck(_)));
    let release = mode(&["--release-lease=694d7f2a", "--lock-name=l", "true"], &ENOUGH);
    assert!(matches!(release, Mode::Release { lease: LeaseId(0x694d_7f2a), .. }));
    assert!(matches!(mode(&["--version"], &[]), Mode::Answer(text) if text.contains(env!("CARGO_PKG_VERSION"))));
    for (args, variables, why) in [
        (vec!["--show"], vec![], "with --show there must also be --lock-name or"),
        (vec!["--healthcheck"], vec![], "with --healthcheck there must also be --status-endpoint or"),
        (vec!["--release-lease=1"], vec![], "with --release-lease there must also be --endpoints or"),
        (vec!["--release-lease=xyz"], ENOUGH.to_vec(), "in hexadecimal"),
        (vec!["--release-lease=0"], ENOUGH.to_vec(), "in hexadecimal"),
        (vec!["--show", "true"], ENOUGH.to_vec(), "cannot be used with"),
        (vec!["--json"], ENOUGH.to_vec(), "--show"),
        (vec!["--lok-name=x", "true"], vec![], "--lock-name"),
        (vec!["--lock-name=x", "--lock-name=y", "true"], vec![], "multiple times"),
        (vec!["--lock-name"], vec![], "a value is required"),
    ] {
        let text = refused(&args, &variables);
        assert!(text.contains(why), "{args:?}: {text}");
    }
}

#[test]
fn the_help_has_each_flag_variable_default_and_exit_code() {
    let Mode::Answer(help) = run(&["--help"], &[]).expect("help").mode else { panic!("no help") };
    for setting in setting::ALL {
        for part in [format!("--{}", setting.flag), format!("[{}]", setting.variable())] {
            assert!(help.contains(&part), "{part} is not in the help:\n{help}");
        }
        if let Some(default) = setting.default {
            assert!(help.contains(&format!("{}] [default: {default}]", setting.variable())), "{help}");
        }
    }
    assert!(help.contains("128+n") && !help.contains("release-lease"), "{help}");
}

#[test]
fn a_bad_value_is_told_with_its_origin() {
    let text = refused(&["--stop-signal=FOO", "true"], &ENOUGH);
    assert!(text.starts_with("--stop-signal: 'FOO' is no signal: write "), "{text}");
    let text = refused(&["true"], &[ENOUGH[0], ENOUGH[1], ("LOG", "inof")]);
    assert!(text.starts_with("ETCD_AWAIT_ELECTION_LOG: 'inof' is no filter: write "), "{text}");
}
