//! What single properties of the unit must not be. The unit as install writes it breaks none of these rules, so a broken one
//! is the doing of somebody's line.

use std::time::Duration;

use super::check::Severity;
use super::merged::Merged;
use super::needs::Lack;

/// What one property must not be.
struct Rule {
    property: &'static str,
    /// The keys that set it.
    keys: &'static [&'static str],
    severity: Severity,
    bad: fn(&str) -> bool,
    why: &'static str,
}

type Keys = &'static [&'static str];

const fn error(property: &'static str, keys: Keys, bad: fn(&str) -> bool, why: &'static str) -> Rule {
    Rule { property, keys, severity: Severity::Error, bad, why }
}

const fn warning(property: &'static str, keys: Keys, bad: fn(&str) -> bool, why: &'static str) -> Rule {
    Rule { property, keys, severity: Severity::Warning, bad, why }
}

/// Rules of one property each.
const RULES: &[Rule] = &[
    error(
        "Type",
        &["Type"],
        |v| !matches!(v, "" | "notify" | "notify-reload"),
        "the manager learns neither when it is ready nor that it hangs",
    ),
    error("Restart", &["Restart"], |v| matches!(v, "no" | "on-success"), "nothing starts it again after a crash"),
    warning(
        "RestartUSec",
        &["RestartSec"],
        |v| v == "infinity" || longer(v, 60),
        "it stays away for long after a crash",
    ),
    error(
        "RestartPreventExitStatus",
        &["RestartPreventExitStatus"],
        |v| words_beyond(v, &["2", "69", "75", "77", "78"]),
        "nothing starts it again after such an end",
    ),
    warning(
        "SuccessExitStatus",
        &["SuccessExitStatus"],
        |v| words_beyond(v, &["0", "SIGHUP", "SIGINT", "SIGTERM", "SIGPIPE", "1", "2", "13", "15"]),
        "a crash counts as a good end",
    ),
    error(
        "TimeoutStartUSec",
        &["TimeoutStartSec", "TimeoutSec"],
        |v| shorter(v, 2),
        "it is ended before it can be ready",
    ),
    warning(
        "TimeoutStopUSec",
        &["TimeoutStopSec", "TimeoutSec"],
        |v| shorter(v, 2),
        "it is killed before it has brought its work to an end",
    ),
    warning("RuntimeMaxUSec", &["RuntimeMaxSec"], |v| span(v).is_some(), "the manager ends it by the clock"),
    error("WatchdogUSec", &["WatchdogSec"], |v| shorter(v, 1), "it is ended before a sign of life of it can come"),
    warning(
        "KillMode",
        &["KillMode"],
        |v| matches!(v, "none" | "process"),
        "what it began would be left behind at a stop, and hold its port and files",
    ),
    warning(
        "KillSignal",
        &["KillSignal"],
        |v| !matches!(v, "" | "15" | "2"),
        "it is not asked to end, and cannot bring its work to an end",
    ),
    warning("SendSIGKILL", &["SendSIGKILL"], |v| v == "no", "a stop never ends where it hangs"),
    warning(
        "StartLimitIntervalUSec",
        &["StartLimitIntervalSec", "StartLimitBurst"],
        |v| v == "0",
        "a crash loop would go on for ever",
    ),
    warning("StartLimitBurst", &["StartLimitBurst"], |v| v == "1", "the manager gives it up after its first crash"),
    error("RefuseManualStop", &["RefuseManualStop"], |v| v == "yes", "nobody can stop or restart it"),
    error(
        "FailureAction",
        &["FailureAction"],
        |v| !matches!(v, "" | "none"),
        "a crash ends the manager or the machine",
    ),
    error(
        "StartLimitAction",
        &["StartLimitAction"],
        |v| !matches!(v, "" | "none"),
        "a crash loop ends the manager or the machine",
    ),
    warning(
        "OOMScoreAdjust",
        &["OOMScoreAdjust"],
        |v| v.parse().is_ok_and(|n: i32| n >= 900),
        "it is the first to be killed where memory is short",
    ),
    error("RefuseManualStart", &["RefuseManualStart"], |v| v == "yes", "the manager starts it for nobody"),
    error(
        "UMask",
        &["UMask"],
        |v| u32::from_str_radix(v, 8).is_ok_and(|m| m & 0o700 != 0),
        "the files that it makes are closed to itself",
    ),
    error(
        "UnsetEnvironment",
        &["UnsetEnvironment"],
        |v| ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"].iter().any(|n| v.contains(n)),
        "it cannot tell the manager that it is ready, or lives",
    ),
    warning(
        "LogLevelMax",
        &["LogLevelMax"],
        |v| v.parse().is_ok_and(|n: i32| (0..6).contains(&n)),
        "what it says is thrown away, and no failure leaves a reason",
    ),
    warning(
        "LogNamespace",
        &["LogNamespace"],
        |v| !v.is_empty(),
        "its log is in a journal of its own, where `mpm-monitor logs` does not look",
    ),
    warning(
        "StandardError",
        &["StandardError", "StandardOutput"],
        is_elsewhere,
        "its log does not reach the journal, where `mpm-monitor logs` looks",
    ),
    warning(
        "StandardOutput",
        &["StandardOutput"],
        is_elsewhere,
        "its log does not reach the journal, where `mpm-monitor logs` looks",
    ),
    error(
        "PrivateNetwork",
        &["PrivateNetwork"],
        |v| v == "yes",
        "it has a network of its own, where no client reaches it",
    ),
    error(
        "NetworkNamespacePath",
        &["NetworkNamespacePath"],
        |v| !v.is_empty(),
        "it has a network of its own, where no client reaches it",
    ),
    error(
        "RootDirectory",
        &["RootDirectory"],
        |v| !v.is_empty(),
        "it has another file system, without its program and folders",
    ),
    error(
        "RootImage",
        &["RootImage"],
        |v| !v.is_empty(),
        "it has another file system, without its program and folders",
    ),
    error(
        "LimitCPU",
        &["LimitCPU"],
        |v| v.parse::<u64>().is_ok(),
        "it is killed when it has used that much time of the processor",
    ),
    warning(
        "CPUQuotaPerSecUSec",
        &["CPUQuota"],
        |v| span(v).is_some_and(|d| d < Duration::from_millis(50)),
        "so small a share of the processor makes it miss the watchdog",
    ),
    warning(
        "CPUSchedulingPolicy",
        &["CPUSchedulingPolicy"],
        |v| v == "5",
        "it runs only when nothing else does, and misses the watchdog",
    ),
];

fn shorter(text: &str, seconds: u64) -> bool {
    span(text).is_some_and(|d| !d.is_zero() && d < Duration::from_secs(seconds))
}

fn longer(text: &str, seconds: u64) -> bool {
    span(text).is_some_and(|d| d > Duration::from_secs(seconds))
}

fn words_beyond(text: &str, known: &[&str]) -> bool {
    text.split_whitespace().any(|w| !known.contains(&w))
}

/// Whether an output goes where no journal is.
fn is_elsewhere(output: &str) -> bool {
    !output.is_empty() && !["journal", "inherit", "syslog", "kmsg"].iter().any(|to| output.starts_with(to))
}

/// The rules that a unit breaks.
pub fn broken(unit: &Merged) -> impl Iterator<Item = Lack> {
    let broken = RULES.iter().filter(|r| unit.values.get(r.property).is_some_and(|v| (r.bad)(v)));
    broken.map(|r| {
        let why = format!("with {}={} {}", r.property, unit.get(r.property), r.why);
        Lack { keys: r.keys, why, severity: r.severity }
    })
}

/// A span as systemd prints it; `None` for `infinity` and what is no span.
fn span(text: &str) -> Option<Duration> {
    humantime::parse_duration(text).ok()
}
