use super::super::check::Outcome;
use super::super::tests::subject;
use super::*;

fn seen() -> Seen {
    Seen {
        settings: Ok(crate::config::settings::defaults()),
        weak: vec![],
        unknown: vec![],
        blocked: None,
        hidden: None,
        token: None,
        token_error: None,
        token_blocked: None,
        token_hidden: None,
        token_untold: false,
        user: "mpm-monitor".into(),
        group: "mpm-monitor".into(),
    }
}

fn root() -> Subject {
    Subject { scope: Scope::System, is_root: true, ..subject() }
}

fn all(subject: &Subject, seen: Seen, unit: Merged) -> [Check; 2] {
    judge(subject, &Ok(seen), &Ok(unit), false)
}

#[test]
fn token_that_others_can_read_is_taken_from_them() {
    let token = Some((PathBuf::from("/t"), Some(0o644)));
    let [_, check] =
        all(&subject(), Seen { token, token_error: Some("others ...".into()), ..seen() }, Merged::default());
    assert_eq!(check.fixes, [Fix::Tighten { path: "/t".into(), mode: 0o600 }]);
    assert_eq!(check.evidence, ["/t has mode 0644"]);
    assert_eq!(check.next.as_deref(), Some("chmod 600 /t && mpm-monitor restart --user --port 8765"));
}

#[test]
fn token_of_root_is_given_to_the_services_user() {
    let token = Some((PathBuf::from("/t"), Some(0o600)));
    let of_root = Seen { token, token_blocked: Some("/t".into()), ..seen() };
    let [_, check] = all(&root(), of_root, Merged::default());
    assert_eq!(check.summary, "mpm-monitor cannot read the token: no start can succeed");
    assert_eq!(check.next.as_deref(), Some("chown mpm-monitor /t && mpm-monitor restart --system --port 8765"));
}

#[test]
fn configuration_closed_to_the_service_is_opened_to_its_group() {
    let file = PathBuf::from("/nowhere/config.toml");
    let [check, _] = all(&root(), Seen { blocked: Some((file.clone(), file)), ..seen() }, Merged::default());
    let next = check.next.unwrap();
    assert!(next.starts_with("chgrp mpm-monitor /nowhere/config.toml && chmod g+r /nowhere/config.toml && "), "{next}");
}

#[test]
fn folder_of_others_is_not_opened_for_the_service() {
    let (file, folder) = (PathBuf::from("/tmp/x/config.toml"), PathBuf::from("/tmp"));
    let [check, _] = all(&root(), Seen { blocked: Some((file, folder)), ..seen() }, Merged::default());
    assert_eq!((check.outcome, check.next), (Outcome::Failed, None));
}

#[test]
fn wrong_variable_of_a_drop_in_is_named_with_its_line() {
    let line = Line {
        file: "/d/mine.conf".into(),
        first: 2,
        last: 2,
        key: "Environment".into(),
        value: "MPM_MONITOR_MAX_CLIENTS=many".into(),
    };
    let unit = Merged { lines: vec![line], ..Merged::default() };
    let problem = Problem { origin: Origin::Variable("MPM_MONITOR_MAX_CLIENTS".into()), message: "no number".into() };
    let [check, token] = all(&subject(), Seen { settings: Err(vec![problem]), ..seen() }, unit);
    assert_eq!(check.evidence[1], "/d/mine.conf:2: Environment=MPM_MONITOR_MAX_CLIENTS=many");
    assert!(check.next.unwrap().starts_with("sed -i -e '2s/^/# /' /d/mine.conf && "));
    assert_eq!(token.outcome, Outcome::NotRun);
}

#[test]
fn what_protects_is_not_taken_out_of_the_configuration() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    std::fs::write(&path, "[server]\nmax_clients = 5\n[access]\ntoken_file = \"/t\"\n").unwrap();
    let next = |line, message: &str| {
        let problem = Problem { origin: Origin::File(path.clone(), line), message: message.into() };
        let [check, _] = all(&subject(), Seen { settings: Err(vec![problem]), ..seen() }, Merged::default());
        check.next.unwrap()
    };
    assert!(next(2, "server.max_clients: no number").starts_with("sed -i -e '2s/^/# /' "));
    assert_eq!(next(4, "access.token_file: no path"), "mpm-monitor config check");
}

#[test]
fn variable_of_the_manager_is_taken_from_the_manager() {
    let problem = || Problem { origin: Origin::Variable("MPM_MONITOR_HISTORY_AGE".into()), message: "no time".into() };
    let unit = Merged { given: vec![("MPM_MONITOR_HISTORY_AGE".into(), "ever".into())], ..Merged::default() };
    let [check, _] = all(&subject(), Seen { settings: Err(vec![problem()]), ..seen() }, unit);
    assert!(check.evidence[1].contains("the manager itself"), "{check:?}");
    let next = check.next.unwrap();
    assert!(next.starts_with("systemctl --user unset-environment MPM_MONITOR_HISTORY_AGE && "), "{next}");
    let line =
        Line { file: "/e".into(), first: 3, last: 3, key: "MPM_MONITOR_HISTORY_AGE".into(), value: "ever".into() };
    let unit = Merged { variables: vec![line], ..Merged::default() };
    let [check, _] = all(&subject(), Seen { settings: Err(vec![problem()]), ..seen() }, unit);
    assert_eq!(check.evidence[1], "/e:3: MPM_MONITOR_HISTORY_AGE=ever");
    assert!(check.next.unwrap().starts_with("sed -i -e '3s/^/# /' /e && "));
}

#[test]
fn files_outside_of_what_the_unit_may_write_are_told() {
    let strict =
        [("ProtectSystem", "strict"), ("StateDirectory", "mpm-monitor/8765"), ("ReadWritePaths", "-/srv/a /srv/b")];
    let values = strict.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let unit = Merged { values, ..Merged::default() };
    assert!(walls::between(&unit, Need::Write, Path::new("/var/log")).is_some());
    let settings = Settings { log_file: Some("/nonexistent/x.log".into()), ..crate::config::settings::defaults() };
    let problems = beyond(&settings, &Provenance(BTreeMap::new()), &unit, &Account::Unknown);
    assert_eq!(problems[0].message, "log.file: /nonexistent/x.log cannot be made: /nonexistent is not there");
}

#[test]
fn token_that_only_the_service_knows_is_told() {
    let token = Some((PathBuf::from("/t"), Some(0o600)));
    let [_, check] = all(&subject(), Seen { token, token_untold: true, ..seen() }, Merged::default());
    assert_eq!((check.outcome, check.severity), (Outcome::Failed, Severity::Warning));
    assert!(check.evidence.contains(&"/t".to_owned()));
}

#[test]
fn closed_folder_of_a_user_is_opened_with_all_in_it() {
    let root = tempfile::tempdir().unwrap();
    let mut user = subject();
    user.paths.units = root.path().join("systemd/user");
    let blocked = Some((root.path().join("mpm-monitor/config.toml"), root.path().to_owned()));
    let [check, _] = all(&user, Seen { blocked, ..seen() }, Merged::default());
    let at = root.path().display();
    let restart = "mpm-monitor restart --user --port 8765";
    let next = format!("chmod -R u+rX {at} && systemctl --user daemon-reload && {restart}");
    assert_eq!(check.next.as_deref(), Some(next.as_str()));
}
