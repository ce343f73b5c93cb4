use std::os::unix::ffi::OsStringExt;

use super::*;

/// Parses `args` (without the program's name), with variables given without their prefix.
fn run(args: &[&str], variables: &[(&str, &str)]) -> Result<Invocation, StartError> {
    let args = ["etcd-await-election"].iter().chain(args).map(OsString::from);
    let variables =
        variables.iter().map(|(name, value)| (format!("{}{name}", variables::PREFIX).into(), (*value).into()));
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
    for words in [&["--", "true"][..], &["--version"], &["ctl", "show"], &[""], &[]] {
        let args: Vec<OsString> = ["program"].iter().chain(words).map(OsString::from).collect();
        assert_eq!(plain_command(&args, &Variables::new()), None, "{words:?}");
    }
}

#[test]
fn the_definition_is_sound() {
    definition().debug_assert();
    GateArgs::command().debug_assert();
    CtlArgs::command().debug_assert();
    for arg in settings() {
        let setting = arg.get_id().as_str();
        assert_eq!(arg.get_long().map(|flag| format!("--{flag}")), Some(sources::flag(setting)));
        assert_eq!(arg.get_env().and_then(OsStr::to_str), Some(&*variables::variable(setting)));
        let texts = (arg.get_value_names().is_some(), arg.get_help().is_some(), arg.get_help_heading().is_some());
        assert_eq!(texts, (true, true, true), "{setting}");
    }
}

fn settings() -> Vec<clap::Arg> {
    definition().get_arguments().filter(|arg| arg.get_env().is_some()).cloned().collect()
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
        let ours = ENOUGH.iter().map(|(name, value)| (variables::PREFIX.to_owned() + name, *value));
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
    for arg in settings().iter().filter(|arg| arg.get_help_heading() != Some("Logging")) {
        let setting = arg.get_id().as_str();
        let missing = |name: &str| if setting == "lock_name" { name == "endpoints" } else { name == "lock_name" };
        let named = ["lock_name", "endpoints"].into_iter().find(|name| missing(name)).map(either).expect("missing");
        let text = refused(&["true"], &[(&setting.to_ascii_uppercase(), "1")]);
        assert!(text.starts_with(&format!("{} requires {named}", variables::variable(setting))), "{text}");
        let flag = sources::flag(setting);
        let text = refused(&[&format!("{flag}=1"), "true"], &[]);
        assert!(text.starts_with(&format!("{flag} requires {named}")), "{text}");
    }
    let text = refused(&[], &[("IDENTITY", "me")]);
    for part in
        ["--lock-name (or ETCD_AWAIT_ELECTION_LOCK_NAME)", "--endpoints (or ETCD_AWAIT_ELECTION_ENDPOINTS)", "COMMAND"]
    {
        assert!(text.contains(part), "{text}");
    }
    assert!(refused(&[], &ENOUGH).ends_with("requires a COMMAND to run"));
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
fn operator_commands() {
    let mode = |args: &[&str], variables: &[(&str, &str)]| run(args, variables).expect("understood").mode;
    assert!(matches!(mode(&["ctl", "show", "--json"], &ENOUGH), Mode::Show { json: true, .. }));
    assert!(matches!(mode(&["ctl", "show", "--lock-name=l", "--endpoints=e"], &[]), Mode::Show { json: false, .. }));
    // What is meant for the gatekeeper need not even be right.
    assert!(matches!(
        mode(&["ctl", "healthcheck"], &[("STATUS_ENDPOINT", ":80"), ("ON_LOSS", "x")]),
        Mode::HealthCheck(_)
    ));
    // Of an instance that is not configured yet, or only for its command.
    for variables in [&[][..], &[("LOCK_NAME", "l/"), ("CERT", "/nowhere")]] {
        let mode = mode(&["ctl", "install", "/tmp", "--json"], variables);
        assert!(matches!(mode, Mode::Install { folder, json: true } if folder.as_os_str() == "/tmp"));
    }
    assert!(matches!(mode(&["ctl", "pages", "/tmp"], &[]), Mode::Pages(folder) if folder.as_os_str() == "/tmp"));
    assert!(matches!(mode(&["--version"], &[]), Mode::Answer(text) if text.contains(env!("CARGO_PKG_VERSION"))));
    for (args, variables, why) in [
        (
            vec!["ctl", "show"],
            vec![],
            "ctl show requires --lock-name (or ETCD_AWAIT_ELECTION_LOCK_NAME), --endpoints (or",
        ),
        (vec!["ctl", "show", "--endpoints=e"], vec![("LOCK_NAME", "")], "ctl show requires --lock-name (or"),
        (
            vec!["ctl", "show"],
            vec![("LOCK_NAME", "l/"), ("ENDPOINTS", "e")],
            "ETCD_AWAIT_ELECTION_LOCK_NAME: 'l/' must",
        ),
        (vec!["ctl", "healthcheck"], vec![], "ctl healthcheck requires --status-endpoint (or"),
        (
            vec!["ctl", "healthcheck"],
            vec![("STATUS_ENDPOINT", "x")],
            "ETCD_AWAIT_ELECTION_STATUS_ENDPOINT: 'x' has no port",
        ),
        (vec!["ctl"], vec![], "Print who holds the lock"),
        (vec!["ctl", "install"], vec![], "<DIR>"),
        (vec!["ctl", "shwo"], vec![], "show"),
        (vec!["ctl", "show", "name", "true"], ENOUGH.to_vec(), "unexpected argument 'true'"),
        (vec!["--lok-name=x", "true"], vec![], "--lock-name"),
        (vec!["--lock-name=x", "--lock-name=y", "true"], vec![], "multiple times"),
        (vec!["--lock-name"], vec![], "a value is required"),
    ] {
        let text = refused(&args, &variables);
        assert!(text.contains(why), "{args:?}: {text}");
    }
}

/// Flags before it would otherwise turn an operator command into a command to run.
#[test]
fn ctl_is_reserved_as_the_first_word() {
    for (args, variables) in [(&["--lock-name=l", "ctl", "show"][..], &[][..]), (&["--log=info", "ctl"], &ENOUGH)] {
        assert!(refused(args, variables).starts_with("ctl is reserved"), "{args:?}");
    }
    for (args, command) in [
        (&["--", "ctl", "show"][..], &["ctl", "show"][..]),
        (&["/bin/ctl"], &["/bin/ctl"]),
        (&["sh", "ctl"], &["sh", "ctl"]),
    ] {
        assert_eq!(command_of(run(args, &[]).expect("a command").mode), command);
        assert_eq!(command_of(run(args, &ENOUGH).expect("a command").mode), command);
    }
}

#[test]
fn the_help_has_each_flag_variable_default_and_exit_code() {
    let help = |args: &[&str]| match run(args, &[("LOCK_NAME", "hunter2"), ("PASSWORD", "hunter2")]).expect("help").mode
    {
        Mode::Answer(help) => help,
        other => panic!("no help but {other:?}"),
    };
    let all = help(&["--help"]);
    for arg in settings() {
        let setting = arg.get_id().as_str();
        for part in [sources::flag(setting), format!("[env: {}]", variables::variable(setting))] {
            assert!(all.contains(&part), "{part} is not in the help:\n{all}");
        }
        if let Some(default) = arg.get_default_values().first() {
            let part = format!("{}] [default: {}]", variables::variable(setting), default.display());
            assert!(all.contains(&part), "{part} is not in the help:\n{all}");
        }
    }
    assert!(all.contains("128+n") && all.contains("ctl"), "{all}");
    assert!(!all.contains("hunter2"), "{all}");
    let ctl = help(&["ctl", "--help"]);
    assert!(ctl.contains("healthcheck") && !ctl.contains("pages"), "{ctl}");
    let show = help(&["ctl", "show", "--help"]);
    assert!(show.contains("[env: ETCD_AWAIT_ELECTION_ENDPOINTS]") && show.contains("--json"), "{show}");
    assert!(!show.contains("--on-loss") && !show.contains("hunter2"), "{show}");
    // Who asks for help may have written something that is wrong.
    assert_eq!(help(&["--stop-grace=x", "--help"]), all);
    assert_eq!(help(&["ctl", "show", "--lock-name=l/", "--help"]), show);
}

#[test]
fn a_bad_value_is_reported_with_its_origin() {
    for (args, variables, begin) in [
        (&["--stop-signal=FOO", "true"][..], &[][..], "--stop-signal: 'FOO' is not a valid signal; use "),
        (&["true"], &[("LOG", "inof")], "ETCD_AWAIT_ELECTION_LOG: 'inof' is not a valid filter; use "),
        (&["--on-loss=x", "true"], &[("ON_LOSS", "exit")], "--on-loss: 'x' is not a valid value; use exit or campaign"),
        (&["--identity=", "true"], &[("IDENTITY", "me")], "--identity: the value is empty"),
    ] {
        let text = refused(args, &[&ENOUGH[..], variables].concat());
        assert!(text.starts_with(begin), "{text}");
    }
    for args in [["--log=", "true"], ["--endpoints=", "true"]] {
        assert!(refused(&args, &[]).contains(": the value is empty"), "{args:?}");
    }
}

#[test]
fn an_error_does_not_show_a_command_line_or_a_url() {
    for setting in ["ON_ELECTED", "ON_STOPPED", "CHECK", "ELIGIBLE"] {
        let value = "curl -H 'Authorization: Bearer s3cret";
        let begin = ": the value is not a valid command line; close the quote";
        let text = refused(&["true"], &[&ENOUGH[..], &[(setting, value)]].concat());
        assert!(text.starts_with(&format!("ETCD_AWAIT_ELECTION_{setting}{begin}")), "{text}");
        let flag = format!("--{}", setting.to_lowercase().replace('_', "-"));
        let as_flag = refused(&[&format!("{flag}={value}"), "true"], &ENOUGH);
        assert!(as_flag.starts_with(&format!("{flag}{begin}")), "{as_flag}");
        assert!(!text.contains("s3cret") && !as_flag.contains("s3cret"), "{text} {as_flag}");
    }
    let text = refused(&["--check=http://user:s3cret@db/", "true"], &ENOUGH);
    assert!(text.starts_with("--check: the value contains a user or a password") && !text.contains("s3cret"), "{text}");
}

#[test]
fn the_flag_comes_before_the_variable_and_an_empty_variable_is_unset() {
    let identity = |flag: Option<&str>, variable: Option<&str>| {
        let flag = flag.map(|flag| format!("--identity={flag}"));
        let args: Vec<&str> = flag.as_deref().into_iter().chain(["true"]).collect();
        let variable = variable.map(|variable| ("IDENTITY", variable));
        let mode = run(&args, &[&ENOUGH[..], &variable.into_iter().collect::<Vec<_>>()].concat()).expect("enough").mode;
        let Mode::Gate(config) = mode else { panic!("not gated") };
        config.election.identity_is_explicit.then_some(config.election.identity)
    };
    assert_eq!(identity(Some("f"), Some("v")).as_deref(), Some("f"));
    assert_eq!(identity(Some("f"), Some("")).as_deref(), Some("f"));
    assert_eq!(identity(None, Some("v")).as_deref(), Some("v"));
    assert_eq!(identity(None, Some("")), None);
    assert_eq!(identity(None, None), None);
}

#[test]
fn the_default_of_the_log_is_that_of_a_run_without_settings() {
    let log = run(&["true"], &ENOUGH).expect("enough").log;
    assert_eq!((log.filter, log.format), (LogConfig::default().filter, LogConfig::default().format));
    let filter = LogConfig::default().filter;
    assert!(filter.would_enable(TARGET, &tracing::Level::INFO) && !filter.would_enable(TARGET, &tracing::Level::DEBUG));
    assert!(filter.would_enable("h2", &tracing::Level::WARN) && !filter.would_enable("h2", &tracing::Level::INFO));
    let shows = |log: &str, level| {
        let filter = run(&["true"], &[&ENOUGH[..], &[("LOG", log)]].concat()).expect("enough").log.filter;
        filter.would_enable("hickory_net::udp", level)
    };
    let (warn, debug) = (&tracing::Level::WARN, &tracing::Level::DEBUG);
    assert!(!filter.would_enable("hickory_net::udp", warn) && !shows("debug", warn), "what DNS sends fills no log");
    assert!(shows("warn,hickory_net=debug", debug) && shows("warn", &tracing::Level::ERROR));
}

/// Runs with an environment file that has these variables, given without their prefix.
fn run_with_file(args: &[&str], file: &[(&str, &str)], variables: &[(&str, &str)]) -> Result<Invocation, StartError> {
    let env_file = tempfile::NamedTempFile::new().expect("a file");
    let lines = file.iter().map(|(name, value)| format!("{}{name}='{value}'\n", variables::PREFIX));
    std::fs::write(env_file.path(), lines.collect::<String>()).expect("written");
    let path = env_file.path().to_str().expect("text");
    run(&[args, &["--env-file", path]].concat(), variables).map_err(|error| {
        let text = error.to_string().replace(path, "FILE");
        StartError::new(error.exit, text)
    })
}

#[test]
fn a_flag_has_precedence_over_a_variable_and_a_variable_over_the_file() {
    let lock = |args: &[&str], variables: &[(&str, &str)]| {
        let file = [("LOCK_NAME", "of file"), ("ENDPOINTS", "e"), ("LOG", ""), ("PASWORD", "x")];
        let Invocation { mode, remarks, .. } = run_with_file(args, &file, variables).expect("understood");
        assert!(remarks.len() == 1 && remarks[0].contains("PASWORD is not a setting"), "{remarks:?}");
        match mode {
            Mode::Show { lock, .. } => lock.to_string(),
            other => panic!("{other:?}"),
        }
    };
    let variable = [("LOCK_NAME", "of variable")];
    assert_eq!(lock(&["ctl", "show", "--lock-name=of flag"], &variable), "of flag");
    assert_eq!(lock(&["ctl", "show"], &variable), "of variable");
    assert_eq!(lock(&["ctl", "show"], &[("LOCK_NAME", "")]), "of file");
}

#[test]
fn an_error_names_the_file_that_a_value_comes_from_and_never_shows_a_password() {
    let refused = |file: &[(&str, &str)]| {
        let file = [&[("LOCK_NAME", "l"), ("PASSWORD", "geheim")], file].concat();
        let text = run_with_file(&["ctl", "show"], &file, &[]).expect_err("must be refused").to_string();
        assert!(!text.contains("geheim"), "{text}");
        text
    };
    let text = refused(&[("ENDPOINTS", "e"), ("CLUSTER_ID", "x")]);
    assert!(text.starts_with("ETCD_AWAIT_ELECTION_CLUSTER_ID in FILE: 'x' is not a valid"), "{text}");
    assert!(refused(&[("ENDPOINTS", "e")]).starts_with("ETCD_AWAIT_ELECTION_PASSWORD in FILE: requires --user"));
    assert!(refused(&[]).starts_with("ctl show requires --endpoints (or ETCD_AWAIT_ELECTION_ENDPOINTS)"));
    let both = run(&["ctl", "show", "name", "--env-file=x"], &ENOUGH).expect_err("one of them").to_string();
    assert!(both.contains("--env-file"), "{both}");
}
