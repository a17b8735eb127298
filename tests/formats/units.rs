//! The rendered units and property lists, byte for byte: header, content, what differs from machine to machine. That they are
//! made of the files in `systemd/` and `launchd/` is tested beside the renderers.

use std::collections::BTreeMap;
use std::path::PathBuf;

use daemon::dirs::UserDirs;
use mpm_monitor::build::VERSION;
use service::definition::Definition;
use service::drift::{Header, header, is_ours};
use service::launchd::render as launchd;
use service::paths::Paths;
use service::systemd::render as systemd;
use service::{Kind, Scope};

use crate::{assert_frozen, fixture, text};

/// A plain definition, and one with everything.
fn definitions(scope: Scope) -> [Definition; 2] {
    let plain = Definition {
        port: 8765,
        scope,
        program: "/usr/local/bin/mpm-monitor".into(),
        env: BTreeMap::new(),
        socket: false,
        notify_reload: false,
        account: None,
        tool_dirs: vec![],
    };
    let full = Definition {
        program: "/opt/my tools/100%/mpm-monitor".into(),
        env: BTreeMap::from([("A".into(), "b c %h <&> \"d\" $e".into()), ("MPM_MONITOR_DURABLE".into(), "yes".into())]),
        socket: true,
        notify_reload: true,
        account: (scope == Scope::System).then(|| "ann".to_owned()),
        tool_dirs: vec!["/opt/tools/bin".into()],
        ..plain.clone()
    };
    [plain, full]
}

fn mac(scope: Scope) -> Paths {
    let support = PathBuf::from("/Users/ann/Library/Application Support");
    let dirs = UserDirs {
        home: "/Users/ann".into(),
        config: support.join("mpm-monitor"),
        state: support.join("mpm-monitor"),
        runtime: support.join("mpm-monitor/run"),
        config_home: support,
    };
    match scope {
        Scope::User => Paths::user(&mpm_monitor::app::APP, Kind::Launchd, &dirs),
        Scope::System => Paths::system(&mpm_monitor::app::APP, Kind::Launchd),
    }
}

/// Everything that `install` renders, by the fixture's name.
fn rendered() -> Vec<(String, String)> {
    let mut all = vec![
        ("socket".to_owned(), systemd::socket(&mpm_monitor::app::APP)),
        ("sysusers".to_owned(), systemd::sysusers(&mpm_monitor::app::APP)),
    ];
    for scope in [Scope::System, Scope::User] {
        for (definition, kind) in definitions(scope).iter().zip(["plain", "full"]) {
            all.push((
                format!("{scope}.{kind}.service"),
                systemd::service(&mpm_monitor::app::APP, definition).unwrap(),
            ));
            all.extend(
                systemd::drop_in(&mpm_monitor::app::APP, definition)
                    .map(|text| (format!("{scope}.{kind}.drop-in"), text)),
            );
            all.push((format!("{scope}.{kind}.plist"), launchd::plist(definition, &mac(scope)).unwrap()));
        }
    }
    all
}

/// The header names the version, and its hash is of all else. After a change of a unit that is meant, `MPM_MONITOR_BLESS=1`
/// writes these fixtures anew.
#[test]
fn units_and_property_lists_are_rendered_the_same() {
    for (name, text) in rendered() {
        let frozen = text.replacen(&format!(" program={VERSION} "), " program=0.1.0 ", 1);
        let name = format!("units/{name}");
        if std::env::var_os("MPM_MONITOR_BLESS").is_some() {
            std::fs::write(fixture(&name), &frozen).unwrap();
        }
        assert_frozen(&name, &frozen);
    }
}

#[test]
fn units_of_an_earlier_build_are_known_as_ours() {
    for (name, _) in rendered() {
        let text = text(&format!("units/{name}"));
        assert_eq!(header("mpm-monitor", &text), Some(Header { program: "0.1.0".into(), intact: true }), "{name}");
        assert!(!is_ours("mpm-monitor", &text.replace("mpm-monitor", "mpm_monitor")), "{name} without its mark");
        assert!(!is_ours("mpm-monitor", &format!("{text}\n# edited\n")), "{name} with a line more");
        if name.ends_with(".plist") {
            assert_eq!(launchd::port_of(&mpm_monitor::app::APP, &text), Some(8765), "{name}");
            assert_eq!(launchd::has_sockets(&text), name.contains("full"), "{name}");
        }
        let program = match name.rsplit_once('.') {
            Some((_, "service")) => systemd::program_of(&text),
            Some((_, "plist")) => launchd::program_of(&text),
            _ => continue,
        };
        let expected =
            if name.contains("full") { "/opt/my tools/100%/mpm-monitor" } else { "/usr/local/bin/mpm-monitor" };
        assert_eq!(program, Some(expected.into()), "{name}");
    }
}
