use super::super::check::Outcome;
use super::super::tests::find;
use super::*;
use crate::hooks::key;
use std::os::unix::fs::PermissionsExt;

fn script(path: &Path, text: &str, mode: u32) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
}

fn settings(home: &Path, command: &str) {
    let hook = serde_json::json!({"type": "command", "command": command});
    let other = serde_json::json!({"type": "command", "command": "/usr/bin/true"});
    let all = serde_json::json!({"env": {"TOKEN": "secret"}, "hooks": {"PreToolUse": [{"matcher": "*", "hooks": [hook, other]}]}});
    std::fs::create_dir_all(home.join(".claude")).unwrap();
    std::fs::write(home.join(".claude/settings.json"), all.to_string()).unwrap();
}

/// A Python that answers an import as told.
fn python(path: &Path, works: bool) {
    let text =
        if works { "echo 6.5.83" } else { "echo \"ModuleNotFoundError: No module named 'claude_mpm'\" >&2; exit 1" };
    script(path, &format!("#!/bin/sh\n{text}\n"), 0o755);
}

fn place(home: &Path, path: &Path) -> Place {
    let spools = home.join("spool");
    Place { home: home.to_owned(), path: path.display().to_string(), spools, ..Place::default() }
}

fn checks(place: &Place) -> Vec<Check> {
    judge(&Ok(Some(look(place))))
}

#[test]
fn hooks_in_a_virtual_environment_without_one_and_in_a_broken_one() {
    let root = tempfile::tempdir().unwrap();
    let (home, bin) = (root.path().join("home"), root.path().join("bin"));
    let handler = home.join(
        ".local/share/uv/tools/claude-mpm/lib/python3.12/site-packages/claude_mpm/scripts/claude-hook-handler.sh",
    );
    script(&handler, "#!/bin/bash\n", 0o755);
    settings(&home, &format!("\"{}\"", handler.display()));
    let own = home.join(".local/share/uv/tools/claude-mpm/bin/python");
    python(&own, true);
    python(&bin.join("python3"), false);
    // In one.
    let place = place(&home, &bin);
    let all = checks(&place);
    assert_eq!(find(&all, Code::HookImport).evidence, [format!("{} imports claude_mpm 6.5.83", own.display())]);
    assert_eq!(find(&all, Code::HookPrograms).outcome, Outcome::Verified);
    // In a broken one.
    python(&own, false);
    let all = checks(&place);
    let broken = find(&all, Code::HookImport);
    assert!(broken.is_error() && broken.evidence[0].contains("No module named"), "{broken:?}");
    assert_eq!(broken.next.clone().unwrap(), format!("{} -m pip install claude-mpm", own.display()));
    // In none: the one on the search path.
    std::fs::remove_file(&own).unwrap();
    let all = checks(&place);
    assert!(find(&all, Code::HookImport).evidence[0].starts_with(&bin.join("python3").display().to_string()));
    // That of the shell comes before it.
    let shells = root.path().join("venv");
    python(&shells.join("bin/python"), true);
    let all = checks(&Place { virtual_env: Some(shells), ..place });
    assert_eq!(find(&all, Code::HookImport).outcome, Outcome::Verified);
}

#[test]
fn a_dead_path_and_a_lost_mode_are_told_and_secrets_are_not() {
    let root = tempfile::tempdir().unwrap();
    let home = root.path().join("home");
    settings(&home, "CLAUDE_MPM_HOOK_DEBUG=1 /opt/gone/claude-hook-fast.sh --x");
    let place = place(&home, root.path());
    let all = checks(&place);
    let dead = find(&all, Code::HookPrograms);
    assert!(dead.is_error() && dead.evidence[0].starts_with("/opt/gone/claude-hook-fast.sh is not there"), "{dead:?}");
    assert!(!format!("{all:?}").contains("secret"));
    let fast = home.join("claude-hook-fast.sh");
    script(&fast, "#!/bin/bash\n", 0o644);
    settings(&home, "~/claude-hook-fast.sh");
    let all = checks(&place);
    assert_eq!(find(&all, Code::HookPrograms).next.clone().unwrap(), format!("chmod +x {}", fast.display()));
    assert_eq!(find(&all, Code::HookImport).outcome, Outcome::NotRun);
}

#[test]
fn no_hooks_is_a_note_and_damaged_settings_are_told() {
    let root = tempfile::tempdir().unwrap();
    let place = place(root.path(), root.path());
    let none = checks(&place);
    assert!(find(&none, Code::HookCommands).outcome == Outcome::Failed && !none.iter().any(Check::is_error));
    script(&root.path().join(".claude/settings.json"), "{", 0o600);
    assert!(find(&checks(&place), Code::HookCommands).evidence[0].contains("settings.json: line 1"));
}

#[test]
fn events_that_nobody_takes_and_events_that_found_no_room_are_told() {
    let root = tempfile::tempdir().unwrap();
    let place = place(root.path(), root.path());
    let spool = |checks: &[Check]| find(checks, Code::HookSpool).clone();
    assert_eq!(spool(&checks(&place)).outcome, Outcome::Verified);
    let queue = place.spools.join("8765/queue");
    // One that was delivered long ago, and one that was made this moment.
    let old = "01919191-9191-7191-9191-919191919191";
    script(&queue, &format!("-{old} {{}}\n+{} {{}}\n", key::fresh()), 0o600);
    assert_eq!(spool(&checks(&place)).outcome, Outcome::Verified);
    script(&queue, &format!("?{old} {{}}\n+{} {{}}\n", key::fresh()), 0o600);
    let waits = spool(&checks(&place));
    assert_eq!(waits.outcome, Outcome::Failed);
    assert!(waits.evidence[0].ends_with("8765: 2 events since 2024-08-27T02:02:02Z"), "{waits:?}");
    let dropped = place.spools.join("8765/dropped");
    script(&dropped, "1\n", 0o600);
    let lost = spool(&checks(&place));
    assert!(lost.evidence[0].ends_with("8765: 1 event lost, 2 waiting"), "{lost:?}");
    assert_eq!(lost.next.unwrap(), format!("rm '{}'", dropped.display()));
}

#[test]
fn the_program_of_a_command() {
    for (command, program) in [
        ("/a/b --c", "/a/b"),
        ("A=1 B='x y' \"/a b/c\" d", "/a b/c"),
        ("/a\\ b/c d", "/a b/c"),
        ("python3 -m claude_mpm.hooks", "python3"),
    ] {
        assert_eq!(first_word(command).as_deref(), Some(program), "{command}");
    }
    assert_eq!(first_word("  A=1 "), None);
}

#[test]
fn python_that_only_a_project_names_is_not_run() {
    let root = tempfile::tempdir().unwrap();
    let (home, project) = (root.path().join("home"), root.path().join("project"));
    std::fs::create_dir_all(&home).unwrap();
    let (python, ran) = (project.join(".x/python3"), root.path().join("ran"));
    script(&python, &format!("#!/bin/sh\ntouch {}\n", ran.display()), 0o755);
    settings(&project, "$CLAUDE_PROJECT_DIR/.x/python3 -m claude_mpm.hooks");
    let place = Place { project: Some(project), ..place(&home, root.path()) };
    let all = checks(&place);
    let import = find(&all, Code::HookImport);
    assert_eq!(import.outcome, Outcome::NotRun, "{import:?}");
    assert!(import.evidence[0].ends_with("and nothing of theirs is run"), "{import:?}");
    assert!(!ran.exists());
}

#[test]
fn hooks_that_the_company_allows_not_are_told() {
    let (home, place) = (tempfile::tempdir().unwrap(), Place::default());
    let managed = home.path().join("managed-settings.json");
    std::fs::write(&managed, "{\"allowManagedHooksOnly\": true}").unwrap();
    let place = Place { home: home.path().to_owned(), managed: managed.clone(), ..place };
    assert_eq!(look(&place).reserved, Some(managed.clone()));
    let hook = Hook { file: "/s.json".into(), program: "/b/mpm-monitor".into() };
    let checks = judge(&Ok(Some(Seen { hooks: vec![hook], reserved: Some(managed.clone()), ..Seen::default() })));
    assert_eq!(checks[0].evidence[0], managed.display().to_string());
    std::fs::write(&managed, "{}").unwrap();
    assert_eq!(look(&place).reserved, None);
}

#[test]
fn spool_of_another_user_is_given_back() {
    let strange = vec![(PathBuf::from("/s/spool"), "root".to_owned())];
    let checks = judge(&Ok(Some(Seen { strange, user: "ann".into(), ..Seen::default() })));
    let check = checks.iter().find(|c| c.code == Code::HookSpool).unwrap();
    assert_eq!(check.evidence, ["/s/spool belongs to root"]);
    assert_eq!(check.next.as_deref(), Some("sudo chown -R ann /s/spool"));
}
