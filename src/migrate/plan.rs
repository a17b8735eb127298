//! What is Claude MPM's daemon, what is stale, and what stands in the way: decided from what was found, without touching it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::command;
use super::find::{Found, PidFile, Said};
use super::process::Process;
use crate::config::settings::DEFAULT_PORT;
use daemon::ports::{self, Owner};

/// A PID file is written after its process began; clocks of file systems may be a little off.
const SLACK: u64 = 2;

/// A daemon that is proved to be Claude MPM's and this user's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Daemon {
    /// Its process.
    pub process: Process,
    /// The port it serves.
    pub port: u16,
    /// The address it was told to listen on.
    pub host: Option<String>,
    /// The projects in which it is known by a PID file.
    pub projects: Vec<PathBuf>,
}

/// All that a migration would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// The daemons to stop, by port.
    pub daemons: Vec<Daemon>,
    /// The PID files to remove, and why.
    pub stale: Vec<(PidFile, String)>,
    /// The ports on which to install, with the projects that shall find us by a PID file.
    pub installs: BTreeMap<u16, BTreeSet<PathBuf>>,
    /// What the person should know.
    pub notes: Vec<String>,
    /// What stands in the way; with any of it nothing is done.
    pub blocked: Vec<String>,
}

/// What a process is to us.
enum Kind {
    Daemon(command::Invocation),
    Anothers,
    Ours,
    Stranger,
}

/// Decides.
pub fn plan(found: &Found) -> Plan {
    let mut plan = Plan::default();
    let mut proved: BTreeMap<u32, (command::Invocation, BTreeSet<PathBuf>, Option<u16>)> = BTreeMap::new();
    let mut dead: Vec<&PidFile> = Vec::new();
    for file in &found.pid_files {
        let path = file.path.display();
        let pid = match &file.said {
            Said::Pid(pid) => *pid,
            Said::Unreadable(why) => {
                plan.notes.push(format!("{path} cannot be read ({why}), so that it is left as it is"));
                continue;
            }
            Said::Nonsense(_) => {
                plan.stale.push((file.clone(), "it holds no process id".to_owned()));
                continue;
            }
        };
        let Some(process) = found.processes.get(&pid) else {
            plan.stale.push((file.clone(), format!("there is no process {pid}")));
            dead.push(file);
            continue;
        };
        match kind(process, found.uid) {
            Kind::Anothers => plan.notes.push(format!(
                "{path} names pid {pid}, which is another user's: that user has to migrate it; file and process are left alone"
            )),
            // Written for Claude MPM's commands, by `compat.pid_files_in`.
            Kind::Ours => {}
            Kind::Stranger => {
                let why = format!("pid {pid} is another program by now ({}), which is left alone", shown(process));
                plan.stale.push((file.clone(), why));
            }
            Kind::Daemon(_) if process.began.is_some_and(|began| began > file.written + SLACK) => {
                plan.stale.push((file.clone(), format!("pid {pid} began after the file was written")));
            }
            Kind::Daemon(invocation) => {
                let known = proved.entry(pid).or_insert_with(|| (invocation, BTreeSet::new(), None));
                known.1.insert(file.project.clone());
                known.2 = known.2.or(file.port);
            }
        }
    }
    let named: BTreeSet<u16> = dead.iter().filter_map(|f| f.port).collect();
    for (&port, owner) in &found.served {
        let matters = found.wanted == Some(port) || port == DEFAULT_PORT || named.contains(&port);
        served(&mut plan, &mut proved, found, port, owner, matters);
    }
    for (pid, (invocation, projects, file_port)) in proved {
        let process = &found.processes[&pid];
        let serves = found.served.iter().find(|(_, owner)| owner.pid == Some(pid)).map(|(port, _)| *port);
        let port = serves.or(invocation.port).or(file_port).unwrap_or(DEFAULT_PORT);
        if found.wanted.is_some_and(|wanted| wanted != port) {
            continue;
        }
        if let Some(host) = invocation.host.as_deref().filter(|h| !is_here(h)) {
            plan.notes.push(format!(
                "it listened on {host}, which other machines may reach; that is not carried over: see `bind` and \
                 `access.token_file` in `mpm-monitor config show`"
            ));
        }
        let projects: BTreeSet<PathBuf> =
            if projects.is_empty() { process.cwd.clone().into_iter().collect() } else { projects };
        plan.installs.entry(port).or_default().extend(projects.iter().cloned());
        plan.daemons.push(Daemon {
            process: process.clone(),
            port,
            host: invocation.host,
            projects: projects.into_iter().collect(),
        });
    }
    plan.daemons.sort_by_key(|d| d.port);
    // A daemon that ended before left its file: who types this wants it replaced all the same.
    for file in dead {
        let port = file.port.unwrap_or(DEFAULT_PORT);
        let wanted = found.wanted.unwrap_or(DEFAULT_PORT) == port && !found.served.contains_key(&port);
        // Which daemon one without a port in its name had been, nobody knows where there is another.
        let had = plan.installs.contains_key(&port);
        if if had { file.port.is_some() } else { wanted } {
            plan.installs.entry(port).or_default().insert(file.project.clone());
        }
    }
    plan
}

/// Who serves a port: a daemon that no PID file names is one all the same, and whoever else has it is left alone.
fn served(
    plan: &mut Plan,
    proved: &mut BTreeMap<u32, (command::Invocation, BTreeSet<PathBuf>, Option<u16>)>,
    found: &Found,
    port: u16,
    owner: &Owner,
    matters: bool,
) {
    let process = owner.pid.and_then(|pid| found.processes.get(&pid));
    let known = process.is_some_and(|p| proved.contains_key(&p.pid));
    match &owner.kind {
        ports::Kind::MpmMonitor { .. } => {
            plan.notes.push(format!("port {port} is served by {owner} already"));
        }
        _ if known => {}
        ports::Kind::ClaudeMpm { .. } => match process.map(|p| (p, kind(p, found.uid))) {
            Some((process, Kind::Daemon(invocation))) => {
                proved.insert(process.pid, (invocation, BTreeSet::new(), Some(port)));
            }
            _ if !matters => plan.notes.push(format!("port {port} is served by {owner}, which is left alone")),
            Some((_, Kind::Anothers)) => plan.blocked.push(format!(
                "port {port} is served by {owner}, of another user: that user has to type `mpm-monitor migrate`"
            )),
            Some((process, _)) => plan.blocked.push(format!(
                "port {port} is served by {owner}, but `{}` is not how its daemon is started: end it yourself, then try again",
                shown(process)
            )),
            None => plan.blocked.push(format!(
                "port {port} is served by {owner}, whose process cannot be looked at: end it yourself, then try again"
            )),
        },
        _ if matters => plan.blocked.push(format!(
            "port {port} belongs to {owner}, which is left alone: end it yourself, or choose another port with --port"
        )),
        _ => {}
    }
}

fn kind(process: &Process, uid: u32) -> Kind {
    if process.uid != uid {
        return Kind::Anothers;
    }
    let [program, verb, ..] = &process.words[..] else { return Kind::Stranger };
    if program.rsplit('/').next() == Some("mpm-monitor") && verb == "run" {
        return Kind::Ours;
    }
    command::monitor(&process.words).map_or(Kind::Stranger, Kind::Daemon)
}

/// Whether our own addresses are what it listened on.
fn is_here(host: &str) -> bool {
    ["localhost", "127.0.0.1", "::1", "[::1]"].contains(&host)
}

/// A command line for a terminal: short, and without control characters.
pub fn shown(process: &Process) -> String {
    let line: String =
        process.words.join(" ").chars().map(|c| if c.is_control() { ' ' } else { c }).take(120).collect();
    if line.is_empty() { format!("pid {}", process.pid) } else { line }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAEMON: &str = "/v/bin/python -m claude_mpm.cli monitor start --background --port 8765 --host localhost";

    fn process(pid: u32, line: &str) -> Process {
        Process {
            pid,
            uid: 1000,
            mark: "1".into(),
            began: Some(100),
            words: line.split(' ').map(str::to_owned).collect(),
            cwd: Some("/p".into()),
            variables: vec![],
        }
    }

    fn file(port: u16, said: Said) -> PidFile {
        let path = format!("/p/.claude-mpm/monitor-daemon-{port}.pid").into();
        PidFile { path, project: "/p".into(), port: Some(port), said, written: 103 }
    }

    fn owner(pid: u32, kind: ports::Kind) -> Owner {
        Owner { pid: Some(pid), program: Some("python3".into()), kind }
    }

    fn theirs() -> ports::Kind {
        ports::Kind::ClaudeMpm { version: "1.0.0".into() }
    }

    fn found(files: Vec<PidFile>, processes: Vec<Process>, served: Vec<(u16, Owner)>) -> Found {
        Found {
            uid: 1000,
            pid_files: files,
            processes: processes.into_iter().map(|p| (p.pid, p)).collect(),
            served: served.into_iter().collect(),
            ..Found::default()
        }
    }

    #[test]
    fn a_daemon_that_file_and_port_name_is_replaced_where_it_was() {
        let all = found(vec![file(8765, Said::Pid(7))], vec![process(7, DAEMON)], vec![(8765, owner(7, theirs()))]);
        let plan = plan(&all);
        assert_eq!((plan.daemons.len(), plan.daemons[0].port, plan.daemons[0].process.pid), (1, 8765, 7));
        assert_eq!(plan.installs, [(8765, [PathBuf::from("/p")].into())].into());
        assert_eq!((plan.stale.len(), plan.blocked.len(), plan.notes.len()), (0, 0, 0), "{plan:?}");
    }

    #[test]
    fn one_without_a_file_is_known_by_its_port_and_several_are_several() {
        let other = DAEMON.replace("8765", "9000");
        let all = found(
            vec![file(9000, Said::Pid(8))],
            vec![process(7, DAEMON), process(8, &other)],
            vec![(8765, owner(7, theirs()))],
        );
        let both = plan(&all);
        assert_eq!(both.daemons.iter().map(|d| (d.process.pid, d.port)).collect::<Vec<_>>(), [(7, 8765), (8, 9000)]);
        assert_eq!(both.daemons[0].projects, [PathBuf::from("/p")], "where it runs");
        let one = plan(&Found { wanted: Some(9000), ..all });
        assert_eq!(one.daemons.iter().map(|d| d.port).collect::<Vec<_>>(), [9000]);
    }

    #[test]
    fn pain_7_a_number_that_another_has_by_now_is_never_touched() {
        let vim = process(7, "/usr/bin/vim notes");
        let stranger = plan(&found(vec![file(8765, Said::Pid(7))], vec![vim], vec![]));
        assert!(stranger.daemons.is_empty() && stranger.stale[0].1.contains("/usr/bin/vim notes"), "{stranger:?}");
        let later = Process { began: Some(200), ..process(7, DAEMON) };
        let later = plan(&found(vec![file(8765, Said::Pid(7))], vec![later], vec![]));
        assert!(later.daemons.is_empty() && later.stale[0].1.contains("began after"), "{later:?}");
        let theirs = Process { uid: 1001, ..process(7, DAEMON) };
        let others = plan(&found(vec![file(8765, Said::Pid(7))], vec![theirs], vec![]));
        assert!(others.daemons.is_empty() && others.stale.is_empty() && others.notes[0].contains("another user's"));
    }

    #[test]
    fn the_file_of_our_own_process_stays() {
        let ours = process(7, "/usr/bin/mpm-monitor run --port 8765");
        let kind = ports::Kind::MpmMonitor { version: "1".into(), instance_id: "a".into() };
        let again = plan(&found(vec![file(8765, Said::Pid(7))], vec![ours], vec![(8765, owner(7, kind))]));
        assert!(again.stale.is_empty() && again.installs.is_empty() && again.notes.len() == 1, "{again:?}");
    }

    #[test]
    fn files_without_a_process_go_and_those_that_nobody_may_read_stay() {
        let files = vec![
            file(8765, Said::Pid(7)),
            file(8766, Said::Nonsense("x".into())),
            file(8767, Said::Unreadable("Permission denied".into())),
        ];
        let plan = plan(&found(files, vec![], vec![]));
        assert_eq!(plan.stale.iter().map(|(f, _)| f.port).collect::<Vec<_>>(), [Some(8765), Some(8766)]);
        assert!(plan.notes[0].contains("8767.pid cannot be read (Permission denied)"), "{:?}", plan.notes);
        assert_eq!(plan.installs.keys().collect::<Vec<_>>(), [&8765], "the usual port's daemon had been here");
    }

    #[test]
    fn pain_9_a_stranger_on_the_port_is_named_and_left_alone() {
        let blocked =
            |line: &str, kind: ports::Kind| plan(&found(vec![], vec![process(7, line)], vec![(8765, owner(7, kind))]));
        let node = blocked("/usr/bin/node dashboard.js", ports::Kind::Foreign);
        assert!(node.blocked[0].contains("python3 (pid 7), not a monitor, which is left alone"), "{:?}", node.blocked);
        let session = blocked("/v/bin/claude-mpm run --monitor", theirs());
        assert!(session.daemons.is_empty() && session.blocked[0].contains("claude-mpm run --monitor"), "{session:?}");
        let hidden = plan(&found(vec![], vec![], vec![(8765, owner(7, theirs()))]));
        assert!(hidden.blocked[0].contains("cannot be looked at"));
        let elsewhere = plan(&found(vec![], vec![], vec![(8770, owner(7, ports::Kind::Foreign))]));
        assert_eq!(elsewhere, Plan::default());
        let ours = ports::Kind::MpmMonitor { version: "1".into(), instance_id: "a".into() };
        let ours = blocked("/usr/bin/mpm-monitor run", ours);
        assert!(ours.blocked.is_empty() && ours.notes[0].contains("already"), "{ours:?}");
    }

    #[test]
    fn an_address_that_others_reach_is_not_carried_over_in_silence() {
        let wide = DAEMON.replace("localhost", "0.0.0.0");
        let plan = plan(&found(vec![file(8765, Said::Pid(7))], vec![process(7, &wide)], vec![]));
        assert!(plan.notes[0].contains("0.0.0.0") && plan.notes[0].contains("access.token_file"), "{:?}", plan.notes);
        assert_eq!(shown(&process(1, "a\x1b[31m\nb")), "a [31m b");
    }
}
