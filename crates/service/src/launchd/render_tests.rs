use super::*;
use crate::Kind;
use crate::app::App;
use crate::drift::{header, is_ours};
use daemon::dirs::UserDirs;
use proptest::prelude::*;
use std::collections::BTreeMap;

/// What launchd.plist(5) says of each key; copied from the page of Xcode 27.
const KEYS: &str = include_str!("../../../../tests/launchd/keys.json");
const AGENT: &str = include_str!("../../../../launchd/agent/mpm-monitor.8765.plist");
const DAEMON: &str = include_str!("../../../../launchd/daemon/mpm-monitor.8765.plist");

fn definition(scope: Scope) -> Definition {
    Definition {
        port: 8765,
        scope,
        program: "/usr/local/bin/mpm-monitor".into(),
        env: BTreeMap::new(),
        socket: false,
        notify_reload: false,
        account: (scope == Scope::System).then(|| "ann".to_owned()),
        tool_dirs: vec![],
    }
}

fn paths(scope: Scope) -> Paths {
    let support = PathBuf::from("/Users/ann/Library/Application Support");
    let dirs = UserDirs {
        home: "/Users/ann".into(),
        config: support.join("mpm-monitor"),
        state: support.join("mpm-monitor"),
        runtime: support.join("mpm-monitor/run"),
        config_home: support,
    };
    match scope {
        Scope::User => Paths::user(App::TEST, Kind::Launchd, &dirs),
        Scope::System => Paths::system(App::TEST, Kind::Launchd),
    }
}

fn rendered(definition: &Definition) -> String {
    plist(definition, &paths(definition.scope)).unwrap()
}

fn keys(document: &str) -> Dictionary {
    Value::from_reader_xml(document.as_bytes()).unwrap().into_dictionary().unwrap()
}

/// Whether a value is of a type as the manual words it.
fn is(value: &Value, wanted: &str) -> bool {
    let strings = |v: &Value| v.as_array().is_some_and(|a| a.iter().all(|v| v.as_string().is_some()));
    let dictionary = |v: &Value, of: fn(&Value) -> bool| v.as_dictionary().is_some_and(|d| d.values().all(of));
    match wanted {
        "string" => value.as_string().is_some(),
        "boolean" => value.as_boolean().is_some(),
        "integer" => value.as_signed_integer().is_some(),
        "integer or string" | "string or integer" => is(value, "integer") || is(value, "string"),
        "array of strings" => strings(value),
        "string or array of strings" => is(value, "string") || strings(value),
        "dictionary of strings" => dictionary(value, |v| v.as_string().is_some()),
        "dictionary of integers" => dictionary(value, |v| v.as_signed_integer().is_some()),
        "boolean or dictionary of stuff" => is(value, "boolean") || value.as_dictionary().is_some(),
        "dictionary of dictionaries... OR dictionary of array of dictionaries..." => {
            dictionary(value, |v| v.as_dictionary().is_some())
                || dictionary(value, |v| v.as_array().is_some_and(|a| a.iter().all(|v| v.as_dictionary().is_some())))
        }
        other => panic!("no key of ours has the type {other:?}"),
    }
}

/// What is wrong with a property list by the manual.
fn complaints(keys: &Dictionary) -> Vec<String> {
    let manual: serde_json::Value = serde_json::from_str(KEYS).unwrap();
    let mut wrong = Vec::new();
    let mut check = |at: &str, key: &str, value: &Value, wanted: &serde_json::Value| match wanted.as_str() {
        None => wrong.push(format!("{at}{key} is no key of launchd")),
        Some(wanted) if !is(value, wanted) => wrong.push(format!("{at}{key} is no {wanted}")),
        Some(_) => {}
    };
    for (key, value) in keys {
        check("", key, value, &manual["top"][key.as_str()]);
        let inner: Vec<&Dictionary> = match value {
            Value::Dictionary(sockets) if key == "Sockets" => {
                sockets.values().filter_map(Value::as_array).flatten().filter_map(Value::as_dictionary).collect()
            }
            Value::Dictionary(inner) if manual["nested"][key.as_str()].is_object() => vec![inner],
            _ => vec![],
        };
        for (name, value) in inner.into_iter().flatten() {
            check(&format!("{key}."), name, value, &manual["nested"][key.as_str()][name.as_str()]);
        }
    }
    wrong
}

#[test]
fn every_key_and_type_is_one_that_the_manual_has() {
    let full = Definition {
        socket: true,
        env: [("A".to_owned(), "b <c> & \"d\"".to_owned())].into(),
        tool_dirs: vec!["/opt/tools".into()],
        ..definition(Scope::User)
    };
    for document in [rendered(&full), rendered(&definition(Scope::User)), rendered(&definition(Scope::System))] {
        assert_eq!(complaints(&keys(&document)), Vec::<String>::new(), "{document}");
    }
    // The check itself finds what is wrong: the two faults that the launchd crate would have made.
    let mut bad = keys(&rendered(&full));
    bad.insert("StartCalendarIntervals".into(), Value::Array(vec![]));
    bad.insert("Sockets".into(), Value::Array(vec![]));
    bad.insert("ExitTimeOut".into(), Value::String("15".into()));
    assert_eq!(complaints(&bad).len(), 3, "{:?}", complaints(&bad));
}

#[test]
fn key_by_key() {
    let d = Definition { socket: true, env: [("A".to_owned(), "b c".to_owned())].into(), ..definition(Scope::User) };
    let keys = keys(&rendered(&d));
    let text = |key: &str| keys[key].as_string().unwrap().to_owned();
    let number = |key: &str| keys[key].as_unsigned_integer().unwrap();
    assert_eq!(text("Label"), "mpm-monitor.8765");
    assert_eq!(text("Program"), "/usr/local/bin/mpm-monitor");
    let arguments: Vec<_> = keys["ProgramArguments"].as_array().unwrap().iter().filter_map(Value::as_string).collect();
    assert_eq!(arguments, ["/usr/local/bin/mpm-monitor", "run", "--port", "8765"]);
    assert_eq!(keys["RunAtLoad"].as_boolean(), Some(true));
    let keep = keys["KeepAlive"].as_dictionary().unwrap();
    assert_eq!((keep.len(), keep["SuccessfulExit"].as_boolean()), (1, Some(false)));
    assert_eq!((number("ThrottleInterval"), number("ExitTimeOut"), number("Umask")), (10, 15, 63));
    assert!(number("ExitTimeOut") > 5, "the drain has to fit in");
    assert_eq!(text("ProcessType"), "Standard");
    let sessions: Vec<_> =
        keys["LimitLoadToSessionType"].as_array().unwrap().iter().filter_map(Value::as_string).collect();
    assert_eq!(sessions, ["Aqua", "Background"]);
    assert_eq!(text("WorkingDirectory"), "/");
    assert_eq!(text("StandardErrorPath"), "/Users/ann/Library/Logs/mpm-monitor/8765.stderr.log");
    // A daemon's would set the limit of the whole machine; the process raises its own.
    assert!(!keys.contains_key("SoftResourceLimits"));
    let env = keys["EnvironmentVariables"].as_dictionary().unwrap();
    assert_eq!(
        env.keys().collect::<Vec<_>>(),
        ["A", "MPM_MONITOR_LOG_FILE", "MPM_MONITOR_RUNTIME_DIR", "MPM_MONITOR_STATE_DIR", "PATH"]
    );
    assert_eq!(env["PATH"].as_string(), Some("/opt/homebrew/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"));
    let both = keys["Sockets"].as_dictionary().unwrap()["http"].as_array().unwrap();
    let nodes: Vec<_> = both.iter().map(|s| s.as_dictionary().unwrap()["SockNodeName"].as_string().unwrap()).collect();
    assert_eq!(nodes, ["127.0.0.1", "::1"]);
    for key in ["EnableTransactions", "EnablePressuredExit", "Disabled", "StandardOutPath", "TimeOut", "UserName"] {
        assert!(!keys.contains_key(key), "{key}");
    }
}

#[test]
fn a_daemon_runs_as_its_account_and_in_no_session() {
    let keys = keys(&rendered(&definition(Scope::System)));
    assert_eq!(keys["UserName"].as_string(), Some("ann"));
    assert!(!keys.contains_key("LimitLoadToSessionType"));
    assert_eq!(keys["StandardErrorPath"].as_string(), Some("/Library/Logs/mpm-monitor/8765.stderr.log"));
}

#[test]
fn the_files_in_launchd_are_what_install_writes() {
    for (scope, shipped) in [(Scope::User, AGENT), (Scope::System, DAEMON)] {
        let document = rendered(&definition(scope));
        assert!(is_ours("mpm-monitor", &document));
        assert_eq!(header("mpm-monitor", &document).unwrap().program, App::TEST.program.version);
        let bare: String = document.lines().filter(|l| !l.starts_with("<!-- ")).map(|l| format!("{l}\n")).collect();
        assert_eq!(bare, shipped, "{scope}");
        assert_eq!(program_of(&document).unwrap(), Path::new("/usr/local/bin/mpm-monitor"));
        assert_eq!(port_of(App::TEST, &document), Some(8765));
    }
}

#[test]
fn every_key_says_why() {
    let readme = include_str!("../../../../launchd/README.md");
    for document in [AGENT, DAEMON, &rendered(&Definition { socket: true, ..definition(Scope::User) })] {
        for key in keys(document).keys() {
            assert!(readme.contains(&format!("`{key}`")), "launchd/README.md says nothing on {key}");
        }
    }
}

/// What the formula's words can say is what our own list says.
#[test]
fn homebrews_list_agrees_with_ours() {
    let golden = include_str!("../../../../packaging/homebrew/golden/homebrew.mxcl.mpm-monitor.plist");
    let (theirs, ours) = (keys(golden), keys(AGENT));
    // A crash is no successful exit: the second condition is there for what Homebrew makes of it on systemd.
    let keep = |keys: &Dictionary| keys["KeepAlive"].as_dictionary().unwrap()["SuccessfulExit"].clone();
    assert_eq!(keep(&theirs), keep(&ours));
    assert_eq!(theirs["KeepAlive"].as_dictionary().unwrap()["Crashed"].as_boolean(), Some(true));
    for key in ["RunAtLoad", "ThrottleInterval", "ExitTimeOut", "ProcessType"] {
        assert_eq!(theirs.get(key), ours.get(key), "{key}");
    }
    let second = |keys: &Dictionary| keys["ProgramArguments"].as_array().unwrap()[1].clone();
    assert_eq!(second(&theirs), second(&ours), "both run the same verb");
    let sessions = theirs["LimitLoadToSessionType"].as_array().unwrap();
    assert!(ours["LimitLoadToSessionType"].as_array().unwrap().iter().all(|s| sessions.contains(s)));
    assert_eq!(complaints(&theirs), Vec::<String>::new());
}

#[test]
fn the_same_definition_gives_the_same_bytes() {
    let env: BTreeMap<_, _> = ('A'..='Z').map(|c| (c.to_string(), "x".to_owned())).collect();
    let d = Definition { env, socket: true, ..definition(Scope::User) };
    let first = rendered(&d);
    assert!((0..20).all(|_| rendered(&d) == first));
}

#[test]
fn tools_elsewhere_come_first_and_once() {
    let path = search_path(&["/Users/ann/bin".into(), "/usr/local/bin".into()]).unwrap();
    assert_eq!(path, "/Users/ann/bin:/usr/local/bin:/opt/homebrew/bin:/usr/bin:/bin:/usr/sbin:/sbin");
}

#[test]
fn the_port_of_a_foreign_list() {
    let with = |arguments: &str| {
        let list = format!("<plist><dict><key>ProgramArguments</key><array>{arguments}</array></dict></plist>");
        port_of(App::TEST, &list)
    };
    assert_eq!(with("<string>/b/mpm-monitor</string><string>run</string>"), Some(8765));
    assert_eq!(with("<string>run</string><string>--port</string><string>9000</string>"), Some(9000));
    assert_eq!(with("<string>--port=9001</string>"), Some(9001));
    assert_eq!(port_of(App::TEST, "no list"), None);
}

proptest! {
    #[test]
    fn any_program_and_value_is_read_back(path in "/[ -~é]{1,40}", value in "[ -~é\n\t]{0,40}") {
        let d = Definition {
            program: path.clone().into(), env: [("A".to_owned(), value.clone())].into(), ..definition(Scope::User)
        };
        let document = rendered(&d);
        prop_assert_eq!(program_of(&document), Some(path.into()));
        let keys = keys(&document);
        prop_assert_eq!(keys["EnvironmentVariables"].as_dictionary().unwrap()["A"].as_string(), Some(value.as_str()));
        prop_assert!(is_ours("mpm-monitor", &document));
    }

    #[test]
    fn what_xml_cannot_hold_is_refused(c in "[\u{1}-\u{8}\u{b}\u{e}-\u{1f}\n]") {
        let d = Definition { program: format!("/opt/{c}/m").into(), ..definition(Scope::User) };
        prop_assert!(plist(&d, &paths(Scope::User)).is_err());
    }
}
