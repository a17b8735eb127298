//! What `status`, `list` and `doctor` show, for people and with `--json`, on a real systemd.

use mpm_monitor::build::VERSION;
use mpm_monitor::doctor::show::Report;
use serde_json::Value;

use super::doctor::{normal, of_any_machine};
use testkit::machine::{Machine, Scope};
use testkit::shown;

const VERSIONS: [(&str, &str); 1] = [(VERSION, "[version]")];

/// All that `status` and `list` show.
fn told(machine: &Machine) -> String {
    let flag = machine.scope.flag();
    let mut all = String::new();
    for words in [&["status", flag][..], &["list"]] {
        let json = machine.program_with(&[words, &["--json"]].concat());
        let human = machine.program_with(words);
        assert_eq!(human.code, json.code, "{human}");
        let words = words.join(" ");
        let text = shown::text(&human.stdout, &json.json(), &VERSIONS);
        all += &format!("$ mpm-monitor {words}   # exit code {}\n{text}\n", human.code);
        all += &format!("$ mpm-monitor {words} --json\n{}\n", shown::json(&json.stdout, &VERSIONS));
    }
    all
}

/// What `doctor --json` shows, where the numbers in sentences are N. That its text says the same is tested in `doctor.rs`.
fn examined(machine: &Machine) -> String {
    let mut report = of_any_machine(machine.verb("doctor", &["--port", "8765", "--json"]).ok().json());
    let instances = report["instances"].as_array_mut().unwrap().iter_mut().flat_map(|i| i["checks"].as_array_mut());
    for check in instances.flatten() {
        let said = check["summary"].as_str().map(normal);
        check["summary"] = said.into();
    }
    let part = |name: &str| report[name].clone();
    let instances = serde_json::from_value(part("instances")).unwrap();
    let whole = Report::new(instances, serde_json::from_value(part("user")).unwrap());
    // Counted again: what differs from machine to machine was exchanged.
    let known: Value = serde_json::to_value(&whole).unwrap();
    let members = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(members(&known), members(&report));
    shown::json(&serde_json::to_string_pretty(&whole).unwrap(), &VERSIONS)
}

fn what_is_shown_is_as_reviewed(scope: Scope) {
    let machine = boot!(scope);
    let compare = |state: &str, text: String| {
        shown::assert_as_reviewed("system", &format!("{}.{state}", scope.name()), &text);
    };
    compare("absent", told(&machine));
    machine.install(&[]);
    compare("running", told(&machine));
    compare("doctor", examined(&machine));
    machine.verb("stop", &[]).ok();
    compare("stopped", told(&machine));
}

for_both_scopes!(what_is_shown_is_as_reviewed);
