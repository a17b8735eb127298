//! The programs that the service needs, as it sees them, and the tmux servers. Looking starts no server: nothing of tmux is
//! run at all, the kernel tells who listens on a socket.

use std::collections::BTreeMap;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use super::Subject;
use super::check::{Check, Code, Looked, Severity, none_of};
use super::merged::Merged;
use super::process::{self, is_tmux};
use super::procs::{self, Proc};
use super::properties::{Properties, find_in};
use crate::build::PROGRAM;
use service::Scope;

/// The tools that are wanted.
const TOOLS: [&str; 2] = ["tmux", "git"];

/// What was seen.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Where this shell finds each tool.
    pub here: BTreeMap<&'static str, Option<PathBuf>>,
    /// The sockets of tmux: who listens, where the kernel tells; `None` where nobody does.
    pub sockets: Vec<(PathBuf, Option<u32>)>,
    /// This user.
    pub uid: u32,
}

/// Looks.
pub fn look() -> Seen {
    let path = std::env::var("PATH").unwrap_or_default();
    let uid = rustix::process::getuid().as_raw();
    let base = std::env::var_os("TMUX_TMPDIR").filter(|d| !d.is_empty()).map_or("/tmp".into(), PathBuf::from);
    Seen {
        here: TOOLS.into_iter().map(|tool| (tool, find_in(&path, tool))).collect(),
        sockets: sockets(&base.join(format!("tmux-{uid}"))),
        uid,
    }
}

fn sockets(dir: &Path) -> Vec<(PathBuf, Option<u32>)> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    let is_socket = |p: &PathBuf| std::fs::symlink_metadata(p).is_ok_and(|m| m.file_type().is_socket());
    entries.map(|e| e.path()).filter(is_socket).take(50).map(|p| (p.clone(), listener(&p))).collect()
}

/// Who listens on a Unix socket; 0 where somebody does and the system does not tell who.
fn listener(path: &Path) -> Option<u32> {
    let stream = UnixStream::connect(path).ok()?;
    Some(peer(&stream))
}

#[cfg(target_os = "linux")]
fn peer(stream: &UnixStream) -> u32 {
    let pid = rustix::net::sockopt::socket_peercred(stream).map(|c| c.pid.as_raw_nonzero().get());
    pid.ok().and_then(|p| u32::try_from(p).ok()).unwrap_or(0)
}

#[cfg(not(target_os = "linux"))]
fn peer(_: &UnixStream) -> u32 {
    0
}

/// Judges.
pub fn judge(
    subject: &Subject,
    seen: &Looked<Seen>,
    running: &Looked<process::Seen>,
    properties: &Looked<Properties>,
    installed: bool,
) -> Vec<Check> {
    let seen = match seen {
        Ok(seen) => seen,
        Err(why) => {
            return none_of(&[Code::ToolPaths, Code::TmuxCgroup, Code::TmuxSocket, Code::TmuxHidden], why);
        }
    };
    let all = running.as_ref().map(|r| r.all.as_slice()).unwrap_or_default();
    let properties = properties.as_ref().ok();
    let cgroup = properties.and_then(|p| p.cgroup.as_deref());
    let of_unit = properties.and_then(|p| p.unit.environment().into_iter().rev().find(|(n, _)| n == "PATH"));
    let path = running.as_ref().ok().and_then(|r| r.main.path.as_deref());
    let path = path.or(of_unit.as_ref().map(|(_, v)| v.as_str())).or(properties.and_then(|p| p.path.as_deref()));
    vec![
        tool_paths(subject, seen, path, properties.map(|p| &p.unit), installed),
        tmux_cgroup(subject, all, cgroup),
        tmux_socket(seen, all),
        match properties {
            _ if subject.paths.kind == service::Kind::Launchd => {
                Check::verified(Code::TmuxHidden, "launchd hides nothing")
            }
            // It receives what agents send, and watches nobody's.
            Some(p) if p.private_tmp && subject.scope == Scope::System && p.user.as_deref() == Some(PROGRAM.name) => {
                Check::verified(
                    Code::TmuxHidden,
                    format!("the user {} watches nobody's tmux, so it has a /tmp of its own", PROGRAM.name),
                )
            }
            Some(p) if p.private_tmp => {
                let check = Check::failed(Code::TmuxHidden, "PrivateTmp= hides the sockets of tmux from the service");
                p.blame(subject, check, &["PrivateTmp", "DynamicUser"])
            }
            Some(_) if !installed => Check::not_run(Code::TmuxHidden, "nothing is installed"),
            Some(_) => Check::verified(Code::TmuxHidden, "the service sees the same /tmp"),
            None => Check::not_run(Code::TmuxHidden, "the manager did not answer"),
        },
    ]
}

fn tool_paths(subject: &Subject, seen: &Seen, path: Option<&str>, unit: Option<&Merged>, installed: bool) -> Check {
    let Some(path) = path.filter(|_| installed) else {
        return Check::not_run(
            Code::ToolPaths,
            if installed { "the service's PATH is not told" } else { "nothing is installed" },
        );
    };
    let there: Vec<_> = seen.here.iter().map(|(tool, here)| (*tool, here, find_in(path, tool))).collect();
    let lacking: Vec<_> = there.iter().filter(|(_, here, found)| here.is_some() && found.is_none()).collect();
    let show = |found: &Option<PathBuf>| found.as_ref().map_or("nowhere".to_owned(), |p| p.display().to_string());
    let shown: Vec<String> = there.iter().map(|(tool, _, found)| format!("{tool}: {}", show(found))).collect();
    if lacking.is_empty() {
        return Check::verified(Code::ToolPaths, format!("the service finds {}", shown.join(", ")))
            .seen(format!("PATH={path}"));
    }
    let dirs: Vec<String> =
        lacking.iter().filter_map(|(_, here, _)| here.as_ref()?.parent().map(|d| d.display().to_string())).collect();
    let check = Check::failed(Code::ToolPaths, "this shell finds tools that the service does not")
        .seen(format!("the service's PATH is {path}"));
    let check = lacking.iter().fold(check, |c, (tool, here, _)| c.seen(format!("{tool} is {} here", show(here))));
    // A drop-in that sets it goes before what install could write.
    let lines = unit.map(|u| u.variable("PATH")).unwrap_or_default();
    if !lines.is_empty() {
        let check = lines.iter().fold(check, |c, l| c.seen(l.shown()));
        let lines: Vec<(&Path, usize, usize)> = lines.iter().map(|l| l.place()).collect();
        return check.next(Merged::without(subject, &lines));
    }
    check.next(format!("{} --env PATH={}:{path}", subject.verb("install"), dirs.join(":")))
}

fn tmux_cgroup(subject: &Subject, all: &[Proc], cgroup: Option<&str>) -> Check {
    if all.is_empty() {
        return Check::not_run(Code::TmuxCgroup, "this system has no control groups to look into");
    }
    let servers: Vec<&Proc> = all.iter().filter(|p| is_tmux(p)).collect();
    let inside = |p: &Proc| match (&p.cgroup, cgroup) {
        (Some(of), Some(ours)) => of == ours || of.starts_with(&format!("{ours}/")),
        // Another instance's, or ours while it is down.
        (Some(of), None) => of.contains(&format!("/{}", subject.paths.service_name(subject.port))),
        (None, _) => false,
    };
    let Some(server) = servers.iter().find(|p| inside(p)) else {
        return match servers.len() {
            0 => Check::verified(Code::TmuxCgroup, "no tmux server runs"),
            n => {
                Check::verified(Code::TmuxCgroup, format!("of {n} tmux servers none is in the service's control group"))
            }
        };
    };
    // A scope of its own takes it over while it runs, and nothing is ended.
    let family = procs::family(all, server.pid);
    let pids: Vec<String> = family.iter().map(u32::to_string).collect();
    let user = if subject.scope == service::Scope::User { "--user " } else { "" };
    Check::failed(Code::TmuxCgroup, "a stop or restart of the service would end a tmux server and all that runs in it")
        .seen(format!("pid {} is in {}", server.pid, server.cgroup.as_deref().unwrap_or_default()))
        .seen("this moves it, with all it runs, to a scope of its own; nothing is ended")
        .next(format!(
            "{}busctl {user}call org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager \
             StartTransientUnit 'ssa(sv)a(sa(sv))' tmux-{}.scope fail 1 PIDs au {} {} 0",
            subject.sudo(),
            server.pid,
            pids.len(),
            pids.join(" ")
        ))
}

fn tmux_socket(seen: &Seen, all: &[Proc]) -> Check {
    let servers: Vec<&Proc> = all.iter().filter(|p| is_tmux(p) && p.uid == seen.uid && !p.zombie).collect();
    let reached: Vec<u32> = seen.sockets.iter().filter_map(|(_, pid)| *pid).collect();
    // A server may have been given a socket elsewhere (`tmux -S`); only where the usual place has none is it suspicious.
    let lost: Vec<&&Proc> = servers.iter().filter(|p| !reached.contains(&p.pid)).collect();
    match (lost.first(), servers.len()) {
        (None, 0) => Check::verified(Code::TmuxSocket, "no tmux server of this user runs"),
        (None, n) => Check::verified(Code::TmuxSocket, format!("of {n} running, each is behind its socket")),
        (Some(first), _) => {
            let check = Check::failed(Code::TmuxSocket, "a tmux server runs whose socket is not in the usual place")
                .severity(Severity::Warning)
                .seen("its sessions look as if they were gone; at this signal it makes the socket again");
            lost.iter().fold(check, |c, p| c.seen(format!("pid {}", p.pid))).next(format!("kill -USR1 {}", first.pid))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Outcome;
    use super::super::tests::{find, subject};
    use super::*;

    fn server(cgroup: &str) -> Proc {
        Proc { pid: 50, uid: 7, name: "tmux: server".into(), cgroup: Some(cgroup.into()), ..Proc::default() }
    }

    fn all(procs: Vec<Proc>, seen: Seen, properties: Properties) -> Vec<Check> {
        let running = process::Seen { all: procs, ..process::Seen::default() };
        judge(&subject(), &Ok(seen), &Ok(running), &Ok(properties), true)
    }

    fn ours() -> Properties {
        Properties { cgroup: Some("/app.slice/mpm-monitor@8765.service".into()), ..Properties::default() }
    }

    #[test]
    fn pain_1_a_tmux_server_that_a_restart_would_end_is_told_with_a_way_out() {
        let shell = Proc { pid: 51, parent: 50, ..Proc::default() };
        let procs = vec![server("/app.slice/mpm-monitor@8765.service"), shell];
        let check = find(&all(procs, Seen::default(), ours()), Code::TmuxCgroup).clone();
        assert!(check.is_error(), "{check:?}");
        assert!(check.next.unwrap().ends_with("tmux-50.scope fail 1 PIDs au 2 50 51 0"));
        let other = all(vec![server("/user.slice/session-1.scope")], Seen::default(), ours());
        assert_eq!(find(&other, Code::TmuxCgroup).outcome, Outcome::Verified);
        // Down, with the server left in its group.
        let left = vec![server("/app.slice/mpm-monitor@8765.service")];
        assert!(find(&all(left, Seen::default(), Properties::default()), Code::TmuxCgroup).is_error());
    }

    #[test]
    fn pain_2_a_hidden_or_vanished_socket_is_not_no_sessions() {
        let seen = Seen { uid: 7, ..Seen::default() };
        let check = find(&all(vec![server("/x")], seen, ours()), Code::TmuxSocket).clone();
        assert_eq!((check.outcome, check.next.as_deref()), (Outcome::Failed, Some("kill -USR1 50")));
        let seen = Seen { uid: 7, sockets: vec![("/tmp/tmux-7/default".into(), Some(50))], ..Seen::default() };
        let reached = all(vec![server("/x")], seen, ours());
        assert_eq!(find(&reached, Code::TmuxSocket).outcome, Outcome::Verified);
        let hidden = all(vec![], Seen::default(), Properties { private_tmp: true, ..ours() });
        assert!(find(&hidden, Code::TmuxHidden).is_error());
    }

    #[test]
    fn pain_14_the_services_own_search_path_is_what_counts() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let tmux = dir.path().join("tmux");
        std::fs::write(&tmux, "").unwrap();
        std::fs::set_permissions(&tmux, PermissionsExt::from_mode(0o755)).unwrap();
        let here: BTreeMap<_, _> = [("tmux", Some(tmux.clone())), ("git", None)].into();
        let paths = |path: &str| {
            let seen = Seen { here: here.clone(), ..Seen::default() };
            find(&all(vec![], seen, Properties { path: Some(path.into()), ..ours() }), Code::ToolPaths).clone()
        };
        let lacks = paths("/nonexistent");
        assert_eq!(lacks.outcome, Outcome::Failed, "{lacks:?}");
        assert!(lacks.next.unwrap().ends_with(&format!("--env PATH={}:/nonexistent", dir.path().display())));
        let finds = paths(&dir.path().display().to_string());
        assert_eq!(finds.outcome, Outcome::Verified, "{finds:?}");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_kernel_tells_who_listens() {
        let dir = tempfile::tempdir().unwrap();
        let (path, dead) = (dir.path().join("default"), dir.path().join("dead"));
        let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        drop(std::os::unix::net::UnixListener::bind(&dead).unwrap());
        let mut found = sockets(dir.path());
        found.sort();
        assert_eq!(found, [(dead, None), (path, Some(std::process::id()))]);
    }
}
