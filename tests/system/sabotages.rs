//! Machines that are broken in one way each, as data: `sabotages.toml` says what is broken, which check must name the cause,
//! and that what the doctor says to type repairs it. Every machine runs many of them, one after the other, and is put back
//! into its healthy state in between.
//!
//! A representative dozen runs by default, all with `MPM_MONITOR_SABOTAGES=all`, those whose names contain a
//! text with that text.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::Value;

use testkit::command::Ran;
use testkit::machine::{Machine, Scope};
use testkit::{eventually, figure};

const CATALOGUE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/system/sabotages.toml");
/// How many of them one machine takes: it lives for ten minutes.
const OF_ONE_MACHINE: usize = 30;
/// Longer than a crash loop takes to exhaust the manager's patience.
const SETTLES: Duration = Duration::from_secs(40);
/// How long a repair may take to show.
const CALM: Duration = Duration::from_secs(4);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Catalogue {
    sabotage: Vec<Sabotage>,
}

/// Reads the file when the test runs, so that another set needs no build.
fn catalogue() -> Catalogue {
    let text = std::fs::read_to_string(CATALOGUE).expect(CATALOGUE);
    toml::from_str(&text).expect(CATALOGUE)
}

/// One way to break a machine.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sabotage {
    id: String,
    /// Whose manager: `user` or `system`.
    scope: String,
    /// Whether it is of the dozen that always runs.
    #[serde(default)]
    short: bool,
    /// Shell lines as the one whose manager it is.
    #[serde(default, rename = "break")]
    breaks: String,
    /// The same as root, before them.
    #[serde(default)]
    root: String,
    /// What the doctor's shell does first.
    #[serde(default)]
    shell: String,
    /// The checks of which one must report it.
    check: Vec<String>,
    /// What that check must say.
    names: Vec<String>,
    /// What no check may say to type.
    #[serde(default)]
    never: Vec<String>,
    /// Types this, as root, in place of what the doctor says: for what no command can know, as whose a stranger is.
    #[serde(default)]
    repair: String,
    /// What has to be undone outside of the files that are put back anyway, as root.
    #[serde(default)]
    undo: String,
}

/// How the doctor did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Verdict {
    Named,
    Symptom,
    Missed,
    Wrong,
}

/// Functions for the shell lines of the catalogue.
const PRELUDE: &str = r##"
unit=mpm-monitor@8765.service
PATH=$HOME/.local/bin:/usr/local/bin:$PATH:/opt/doctor
# For root: of the scope's manager, and a command as the user.
as_user() { setpriv --reuid=$uid --regid=$uid --clear-groups env HOME=/home/boxuser XDG_RUNTIME_DIR=/run/user/$uid "$@"; }
manager() { if [ $flag = --user ]; then as_user systemctl --user --no-pager "$@"; else systemctl --no-pager "$@"; fi; }
sc() { systemctl $flag --no-pager "$@"; }
file() { sc show -P FragmentPath $unit; }
again() { sc restart --no-block $unit; sleep 0.2; }
# A drop-in of these lines, which the manager knows and the service was started with.
dropin() { mkdir -p "$units/$unit.d"; printf '%s\n' "$@" > "$units/$unit.d/mine.conf"; sc daemon-reload; again; }
# The unit changed by sed as another version of the program would have written it.
restamp() {
    f=$(file); tail -n +2 "$f" | sed "$1" > /tmp/rest.$$
    { echo "# mpm-monitor unit v1 program=0.0.9 sha256:$(sha256sum < /tmp/rest.$$ | cut -d' ' -f1)"; cat /tmp/rest.$$; } > "$f"
    sc daemon-reload
}
"##;

struct Ward {
    machine: Machine,
    /// What fails on the healthy machine.
    usual: BTreeSet<String>,
}

impl Ward {
    fn open(scope: Scope) -> Option<Self> {
        let machine = Machine::boot(scope)?;
        // A copy that nothing breaks, as a person would have at hand.
        machine.root(&["install", "-d", "-m755", "/opt/doctor"]).ok();
        machine.copy(&testkit::program(), "/opt/doctor/mpm-monitor");
        machine.root(&["chmod", "755", "/opt/doctor/mpm-monitor"]).ok();
        machine.install(&[]);
        let mut ward = Self { machine, usual: BTreeSet::new() };
        ward.until_ready();
        ward.root(
            "manager stop $unit; mkdir /saved; cd /; for d in $kept; do test ! -e $d || printf '%s\\n' ${d#/}; done > /saved/list
             tar -cf /saved/all.tar --exclude='events.db*' -T /saved/list; manager start $unit",
        )
        .ok();
        ward.until_ready();
        let report = ward.doctor("").json();
        let failed = checks(&report).into_iter().filter(|c| c["outcome"] == "failed");
        ward.usual = failed.map(name).collect();
        Some(ward)
    }

    fn variables(&self) -> String {
        let (flag, units, state) = match self.machine.scope {
            Scope::System => ("--system", "/etc/systemd/system", "/var/lib/mpm-monitor/8765"),
            Scope::User => {
                ("--user", "/home/boxuser/.config/systemd/user", "/home/boxuser/.local/state/mpm-monitor/8765")
            }
        };
        let (program, config) = (self.machine.program(), self.machine.config_file());
        let kept = "/home/boxuser /etc/systemd /etc/mpm-monitor /var/lib/mpm-monitor /usr/local/bin/mpm-monitor";
        let uid = &self.machine.uid;
        format!(
            "flag={flag} units={units} state={state} program={program} config={config} uid={uid}\nkept='{kept}'\n{PRELUDE}"
        )
    }

    fn root(&self, lines: &str) -> Ran {
        self.machine.root(&["sh", "-c", &format!("{}\n{lines}", self.variables())])
    }

    fn shell(&self, lines: &str) -> Ran {
        self.machine.run(&["sh", "-c", &format!("{}\n{lines}", self.variables())])
    }

    fn doctor(&self, shell: &str) -> Ran {
        let flag = self.machine.scope.flag();
        self.shell(&format!("{shell}\n/opt/doctor/mpm-monitor doctor {flag} --port 8765 --json"))
    }

    fn until_ready(&self) {
        eventually(SETTLES, "readiness", || {
            let ran = self.shell("/opt/doctor/mpm-monitor status $flag --port 8765");
            if ran.code == 0 { Ok(()) } else { Err(ran) }
        });
    }

    /// Types what was advised: what begins with `sudo` as root.
    fn typed(&self, shell: &str, command: &str) -> Ran {
        if !command.contains("sudo ") {
            return self.shell(&format!("{shell}\n{command}"));
        }
        let mut last = self.shell("true");
        for part in command.split(" && ").take_while(|_| true) {
            last = match part.strip_prefix("sudo ") {
                Some(part) => self.root(part),
                None => self.shell(&format!("{shell}\n{part}")),
            };
            if last.code != 0 {
                break;
            }
        }
        last
    }

    /// Until the manager neither starts nor stops it, or waits between two starts for too long.
    fn settle(&self) {
        let lines = "n=0; while [ $n -lt 150 ]; do s=$(sc show -P ActiveState $unit); \
            case $s in activating|deactivating) ;; *) exit 0;; esac; n=$((n+1)); sleep 0.2; done";
        self.shell(lines);
    }

    fn put_back(&self, undo: &str) {
        let lines = format!(
            "{undo}
             manager kill -s KILL $unit 2>/dev/null; manager stop $unit 2>/dev/null; umount -l $state 2>/dev/null
             cd /; for d in $kept; do rm -rf $d; done; tar -xpf /saved/all.tar
             rm -rf /run/user/$uid/mpm-monitor/* /run/user/$uid/systemd/user/mpm-monitor* /run/mpm-monitor/8765.lock
             manager daemon-reload; manager reset-failed; manager start $unit"
        );
        let ran = self.root(&lines);
        let ready = self.shell("/opt/doctor/mpm-monitor status $flag --port 8765");
        if ready.code != 0 {
            eventually(SETTLES, &format!("readiness after {ran}"), || {
                let ran = self.shell("/opt/doctor/mpm-monitor status $flag --port 8765");
                if ran.code == 0 { Ok(()) } else { Err(ran) }
            });
        }
    }

    /// Whether the doctor is content, at once or after a moment: a manager of a user takes one to begin.
    fn is_clean(&self, shell: &str) -> (bool, String) {
        let began = Instant::now();
        loop {
            let ran = self.doctor(shell);
            let report = serde_json::from_str::<Value>(&ran.stdout).map_err(|_| ran.to_string());
            let left = report.map(|r| failures(&r).difference(&self.usual).cloned().collect::<Vec<_>>().join(", "));
            match left {
                Ok(left) if left.is_empty() => return (true, left),
                Ok(left) | Err(left) if began.elapsed() > CALM => return (false, left),
                _ => std::thread::sleep(Duration::from_millis(300)),
            }
        }
    }

    fn examine(&self, sabotage: &Sabotage) -> (Verdict, String) {
        if !sabotage.root.is_empty() {
            self.root(&sabotage.root);
        }
        if !sabotage.breaks.is_empty() {
            self.shell(&sabotage.breaks);
        }
        self.settle();
        let ran = self.doctor(&sabotage.shell);
        let Ok(report) = serde_json::from_str::<Value>(&ran.stdout) else {
            return (Verdict::Missed, format!("no report: {ran}"));
        };
        let checks = checks(&report);
        let failed: Vec<&Value> = checks.iter().copied().filter(|c| is_news(c, &self.usual)).collect();
        let advice = |c: &Value| c["next"].as_str().unwrap_or_default().to_owned();
        if let Some(check) = failed.iter().find(|c| sabotage.never.iter().any(|n| advice(c).contains(n.as_str()))) {
            return (Verdict::Wrong, format!("{} says to type `{}`", check["code"], advice(check)));
        }
        let says = |c: &Value, text: &str| c.to_string().replace("\\\"", "\"").contains(text);
        let named = failed.iter().find(|c| {
            sabotage.check.iter().any(|code| c["code"] == code.as_str()) && sabotage.names.iter().all(|n| says(c, n))
        });
        let told: Vec<String> =
            failed.iter().map(|c| format!("{}: {} -> {}", c["code"], c["summary"], advice(c))).collect();
        let told = told.join("\n      ");
        if let Some(check) = named {
            let (repair, next) = (&sabotage.repair, advice(check));
            let ran = if repair.is_empty() { self.typed(&sabotage.shell, &next) } else { self.root(repair) };
            self.settle();
            let ((clean, left), typed) =
                (self.is_clean(&format!("{}\n{}", sabotage.shell, exported(&next))), &ran.line);
            return match clean {
                true => (Verdict::Named, String::new()),
                false => {
                    let end = ran.all().chars().take(300).collect::<String>();
                    (
                        Verdict::Wrong,
                        format!("`{next}` left {left}; it ended with {}: {end} ({})", ran.code, typed.len()),
                    )
                }
            };
        }
        let Some(first) = failed.iter().find(|c| c["severity"] == "error").or(failed.first()) else {
            return (Verdict::Missed, String::new());
        };
        let next = advice(first);
        if next.is_empty() || LOOKS.iter().any(|l| next.contains(l)) {
            return (Verdict::Symptom, told);
        }
        self.typed(&sabotage.shell, &next);
        self.settle();
        let (clean, left) = self.is_clean(&sabotage.shell);
        if clean { (Verdict::Symptom, told) } else { (Verdict::Wrong, format!("{left} is left\n      {told}")) }
    }
}

/// What only shows something; that it repairs nothing is no wonder.
const LOOKS: [&str; 8] =
    [" logs ", "df ", "findmnt ", "grep ", "config check", "is-system-running", "hooks status", "doctor "];

/// What a command that was advised leaves in the shell that it was typed in.
fn exported(command: &str) -> &str {
    if command.starts_with("export ") { command } else { "" }
}

fn checks(report: &Value) -> Vec<&Value> {
    let instances = report["instances"].as_array().into_iter().flatten();
    let of_instances = instances.flat_map(|i| i["checks"].as_array().into_iter().flatten());
    of_instances.chain(report["user"].as_array().into_iter().flatten()).collect()
}

fn failures(report: &Value) -> BTreeSet<String> {
    // How the process before ended stays on record.
    let counts = |c: &&Value| c["outcome"] == "failed" && c["severity"] != "note" && c["code"] != "last-end";
    let failed = checks(report).into_iter().filter(counts);
    failed.map(name).collect()
}

/// A failure, to compare it: one that became worse is another.
fn name(check: &Value) -> String {
    format!("{} ({})", check["code"].as_str().unwrap_or_default(), check["severity"].as_str().unwrap_or_default())
}

fn is_news(check: &Value, usual: &BTreeSet<String>) -> bool {
    check["outcome"] == "failed" && !usual.contains(&name(check))
}

/// Boots machines and goes through the catalogue.
fn round(scope: Scope) {
    let catalogue = catalogue();
    let which = std::env::var("MPM_MONITOR_SABOTAGES").unwrap_or_default();
    let wanted = |s: &&Sabotage| {
        s.scope == scope.name()
            && match which.as_str() {
                "" => s.short,
                "all" => true,
                part => part.split(',').any(|part| s.id.contains(part)),
            }
    };
    let all: Vec<&Sabotage> = catalogue.sabotage.iter().filter(wanted).collect();
    let mut results = Vec::new();
    for some in all.chunks(OF_ONE_MACHINE) {
        let Some(ward) = Ward::open(scope) else { return };
        for sabotage in some {
            let began = Instant::now();
            let (verdict, why) = ward.examine(sabotage);
            println!(
                "{:<8} {:<34} {:>5.1}s {why}",
                format!("{verdict:?}").to_lowercase(),
                sabotage.id,
                began.elapsed().as_secs_f32()
            );
            results.push((verdict, sabotage.id.clone()));
            ward.put_back(&sabotage.undo);
        }
    }
    let count = |v: Verdict| results.iter().filter(|(r, _)| *r == v).count();
    let (named, symptom) = (count(Verdict::Named), count(Verdict::Symptom));
    let (missed, wrong) = (count(Verdict::Missed), count(Verdict::Wrong));
    println!("sabotages of the {} scope: named={named} symptom={symptom} wrong={wrong} missed={missed}", scope.name());
    figure(&format!("doctor_names_sabotages_{}", scope.name()), format!("{named}/{}", results.len()), "");
    let bad: Vec<&String> = results.iter().filter(|(v, _)| *v != Verdict::Named).map(|(_, id)| id).collect();
    assert!(bad.is_empty(), "not named, or not repaired: {bad:?}");
}

#[test]
fn doctor_names_and_repairs_sabotages_of_a_user() {
    round(Scope::User);
}

#[test]
fn doctor_names_and_repairs_sabotages_of_the_machine() {
    round(Scope::System);
}

#[test]
fn catalogue_of_sabotages_has_unique_names() {
    let catalogue = catalogue();
    let ids: BTreeSet<&String> = catalogue.sabotage.iter().map(|s| &s.id).collect();
    assert_eq!(ids.len(), catalogue.sabotage.len());
    for scope in ["user", "system"] {
        let short = catalogue.sabotage.iter().filter(|s| s.scope == scope && s.short).count();
        assert!((4..=8).contains(&short), "{scope}: {short}");
    }
}
