use super::super::tests::{find, subject};
use super::*;

fn seen() -> Seen {
    Seen {
        receipt: Ok(None),
        writable: vec![],
        program: Some(("/usr/local/bin/mpm-monitor".into(), true)),
        settings: Err(vec![]),
        token: None,
        token_error: None,
    }
}

fn installed(drift: &[(&str, Drift)]) -> Facts {
    let drift = drift.iter().map(|(p, d)| (PathBuf::from(p), *d)).collect();
    Facts { receipt: true, drift, ..Facts::default() }
}

fn all(facts: Facts, seen: Seen) -> Vec<Check> {
    judge(&subject(), &Ok(facts), &Ok(seen))
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
    let gone = Seen { program: Some(("/opt/gone".into(), false)), ..seen() };
    let checks = all(installed(&[]), gone);
    assert!(!can_start(&checks));
    assert_eq!(find(&checks, Code::ProgramThere).evidence, ["/opt/gone"]);
    for path in ["/home/a/p/target/debug/mpm-monitor", "/opt/homebrew/Cellar/m/1/bin/m", "/nix/store/x/bin/m"] {
        let checks = all(installed(&[]), Seen { program: Some((path.into(), true)), ..seen() });
        let lasts = find(&checks, Code::ProgramLasts);
        assert_eq!(lasts.outcome, Outcome::Failed, "{path}");
        let next = lasts.next.as_ref().unwrap();
        assert!(next.starts_with(&format!("install -d ~/.local/bin && install -m755 {path} ~/.local/bin/")), "{next}");
        assert!(next.ends_with(" && ~/.local/bin/mpm-monitor install --user --port 8765"), "{next}");
    }
}

#[test]
fn a_token_that_others_can_read_is_taken_from_them() {
    let token = Some((PathBuf::from("/t"), Some(0o644)));
    let seen = Seen {
        settings: Ok(crate::config::settings::defaults()),
        token,
        token_error: Some("others ...".into()),
        ..seen()
    };
    let checks = all(installed(&[]), seen);
    let check = find(&checks, Code::TokenFile);
    assert_eq!(check.fixes, [Fix::Tighten { path: "/t".into(), mode: 0o600 }]);
    assert_eq!(check.evidence, ["/t has mode 0644"]);
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
