use super::*;
use crate::Kind;
use crate::app::App;
use crate::paths::Paths;
use crate::systemd::Systemd;
use daemon::dirs::UserDirs;

fn systemd() -> Systemd {
    Systemd::new(Paths::user(App::TEST, Kind::Systemd, &UserDirs::default()))
}

fn write(path: PathBuf, content: &str) -> Action {
    Action::WriteFile { path, content: content.into(), mode: 0o644, replaces: false }
}

#[test]
fn a_failed_step_takes_the_others_back() {
    let root = tempfile::tempdir().unwrap();
    let at = |p: &str| root.path().join(p);
    fs::write(at("old"), "before").unwrap();
    fs::write(at("gone"), "keep me").unwrap();
    let plan = Plan {
        actions: vec![
            Action::MakeDir { path: at("dir") },
            write(at("dir/new"), "new"),
            write(at("old"), "after"),
            Action::RemoveFile { path: at("gone") },
            Action::Link { path: at("a/wants/link"), target: at("old") },
            write(at("no/such/dir/file"), "x"),
        ],
        notes: vec![],
    };
    let error = apply(&plan, &systemd(), Duration::ZERO).unwrap_err();
    assert!(error.to_string().starts_with("could not write "), "{error}");
    assert_eq!(error.left, Vec::<String>::new());
    let mut names: Vec<_> = fs::read_dir(root.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["gone", "old"]);
    assert_eq!(fs::read_to_string(at("old")).unwrap(), "before");
    assert_eq!(fs::read_to_string(at("gone")).unwrap(), "keep me");
}

#[test]
fn a_directory_with_files_of_the_user_stays() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("x");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("mine.conf"), "").unwrap();
    let plan = Plan { actions: vec![Action::RemoveDir { path: dir.clone() }], notes: vec![] };
    apply(&plan, &systemd(), Duration::ZERO).unwrap();
    assert!(dir.exists());
}

#[test]
fn lingering_of_a_user_who_is_gone_stops_no_uninstall() {
    let root = tempfile::tempdir().unwrap();
    let unit = root.path().join("unit");
    fs::write(&unit, "").unwrap();
    let actions =
        vec![Action::DisableLinger { user: "mpm-no-such-user".to_owned() }, Action::RemoveFile { path: unit.clone() }];
    let manager = systemd();
    let applied = apply(&Plan { actions, notes: vec![] }, &manager, Duration::ZERO).unwrap();
    assert!(applied.notes[0].contains("lingering for mpm-no-such-user"), "{:?}", applied.notes);
    assert!(!unit.exists());
}
