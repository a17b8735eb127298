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
        ("NotifyAccess", "none", "NotifyAccess", "none"),
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
        ("ProtectHome", "tmpfs", "ProtectHome", "tmpfs"),
        ("LogLevelMax", "0", "LogLevelMax", "emerg"),
        ("IPAddressDeny", "::/0 0.0.0.0/0", "IPAddressAllow", ""),
        ("RestrictAddressFamilies", "AF_UNIX", "RestrictAddressFamilies", "AF_UNIX"),
        ("RestrictAddressFamilies", "~AF_INET", "RestrictAddressFamilies", "~AF_INET"),
        ("PrivateNetwork", "yes", "PrivateNetwork", "yes"),
        ("SystemCallFilter", "~bind", "SystemCallFilter", "~bind"),
        ("MemoryMax", "2097152", "MemoryMax", "2M"),
        ("TasksMax", "3", "TasksMax", "3"),
        ("LimitFSIZE", "0", "LimitFSIZE", "0"),
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
fn failure_before_the_program_ran_names_the_lines_of_others() {
    let failed = [("ActiveState", "failed"), ("Result", "exit-code"), ("ExecMainCode", "1"), ("ExecMainStatus", "226")];
    let found = check(unit(&failed, &[("BindPaths", "/nowhere")]), Around::default());
    assert!(found.summary.contains("226") && found.evidence[0].contains("BindPaths"), "{found:?}");
    // One that ran and ended by itself is no fault of theirs.
    let ended = [("ActiveState", "failed"), ("Result", "exit-code"), ("ExecMainCode", "1"), ("ExecMainStatus", "78")];
    assert_eq!(check(unit(&ended, &[("Nice", "1")]), Around::default()).outcome, Outcome::Verified);
}

#[test]
fn files_units_and_accounts_that_are_not_there_are_named() {
    let around = Around {
        absent: vec![(
            "/etc/nowhere.env".into(),
            unit(&[], &[("EnvironmentFile", "/etc/nowhere.env")]).lines.remove(0),
        )],
        no_units: vec!["nosuch.service".into()],
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
