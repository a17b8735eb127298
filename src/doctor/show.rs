//! The report: for people a table of 80 columns, for programs one JSON object.

use serde::{Deserialize, Serialize};

use super::check::{Check, Code, Group, Outcome, Severity};
use daemon::text::{counted, wrap};
use service::Scope;

/// Where the sentence begins: after state and code.
const SENTENCE: usize = 30;
/// Where what was seen begins.
const EVIDENCE: usize = 10;

/// The checks of one instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its port.
    pub port: u16,
    /// Whose manager.
    pub scope: Scope,
    /// All checks, in the order of their groups.
    pub checks: Vec<Check>,
}

/// What `doctor --json` prints; `schema_version` rises when a field changes its meaning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The shape of this object: 1.
    pub schema_version: u32,
    /// The version of this program.
    pub version: &'static str,
    /// Its build.
    pub build: &'static str,
    /// The instances.
    pub instances: Vec<Instance>,
    /// The checks of no instance: Claude Code's hooks.
    pub user: Vec<Check>,
    /// How many came out how.
    pub totals: Totals,
}

/// How many came out how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    /// As they should be.
    pub verified: usize,
    /// Failed, and it does not work.
    pub errors: usize,
    /// Failed, and it works all the same.
    pub warnings: usize,
    /// Failed, and worth knowing.
    pub notes: usize,
    /// Not looked at.
    pub not_run: usize,
    /// Those that `--fix` would repair.
    pub fixable: usize,
}

impl Report {
    /// Of these.
    pub fn new(instances: Vec<Instance>, user: Vec<Check>) -> Self {
        let mut totals = Totals::default();
        for check in instances.iter().flat_map(|i| &i.checks).chain(&user) {
            let count = match (check.outcome, check.severity) {
                (Outcome::Verified, _) => &mut totals.verified,
                (Outcome::NotRun, _) => &mut totals.not_run,
                (Outcome::Failed, Severity::Error) => &mut totals.errors,
                (Outcome::Failed, Severity::Warning) => &mut totals.warnings,
                (Outcome::Failed, Severity::Note) => &mut totals.notes,
            };
            *count += 1;
            totals.fixable += usize::from(check.outcome == Outcome::Failed && !check.fixes.is_empty());
        }
        Self { schema_version: 1, version: crate::build::VERSION, build: crate::build::ID, instances, user, totals }
    }

    /// For people. Sentences and evidence are wrapped; commands never, so that they can be copied whole.
    pub fn human(&self, colour: bool, verbose: bool) -> String {
        let style = Style { colour, verbose };
        let mut text = String::new();
        for instance in &self.instances {
            text.push_str(&format!("mpm-monitor on port {}, {} manager\n", instance.port, instance.scope));
            style.groups(&instance.checks, &mut text);
            text.push('\n');
        }
        if !self.user.is_empty() {
            text.push_str("this user\n");
            style.groups(&self.user, &mut text);
            text.push('\n');
        }
        let t = &self.totals;
        text.push_str(&format!(
            "{} verified; {}, {}, {}; {} not run\n",
            t.verified,
            counted(t.errors as u64, "error"),
            counted(t.warnings as u64, "warning"),
            counted(t.notes as u64, "note"),
            t.not_run
        ));
        if t.fixable > 0 {
            text.push_str(&format!("`mpm-monitor doctor --fix` repairs {} of them, each shown first\n", t.fixable));
        }
        text
    }
}

/// How it is shown.
#[derive(Debug, Clone, Copy)]
struct Style {
    colour: bool,
    verbose: bool,
}

impl Style {
    fn groups(self, checks: &[Check], text: &mut String) {
        let mut group: Option<Group> = None;
        for check in checks {
            if group != Some(check.code.group()) {
                group = Some(check.code.group());
                text.push_str(&format!(" {}\n", check.code.group().title()));
            }
            self.check(check, text);
        }
    }

    fn check(self, check: &Check, text: &mut String) {
        let (word, colour) = match (check.outcome, check.severity) {
            (Outcome::Verified, _) => ("ok", "32"),
            (Outcome::NotRun, _) => ("not run", "2"),
            (Outcome::Failed, Severity::Error) => ("FAIL", "1;31"),
            (Outcome::Failed, Severity::Warning) => ("warn", "33"),
            (Outcome::Failed, Severity::Note) => ("note", "36"),
        };
        let padded = format!("{word:<7}");
        let word = if self.colour { format!("\u{1b}[{colour}m{padded}\u{1b}[0m") } else { padded };
        text.push_str(&format!("  {word} {:<19} ", check.code.text()));
        wrap(&check.summary, SENTENCE, SENTENCE, text);
        if check.outcome == Outcome::Failed || self.verbose {
            for evidence in &check.evidence {
                text.push_str(&" ".repeat(EVIDENCE));
                wrap(evidence, EVIDENCE, EVIDENCE + 2, text);
            }
        }
        if let Some(next) = &check.next {
            text.push_str(&format!("{}next: {next}\n", " ".repeat(EVIDENCE)));
        }
    }
}

/// The table of all codes, as `docs/doctor.md` has it.
pub fn table_of_codes() -> String {
    let mut text = "| code | about | severity | verified when |\n|---|---|---|---|\n".to_owned();
    for code in Code::ALL {
        let severity = format!("{:?}", code.severity()).to_lowercase();
        text.push_str(&format!("| `{}` | {} | {severity} | {} |\n", code.text(), code.group().title(), code.about()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let long =
            "a sentence of many words that cannot stand in one line of the table, and so has to go on in the next";
        let checks = vec![
            Check::verified(Code::ManagerReachable, "the user manager answers").seen("hidden unless asked for"),
            Check::failed(Code::Linger, long).seen(long).next(format!("sudo {}", "x".repeat(90))),
            Check::not_run(Code::ProgramReplaced, "no process of it runs"),
        ];
        let user = vec![Check::failed(Code::HookCommands, "none")];
        Report::new(vec![Instance { port: 8765, scope: Scope::User, checks }], user)
    }

    #[test]
    fn the_table_fits_a_terminal_and_commands_are_whole() {
        let text = report().human(false, false);
        let wide: Vec<&str> = text.lines().filter(|l| l.chars().count() > 80).collect();
        assert!(wide.iter().all(|l| l.trim_start().starts_with("next: sudo xxx")), "{text}");
        assert!(text.contains("  ok      manager-reachable   the user manager answers\n"), "{text}");
        assert!(text.contains("1 verified; 0 errors, 1 warning, 1 note; 1 not run\n"), "{text}");
        assert!(!text.contains("hidden") && report().human(false, true).contains("hidden"));
        assert!(!text.contains('\u{1b}') && report().human(true, false).contains("\u{1b}[33mwarn"));
        let longest = Code::ALL.iter().map(|c| c.text().len()).max().unwrap();
        assert!(longest <= 19, "{longest}");
    }

    #[test]
    fn the_json_has_a_schema_and_the_codes_as_words() {
        let json = serde_json::to_value(report()).unwrap();
        assert_eq!(json["schema_version"], 1);
        let check = &json["instances"][0]["checks"][1];
        assert_eq!(
            (&check["code"], &check["outcome"], &check["severity"]),
            (&"linger".into(), &"failed".into(), &"warning".into())
        );
        assert_eq!(json["instances"][0]["checks"][2]["outcome"], "not-run");
        assert_eq!(json["totals"]["warnings"], 1);
        let read: Vec<Instance> = serde_json::from_value(json["instances"].clone()).unwrap();
        assert_eq!(read, report().instances);
    }
}
