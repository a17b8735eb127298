//! The unit files before a real systemd: `systemd-analyze` finds nothing to complain about, the system unit is hardened
//! enough, and a path with every awkward character comes back from systemd's own parser as it was written.
//!
//! Where systemd-analyze is missing these tests skip, unless `MPM_MONITOR_TESTS_MUST_RUN` is set.

use std::path::Path;
use std::process::{Command, Output};

use service::Scope;
use service::definition::Definition;
use service::systemd::render;

/// Runs systemd-analyze; `None` if this machine has none.
fn analyze(arguments: &[&str]) -> Option<Output> {
    // A user's manager wants a runtime directory; any will do for reading units.
    let command = &mut Command::new("systemd-analyze");
    match command.args(arguments).env("LC_ALL", "C").env("XDG_RUNTIME_DIR", std::env::temp_dir()).output() {
        Ok(output) => Some(output),
        Err(error) => {
            testkit::skip(&format!("needs systemd-analyze (apt-get install systemd): {error}"));
            None
        }
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Writes the units of an instance; returns their paths.
fn units(dir: &Path, definition: &Definition) -> Vec<String> {
    let service = render::service(&mpm_monitor::app::APP, definition).unwrap();
    [("mpm-monitor@8765.service", service), ("mpm-monitor@8765.socket", render::socket(&mpm_monitor::app::APP))]
        .into_iter()
        .map(|(name, content)| {
            let path = dir.join(name);
            std::fs::write(&path, content).unwrap();
            path.display().to_string()
        })
        .collect()
}

fn definition(scope: Scope, program: &Path) -> Definition {
    Definition {
        port: 8765,
        scope,
        program: program.to_owned(),
        env: [].into(),
        socket: true,
        notify_reload: false,
        account: None,
        tool_dirs: vec![],
    }
}

#[test]
fn systemd_has_nothing_to_complain_about() {
    for scope in [Scope::System, Scope::User] {
        let dir = tempfile::tempdir().unwrap();
        let files = units(dir.path(), &definition(scope, Path::new(env!("CARGO_BIN_EXE_mpm-monitor"))));
        let mut arguments = vec!["verify", "--man=no", "--recursive-errors=no"];
        arguments.extend((scope == Scope::User).then_some("--user"));
        arguments.extend(files.iter().map(String::as_str));
        let Some(output) = analyze(&arguments) else { return };
        // Complaints on the machine's own units are not ours.
        let ours: Vec<_> = text(&output).lines().filter(|l| l.contains("mpm-monitor")).map(str::to_owned).collect();
        assert!(ours.is_empty() && output.status.success(), "{scope}: {}", text(&output));
    }
}

#[test]
fn a_wrong_unit_would_be_found() {
    let dir = tempfile::tempdir().unwrap();
    let files = units(dir.path(), &definition(Scope::System, Path::new(env!("CARGO_BIN_EXE_mpm-monitor"))));
    let broken = std::fs::read_to_string(&files[0]).unwrap().replace("KillMode=mixed", "KillMode=mixd");
    std::fs::write(&files[0], broken).unwrap();
    let Some(output) = analyze(&["verify", "--man=no", "--recursive-errors=no", &files[0]]) else { return };
    assert!(text(&output).contains("mixd"), "{}", text(&output));
}

#[test]
fn the_system_unit_is_hardened() {
    let dir = tempfile::tempdir().unwrap();
    let files = units(dir.path(), &definition(Scope::System, Path::new("/usr/bin/mpm-monitor")));
    // The threshold is in tenths: 12 is an exposure of 1.2.
    let Some(output) = analyze(&["security", "--offline=true", "--threshold=12", &files[0]]) else { return };
    let said = text(&output);
    let overall = said.lines().find(|l| l.contains("Overall exposure level")).unwrap_or("no overall line").to_owned();
    println!("{overall}");
    assert!(output.status.success(), "{overall}");
}

#[test]
fn systemd_finds_a_program_with_awkward_characters_in_its_path() {
    for name in ["a b", "100%", "a;b", "a$HOMEb", "${HOME}", "%h", "-a", "ünï"] {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join(name);
        std::fs::create_dir(&folder).unwrap();
        let program = folder.join("mpm-monitor");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_mpm-monitor"), &program).unwrap();
        let files = units(dir.path(), &definition(Scope::System, &program));
        let verify = ["verify", "--man=no", "--recursive-errors=no", &files[0]];
        let Some(output) = analyze(&verify) else { return };
        // For any other path than the very one, verify would find no program.
        assert!(output.status.success() && !text(&output).contains("mpm-monitor"), "{name}: {}", text(&output));
        // The check itself is checked: without the program there is a complaint.
        std::fs::remove_file(&program).unwrap();
        let Some(output) = analyze(&verify) else { return };
        assert!(text(&output).contains("not executable"), "the check would not have found it: {}", text(&output));
    }
}

#[test]
fn what_systemd_refuses_is_refused_before_it_is_written() {
    for name in ["a'b", "a\"b", "a\\x20b"] {
        let refused = render::service(&mpm_monitor::app::APP, &definition(Scope::User, &Path::new("/opt").join(name)));
        assert!(refused.is_err(), "{name}");
    }
}
