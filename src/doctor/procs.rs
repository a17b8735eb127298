//! The processes of this machine, as far as `/proc` shows them; there is none on macOS, where all of this is unknown.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// One process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proc {
    /// Its number.
    pub pid: u32,
    /// Its parent's.
    pub parent: u32,
    /// Whose.
    pub uid: u32,
    /// Its name, which it may have chosen itself.
    pub name: String,
    /// Whether it has ended, and nobody asked how.
    pub zombie: bool,
    /// Its control group, where it may be seen.
    pub cgroup: Option<String>,
}

/// The main process in more detail.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Main {
    /// Its program.
    pub exe: Option<PathBuf>,
    /// Whether that file has been removed or replaced since.
    pub replaced: bool,
    /// How many files it may open.
    pub files_max: Option<u64>,
    /// How many it has open.
    pub files: Option<u64>,
    /// Its memory, bytes.
    pub resident: Option<u64>,
    /// Its search path.
    pub path: Option<String>,
}

/// All processes; none where there is no `/proc`.
pub fn all() -> Vec<Proc> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|e| one(e.file_name().to_str()?.parse().ok()?)).collect()
}

fn one(pid: u32) -> Option<Proc> {
    let dir = PathBuf::from(format!("/proc/{pid}"));
    let stat = fs::read_to_string(dir.join("stat")).ok()?;
    let (name, zombie, parent) = parse_stat(&stat)?;
    let cgroup = fs::read_to_string(dir.join("cgroup")).ok().and_then(|text| parse_cgroup(&text));
    Some(Proc { pid, parent, uid: fs::metadata(&dir).ok()?.uid(), name, zombie, cgroup })
}

/// Name, whether it is a zombie, and parent, of proc_pid_stat(5); the name may hold spaces and parentheses.
fn parse_stat(stat: &str) -> Option<(String, bool, u32)> {
    let (head, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    Some((head.split_once('(')?.1.to_owned(), matches!(state, "Z" | "X"), fields.next()?.parse().ok()?))
}

/// The group that systemd manages: of the unified hierarchy (`0::`), or of the one that it names.
fn parse_cgroup(text: &str) -> Option<String> {
    let of = |mark: &str| text.lines().find_map(|l| l.split_once(mark).filter(|(n, _)| !n.contains('/')));
    let path = of(":name=systemd:").or_else(|| of("0::").filter(|(n, _)| n.is_empty()))?.1;
    Some(path.to_owned())
}

/// What can be seen of the main process; nothing where it is another user's, or this machine has no `/proc`.
pub fn main(pid: u32) -> Main {
    let dir = PathBuf::from(format!("/proc/{pid}"));
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap_or_default();
    let exe = fs::read_link(dir.join("exe")).ok();
    let replaced = exe.as_deref().is_some_and(|exe| is_replaced(&dir, exe));
    let environ = read("environ");
    Main {
        replaced,
        exe,
        files_max: soft_limit(&read("limits"), "Max open files"),
        files: fs::read_dir(dir.join("fd")).ok().map(|d| d.count() as u64),
        resident: resident(&read("status")),
        path: environ.split('\0').find_map(|v| v.strip_prefix("PATH=")).map(str::to_owned),
    }
}

/// Whether the file that runs is another than the one of that name.
fn is_replaced(dir: &Path, exe: &Path) -> bool {
    if exe.to_string_lossy().ends_with(" (deleted)") {
        return true;
    }
    match (fs::metadata(dir.join("exe")), fs::metadata(exe)) {
        (Ok(runs), Ok(there)) => (runs.dev(), runs.ino()) != (there.dev(), there.ino()),
        // In another mount namespace the name means nothing here.
        _ => false,
    }
}

fn soft_limit(limits: &str, name: &str) -> Option<u64> {
    limits.lines().find_map(|l| l.strip_prefix(name))?.split_whitespace().next()?.parse().ok()
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// The process and all that it began, and they began.
pub fn family(all: &[Proc], root: u32) -> Vec<u32> {
    let mut found = vec![root];
    let mut at = 0;
    while let Some(&parent) = found.get(at) {
        let children = all.iter().filter(|p| p.parent == parent && p.pid != parent).map(|p| p.pid);
        let new: Vec<u32> = children.filter(|c| !found.contains(c)).collect();
        found.extend(new);
        at += 1;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words() {
        assert_eq!(parse_stat("7 (tmux: server) S 1 7 7 0"), Some(("tmux: server".into(), false, 1)));
        assert_eq!(parse_stat("7 (a) b) (c) Z 3 7"), Some(("a) b) (c".into(), true, 3)));
        assert_eq!(parse_stat("7"), None);
        assert_eq!(parse_cgroup("0::/user.slice/x\n").unwrap(), "/user.slice/x");
        assert_eq!(parse_cgroup("12:pids:/a\n1:name=systemd:/b\n0::/c\n").unwrap(), "/b");
        assert_eq!(parse_cgroup(""), None);
        let limits = "Limit   Soft   Hard   Units\nMax open files            1024                 4096  files\n";
        assert_eq!(soft_limit(limits, "Max open files"), Some(1024));
    }

    #[test]
    fn a_family_is_found_by_its_parents() {
        let proc = |pid, parent| Proc { pid, parent, ..Proc::default() };
        let all = [proc(1, 0), proc(5, 1), proc(6, 5), proc(7, 6), proc(8, 1)];
        assert_eq!(family(&all, 5), [5, 6, 7]);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_seen() {
        let pid = std::process::id();
        let this = all().into_iter().find(|p| p.pid == pid).unwrap();
        assert!(this.parent > 0 && !this.zombie, "{this:?}");
        let main = main(pid);
        assert!(main.files > Some(2) && main.files_max > Some(2) && main.resident > Some(1 << 20), "{main:?}");
        assert!(!main.replaced && main.exe.is_some());
    }
}
