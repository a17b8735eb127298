//! `hooks install`, `uninstall` and `status` on settings as people have them.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

use mpm_monitor::hooks::claude::change::{ChangeError, Plan, Wish};
use mpm_monitor::hooks::claude::file::{FileError, Settings};
use mpm_monitor::hooks::claude::settings::{EVENTS, Owner, entries};
use serde_json::{Value, json};

use testkit::command::Ran;
use testkit::daemon::Place;
use testkit::{http, program};

struct Home {
    place: Place,
}

impl Home {
    fn new() -> Self {
        Self { place: Place::new() }
    }

    fn with(text: &str) -> Self {
        let home = Self::new();
        fs::create_dir(home.place.path("home/.claude")).unwrap();
        fs::write(home.file(), text).unwrap();
        home
    }

    fn file(&self) -> PathBuf {
        self.place.path("home/.claude/settings.json")
    }

    fn text(&self) -> String {
        fs::read_to_string(self.file()).unwrap()
    }

    /// The program under test is in a build tree, so it has to be named.
    #[track_caller]
    fn install(&self, more: &[&str]) -> Ran {
        let program = program();
        self.place.ran([&["hooks", "install", "--program", &program], more].concat())
    }

    #[track_caller]
    fn uninstall(&self, more: &[&str]) -> Ran {
        self.place.ran([&["hooks", "uninstall"], more].concat())
    }

    fn ours(&self) -> usize {
        entries(&self.text()).unwrap().iter().filter(|e| e.owner == Owner::Ours).count()
    }
}

const OTHER: &str = "{\n  // mine\n  \"model\": \"opus\",\n  \"hooks\": {\n    \"PreToolUse\": [\n      {\"matcher\": \"Bash\", \"hooks\": [{\"type\": \"command\", \"command\": \"~/check.sh\"}]}\n    ],\n  },\n}\n";

#[test]
fn the_change_is_shown_made_and_undone_to_the_byte() {
    let crlf = OTHER.replace('\n', "\r\n");
    let mark = format!("\u{feff}{OTHER}");
    let tabs = OTHER.replace("  ", "\t");
    let huge = format!("{{\n  \"allow\": [{}]\n}}", vec!["\"Bash(x:*)\""; 30_000].join(",\n    "));
    let mpm = "{\"hooks\":{\"Stop\":[{\"matcher\":\"*\",\"hooks\":[{\"type\":\"command\",\"command\":\"/v/bin/claude-hook\",\"timeout\":60}]}]}}";
    for text in ["", "{}", "\n\n", "{\"a\": 1}", OTHER, &crlf, &mark, &tabs, &huge, mpm] {
        let home = Home::with(text);
        fs::set_permissions(home.file(), fs::Permissions::from_mode(0o640)).unwrap();
        let dry = home.install(&["--dry-run"]).ok();
        assert_eq!(home.text(), text, "a dry run writes nothing");
        let real = home.install(&[]).ok();
        assert_eq!(home.ours(), EVENTS.len(), "{real}");
        let diff = |ran: &Ran| ran.stdout.split("\n\n").next().unwrap().to_owned();
        if !text.contains('\r') {
            assert_eq!(diff(&dry), diff(&real), "what is shown is what is done");
            let shown =
                mpm_monitor::hooks::claude::settings::diff(text, &home.text(), &home.file().display().to_string());
            assert!(real.stdout.contains(&shown), "{real}\n{shown}");
        }
        assert_eq!(fs::metadata(home.file()).unwrap().mode() & 0o777, 0o640);
        let before = (home.text(), fs::metadata(home.file()).unwrap().ino());
        let again = home.install(&[]).ok();
        assert!(again.stdout.contains("already"), "{again}");
        assert_eq!((home.text(), fs::metadata(home.file()).unwrap().ino()), before);
        home.uninstall(&[]).ok();
        assert_eq!(home.text().as_bytes(), text.as_bytes(), "{text:.200}");
        assert!(home.uninstall(&[]).ok().stdout.contains("nothing to do"));
        let left: Vec<_> = fs::read_dir(home.place.path("home/.claude")).unwrap().flatten().map(|e| e.path()).collect();
        assert_eq!(left, [home.file()]);
        assert!(!home.place.path("state/hooks").exists());
    }
}

#[test]
fn what_others_change_meanwhile_stays() {
    let home = Home::with(OTHER);
    home.install(&[]).ok();
    let changed = home.text().replace("\"opus\"", "\"sonnet\"");
    fs::write(home.file(), &changed).unwrap();
    // A second program is told once more: still nobody else's words are lost.
    home.install(&["--hook-args=--port 9"]).ok();
    assert!(home.text().contains("hook --port 9") && home.ours() == EVENTS.len());
    home.uninstall(&[]).ok();
    assert_eq!(home.ours(), 0);
    let words = |text: &str| text.split_whitespace().collect::<String>();
    assert_eq!(words(&home.text()), words(&OTHER.replace("\"opus\"", "\"sonnet\"")));
}

#[test]
fn a_file_that_was_not_there_goes_again_with_its_folder() {
    let home = Home::new();
    home.install(&[]).ok();
    assert_eq!((home.ours(), fs::metadata(home.file()).unwrap().mode() & 0o777), (EVENTS.len(), 0o600));
    home.uninstall(&[]).ok();
    assert!(!home.place.path("home/.claude").exists());
    // With something of somebody else's in it, it stays.
    home.install(&[]).ok();
    fs::write(home.file(), home.text().replacen('{', "{\"x\":1,", 1)).unwrap();
    home.uninstall(&[]).ok();
    assert!(home.text().contains("\"x\":1"));
    let project = Home::new();
    let dir = project.place.path("home");
    for (flags, name) in [(&["--local"][..], "settings.local.json"), (&[], "settings.json")] {
        let flags = [&["--project", dir.to_str().unwrap()], flags].concat();
        project.install(&flags).ok();
        assert!(dir.join(".claude").join(name).exists());
        project.uninstall(&flags).ok();
        assert!(!dir.join(".claude").exists());
    }
}

#[test]
fn links_are_followed_and_stay() {
    let home = Home::new();
    fs::create_dir_all(home.place.path("home/.claude")).unwrap();
    fs::create_dir(home.place.path("dotfiles")).unwrap();
    let real = home.place.path("dotfiles/claude.json");
    fs::write(&real, OTHER).unwrap();
    symlink("../../dotfiles/claude.json", home.file()).unwrap();
    home.install(&[]).ok();
    assert!(fs::symlink_metadata(home.file()).unwrap().is_symlink());
    assert_eq!(entries(&fs::read_to_string(&real).unwrap()).unwrap().len(), EVENTS.len() + 1);
    home.uninstall(&[]).ok();
    assert_eq!(fs::read_to_string(&real).unwrap(), OTHER);
    assert!(fs::symlink_metadata(home.file()).unwrap().is_symlink());
    fs::remove_file(&real).unwrap();
    home.install(&[]).ok();
    assert!(real.exists(), "a link that leads nowhere yet leads there afterwards");
}

#[test]
fn what_must_not_change_is_refused_and_untouched() {
    let cases = [
        ("{\n  \"a\": [1, 2,\n  \"b\": 3\n}", 0o644, 8, "line 3, column"),
        ("{\"hooks\": []}", 0o644, 8, "`hooks` is not an object"),
        (OTHER, 0o444, 8, "read-only"),
    ];
    for (text, mode, code, says) in cases {
        let home = Home::with(text);
        fs::set_permissions(home.file(), fs::Permissions::from_mode(mode)).unwrap();
        let ran = home.install(&[]).expect(code);
        assert!(ran.stderr.contains(says) && ran.stderr.contains("settings.json"), "{ran}");
        assert_eq!(home.text(), text);
        assert_eq!(fs::read_dir(home.place.path("home/.claude")).unwrap().count(), 1);
    }
    let home = Home::new();
    fs::create_dir_all(home.file()).unwrap();
    assert!(home.install(&[]).expect(8).stderr.contains("is a folder"));
    // From a build tree only by name.
    assert!(Home::new().place.ran(["hooks", "install"]).expect(8).stderr.contains("build tree"));
}

#[test]
fn links_in_a_project_are_not_followed() {
    let home = Home::new();
    let (project, aim) = (home.place.path("project"), home.place.path("aim"));
    fs::create_dir_all(project.join(".claude")).unwrap();
    fs::create_dir_all(&aim).unwrap();
    let words = ["--project", &project.display().to_string(), "--local"];
    // To a file that would be made, and to one that is there.
    symlink(aim.join("cron.json"), project.join(".claude/settings.local.json")).unwrap();
    for there in [false, true] {
        let ran = home.install(&words).expect(8);
        assert!(ran.stderr.contains("a link in a project"), "{there}: {ran}");
        assert_eq!(fs::read_to_string(aim.join("cron.json")).ok(), there.then(|| "{}".to_owned()));
        fs::write(aim.join("cron.json"), "{}").unwrap();
    }
    fs::remove_dir_all(project.join(".claude")).unwrap();
    symlink(&aim, project.join(".claude")).unwrap();
    home.install(&words).expect(8);
    assert_eq!(fs::read_dir(&aim).unwrap().count(), 1);
}

#[test]
fn an_edit_in_the_same_moment_wins() {
    let home = Home::with(OTHER);
    let receipts = home.place.path("receipts");
    let wish = Wish::In("/usr/bin/mpm-monitor hook".into());
    let plan = Plan::new(Settings::read(&home.file()).unwrap(), &wish, &receipts).unwrap();
    fs::write(home.file(), "{\"theirs\": true}").unwrap();
    let error = plan.apply(&receipts).unwrap_err();
    assert!(matches!(error, ChangeError::File(FileError::Changed { .. })), "{error}");
    assert_eq!(home.text(), "{\"theirs\": true}");
    let none = Home::new();
    fs::create_dir(none.place.path("home/.claude")).unwrap();
    let plan = Plan::new(Settings::read(&none.file()).unwrap(), &wish, &receipts).unwrap();
    fs::write(none.file(), "{}").unwrap();
    assert!(matches!(plan.apply(&receipts), Err(ChangeError::File(FileError::Changed { .. }))));
    assert_eq!(none.text(), "{}");
}

#[test]
fn status_tells_what_is_there_and_what_is_wrong() {
    let home = Home::with(
        "{\"hooks\":{\"Stop\":[{\"hooks\":[{\"type\":\"command\",\"command\":\"/nonexistent/claude-hook\"}]}]}}",
    );
    let port = http::free_port();
    let status = |code: i32| -> Value {
        let mut command = home.place.command(["hooks", "status", "--json"]);
        command.env("MPM_MONITOR_PORT", port.to_string());
        testkit::command::run(&mut command, testkit::daemon::SOON).expect(code).json()
    };
    assert_eq!(status(6)["installed"], false);
    home.install(&[]).ok();
    let report = status(0);
    assert_eq!(report["installed"], true);
    assert_eq!(report["programs"][0]["version"], json!(env!("CARGO_PKG_VERSION")), "{report}");
    let problems = report["problems"].to_string();
    for says in ["build tree", "comes twice", "no monitor takes"] {
        assert!(problems.contains(says), "{says}: {problems}");
    }
    let _monitor = home.place.serve(port);
    assert!(!status(0)["problems"].to_string().contains("no monitor takes"));
    let text = home.place.ran(["hooks", "status"]).ok();
    assert!(text.stdout.contains("9 of ours, 1 of Claude MPM, 0 others"), "{text}");
    // What Claude Code would run really works.
    let settings: Value = serde_json::from_str(&home.text()).unwrap();
    let command = settings["hooks"]["SessionEnd"][0]["hooks"][0]["command"].as_str().unwrap();
    let like = home.place.command::<&str>([]);
    let mut sh = std::process::Command::new("sh");
    sh.args(["-c", command]).env_clear().envs(like.get_envs().filter_map(|(n, v)| Some((n, v?))));
    sh.env("MPM_MONITOR_PORT", port.to_string()).env("MPM_MONITOR_HOOK_DEADLINE", "2s");
    let input = super::session::inputs("real", 0).pop().unwrap();
    super::session::fed(&mut sh, input.to_string().as_bytes()).unnoticed(super::session::DEADLINE);
    super::session::wait_for(port, "real", 1);
}
