//! launchctl's exit codes, each in one sentence with the next command. The numbers are those of a current macOS, gathered
//! from the manual page and public issues (docs/macos.md).

use super::domain::Domain;

/// What was asked of launchctl.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked<'a> {
    /// The subcommand.
    pub verb: &'a str,
    /// Where.
    pub domain: Domain,
    /// Of which job.
    pub label: &'a str,
}

/// Operation not permitted.
pub const DENIED: i32 = 1;
/// No such process: `bootout` of what is not loaded.
pub const NOT_LOADED: i32 = 3;
/// Input/output error: what `bootstrap` says to nearly everything, most of all while the job before is still dying.
pub const IO: i32 = 5;
/// Operation now in progress: `bootout` has begun.
pub const IN_PROGRESS: i32 = 36;
/// Already loaded, or (older) still dying.
pub const ALREADY: i32 = 37;
/// No such domain.
pub const NO_DOMAIN: i32 = 112;
/// No such service there.
pub const NO_SERVICE: i32 = 113;
/// The job is disabled.
pub const DISABLED: i32 = 119;
/// The file's owner or mode.
pub const BAD_FILE: i32 = 122;
/// The domain does not do such a thing: it is not there, or macOS was told to keep the job off.
pub const UNSUPPORTED: i32 = 125;

/// What a code means, and what to type next; nothing for a code that is not known.
pub fn explain(code: i32, asked: &Asked<'_>) -> Option<String> {
    let (domain, label) = (asked.domain, asked.label);
    let target = domain.target(label);
    Some(match code {
        DENIED if domain == Domain::System => format!("{label} is root's: Operation not permitted."),
        NOT_LOADED => format!("{label} is not loaded in {domain}; `mpm-monitor start` loads it"),
        IO if asked.verb == "bootstrap" => format!(
            "launchd did not take {label}: an older one is still ending, it is loaded already, it is disabled, or the plist \
             has a fault or too wide a mode; `launchctl print {target}` and `plutil -lint` on the plist tell which"
        ),
        IO => format!("launchd failed on {target}; `launchctl print {target}` tells its state"),
        IN_PROGRESS => format!("{label} is still ending; `mpm-monitor status` tells when it is gone"),
        ALREADY => format!("{label} is loaded in {domain} already; `mpm-monitor restart` starts it anew"),
        64 => format!("this launchctl does not know `{}` in that form; it may be older than macOS 11", asked.verb),
        NO_DOMAIN => no_domain(domain),
        NO_SERVICE => format!("launchd knows no {label} in {domain}; `mpm-monitor start` loads it"),
        DISABLED => format!("{label} is disabled; `launchctl enable {target}`, then `mpm-monitor start`"),
        BAD_FILE => format!(
            "the plist of {label} belongs to another user or is writable by others; `chmod go-w` on it, or remove it and \
             `mpm-monitor install`"
        ),
        UNSUPPORTED if matches!(domain, Domain::Gui(_)) => format!(
            "{domain} does not take jobs: nobody is logged in at the screen, or mpm-monitor is switched off in System \
             Settings > General > Login Items; switch it on there, then repeat"
        ),
        UNSUPPORTED => no_domain(domain),
        134 => format!("{label} may not run in this kind of session; `mpm-monitor install` writes the plist that may"),
        _ => return None,
    })
}

fn no_domain(domain: Domain) -> String {
    match domain {
        Domain::System => "the system domain is root's; repeat it with sudo".to_owned(),
        Domain::Gui(uid) | Domain::User(uid) => format!(
            "there is no launchd domain for user {uid} here: log in as that user, at the screen or over SSH, and repeat; \
             for a Mac without logins: `sudo mpm-monitor install --system`"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_documented_code_is_one_sentence_with_a_next_step() {
        for verb in ["bootstrap", "bootout", "kickstart", "print"] {
            for domain in [Domain::System, Domain::Gui(501), Domain::User(501)] {
                for code in [3, 5, 36, 37, 64, 112, 113, 119, 122, 125, 134] {
                    let asked = Asked { verb, domain, label: "mpm-monitor.8765" };
                    let text = explain(code, &asked).unwrap();
                    assert!(!text.contains('\n') && text.len() > 20, "{code}: {text}");
                }
            }
        }
        let asked = Asked { verb: "bootstrap", domain: Domain::Gui(501), label: "x" };
        assert!(explain(DISABLED, &asked).unwrap().contains("`launchctl enable gui/501/x`"));
        assert_eq!(explain(99, &asked), None);
    }
}
