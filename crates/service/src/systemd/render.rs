//! Unit files from the ones in `systemd/`: those are the truth, here only what differs from machine to machine is
//! filled in.

use std::fmt::Write as _;

use super::escape::{Unspeakable, assignment, exec_word};
use crate::Scope;
use crate::app::App;
use crate::definition::Definition;
use crate::drift::stamp;

/// The lines that name the program.
const SHIPPED_EXEC: [&str; 2] = ["ExecStart=", "ExecReload="];
const SHIPPED_IN: &str = "/usr/bin/";
/// The manual page, which packages have and `install` does not bring.
const MANUAL: &str = "Documentation=man:";

/// The service's unit. Only `%i` in it is the instance's, so that those of one program are the same.
///
/// # Errors
/// [`Unspeakable`] if the program's path cannot stand in a unit file.
pub fn service(app: &App, definition: &Definition) -> Result<String, Unspeakable> {
    let program = exec_word(&definition.program, true)?;
    let file = match definition.scope {
        Scope::System => app.units.system_service,
        Scope::User => app.units.user_service,
    };
    let mut unit = String::with_capacity(file.len());
    for line in without_manual(file).lines() {
        let named = |key| {
            Some((
                key,
                line.strip_prefix(key)?.strip_prefix(SHIPPED_IN)?.strip_prefix(app.program.name)?.strip_prefix(' ')?,
            ))
        };
        if let Some((key, arguments)) = SHIPPED_EXEC.into_iter().find_map(named) {
            let _ = writeln!(unit, "{key}{program} {arguments}");
        } else if definition.notify_reload && line == "Type=notify" {
            unit.push_str("Type=notify-reload\n");
        } else if definition.notify_reload && line.starts_with("ExecReload=/bin/kill ") {
            // notify-reload sends the signal itself and waits for the answer.
        } else {
            unit.push_str(line);
            unit.push('\n');
        }
    }
    Ok(stamp(app.program.name, &unit, app.program.version))
}

/// The socket's unit.
pub fn socket(app: &App) -> String {
    stamp(app.program.name, &without_manual(app.units.socket), app.program.version)
}

/// `systemd-analyze verify` of a unit that names a page which is not there fails.
fn without_manual(unit: &str) -> String {
    unit.split_inclusive('\n').filter(|line| !line.starts_with(MANUAL)).collect()
}

/// The sysusers.d file.
pub fn sysusers(app: &App) -> String {
    stamp(app.program.name, app.units.sysusers, app.program.version)
}

/// The drop-in of one instance, if it needs one.
pub fn drop_in(app: &App, definition: &Definition) -> Option<String> {
    if !definition.socket && definition.env.is_empty() {
        return None;
    }
    let mut text = format!(
        "# Written by `{} install` for this instance alone. Put changes of your own into another file beside it:\n",
        app.program.name
    );
    let manager = if definition.scope == Scope::User { "systemctl --user" } else { "systemctl" };
    let _ = writeln!(text, "# {manager} edit {}@{}", app.program.name, definition.port);
    if definition.socket {
        let socket = format!("{}@{}.socket", app.program.name, definition.port);
        let _ = write!(
            text,
            "\n[Unit]\n# The socket is up before the service, and stays up while the service restarts.\nRequires={socket}\nAfter={socket}\n"
        );
    }
    if !definition.env.is_empty() {
        text.push_str("\n[Service]\n");
        for (name, value) in &definition.env {
            let _ = writeln!(text, "Environment={}", assignment(name, value));
        }
    }
    Some(stamp(app.program.name, &text, app.program.version))
}

/// The program that an installed service template runs, if its `ExecStart=` can be read.
pub fn program_of(unit: &str) -> Option<std::path::PathBuf> {
    let line = unit.lines().find_map(|l| l.strip_prefix("ExecStart="))?;
    let end = if line.starts_with('"') {
        let mut escaped = false;
        let mut end = None;
        for (at, c) in line.char_indices().skip(1) {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => {
                    end = Some(at + 1);
                    break;
                }
                _ => {}
            }
        }
        end?
    } else {
        line.find(' ').unwrap_or(line.len())
    };
    super::escape::unquote(&line[..end]).map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift::{header, is_ours};
    use daemon::exit::Exit;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::path::Path;

    fn definition(scope: Scope) -> Definition {
        Definition {
            port: 8765,
            scope,
            program: "/usr/local/bin/mpm-monitor".into(),
            env: BTreeMap::new(),
            socket: false,
            notify_reload: false,
            account: None,
            tool_dirs: vec![],
        }
    }

    /// The directives of a section, comments and empty lines left out.
    fn section<'a>(unit: &'a str, name: &str) -> Vec<&'a str> {
        unit.lines()
            .skip_while(|l| *l != format!("[{name}]"))
            .skip(1)
            .take_while(|l| !l.starts_with('['))
            .filter(|l| !l.is_empty() && !l.starts_with('#'))
            .collect()
    }

    #[test]
    fn permanent_codes_are_exactly_those_of_the_exit_table() {
        let permanent: Vec<_> = Exit::ALL.iter().filter(|e| e.is_permanent()).map(|e| e.code().to_string()).collect();
        let line = format!("RestartPreventExitStatus={}", permanent.join(" "));
        for unit in [App::TEST.units.system_service, App::TEST.units.user_service] {
            assert!(section(unit, "Service").contains(&line.as_str()), "expected {line}");
        }
    }

    #[test]
    fn the_limits_fit_each_other() {
        let drain = 5;
        for unit in [App::TEST.units.system_service, App::TEST.units.user_service] {
            let service = section(unit, "Service");
            let value = |key: &str| service.iter().find_map(|l| l.strip_prefix(key)?.strip_prefix('=')).unwrap();
            let number = |key: &str| value(key).parse::<u32>().unwrap();
            assert!(number("TimeoutStopSec") > drain);
            assert_eq!(value("Type"), "notify");
            assert_eq!(value("KillMode"), "mixed");
            assert_eq!(value("Restart"), "always", "a stray signal is no reason to stay down");
            assert_eq!(value("OOMPolicy"), "continue", "a child that ends for its memory is no end of the service");
            assert_eq!(value("NotifyAccess"), "main");
            // A hang ends within WatchdogSec and the time that a stopped process gets to die of SIGABRT.
            assert!(number("TimeoutAbortSec") <= 5);
            assert!(section(unit, "Unit").contains(&"StartLimitBurst=5"));
            let interval = section(unit, "Unit")
                .iter()
                .find_map(|l| l.strip_prefix("StartLimitIntervalSec="))
                .unwrap()
                .parse::<u32>();
            // Whatever a build does wrong, five rounds of it fit: then the manager stops trying.
            let ends = number("TimeoutStopSec").max(number("WatchdogSec") + number("TimeoutAbortSec"));
            let round = number("TimeoutStartSec") + ends + number("RestartSec");
            assert!(interval.unwrap() > 5 * round, "five rounds of {round} s");
            assert!(!service.iter().any(|l| l.starts_with("StartLimit")));
            assert!(!unit.contains("DynamicUser=yes"), "the history's owner would be another user each time");
        }
    }

    /// The machine's unit watches nobody's agents, the user's must see tmux and the home.
    #[test]
    fn only_the_system_unit_has_walls_around_homes_and_tmp() {
        let walls = |unit| {
            section(unit, "Service").iter().filter(|l| l.starts_with("Private") || l.starts_with("Protect")).count()
        };
        for wall in ["ProtectHome=yes", "PrivateTmp=yes", "RuntimeDirectory=mpm-monitor/%i"] {
            assert!(section(App::TEST.units.system_service, "Service").contains(&wall), "{wall}");
        }
        assert!(walls(App::TEST.units.system_service) > 10);
        assert_eq!(walls(App::TEST.units.user_service), 0, "each needs a user namespace there");
        assert!(
            !App::TEST.units.user_service.contains("\nRuntimeDirectory="),
            "clean of one instance would take the others' locks"
        );
    }

    #[test]
    fn every_directive_says_why() {
        let readme = include_str!("../../../../systemd/README.md");
        for unit in [App::TEST.units.system_service, App::TEST.units.user_service, App::TEST.units.socket] {
            for key in unit.lines().filter(|l| !l.starts_with('#')).filter_map(|l| Some(l.split_once('=')?.0)) {
                assert!(readme.contains(&format!("`{key}=")), "systemd/README.md says nothing on {key}=");
            }
        }
    }

    #[test]
    fn only_the_program_differs_from_the_shipped_file() {
        for (scope, shipped) in
            [(Scope::System, App::TEST.units.system_service), (Scope::User, App::TEST.units.user_service)]
        {
            let unit = service(App::TEST, &definition(scope)).unwrap();
            assert!(is_ours("mpm-monitor", &unit));
            assert_eq!(header("mpm-monitor", &unit).unwrap().program, App::TEST.program.version);
            let rest = unit.split_once('\n').unwrap().1;
            assert_eq!(rest.replace("/usr/local/bin/", "/usr/bin/"), without_manual(shipped));
            assert!(shipped.contains(MANUAL) && !unit.contains(MANUAL) && !socket(App::TEST).contains(MANUAL));
            assert_eq!(program_of(&unit).unwrap(), Path::new("/usr/local/bin/mpm-monitor"));
        }
    }

    #[test]
    fn newer_managers_get_notify_reload() {
        let unit = service(App::TEST, &Definition { notify_reload: true, ..definition(Scope::System) }).unwrap();
        assert!(unit.contains("\nType=notify-reload\n"));
        assert_eq!(unit.matches("\nExecReload=").count(), 1);
        assert!(unit.contains("\nExecReload=/usr/local/bin/mpm-monitor config check --port %i\n"), "{unit}");
    }

    #[test]
    fn a_drop_in_only_where_one_is_needed() {
        let mut d = definition(Scope::User);
        assert_eq!(drop_in(App::TEST, &d), None);
        d.socket = true;
        d.env.insert("A".into(), "b c %h".into());
        let text = drop_in(App::TEST, &d).unwrap();
        assert!(is_ours("mpm-monitor", &text));
        assert_eq!(section(&text, "Unit"), ["Requires=mpm-monitor@8765.socket", "After=mpm-monitor@8765.socket"]);
        assert_eq!(section(&text, "Service"), ["Environment=\"A=b c %%h\""]);
    }

    #[test]
    fn the_socket_listens_where_the_program_would() {
        let socket = section(App::TEST.units.socket, "Socket");
        for line in ["ListenStream=127.0.0.1:%i", "ListenStream=[::1]:%i", "FileDescriptorName=http", "Accept=no"] {
            assert!(socket.contains(&line), "{line}");
        }
    }

    proptest! {
        #[test]
        fn any_program_is_read_back(path in "/[ !#-&(-\\[\\]-~]{1,60}") {
            let d = Definition { program: path.clone().into(), ..definition(Scope::User) };
            prop_assert_eq!(program_of(&service(App::TEST, &d).unwrap()), Some(path.into()));
        }

        #[test]
        fn reading_a_program_never_panics(unit in any::<String>()) {
            let _ = program_of(&format!("ExecStart={unit}"));
        }
    }
}
