//! The folder of the events: whether it is there, whose it is, who else may write it, and what was set aside in it.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Subject;
use super::check::{Check, Code, Looked, Severity, none_of};
use super::rights::Account;
use crate::hooks::claude::settings::quoted;
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
    /// The folder or files in it that are another user's, with that user.
    pub strange: Vec<(PathBuf, String)>,
    /// The permissions of the folder, where they are not enough for its owner.
    pub narrow: Option<u32>,
    /// The folder and files in it that others may look into or change, with their permissions.
    pub open: Vec<(PathBuf, u32)>,
    /// Databases that were set aside.
    pub aside: Vec<PathBuf>,
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
    if seen.place != Place::Folder {
        return seen;
    }
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
        if meta.is_file() && meta.mode() & 0o022 != 0 {
            seen.open.push((path.clone(), meta.mode() & 0o7777));
        }
        if path.file_name().is_some_and(|n| n.to_string_lossy().contains(ASIDE)) {
            seen.aside.push(path);
        }
    }
    seen.aside.sort();
    seen
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
        let (user, root) = (&seen.user, if subject.is_root { "" } else { "sudo " });
        return check.next(match seen.narrow {
            Some(_) => format!("{root}chown -R {user} {word} && {sudo}chmod u+rwx {word}{then}"),
            None => format!("{root}chown -R {user} {word}{then}"),
        });
    }
    if !seen.open.is_empty() {
        let check = failed("others may look into the events, or change them");
        let told = |c: Check, (path, mode): &(PathBuf, u32)| c.seen(format!("{} has mode {mode:04o}", path.display()));
        return seen.open.iter().take(5).fold(check, told).next(format!("{sudo}chmod -R go-rwx {word}"));
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
        assert!(narrow.next.unwrap().contains("chmod u+rwx /s/8765 && mpm-monitor restart"));
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
        assert_eq!(seen(&dir).place, Place::Nothing);
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
}
