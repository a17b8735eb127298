use super::super::check::Outcome;
use super::super::tests::subject;
use super::*;

/// A unit with these properties, and a drop-in with these lines.
fn unit(values: &[(&str, &str)], lines: &[(&str, &str)]) -> Merged {
    let loaded = [("LoadState", "loaded"), ("Type", "notify"), ("Restart", "on-failure")];
    let file = PathBuf::from("/d/mine.conf");
    let line = |(at, (key, value)): (usize, &(&str, &str))| Line {
        file: file.clone(),
        first: at + 2,
        last: at + 2,
        key: (*key).to_owned(),
        value: (*value).to_owned(),
    };
    Merged {
        values: loaded.iter().chain(values).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        lines: lines.iter().enumerate().map(line).collect(),
        drop_ins: vec![file.clone()],
        ..Merged::default()
    }
}

fn check(unit: Merged, around: Around) -> Check {
    judge(&subject(), &Ok(unit), &Ok(around), true)
}

#[test]
fn each_need_that_a_drop_in_takes_away_is_named() {
    let program = Around { program: Some("/opt/bin/mpm-monitor".into()), ..Around::default() };
    let exec = "{ path=/bin/false ; argv[]=/bin/false ; ignore_errors=no ; pid=0 ; code=exited ; status=1/FAILURE }";
    let other = "{ path=/bin/sleep ; argv[]=/bin/sleep 10 ; ignore_errors=no ; code=(null) ; status=0/0 }";
    for (property, merged, key, value) in [
        ("Type", "oneshot", "Type", "oneshot"),
        ("Restart", "no", "Restart", "no"),
        ("TimeoutStartUSec", "1ms", "TimeoutStartSec", "1ms"),
        ("WatchdogUSec", "10ms", "WatchdogSec", "10ms"),
        ("Environment", "XDG_STATE_HOME=/mnt", "Environment", "XDG_STATE_HOME=/mnt"),
        ("RuntimeMaxUSec", "1h", "RuntimeMaxSec", "1h"),
        ("KillMode", "none", "KillMode", "none"),
        ("ExecStartPre", exec, "ExecStartPre", "/bin/false"),
        ("ExecStart", other, "ExecStart", "/bin/sleep 10"),
        ("InaccessiblePaths", "/var -/opt/bin", "InaccessiblePaths", "/opt/bin"),
        ("TemporaryFileSystem", "/opt:ro", "TemporaryFileSystem", "/opt:ro"),
        ("RootDirectory", "/srv", "RootDirectory", "/srv"),
        ("ProtectSystem", "strict", "ProtectSystem", "strict"),
        ("LogLevelMax", "0", "LogLevelMax", "emerg"),
        ("IPAddressDeny", "::/0 0.0.0.0/0", "IPAddressAllow", ""),
        ("RestrictAddressFamilies", "AF_UNIX", "RestrictAddressFamilies", "AF_UNIX"),
        ("RestrictAddressFamilies", "~AF_INET", "RestrictAddressFamilies", "~AF_INET"),
        ("PrivateNetwork", "yes", "PrivateNetwork", "yes"),
        ("SystemCallFilter", "~bind", "SystemCallFilter", "~bind"),
        ("MemoryMax", "2097152", "MemoryMax", "2M"),
        ("TasksMax", "3", "TasksMax", "3"),
        ("LimitFSIZE", "0", "LimitFSIZE", "0"),
        ("UnsetEnvironment", "NOTIFY_SOCKET", "UnsetEnvironment", "NOTIFY_SOCKET"),
        ("StandardError", "append:/l", "StandardError", "append:/l"),
        ("LogNamespace", "x", "LogNamespace", "x"),
        ("UMask", "0777", "UMask", "0777"),
        ("KillSignal", "9", "KillSignal", "SIGKILL"),
        ("RestartPreventExitStatus", "2 69 1", "RestartPreventExitStatus", "1"),
        ("RestartUSec", "3h", "RestartSec", "3h"),
    ] {
        let check = check(unit(&[(property, merged)], &[(key, value)]), program.clone());
        assert_eq!(check.outcome, Outcome::Failed, "{property}={merged}");
        assert!(check.evidence.contains(&format!("/d/mine.conf:2: {key}={value}")), "{check:?}");
        assert!(check.next.unwrap().starts_with("sed -i -e '2s/^/# /' /d/mine.conf && "), "{property}");
    }
}

#[test]
fn unit_as_install_writes_it_lacks_nothing() {
    let own = unit(
        &[
            ("IPAddressDeny", "::/0 0.0.0.0/0"),
            ("IPAddressAllow", "::1/128 127.0.0.0/8"),
            ("RestrictAddressFamilies", "AF_INET AF_INET6 AF_UNIX"),
            ("TimeoutStartUSec", "20s"),
            ("RuntimeMaxUSec", "infinity"),
            ("LogLevelMax", "-1"),
            ("MemoryMax", "infinity"),
            ("LimitFSIZE", "infinity"),
            ("CPUQuotaPerSecUSec", "infinity"),
            ("KillMode", "mixed"),
            ("ConditionResult", "no"),
            ("ConditionTimestampMonotonic", "0"),
        ],
        &[],
    );
    assert_eq!(check(own.clone(), Around::default()).outcome, Outcome::Verified);
    // Nor do drop-ins that take nothing away.
    let lines = unit(&[("Nice", "5")], &[("Nice", "5"), ("IPAddressAllow", "10.0.0.0/8")]).lines;
    assert_eq!(check(Merged { lines, ..own }, Around::default()).outcome, Outcome::Verified);
}

#[test]
fn what_systemd_does_not_understand_is_told_in_its_words() {
    let text = "Unknown key 'Enviroment' in section [Service], ignoring.".to_owned();
    let complaints = vec![merged::Complaint { file: "/d/mine.conf".into(), line: 2, text: text.clone() }];
    let unit = Merged { complaints, ..unit(&[], &[("Enviroment", "A=b")]) };
    let check = check(unit, Around::default());
    assert_eq!(check.evidence, [format!("/d/mine.conf:2: Enviroment=A=b ({text})")]);
}

#[test]
fn failure_that_nothing_explains_names_the_lines_of_others() {
    let suspected = |unit: Merged, code: Code| {
        let mut checks =
            vec![Check::verified(Code::UnitSettings, ""), Check::failed(Code::Ready, ""), Check::failed(code, "")];
        suspect(&subject(), &Ok(unit), &mut checks);
        checks.swap_remove(0)
    };
    let failed = [("ActiveState", "failed"), ("Result", "exit-code"), ("ExecMainCode", "1"), ("ExecMainStatus", "226")];
    let found = suspected(unit(&failed, &[("BindPaths", "/nowhere")]), Code::CrashLoop);
    assert!(found.summary.contains("226") && found.evidence[0].contains("BindPaths"), "{found:?}");
    assert!(found.next.unwrap().starts_with("sed -i -e '2s/^/# /' /d/mine.conf && "));
    // What another check explains is no fault of theirs.
    assert_eq!(suspected(unit(&failed, &[("Nice", "1")]), Code::Config).outcome, Outcome::Verified);
    // Nor what was never started, but by what ties it to others.
    let stopped = [("ActiveState", "inactive"), ("LoadState", "loaded")];
    let found = suspected(unit(&stopped, &[("Nice", "1"), ("Conflicts", "x.service")]), Code::Ready);
    assert_eq!(found.evidence, ["/d/mine.conf:3: Conflicts=x.service"]);
    assert_eq!(suspected(unit(&stopped, &[("Nice", "1")]), Code::Ready).outcome, Outcome::Verified);
}

#[test]
fn command_line_is_read_as_the_program_reads_it() {
    let wrong = |command: &str| wrong_command(&subject(), command, &Around::default()).unwrap_or_default();
    assert_eq!(wrong("/usr/bin/mpm-monitor run --port 8765"), "");
    assert_eq!(wrong("/usr/bin/env -i /usr/bin/mpm-monitor run --port 9"), "");
    assert!(wrong("/usr/bin/mpm-monitor run --port 9").contains("serves port 9"));
    assert!(wrong("/usr/bin/mpm-monitor run --verbose").contains("--verbose"));
    assert!(wrong("/usr/bin/mpm-monitor status").contains("does not serve"));
    assert!(wrong("/bin/sleep 9").contains("another program"));
}

#[test]
fn folders_elsewhere_and_limits_of_slices_are_named() {
    let elsewhere = unit(
        &[("Environment", "MPM_MONITOR_RUNTIME_DIR=/run/x")],
        &[("Environment", "MPM_MONITOR_RUNTIME_DIR=/run/x")],
    );
    assert!(check(elsewhere, Around::default()).summary.contains("/run/x"));
    let given = Merged { given: vec![("XDG_STATE_HOME".into(), "/mnt".into())], ..unit(&[], &[]) };
    let next = check(given, Around::default()).next.unwrap();
    assert!(next.starts_with("systemctl --user unset-environment XDG_STATE_HOME && "), "{next}");
    let slice = Merged { unit: "app.slice".into(), ..unit(&[("TasksMax", "2")], &[("TasksMax", "2")]) };
    let around = |scope| Around { slices: vec![(scope, slice.clone())], ..Around::default() };
    let found = check(unit(&[], &[]), around(Scope::System));
    assert!(found.summary.starts_with("app.slice, which it is in, has a limit: "), "{found:?}");
    let next = found.next.unwrap();
    assert!(
        next.starts_with("sudo sed -i -e '2s/^/# /' /d/mine.conf && sudo systemctl daemon-reload && mpm"),
        "{next}"
    );
}

#[test]
fn files_units_and_accounts_that_are_not_there_are_named() {
    let around = Around {
        absent: vec![(
            "/etc/nowhere.env".into(),
            unit(&[], &[("EnvironmentFile", "/etc/nowhere.env")]).lines.remove(0),
        )],
        no_units: vec![("nosuch.service".into(), "there is not")],
        no_account: vec![("User", "there is no such user: nosuch".into())],
        ..Around::default()
    };
    let lines = [
        ("EnvironmentFile", "/etc/nowhere.env"),
        ("EnvironmentFile", "/etc/x"),
        ("Requires", "nosuch.service"),
        ("User", "nosuch"),
    ];
    let check = check(unit(&[], &lines), around);
    let all = check.evidence.join("\n") + &check.summary;
    for text in [
        "mine.conf:2: EnvironmentFile=/etc/nowhere.env",
        "mine.conf:4: Requires",
        "mine.conf:5: User=nosuch",
        "no such user",
    ] {
        assert!(all.contains(text), "{text}: {check:#?}");
    }
    assert!(!all.contains("/etc/x"), "{check:#?}");
}

#[test]
fn paths_of_lines_are_looked_at_as_systemd_expands_them() {
    let lines = [
        ("EnvironmentFile", "-/nonexistent/may-be-missing"),
        ("WorkingDirectory", "/nonexistent/%i"),
        ("LoadCredential", "token:/nonexistent/100%%"),
        ("EnvironmentFile", "/nonexistent/%Z"),
        ("ExecStart", "/nonexistent/before run"),
        ("ExecStart", ""),
        ("ExecStart", "@/nonexistent/%u/mpm-monitor run"),
    ];
    let found = absent(&subject(), &unit(&[], &lines));
    let paths: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths, ["/nonexistent/8765", "/nonexistent/100%", "/nonexistent/ann/mpm-monitor"]);
    let unit = unit(&[], &lines);
    let next = check(unit, Around { absent: found, ..Around::default() }).next.unwrap();
    assert!(next.contains("-e '6s/^/# /' -e '7s/^/# /' -e '8s/^/# /'"), "the empty one goes, too: {next}");
    assert!(expanded(&subject(), "%h/x").is_none_or(|path| path.starts_with('/') && path.ends_with("/x")));
}

#[test]
fn drop_in_that_cannot_be_read_is_opened() {
    let unit = Merged { unreadable: vec!["/d/mine.conf".into()], ..unit(&[], &[]) };
    assert!(check(unit, Around::default()).next.unwrap().starts_with("chmod 644 /d/mine.conf && "));
}

#[test]
fn start_that_waits_names_the_unit_and_its_lines() {
    let jobs =
        "12 mpm-monitor@8765.service start waiting\n13 vpn.service start running\n14 other.service start running\n";
    let after = "basic.target vpn.service";
    assert_eq!(awaited(jobs, "mpm-monitor@8765.service", after), ["vpn.service"]);
    assert_eq!(awaited(&jobs.replace("waiting", "running"), "mpm-monitor@8765.service", after), [""; 0]);
    let around = Around { awaited: vec!["vpn.service".into()], ..Around::default() };
    let lines = [("Wants", "vpn.service"), ("After", "a.service vpn.service"), ("After", "a.service")];
    let told = check(unit(&[], &lines), around.clone());
    assert_eq!(told.summary, "its start waits for that of vpn.service, which has not ended");
    assert!(told.next.unwrap().starts_with("sed -i -e '2s/^/# /' -e '3s/^/# /' /d/mine.conf && "));
    let foreign = check(unit(&[], &[]), around);
    assert_eq!(foreign.next.as_deref(), Some("systemctl --user status vpn.service"));
}

#[test]
fn unit_that_conflicts_and_runs_is_named() {
    let around = Around { rivals: vec!["old.service".into()], ..Around::default() };
    let told = check(unit(&[], &[]), around.clone());
    assert!(told.is_error() && told.summary.contains("old.service"), "{told:?}");
    assert!(told.next.unwrap().starts_with("systemctl --user disable --now old.service && mpm-monitor start"));
    let own = check(unit(&[], &[("Conflicts", "old.service")]), around);
    assert!(own.next.unwrap().starts_with("sed -i "));
}
