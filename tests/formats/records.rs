//! The small records: receipt, crash ledger, port lock, migration record, PID file for Claude MPM.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime};

use daemon::identity::{Identity, Manager};
use daemon::ledger::{FILE, Failure, Ledger, LedgerFile, Life};
use daemon::lock::{self, Holder, InstanceLock};
use jiff::Timestamp;
use mpm_monitor::build::{ID, PROGRAM, VERSION};
use mpm_monitor::migrate::pid_files::PidFiles;
use mpm_monitor::migrate::process::Process;
use mpm_monitor::migrate::record::{Record, Removed};
use service::Scope;
use service::receipt::{Made, Receipt};

use crate::{assert_frozen, copied, fixture, text};

fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

/// What systemd's user scope gets.
fn of_systemd() -> Receipt {
    Receipt {
        schema_version: 1,
        port: 8765,
        scope: Scope::User,
        version: "0.1.0".into(),
        unfinished: false,
        program: "/home/ann/.local/bin/mpm-monitor".into(),
        socket: true,
        label: None,
        account: None,
        tool_dirs: vec![],
        env: BTreeMap::from([("MPM_MONITOR_HISTORY_AGE".into(), "7days".into())]),
        files: vec![
            Made { path: "/home/ann/.config/systemd/user/mpm-monitor@8765.service".into(), shared: false },
            Made { path: "/home/ann/.config/systemd/user/mpm-monitor@.socket".into(), shared: true },
        ],
        directories: vec!["/home/ann/.config/systemd".into(), "/home/ann/.config/systemd/user".into()],
        user: None,
        linger: Some("ann".into()),
    }
}

#[test]
fn receipt_of_systemd_reads_and_writes_the_same() {
    assert_eq!(Receipt::read(&copied("receipt.systemd.json").1).unwrap(), Some(of_systemd()));
    assert_frozen("receipt.systemd.json", &of_systemd().to_text());
}

/// Every field that is left out where it says nothing.
#[test]
fn receipt_of_launchd_reads_and_writes_the_same() {
    let receipt = Receipt {
        scope: Scope::System,
        unfinished: true,
        program: "/usr/local/bin/mpm-monitor".into(),
        socket: false,
        label: Some("org.example.monitor".into()),
        account: Some("ann".into()),
        tool_dirs: vec!["/opt/tools/bin".into()],
        env: BTreeMap::new(),
        files: vec![Made { path: "/Library/LaunchDaemons/org.example.monitor.plist".into(), shared: false }],
        directories: vec!["/Library/Logs/mpm-monitor".into()],
        user: Some("mpm-monitor".into()),
        linger: None,
        ..of_systemd()
    };
    assert_eq!(Receipt::read(&copied("receipt.launchd.json").1).unwrap().as_ref(), Some(&receipt));
    assert_frozen("receipt.launchd.json", &receipt.to_text());
}

/// A life that runs after bad ends.
fn crashed() -> Ledger {
    Ledger {
        starts: 12,
        consecutive_good: 3,
        consecutive_failures: 2,
        aborted_parts: 1,
        last_failure: Some(Failure {
            reason: "pid 4711 ended without a word: killed, by the watchdog or another, or out of memory".into(),
            at: at("2026-11-22T10:07:00Z"),
            alive_at: Some(at("2026-11-22T10:03:00Z")),
            was_ready: true,
            exit_code: None,
        }),
        recent_failures: vec![at("2026-11-22T09:00:00Z"), at("2026-11-22T10:07:00Z")],
        gave_up: None,
        life: Some(Life {
            pid: 4712,
            boot_id: "6fd7ab4f-3f0b-4a86-a6b6-3a5e0a5e7b0d".into(),
            since: at("2026-11-22T10:07:00Z"),
            ready: true,
        }),
    }
}

/// What launchd's job leaves when it gave up; a ledger without aborted parts.
fn gave_up() -> Ledger {
    Ledger {
        starts: 5,
        consecutive_failures: 5,
        recent_failures: (1..=5).map(|n| at(&format!("2026-11-22T10:00:0{n}Z"))).collect(),
        gave_up: Some(Failure {
            reason: "it failed 5 times".into(),
            at: at("2026-11-22T10:00:06Z"),
            alive_at: None,
            was_ready: false,
            exit_code: Some(70),
        }),
        ..Ledger::default()
    }
}

#[test]
fn ledgers_read_and_write_the_same() {
    for (name, ledger) in [("ledger.crashed.json", crashed()), ("ledger.gave-up.json", gave_up())] {
        let dir = tempfile::tempdir().unwrap();
        let file = LedgerFile::in_dir(dir.path());
        file.update(|new| *new = ledger.clone());
        assert_frozen(name, &std::fs::read_to_string(dir.path().join(FILE)).unwrap());
        std::fs::copy(fixture(name), dir.path().join(FILE)).unwrap();
        assert_eq!(file.read(), ledger, "{name}");
    }
    assert_eq!(FILE, "ledger.json");
}

/// Fields that came later are missing in it.
#[test]
fn ledger_of_an_earlier_version_is_read() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(fixture("ledger.earlier.json"), dir.path().join(FILE)).unwrap();
    let expected = Ledger { aborted_parts: 0, recent_failures: vec![], ..crashed() };
    let failure = Failure { alive_at: None, ..expected.last_failure.clone().unwrap() };
    let expected = Ledger { last_failure: Some(failure), ..expected };
    assert_eq!(LedgerFile::in_dir(dir.path()).read(), expected);
}

#[test]
fn lock_file_reads_and_writes_the_same() {
    let holder = Holder {
        port: 8765,
        pid: 4711,
        start_time: 123_456,
        boot_id: "6fd7ab4f-3f0b-4a86-a6b6-3a5e0a5e7b0d".into(),
        instance_id: "00112233445566778899aabbccddeeff".into(),
        version: "0.1.0".into(),
        build: "0123456789ab".into(),
        addresses: vec!["127.0.0.1:8765".into(), "[::1]:8765".into()],
        managed_by: Manager::SystemdUser,
    };
    assert_eq!(lock::read(&copied("8765.lock").1).as_ref(), Some(&holder));

    let dir = tempfile::tempdir().unwrap();
    let identity = Identity {
        instance_id: holder.instance_id.clone(),
        pid: holder.pid,
        started: SystemTime::now(),
        since: Instant::now(),
        start_time: holder.start_time,
        boot_id: holder.boot_id.clone(),
        managed_by: holder.managed_by,
    };
    let mut lock = InstanceLock::take(&PROGRAM, dir.path(), 8765).unwrap();
    lock.describe(8765, holder.addresses, &identity).unwrap();
    let written = std::fs::read_to_string(lock::path_of(dir.path(), 8765)).unwrap();
    // The only two that say which build wrote it.
    let written = written.replace(&format!(r#""version":"{VERSION}""#), r#""version":"0.1.0""#);
    assert_frozen("8765.lock", &written.replace(&format!(r#""build":"{ID}""#), r#""build":"0123456789ab""#));
}

#[test]
fn names_of_a_service_manager_in_the_lock_stay() {
    let names = [Manager::SystemdSystem, Manager::SystemdUser, Manager::Launchd, Manager::None]
        .map(|manager| serde_json::to_string(&manager).unwrap());
    assert_eq!(names, [r#""systemd-system""#, r#""systemd-user""#, r#""launchd""#, r#""none""#]);
}

#[test]
fn migration_record_reads_and_writes_the_same() {
    let record = Record {
        schema_version: 1,
        port: 8765,
        scope: Scope::User,
        installed: true,
        daemon: Some(Process {
            pid: 4711,
            uid: 1000,
            mark: "123456".into(),
            began: Some(1_795_341_600),
            words: vec!["/opt/venv/bin/python".into(), "-m".into(), "claude_mpm.cli".into(), "monitor".into()],
            cwd: Some("/home/ann/project".into()),
            variables: vec![("HOME".into(), "/home/ann".into()), ("LANG".into(), "C.UTF-8".into())],
        }),
        removed: vec![Removed {
            path: "/home/ann/project/.claude-mpm/monitor-daemon-8765.pid".into(),
            content: "4711".into(),
        }],
    };
    let state = tempfile::tempdir().unwrap();
    record.write(state.path()).unwrap();
    let path = state.path().join("migration/8765.json");
    assert_frozen("migration.json", &std::fs::read_to_string(&path).unwrap());
    std::fs::copy(fixture("migration.json"), path).unwrap();
    assert_eq!(Record::all(state.path()).unwrap(), [record]);
}

/// `claude-mpm monitor status` and `stop` read it.
#[test]
fn pid_file_for_claude_mpm_is_written_the_same() {
    let project = tempfile::tempdir().unwrap();
    PidFiles::new(&[project.path().to_owned()], 8765, 4711).write().unwrap();
    let file = project.path().join(".claude-mpm/monitor-daemon-8765.pid");
    assert_eq!(std::fs::read_to_string(file).unwrap(), "4711");
}

/// The fixtures are those of the first release: their version is in them, whatever today's is.
#[test]
fn fixtures_name_the_version_that_wrote_them() {
    for name in ["receipt.systemd.json", "receipt.launchd.json", "8765.lock"] {
        assert!(text(name).contains("0.1.0"), "{name}");
    }
}
