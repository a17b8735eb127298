use std::collections::BTreeMap;
use std::path::Path;

use super::*;
use crate::app::App;
use crate::definition::Definition;
use crate::desired::{drifts, packaged_serves};
use crate::drift::{self, Drift};
use crate::manager::{Job, Phase};
use crate::observed::Observed;
use crate::paths::Paths;
use crate::plan::Linger;
use crate::receipt::{Made, Receipt};
use crate::systemd::show;
use crate::{Kind, Scope};
use daemon::dirs::UserDirs;

fn paths() -> Paths {
    let dirs = UserDirs {
        home: "/home/ann".into(),
        config_home: "/home/ann/.config".into(),
        config: "/home/ann/.config/mpm-monitor".into(),
        state: "/home/ann/.local/state/mpm-monitor".into(),
        runtime: "/run/user/7/mpm-monitor".into(),
    };
    Paths::user(App::TEST, Kind::Systemd, &dirs)
}

fn definition() -> Definition {
    Definition {
        port: 8765,
        scope: Scope::User,
        program: "/usr/bin/mpm-monitor".into(),
        env: BTreeMap::new(),
        socket: false,
        notify_reload: false,
        account: None,
        tool_dirs: vec![],
    }
}

fn wish() -> Wish {
    Wish { start: true, linger: Linger::Auto, user: "ann".into(), build: Some("b1".into()) }
}

fn job(active: &str, enabled: &str) -> Job {
    show::job(&format!("LoadState=loaded\nActiveState={active}\nUnitFileState={enabled}\n"))
}

fn fresh() -> Observed {
    Observed {
        missing_dirs: vec!["/home/ann/.config/systemd".into(), "/home/ann/.config/systemd/user".into()],
        service: Some(job("inactive", "disabled")),
        socket: Some(job("inactive", "disabled")),
        linger: Some(false),
        ..Observed::default()
    }
}

/// What there is after the plan was carried out.
fn after(plan: &Plan, before: &Observed) -> Observed {
    let mut now =
        Observed { missing_dirs: vec![], linger: Some(true), running_build: Some("b1".into()), ..before.clone() };
    for action in &plan.actions {
        match action {
            Action::WriteFile { path, content, .. } => {
                now.files.insert(path.clone(), content.clone());
            }
            Action::RemoveFile { path } => {
                now.files.remove(path);
            }
            Action::Link { path, target } => {
                now.links.insert(path.clone(), target.clone());
            }
            Action::Enable { units } => {
                for unit in units {
                    let own =
                        if unit.ends_with("socket") { paths().socket(8765).unwrap() } else { paths().service(8765) };
                    let template = |dir: PathBuf| dir.join(unit.replace("8765", ""));
                    let target = now.packaged.is_some().then(|| paths().packaged.map(template)).flatten();
                    let target = target.filter(|_| !now.files.contains_key(&own)).unwrap_or(own);
                    now.links.insert(paths().wants(unit).unwrap(), target);
                    let job = if unit.ends_with("socket") { &mut now.socket } else { &mut now.service };
                    job.as_mut().unwrap().enabled = "enabled".into();
                }
            }
            Action::Start { units } => {
                for unit in units {
                    let job = if unit.ends_with("socket") { &mut now.socket } else { &mut now.service };
                    job.as_mut().unwrap().phase = Phase::Running;
                }
            }
            _ => {}
        }
    }
    now.receipt = now.files.get(&paths().receipt(8765)).map(|t| serde_json::from_str(t).unwrap());
    now
}

fn kinds(plan: &Plan) -> Vec<String> {
    plan.actions.iter().map(|a| serde_json::to_value(a).unwrap()["action"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_first_install_and_its_repetition() {
    let plan = install(&definition(), &paths(), &wish(), &fresh()).unwrap();
    assert_eq!(
        kinds(&plan),
        ["make-dir", "make-dir", "write-file", "write-file", "reread", "enable", "enable-linger", "start"]
    );
    let Action::WriteFile { path, .. } = &plan.actions[2] else { panic!("{:?}", plan.actions[2]) };
    assert_eq!(*path, paths().receipt(8765), "the receipt comes first");
    let now = after(&plan, &fresh());
    assert_eq!(install(&definition(), &paths(), &wish(), &now).unwrap(), Plan::default());
}

#[test]
fn a_stopped_one_is_started_and_a_failed_one_forgiven() {
    let mut now = after(&install(&definition(), &paths(), &wish(), &fresh()).unwrap(), &fresh());
    now.service.as_mut().unwrap().phase = Phase::Failed;
    assert_eq!(kinds(&install(&definition(), &paths(), &wish(), &now).unwrap()), ["forget-failure", "start"]);
    let resting = Wish { start: false, ..wish() };
    assert_eq!(install(&definition(), &paths(), &resting, &now).unwrap().actions, []);
}

#[test]
fn an_outdated_unit_or_an_older_process_means_a_restart() {
    let now = after(&install(&definition(), &paths(), &wish(), &fresh()).unwrap(), &fresh());
    let moved = Definition { program: "/usr/local/bin/mpm-monitor".into(), ..definition() };
    assert_eq!(
        kinds(&install(&moved, &paths(), &wish(), &now).unwrap()),
        ["write-file", "write-file", "reread", "restart"]
    );
    let newer = Wish { build: Some("b2".into()), ..wish() };
    assert_eq!(kinds(&install(&definition(), &paths(), &newer, &now).unwrap()), ["restart"]);
}

#[test]
fn pain_5_an_edited_unit_is_never_overwritten() {
    let mut now = after(&install(&definition(), &paths(), &wish(), &fresh()).unwrap(), &fresh());
    let unit = now.files.get_mut(&paths().service(8765)).unwrap();
    *unit = unit.replace("WatchdogSec=10", "WatchdogSec=99");
    let refusal = install(&definition(), &paths(), &wish(), &now).unwrap_err().to_string();
    assert!(
        refusal.contains("+WatchdogSec=99") && refusal.contains("systemctl --user edit mpm-monitor@8765"),
        "{refusal}"
    );
}

#[test]
fn the_socket_takes_the_port_over_and_gives_it_back() {
    let now = after(&install(&definition(), &paths(), &wish(), &fresh()).unwrap(), &fresh());
    let with = Definition { socket: true, ..definition() };
    let plan = install(&with, &paths(), &wish(), &now).unwrap();
    let end = &plan.actions[plan.actions.len() - 2..];
    assert_eq!(end[0], Action::Stop { units: vec!["mpm-monitor@8765.service".into()] });
    assert_eq!(end[1], Action::Start { units: paths().jobs(8765, true) });
    let now = after(&plan, &now);
    assert_eq!(install(&with, &paths(), &wish(), &now).unwrap().actions, []);
    let back = install(&definition(), &paths(), &wish(), &now).unwrap();
    assert!(back.actions.contains(&Action::RemoveFile { path: paths().socket(8765).unwrap() }));
    assert!(back.actions.contains(&Action::RemoveFile { path: paths().drop_in(8765).unwrap() }));
    assert!(back.actions.contains(&Action::Stop {
        units: vec![paths().jobs(8765, true)[1].clone(), paths().jobs(8765, true)[0].clone()]
    }));
}

#[test]
fn without_a_manager_enabling_is_a_link() {
    let none = Observed { service: None, socket: None, linger: None, ..fresh() };
    let plan = install(&definition(), &paths(), &Wish { start: false, ..wish() }, &none).unwrap();
    assert_eq!(kinds(&plan), ["make-dir", "make-dir", "write-file", "write-file", "link"]);
    assert!(plan.notes[0].contains("loginctl enable-linger ann"), "{:?}", plan.notes);
}

#[test]
fn uninstall_removes_what_the_receipt_says_and_keeps_the_history() {
    let installed = after(&install(&definition(), &paths(), &wish(), &fresh()).unwrap(), &fresh());
    let now = Observed { history_exists: true, ..installed };
    let plan = uninstall(8765, &paths(), false, &now);
    assert_eq!(kinds(&plan)[..4], ["stop", "disable", "forget-failure", "remove-file"]);
    assert!(plan.actions.contains(&Action::DisableLinger { user: "ann".into() }));
    assert!(plan.notes[0].contains("--purge"), "{:?}", plan.notes);
    let dirs: Vec<_> = plan.actions.iter().filter(|a| matches!(a, Action::RemoveDir { .. })).collect();
    assert!(dirs.contains(&&Action::RemoveDir { path: "/home/ann/.config/systemd/user".into() }));
    let purge = uninstall(8765, &paths(), true, &now);
    assert!(purge.actions.contains(&Action::RemoveHistory { path: paths().history(8765) }));
}

#[test]
fn purge_keeps_the_history_of_a_monitor_started_by_hand() {
    let installed = after(&install(&definition(), &paths(), &wish(), &fresh()).unwrap(), &fresh());
    let mut now = Observed { history_exists: true, by_hand: Some("pid 7".into()), ..installed };
    now.files.insert(paths().lock(8765), "{}".into());
    let plan = uninstall(8765, &paths(), true, &now);
    assert!(!plan.actions.contains(&Action::RemoveHistory { path: paths().history(8765) }));
    assert!(!plan.actions.contains(&Action::RemoveFile { path: paths().lock(8765) }));
    assert!(plan.notes.iter().any(|n| n.contains("(pid 7) serves port 8765")), "{:?}", plan.notes);
}

#[test]
fn what_was_made_is_inherited_by_the_next_instance() {
    let mut now = after(&install(&definition(), &paths(), &wish(), &fresh()).unwrap(), &fresh());
    let mut other = now.receipt.clone().unwrap();
    (other.port, other.directories, other.linger) = (9000, vec![], None);
    now.others = vec![other];
    let plan = uninstall(8765, &paths(), true, &now);
    assert!(plan.actions.contains(&Action::RemoveFile { path: paths().service(8765) }));
    let heir = plan.actions.iter().find_map(|a| match a {
        Action::WriteFile { path, content, .. } if *path == paths().receipt(9000) => Some(content),
        _ => None,
    });
    let heir: Receipt = serde_json::from_str(heir.unwrap()).unwrap();
    assert_eq!(heir.linger.as_deref(), Some("ann"));
    assert_eq!(heir.directories.len(), 4);
}

#[test]
fn without_a_receipt_only_provably_own_files_go() {
    let mut now = after(&install(&definition(), &paths(), &wish(), &fresh()).unwrap(), &fresh());
    now.receipt = None;
    now.files.remove(&paths().receipt(8765));
    assert!(
        uninstall(8765, &paths(), false, &now).actions.contains(&Action::RemoveFile { path: paths().service(8765) })
    );
    now.files.insert(paths().service(8765), "[Service]\n".into());
    let plan = uninstall(8765, &paths(), false, &now);
    assert!(!plan.actions.contains(&Action::RemoveFile { path: paths().service(8765) }));
    assert!(plan.notes.iter().any(|n| n.contains("it stays")), "{:?}", plan.notes);
    assert_eq!(uninstall(8765, &paths(), false, &Observed::default()), Plan::default());
}

#[test]
fn the_templates_of_a_package_are_used_where_they_run_the_same_program() {
    let packaged = Observed { packaged: Some("/usr/bin/mpm-monitor".into()), ..fresh() };
    let template = paths().service(8765);
    let plan = install(&definition(), &paths(), &wish(), &packaged).unwrap();
    let writes = |plan: &Plan, path: &Path| {
        plan.actions.iter().any(|a| matches!(a, Action::WriteFile { path: p, .. } if p == path))
    };
    assert!(!writes(&plan, &template), "{plan:?}");
    assert_eq!(plan.actions.iter().filter(|a| matches!(a, Action::Enable { .. })).count(), 1);
    let now = after(&plan, &packaged);
    assert_eq!(install(&definition(), &paths(), &wish(), &now).unwrap().actions, []);
    // Without an instance the package's template is nothing to uninstall.
    assert_eq!(uninstall(8765, &paths(), false, &packaged).actions, []);
    assert!(!uninstall(8765, &paths(), false, &now).actions.is_empty());

    // The drop-in of an instance is ours all the same, the socket's template the package's.
    let socket = Definition { socket: true, env: [("A".into(), "b".into())].into(), ..definition() };
    let plan = install(&socket, &paths(), &wish(), &packaged).unwrap();
    let own_socket = paths().socket(8765).unwrap();
    assert!(writes(&plan, &paths().drop_in(8765).unwrap()) && !writes(&plan, &own_socket), "{plan:?}");

    // Another program needs a unit of its own; when the packaged one is installed again, that is in the way.
    let other = Definition { program: "/usr/local/bin/mpm-monitor".into(), ..definition() };
    let plan = install(&other, &paths(), &wish(), &packaged).unwrap();
    assert!(writes(&plan, &template), "{plan:?}");
    let now = after(&plan, &packaged);
    let plan = install(&definition(), &paths(), &wish(), &now).unwrap();
    assert!(plan.actions.contains(&Action::RemoveFile { path: template.clone() }), "{plan:?}");
    assert!(plan.actions.contains(&Action::Reread) && kinds(&plan).contains(&"restart".to_owned()), "{plan:?}");

    // Whoever put a unit or a template of their own before the package's keeps it, and is told.
    for own in [template, paths().old_templates()[0].clone()] {
        let mut edited = packaged.clone();
        edited.files.insert(own, "[Service]\nExecStart=/opt/x\n".into());
        assert!(matches!(install(&definition(), &paths(), &wish(), &edited), Err(Refusal::Edited { .. })));
    }

    // Without a manager the link leads to the package's template.
    let plan = install(&definition(), &paths(), &wish(), &Observed { service: None, ..packaged }).unwrap();
    let target = Path::new("/usr/lib/systemd/user/mpm-monitor@.service");
    assert!(plan.actions.iter().any(|a| matches!(a, Action::Link { target: t, .. } if t == target)), "{plan:?}");
}

#[test]
fn the_system_scope_makes_its_user_once_and_removes_it_only_then() {
    let system = Definition { scope: Scope::System, ..definition() };
    let plan = install(&system, &Paths::system(App::TEST, Kind::Systemd), &wish(), &fresh()).unwrap();
    assert!(kinds(&plan).contains(&"make-user".to_owned()));
    assert!(!kinds(&plan).contains(&"enable-linger".to_owned()));
    let packaged = Observed { user_exists: true, ..fresh() };
    let plan = install(&system, &Paths::system(App::TEST, Kind::Systemd), &wish(), &packaged).unwrap();
    assert!(!kinds(&plan).contains(&"make-user".to_owned()));
    let Some(Action::WriteFile { content, .. }) = plan.actions.iter().find(|a| matches!(a, Action::WriteFile { .. }))
    else {
        panic!("no receipt")
    };
    assert_eq!(serde_json::from_str::<Receipt>(content).unwrap().user, None);
}

#[test]
fn the_service_user_stays_as_long_as_any_history_is_its() {
    let (system, paths) =
        (Definition { scope: Scope::System, ..definition() }, Paths::system(App::TEST, Kind::Systemd));
    let plan = install(&system, &paths, &wish(), &fresh()).unwrap();
    let mut now = Observed { user_exists: true, history_exists: true, missing_dirs: vec![], ..fresh() };
    for action in &plan.actions {
        if let Action::WriteFile { path, content, .. } = action {
            now.files.insert(path.clone(), content.clone());
        }
    }
    now.receipt = now.files.get(&paths.receipt(8765)).map(|t| serde_json::from_str(t).unwrap());
    let sysusers = Action::RemoveFile { path: paths.sysusers.clone().unwrap() };
    let goes = |plan: &Plan| (kinds(plan).contains(&"remove-user".to_owned()), plan.actions.contains(&sysusers));
    assert_eq!(goes(&uninstall(8765, &paths, true, &now)), (true, true));
    let kept = uninstall(8765, &paths, false, &now);
    assert_eq!(goes(&kept), (false, false));
    assert!(kept.notes.iter().any(|n| n.contains("sysusers.d/mpm-monitor.conf, stays")), "{:?}", kept.notes);
    // What an instance of another port left is its, too.
    let other = Observed { other_histories: true, ..now };
    assert_eq!(goes(&uninstall(8765, &paths, true, &other)), (false, false));
}

/// An instance that an earlier version installed: from a template for all, which the link names.
fn from_a_template(text: &str) -> Observed {
    let mut now = after(&install(&definition(), &paths(), &wish(), &fresh()).unwrap(), &fresh());
    now.files.remove(&paths().service(8765));
    let template = paths().old_templates()[0].clone();
    now.files.insert(template.clone(), text.into());
    now.links.insert(paths().wants("mpm-monitor@8765.service").unwrap(), template.clone());
    now.receipt.as_mut().unwrap().files = vec![Made { path: template, shared: true }];
    now.files.insert(paths().receipt(8765), now.receipt.as_ref().unwrap().to_text());
    now
}

#[test]
fn an_instance_of_an_old_template_gets_a_unit_of_its_own() {
    let old = drift::stamp("mpm-monitor", "[Service]\nExecStart=/usr/bin/mpm-monitor run --port %i\n", "0.0.9");
    let (now, template) = (from_a_template(&old), paths().old_templates()[0].clone());
    // It is outdated, not missing.
    assert_eq!(drifts(&definition(), &paths(), &now).unwrap(), [(template.clone(), Drift::Outdated)]);
    let plan = install(&definition(), &paths(), &wish(), &now).unwrap();
    assert_eq!(kinds(&plan), ["write-file", "write-file", "remove-file", "link", "reread", "restart"]);
    assert_eq!(plan.actions[2], Action::RemoveFile { path: template.clone() });
    let link = Action::Link { path: paths().wants("mpm-monitor@8765.service").unwrap(), target: paths().service(8765) };
    assert_eq!(plan.actions[3], link);
    let done = after(&plan, &now);
    assert_eq!(install(&definition(), &paths(), &wish(), &done).unwrap(), Plan::default());

    // As long as another instance is started from it, it stays; uninstall keeps to that, too.
    let others = Observed { template_users: [9000].into(), ..now.clone() };
    let gone = Action::RemoveFile { path: template.clone() };
    assert!(!install(&definition(), &paths(), &wish(), &others).unwrap().actions.contains(&gone));
    assert!(!uninstall(8765, &paths(), true, &others).actions.contains(&gone));
    assert!(uninstall(8765, &paths(), true, &now).actions.contains(&gone));
    // The package's may have this instance only where nothing else goes before it.
    let packaged = Observed { packaged: Some("/usr/bin/mpm-monitor".into()), ..others };
    assert!(!packaged_serves(&definition(), &paths(), &packaged));
    assert!(packaged_serves(&definition(), &paths(), &Observed { template_users: [].into(), ..packaged }));
}

#[test]
fn an_edited_template_is_refused_by_install_and_kept() {
    let own = "[Service]\nExecStart=/usr/bin/mpm-monitor run --port %i\nNice=5\n";
    let (now, template) = (from_a_template(own), paths().old_templates()[0].clone());
    let others = Observed { template_users: [9000].into(), ..now.clone() };
    let refusal = install(&definition(), &paths(), &wish(), &others).unwrap_err().to_string();
    assert!(refusal.contains("+Nice=5") && refusal.contains("install again (port 9000, too"), "{refusal}");
    let plan = uninstall(8765, &paths(), true, &now);
    assert!(!plan.actions.contains(&Action::RemoveFile { path: template.clone() }), "{plan:?}");
    assert!(plan.notes.iter().any(|n| n.contains("was edited by hand, so that it stays")), "{:?}", plan.notes);
    // An instance with a unit of its own is told, and no more.
    let mut own = after(&install(&definition(), &paths(), &wish(), &fresh()).unwrap(), &fresh());
    own.files.insert(template.clone(), now.files[&template].clone());
    let plan = install(&definition(), &paths(), &wish(), &own).unwrap();
    assert!(plan.actions.is_empty() && plan.notes[0].contains("was edited by hand"), "{plan:?}");
}

#[test]
fn an_edited_unit_stays_after_uninstall_and_is_told() {
    let mut now = after(&install(&definition(), &paths(), &wish(), &fresh()).unwrap(), &fresh());
    *now.files.get_mut(&paths().service(8765)).unwrap() += "Nice=5\n";
    let plan = uninstall(8765, &paths(), true, &now);
    assert!(kinds(&plan).contains(&"disable".to_owned()));
    assert!(!plan.actions.contains(&Action::RemoveFile { path: paths().service(8765) }), "{plan:?}");
    assert!(
        plan.notes[0].contains("mpm-monitor@8765.service was edited by hand, so that it stays"),
        "{:?}",
        plan.notes
    );
}

#[test]
fn another_instance_with_another_program_changes_nothing_here() {
    let now = after(&install(&definition(), &paths(), &wish(), &fresh()).unwrap(), &fresh());
    let other = Definition { port: 8766, program: "/opt/mpm-monitor".into(), ..definition() };
    let there = Observed { receipt: None, others: now.receipt.iter().cloned().collect(), ..fresh() };
    let plan = install(&other, &paths(), &wish(), &there).unwrap();
    let mine = paths().service(8765);
    assert!(plan.actions.iter().all(|a| !matches!(a, Action::WriteFile { path, .. } if *path == mine)), "{plan:?}");
}

mod on_launchd {
    use super::*;

    fn paths() -> Paths {
        let dirs = UserDirs {
            home: "/Users/ann".into(),
            config_home: "/Users/ann/Library/Application Support".into(),
            config: "/Users/ann/Library/Application Support/mpm-monitor".into(),
            state: "/Users/ann/Library/Application Support/mpm-monitor".into(),
            runtime: "/Users/ann/Library/Application Support/mpm-monitor/run".into(),
        };
        Paths::user(App::TEST, Kind::Launchd, &dirs)
    }

    fn job(phase: Phase, enabled: &str) -> Job {
        let there = if phase == Phase::Running { "ActiveState=active\n" } else { "ActiveState=inactive\n" };
        Job { enabled: enabled.to_owned(), loaded: phase == Phase::Running, ..show::job(there) }
    }

    fn fresh() -> Observed {
        let missing_dirs = vec!["/Users/ann/Library/Logs/mpm-monitor".into()];
        Observed { missing_dirs, service: Some(job(Phase::Stopped, "")), ..Observed::default() }
    }

    fn installed() -> Observed {
        let plan = install(&definition(), &paths(), &wish(), &fresh()).unwrap();
        let mut now = Observed { service: Some(job(Phase::Running, "enabled")), ..Observed::default() };
        now.running_build = Some("b1".into());
        for action in plan.actions {
            if let Action::WriteFile { path, content, .. } = action {
                now.files.insert(path, content);
            }
        }
        now.receipt = now.files.get(&paths().receipt(8765)).map(|t| serde_json::from_str(t).unwrap());
        now
    }

    #[test]
    fn there_is_no_reload_no_link_and_no_lingering() {
        let plan = install(&definition(), &paths(), &wish(), &fresh()).unwrap();
        assert_eq!(kinds(&plan), ["make-dir", "write-file", "write-file", "start"]);
        assert_eq!(plan.notes, Vec::<String>::new());
        assert_eq!(install(&definition(), &paths(), &wish(), &installed()).unwrap(), Plan::default());
        let asked = Wish { linger: Linger::Yes, ..wish() };
        let plan = install(&definition(), &paths(), &asked, &installed()).unwrap();
        assert!(plan.notes[0].contains("no lingering") && plan.notes[0].contains("--system"), "{:?}", plan.notes);
        let without = Observed { service: None, ..fresh() };
        let plan = install(&definition(), &paths(), &Wish { start: false, ..wish() }, &without).unwrap();
        assert_eq!(kinds(&plan), ["make-dir", "write-file", "write-file"], "the next login loads it");
    }

    #[test]
    fn what_changed_is_loaded_anew() {
        let with = Definition { socket: true, ..definition() };
        let plan = install(&with, &paths(), &wish(), &installed()).unwrap();
        let restart = Action::Restart { unit: "mpm-monitor.8765".into(), changed: true };
        assert_eq!(plan.actions.last(), Some(&restart), "the socket is a part of the job");
        let older = Wish { build: Some("b2".into()), ..wish() };
        let plan = install(&definition(), &paths(), &older, &installed()).unwrap();
        let restart = Action::Restart { unit: "mpm-monitor.8765".into(), changed: false };
        assert_eq!(plan.actions, [restart], "the plist is the same, so launchd need not read it again");
    }

    #[test]
    fn a_disabled_one_is_enabled() {
        let off = Observed { service: Some(job(Phase::Stopped, "disabled")), ..installed() };
        let plan = install(&definition(), &paths(), &wish(), &off).unwrap();
        assert_eq!(kinds(&plan), ["enable", "start"]);
        assert!(kinds(&uninstall(8765, &paths(), false, &off)).contains(&"enable".to_owned()));
    }

    #[test]
    fn an_edited_plist_stays_and_the_next_login_does_not_load_it() {
        let mut now = installed();
        let plist = now.files.get_mut(&paths().service(8765)).unwrap();
        *plist = plist.replace("</dict>", "<key>Nice</key><integer>5</integer></dict>");
        let plan = uninstall(8765, &paths(), false, &now);
        assert!(!plan.actions.contains(&Action::RemoveFile { path: paths().service(8765) }), "{plan:?}");
        assert!(plan.actions.contains(&Action::Disable { units: vec!["mpm-monitor.8765".into()] }), "{plan:?}");
    }

    #[test]
    fn a_daemons_directories_are_its_accounts() {
        let daemon = Definition { scope: Scope::System, account: Some("ann".into()), ..definition() };
        let history = Paths::system(App::TEST, Kind::Launchd).history(8765);
        let now = Observed { account_dirs: vec![history.clone()], ..fresh() };
        let plan = install(&daemon, &Paths::system(App::TEST, Kind::Launchd), &wish(), &now).unwrap();
        assert!(plan.actions.contains(&Action::GiveDir { path: history, user: "ann".into() }), "{plan:?}");
        assert!(!kinds(&plan).contains(&"make-user".to_owned()));
    }

    #[test]
    fn the_log_goes_with_the_purge() {
        let logs = vec!["/Users/ann/Library/Logs/mpm-monitor/8765.log".into()];
        let now = Observed { logs: logs.clone(), ..installed() };
        let plan = uninstall(8765, &paths(), false, &now);
        assert_eq!(kinds(&plan)[..2], ["stop", "remove-file"]);
        assert!(plan.notes.iter().any(|n| n.contains("the log stays")), "{:?}", plan.notes);
        let plan = uninstall(8765, &paths(), true, &now);
        assert!(plan.actions.contains(&Action::RemoveFile { path: logs[0].clone() }));
    }
}
