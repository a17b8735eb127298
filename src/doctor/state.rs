//! The folder of the events: whether it is there, whose it is, who else may write it, and what was set aside in it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{StatVfsMountFlags, statvfs};

use super::check::{Check, Code, Looked, Severity, none_of};
use super::merged::{Line, Merged};
use super::rights::{Account, Need};
use super::{Subject, sweep};
use crate::hooks::claude::settings::quoted;
use service::Scope;
use service::exec::{self, QUICK};
use service::users::name_of;

/// In the name of a database that was damaged.
const ASIDE: &str = ".corrupt";

/// What stands in the place of the folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Place {
    /// The folder.
    #[default]
    Folder,
    /// There is nothing at the path.
    Nothing,
    /// Something that is no folder.
    Other,
    /// A link to what is not there.
    Link(PathBuf),
    /// What only its owner may look at.
    Hidden,
}

/// What was seen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// The state directory of the instance.
    pub dir: PathBuf,
    /// What is at the directory's path.
    pub place: Place,
    /// The user that the service runs as.
    pub user: String,
    /// What stands in the way to the folder, with its owner and permissions.
    pub blocked: Option<(PathBuf, String, u32)>,
    /// Whether the folder or a file in it cannot be changed in spite of its permissions.
    pub immutable: Option<PathBuf>,
    /// The folder or files in it that are another user's, with that user.
    pub strange: Vec<(PathBuf, String)>,
    /// The permissions of the folder, where they are not enough for its owner.
    pub narrow: Option<u32>,
    /// The folder and files in it that others may look into or change, with their permissions.
    pub open: Vec<(PathBuf, u32)>,
    /// Databases that were set aside.
    pub aside: Vec<PathBuf>,
    /// Lines of tmpfiles.d that remove the events.
    pub swept: Vec<Line>,
}

/// Looks at the state directory with the rights of the account.
pub fn look(subject: &Subject, dir: &Path, account: &Account) -> Seen {
    let mut seen = Seen { dir: dir.to_owned(), user: account.name(subject).to_owned(), ..Seen::default() };
    let denied = |e: &std::io::Error| e.kind() == std::io::ErrorKind::PermissionDenied;
    seen.place = match (std::fs::symlink_metadata(dir), std::fs::metadata(dir)) {
        (_, Ok(meta)) if meta.is_dir() => Place::Folder,
        (Err(e), _) if denied(&e) => Place::Hidden,
        (_, Err(e)) if denied(&e) => Place::Hidden,
        (Err(_), _) => Place::Nothing,
        (Ok(meta), Err(_)) if meta.is_symlink() => Place::Link(std::fs::read_link(dir).unwrap_or_default()),
        _ => Place::Other,
    };
    seen.blocked = barred(subject, dir, account).map(|at| {
        let meta = std::fs::metadata(&at);
        let (uid, mode) = meta.map_or((0, 0), |m| (m.uid(), m.mode() & 0o7777));
        (at, owner(uid), mode)
    });
    if seen.place != Place::Folder {
        return seen;
    }
    seen.swept = sweep::look(subject, dir);
    let (uid, names) = (uid_of(account), std::fs::read_dir(dir));
    if let (Ok(meta), Some(uid)) = (std::fs::metadata(dir), uid) {
        if meta.uid() != uid {
            seen.strange.push((dir.to_owned(), owner(meta.uid())));
        } else if meta.mode() & 0o700 != 0o700 {
            seen.narrow = Some(meta.mode() & 0o7777);
        }
        if meta.mode() & 0o077 != 0 {
            seen.open.push((dir.to_owned(), meta.mode() & 0o7777));
        }
    }
    if names.as_ref().is_err_and(denied) && seen.strange.is_empty() && seen.narrow.is_none() {
        seen.place = Place::Hidden;
    }
    for path in names.into_iter().flatten().flatten().take(1000).map(|e| e.path()) {
        let Ok(meta) = std::fs::symlink_metadata(&path) else { continue };
        if uid.is_some_and(|uid| meta.uid() != uid) {
            seen.strange.push((path.clone(), owner(meta.uid())));
        }
        if meta.is_file() && meta.mode() & 0o600 != 0o600 && seen.strange.is_empty() {
            seen.narrow = seen.narrow.or(Some(meta.mode() & 0o7777));
        }
        if meta.is_file() && meta.mode() & 0o022 != 0 {
            seen.open.push((path.clone(), meta.mode() & 0o7777));
        }
        if path.file_name().is_some_and(|n| n.to_string_lossy().contains(ASIDE)) {
            seen.aside.push(path);
        }
    }
    seen.aside.sort();
    if seen.strange.is_empty() && seen.narrow.is_none() {
        let read_only = |p: &Path| statvfs(p).is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::RDONLY));
        let places = [dir.to_owned(), dir.join("events.db"), dir.join("ledger.json")];
        let stuck = |p: &PathBuf| p.exists() && account.may(Need::Write, p) == Some(false) && !read_only(p);
        seen.immutable = places.into_iter().find(stuck);
    }
    seen
}

/// The folder on the way that keeps the account from the state directory, or from making it.
fn barred(subject: &Subject, dir: &Path, account: &Account) -> Option<PathBuf> {
    if let Some(at) = account.blocked(Need::Write, dir) {
        return Some(at).filter(|at| at != dir);
    }
    // The machine's manager makes the folder itself.
    let base = dir.ancestors().find(|d| d.symlink_metadata().is_ok())?;
    let is_made = subject.scope == Scope::User && base != dir && base.is_dir();
    (is_made && account.may(Need::Write, base) == Some(false)).then(|| base.to_owned())
}

fn owner(uid: u32) -> String {
    name_of(uid).unwrap_or_else(|| uid.to_string())
}

fn uid_of(account: &Account) -> Option<u32> {
    match account {
        Account::Own => Some(rustix::process::geteuid().as_raw()),
        Account::Unknown => None,
        Account::Other(user) => {
            let line = exec::tool("getent", &["passwd", user], QUICK).ok()?.success().ok()?;
            line.split(':').nth(2)?.parse().ok()
        }
    }
}

/// Judges. `runs` says whether the service runs.
pub fn judge(subject: &Subject, seen: &Looked<Seen>, runs: bool) -> Vec<Check> {
    match seen {
        Err(why) => none_of(&[Code::StateDir, Code::History], why),
        Ok(seen) => vec![folder(subject, seen, runs), history(subject, seen)],
    }
}

fn folder(subject: &Subject, seen: &Seen, runs: bool) -> Check {
    let (shown, word, sudo) = (seen.dir.display(), quoted(&seen.dir.to_string_lossy()), subject.sudo());
    let restart = subject.verb("restart");
    let then = if runs { String::new() } else { format!(" && {restart}") };
    let failed = |why: &str| Check::failed(Code::StateDir, why);
    let root = if subject.is_root { "" } else { "sudo " };
    if let Some((at, owner, mode)) = &seen.blocked {
        let folder = quoted(&at.to_string_lossy());
        let open = match subject.scope {
            Scope::User if *owner == seen.user => format!("chmod u+rwx {folder}"),
            Scope::User => format!("{root}chown {} {folder} && chmod u+rwx {folder}", seen.user),
            Scope::System => format!("{sudo}chmod a+rx {folder}"),
        };
        return failed("the service cannot reach the folder of its events")
            .seen(format!("{} belongs to {owner} and has mode {mode:04o}", at.display()))
            .next(format!("{open} && {restart}"));
    }
    match &seen.place {
        Place::Hidden => {
            return Check::not_run(Code::StateDir, format!("{shown} is the service's")).next(subject.doctor_as_root());
        }
        Place::Nothing if runs => {
            return failed("the folder of the events is gone under the running process: they are lost at its end")
                .seen(shown.to_string())
                .next(restart);
        }
        Place::Nothing => return Check::verified(Code::StateDir, format!("{shown} is made at the first start")),
        Place::Other => {
            return failed("what stands in the place of the events is not a folder")
                .seen(shown.to_string())
                .next(format!("{sudo}mv {word} {word}.aside && {restart}"));
        }
        Place::Link(to) => {
            return failed("the folder of the events is a link that leads nowhere")
                .seen(format!("{shown} leads to {}, which is not there", to.display()))
                .next(format!("{sudo}rm {word} && {restart}"));
        }
        Place::Folder => {}
    }
    if !seen.strange.is_empty() || seen.narrow.is_some() {
        let check = failed("the service cannot write its events");
        let told = |c: Check, (path, owner): &(PathBuf, String)| {
            c.seen(format!("{} belongs to {owner}, not to {}", path.display(), seen.user))
        };
        let check = seen.strange.iter().take(5).fold(check, told);
        let check = seen.narrow.iter().fold(check, |c, mode| c.seen(format!("{shown} has mode {mode:04o}")));
        let user = &seen.user;
        return check.next(match seen.narrow {
            Some(_) if seen.strange.is_empty() => format!("{sudo}chmod -R u+rwX {word} && {restart}"),
            Some(_) => format!("{root}chown -R {user} {word} && {sudo}chmod -R u+rwX {word}{then}"),
            None => format!("{root}chown -R {user} {word}{then}"),
        });
    }
    if let Some(path) = &seen.immutable {
        return failed("the service cannot write its events, whatever their permissions are")
            .seen(format!("{} cannot be written; `lsattr -d` shows whether it is immutable", path.display()))
            .next(format!("{root}chattr -R -i -a {word} && {restart}"));
    }
    if !seen.open.is_empty() {
        let check = failed("others may look into the events, or change them");
        let told = |c: Check, (path, mode): &(PathBuf, u32)| c.seen(format!("{} has mode {mode:04o}", path.display()));
        return seen.open.iter().take(5).fold(check, told).next(format!("{sudo}chmod -R go-rwx {word}"));
    }
    if !seen.swept.is_empty() {
        let text = "a boot, or the daily cleaning of the machine, removes the events";
        let check = Check::failed(Code::StateDir, text).severity(Severity::Warning);
        let check = seen
            .swept
            .iter()
            .fold(check, |c, l| c.seen(format!("{}:{}: {} {}", l.file.display(), l.first, l.key, l.value)));
        let places: Vec<(&Path, usize, usize)> = seen.swept.iter().map(Line::place).collect();
        return check.next(Merged::comments(subject, &places).join(" && "));
    }
    Check::verified(Code::StateDir, format!("{shown} is the service's"))
}

fn history(subject: &Subject, seen: &Seen) -> Check {
    let Some(last) = seen.aside.last() else {
        return match seen.place {
            Place::Hidden => Check::not_run(Code::History, "it is the service's to look at"),
            _ => Check::verified(Code::History, "none was"),
        };
    };
    let text = "a damaged history was set aside, and a new one begun: what came before is not shown";
    let check = Check::failed(Code::History, text).severity(Severity::Warning);
    let check = seen.aside.iter().take(5).fold(check, |c, path| c.seen(path.display().to_string()));
    let to = quoted(&seen.dir.parent().unwrap_or(&seen.dir).join("set-aside").to_string_lossy());
    let words: Vec<String> = seen.aside.iter().map(|p| quoted(&p.to_string_lossy())).collect();
    let (sudo, last) = (subject.sudo(), quoted(&last.to_string_lossy()));
    check
        .seen(format!("what is left of it: {sudo}sqlite3 {last} .recover"))
        .next(format!("{sudo}mkdir -p -m 700 {to} && {sudo}mv {} {to}/", words.join(" ")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::check::Outcome;
    use super::super::tests::{find, subject};
    use super::*;

    fn check(seen: Seen, runs: bool) -> Check {
        let seen = Seen { dir: "/s/8765".into(), user: "ann".into(), ..seen };
        find(&judge(&subject(), &Ok(seen), runs), Code::StateDir).clone()
    }

    #[test]
    fn each_way_a_folder_is_wrong_has_its_repair() {
        let strange = check(Seen { strange: vec![("/s/8765".into(), "root".into())], ..Seen::default() }, true);
        assert!(strange.is_error());
        assert_eq!(strange.evidence, ["/s/8765 belongs to root, not to ann"]);
        assert_eq!(strange.next.as_deref(), Some("sudo chown -R ann /s/8765"));
        let narrow = check(Seen { narrow: Some(0o500), ..Seen::default() }, false);
        assert!(narrow.next.unwrap().contains("chmod -R u+rwX /s/8765 && mpm-monitor restart"));
        let blocked = |owner: &str| {
            let blocked = Some(("/s".into(), owner.into(), 0o700));
            check(Seen { place: Place::Hidden, blocked, ..Seen::default() }, false)
        };
        assert_eq!(blocked("ann").next.unwrap(), "chmod u+rwx /s && mpm-monitor restart --user --port 8765");
        assert!(blocked("root").next.unwrap().starts_with("sudo chown ann /s && chmod u+rwx /s && "));
        assert_eq!(blocked("root").evidence, ["/s belongs to root and has mode 0700"]);
        let stuck = check(Seen { immutable: Some("/s/8765/events.db".into()), ..Seen::default() }, true);
        assert!(stuck.next.unwrap().starts_with("sudo chattr -R -i -a /s/8765 && "));
        let gone = |runs| check(Seen { place: Place::Nothing, ..Seen::default() }, runs);
        assert_eq!((gone(true).outcome, gone(false).outcome), (Outcome::Failed, Outcome::Verified));
        let link = check(Seen { place: Place::Link("/nowhere".into()), ..Seen::default() }, false);
        assert!(link.evidence[0].contains("/nowhere") && link.next.unwrap().starts_with("rm /s/8765"));
        let file = check(Seen { place: Place::Other, ..Seen::default() }, false);
        assert!(file.next.unwrap().starts_with("mv /s/8765 /s/8765.aside"));
        let open = check(Seen { open: vec![("/s/8765/events.db".into(), 0o666)], ..Seen::default() }, true);
        assert_eq!(open.evidence, ["/s/8765/events.db has mode 0666"]);
        assert_eq!(check(Seen { place: Place::Hidden, ..Seen::default() }, true).outcome, Outcome::NotRun);
        assert_eq!(check(Seen::default(), true).outcome, Outcome::Verified);
    }

    #[test]
    fn a_folder_is_seen_as_it_is() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("8765");
        let seen = |dir: &Path| look(&subject(), dir, &Account::Own);
        assert_eq!((seen(&dir).place, seen(&dir).blocked), (Place::Nothing, None));
        std::fs::create_dir(&dir).unwrap();
        std::fs::set_permissions(&dir, PermissionsExt::from_mode(0o755)).unwrap();
        for (name, mode) in [("events.db", 0o666), ("events.db.corrupt-1", 0o600)] {
            std::fs::write(dir.join(name), "").unwrap();
            std::fs::set_permissions(dir.join(name), PermissionsExt::from_mode(mode)).unwrap();
        }
        let open = seen(&dir);
        assert_eq!(open.open, [(dir.clone(), 0o755), (dir.join("events.db"), 0o666)]);
        assert_eq!((open.aside.as_slice(), open.strange.len()), (&[dir.join("events.db.corrupt-1")][..], 0));
        let link = root.path().join("link");
        std::os::unix::fs::symlink("/nowhere/x", &link).unwrap();
        assert_eq!(seen(&link).place, Place::Link("/nowhere/x".into()));
        assert_eq!(seen(&dir.join("events.db")).place, Place::Other);
    }

    #[test]
    fn rule_that_removes_the_events_becomes_a_comment() {
        let line =
            Line { file: "/etc/tmpfiles.d/t.conf".into(), first: 2, last: 2, key: "R".into(), value: "/s".into() };
        let swept = check(Seen { swept: vec![line], ..Seen::default() }, true);
        assert_eq!(swept.evidence, ["/etc/tmpfiles.d/t.conf:2: R /s"]);
        assert_eq!(swept.next.as_deref(), Some("sudo sed -i -e '2s/^/# /' /etc/tmpfiles.d/t.conf"));
    }
}
