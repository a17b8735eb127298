use super::super::tests::{find, job, subject};
use super::*;

fn seen() -> Seen {
    Seen {
        receipt: Ok(None),
        writable: vec![],
        program: Some(("/usr/local/bin/mpm-monitor".into(), None)),
        unreadable: vec![],
        passed_by: None,
        dangling: None,
    }
}

fn installed(drift: &[(&str, Drift)]) -> Facts {
    let drift = drift.iter().map(|(p, d)| (PathBuf::from(p), *d)).collect();
    Facts { receipt: true, drift, installed: Some(("0.1.0".into(), None)), ..Facts::default() }
}

fn all(facts: Facts, seen: Seen) -> Vec<Check> {
    with_unit(facts, seen, &[("LoadState", "loaded"), ("Type", "notify")])
}

fn with_unit(facts: Facts, seen: Seen, unit: &[(&str, &str)]) -> Vec<Check> {
    let values: std::collections::HashMap<_, _> =
        unit.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let fragment = values.get("FragmentPath").map(PathBuf::from);
    let unit = Merged { unit: "mpm-monitor@8765.service".into(), values, fragment, ..Merged::default() };
    judge(&subject(), &Ok(facts), &Ok(seen), &Ok(unit), &Ok(needs::Around::default()))
}

#[test]
fn pain_5_outdated_is_rewritten_and_edited_never() {
    let checks = all(installed(&[("/u/a.service", Drift::Outdated)]), seen());
    let outdated = find(&checks, Code::UnitOutdated);
    assert_eq!((outdated.outcome, outdated.fixes.as_slice()), (Outcome::Failed, &[Fix::Install][..]));
    assert_eq!(outdated.next.as_deref(), Some("mpm-monitor install --user --port 8765"));
    let both = installed(&[("/u/a.service", Drift::Edited), ("/u/b.conf", Drift::Outdated)]);
    let checks = all(both, seen());
    assert_eq!(find(&checks, Code::UnitOutdated).fixes, [], "install stops at the edited one");
    let edited = find(&checks, Code::UnitEdited);
    assert_eq!((edited.fixes.len(), edited.evidence.as_slice()), (0, &["/u/a.service".to_owned()][..]));
    assert!(edited.next.as_ref().unwrap().starts_with("mv /u/a.service /u/a.service.edited && "), "{edited:?}");
    let clean = all(installed(&[("/u/a.service", Drift::Clean)]), seen());
    for code in [Code::UnitMissing, Code::UnitEdited, Code::UnitOutdated] {
        assert_eq!(find(&clean, code).outcome, Outcome::Verified);
    }
}

#[test]
fn pain_3_a_program_that_is_gone_or_will_be_is_told() {
    let gone = Seen { program: Some(("/opt/gone".into(), Some(Obstacle::Gone))), ..seen() };
    let checks = all(installed(&[]), gone);
    assert!(!can_start(&checks));
    assert_eq!(find(&checks, Code::ProgramThere).evidence, ["/opt/gone"]);
    for path in ["/home/a/p/target/debug/mpm-monitor", "/opt/homebrew/Cellar/m/1/bin/m", "/nix/store/x/bin/m"] {
        let checks = all(installed(&[]), Seen { program: Some((path.into(), None)), ..seen() });
        let lasts = find(&checks, Code::ProgramLasts);
        assert_eq!(lasts.outcome, Outcome::Failed, "{path}");
        let next = lasts.next.as_ref().unwrap();
        assert!(next.starts_with(&format!("install -d ~/.local/bin && install -m755 {path} ~/.local/bin/")), "{next}");
        assert!(next.ends_with(" && ~/.local/bin/mpm-monitor install --user --port 8765"), "{next}");
    }
}

#[test]
fn program_that_cannot_be_run_says_why_and_what_repairs_it() {
    let there_for = |scope, obstacle, facts: Facts| {
        let program = Some((PathBuf::from("/b/mpm-monitor"), obstacle));
        let facts = Facts { program: Some("/b/mpm-monitor".into()), ..facts };
        let [there, _] = program_checks(&Subject { scope, ..subject() }, &facts, &Seen { program, ..seen() });
        there
    };
    let there = |obstacle, facts| there_for(Scope::User, obstacle, facts);
    let mode = there(Some(Obstacle::Mode(0o644)), installed(&[]));
    assert!(mode.evidence[0].contains("0644") && mode.next.unwrap().starts_with("chmod 755 /b/mpm-monitor && "));
    let closed = |scope, at: &str| there_for(scope, Some(Obstacle::Closed(at.into())), installed(&[])).next.unwrap();
    assert!(closed(Scope::User, "/b").starts_with("chmod u+rx /b && "));
    assert!(closed(Scope::System, "/b/mpm-monitor").starts_with("sudo chmod go+rx /b/mpm-monitor && "));
    let folder = closed(Scope::System, "/b");
    assert!(folder.starts_with("sudo install -m755 /b/mpm-monitor /usr/local/bin/mpm-monitor && "));
    let other = there(None, Facts { installed: None, ..installed(&[]) });
    assert!(other.summary.contains("is not mpm-monitor") && other.next.unwrap().contains("install -m755 "));
    assert_eq!(there(None, installed(&[])).outcome, Outcome::Verified);
    let checks = all(Facts { installed: None, ..installed(&[]) }, seen());
    assert_eq!(find(&checks, Code::ProgramThere).outcome, Outcome::Verified, "nobody asked it for its version");
    let folder = there(Some(Obstacle::NoFile), installed(&[]));
    assert!(folder.next.unwrap().starts_with("mv /b/mpm-monitor /b/mpm-monitor.aside && install -m755 "));
    let mount = there(Some(Obstacle::NoExec("/mnt/b".into())), installed(&[]));
    assert!(mount.next.unwrap().starts_with("sudo mount -o remount,bind,exec /mnt/b && "));
}

#[test]
fn masked_unit_is_to_be_unmasked_and_not_installed() {
    let state = [("LoadState", "masked"), ("UnitFileState", "masked-runtime"), ("FragmentPath", "/run/u.service")];
    let checks = with_unit(installed(&[]), seen(), &state);
    let loads = find(&checks, Code::UnitLoads);
    assert!(loads.is_error() && !can_start(&checks), "{loads:?}");
    let next = loads.next.as_deref().unwrap();
    assert!(next.starts_with("systemctl --user unmask --runtime mpm-monitor@8765.service && "), "{next}");
    assert_eq!(find(&checks, Code::UnitEnabled).outcome, Outcome::NotRun);
}

#[test]
fn unreadable_and_overridden_units_are_named() {
    let unreadable = Seen { unreadable: vec!["/u/m.service".into()], ..seen() };
    let checks = with_unit(installed(&[]), unreadable, &[("LoadState", "not-found")]);
    let loads = find(&checks, Code::UnitLoads);
    assert!(loads.next.as_ref().unwrap().starts_with("chmod 644 /u/m.service && systemctl --user daemon-reload"));
    let state = [("LoadState", "loaded"), ("FragmentPath", "/elsewhere/mpm-monitor@8765.service")];
    let checks = with_unit(installed(&[]), seen(), &state);
    let loads = find(&checks, Code::UnitLoads);
    assert!(loads.next.as_ref().unwrap().starts_with("mv /elsewhere/mpm-monitor@8765.service "), "{loads:?}");
}

#[test]
fn nothing_installed_is_no_error_and_claims_nothing() {
    let checks = all(Facts::default(), Seen { program: None, ..seen() });
    let first = find(&checks, Code::Installed);
    assert_eq!((first.outcome, first.is_error()), (Outcome::Failed, false));
    assert_eq!(find(&checks, Code::UnitMissing).outcome, Outcome::NotRun);
    assert_eq!(find(&checks, Code::ProgramThere).outcome, Outcome::NotRun);
}

#[test]
fn a_damaged_receipt_is_not_taken_for_none() {
    let checks = all(Facts::default(), Seen { receipt: Err(Unreadable::Damaged("EOF".into())), ..seen() });
    let check = find(&checks, Code::Receipt);
    assert!(check.is_error() && check.next.as_ref().unwrap().starts_with("rm "), "{check:?}");
    let hidden = all(installed(&[]), Seen { receipt: Err(Unreadable::Hidden), ..seen() });
    assert_eq!(find(&hidden, Code::Receipt).outcome, Outcome::NotRun);
}

#[test]
fn script_without_its_interpreter_says_which() {
    let there = |name: &str| {
        let program = Some((PathBuf::from("/b/mpm-monitor"), Some(Obstacle::Interpreter(name.into()))));
        find(&all(installed(&[]), Seen { program, ..seen() }), Code::ProgramThere).clone()
    };
    let windows = there("/bin/sh\r");
    assert_eq!(windows.evidence[0], "the first line of /b/mpm-monitor names \"/bin/sh\\r\"");
    assert!(windows.next.unwrap().starts_with("sed -i 's/\\r$//' /b/mpm-monitor && "));
    assert_eq!(there("/opt/none").next.as_deref(), Some("mpm-monitor install --user --port 8765"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mpm-monitor");
    for (text, name) in
        [("#! /bin/sh\r\n", Some("/bin/sh\r")), ("#!/usr/bin/env x\n", Some("/usr/bin/env")), ("x", None)]
    {
        std::fs::write(&path, text).unwrap();
        assert_eq!(interpreter(&path).as_deref(), name, "{text:?}");
    }
}

#[test]
fn link_that_leads_nowhere_is_removed_and_not_installed_over() {
    let dangling = Some((PathBuf::from("/u/m.service"), PathBuf::from("/srv/m.service")));
    let checks = all(installed(&[]), Seen { dangling, ..seen() });
    let check = find(&checks, Code::UnitLoads);
    assert_eq!(check.evidence, ["/u/m.service leads to /srv/m.service, which is not there"]);
    assert!(check.next.as_ref().unwrap().starts_with("rm /u/m.service && "), "{check:?}");
}

#[test]
fn unit_enabled_for_another_target_does_not_come_up() {
    let enabled = |passed_by: Option<&str>, by: &str| {
        let facts = Facts { service: Some(job(7)), ..installed(&[]) };
        let values = [("LoadState", "loaded"), ("WantedBy", by)].map(|(k, v)| (k.to_owned(), v.to_owned()));
        let unit = Merged { values: values.into_iter().collect(), ..Merged::default() };
        super::enabled(&subject(), &facts, &Seen { passed_by: passed_by.map(str::to_owned), ..seen() }, &Ok(unit))
    };
    assert_eq!(enabled(None, "default.target x.target").outcome, Outcome::Verified);
    let check = enabled(Some("default.target"), "graphical-session.target");
    assert!(check.summary.contains("default.target"), "{check:?}");
    assert_eq!(check.next.as_deref(), Some("systemctl --user enable mpm-monitor@8765.service"));
}

#[test]
fn loader_that_is_not_there_is_named() {
    let mut text = vec![0_u8; 200];
    text[..6].copy_from_slice(b"\x7fELF\x02\x01");
    for (at, value) in [(32, 64), (54, 56), (56, 2), (64, 6), (120, 3), (128, 180), (152, 8)] {
        text[at] = value;
    }
    text[180..188].copy_from_slice(b"/ld.so1\0");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("p");
    std::fs::write(&path, &text).unwrap();
    assert_eq!(super::loader(&path).as_deref(), Some("/ld.so1"));
    text[32..40].fill(0xff);
    std::fs::write(&path, &text).unwrap();
    assert_eq!(super::loader(&path), None, "a table beyond the file");
    let program = Some(("/b/m".into(), Some(Obstacle::Loader("/nix/ld.so".into()))));
    let there = find(&all(installed(&[]), Seen { program, ..seen() }), Code::ProgramThere).clone();
    assert_eq!(there.evidence, ["/b/m names /nix/ld.so"]);
    assert!(there.next.unwrap().starts_with("install -m755 "));
}
