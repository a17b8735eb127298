//! Users: their names, and whether the manager of one runs without a login.

use std::path::Path;

use super::exec::{self, QUICK};
use super::files;

/// The name of the user this process runs as, or its number.
pub fn user_name() -> String {
    let uid = rustix::process::geteuid().as_raw();
    // Users of LDAP and the like, and all of a Mac's, are in no file; the login's own word is as good as any for a message.
    let said = || std::env::var("USER").ok().filter(|u| !u.is_empty());
    name_of(uid).or_else(said).unwrap_or_else(|| uid.to_string())
}

/// The name of the user with that number, where `/etc/passwd` knows it.
pub fn name_of(uid: u32) -> Option<String> {
    let (uid, passwd) = (uid.to_string(), std::fs::read_to_string("/etc/passwd").ok()?);
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    })
}

/// Who typed `sudo`, if somebody did who is not root.
pub fn behind_sudo() -> Option<String> {
    std::env::var("SUDO_USER").ok().filter(|u| u != "root" && !u.is_empty())
}

/// Whether this machine has a user with that name in `/etc/passwd`.
pub fn exists(name: &str) -> bool {
    files::read(Path::new("/etc/passwd"))
        .ok()
        .flatten()
        .is_some_and(|t| t.lines().any(|l| l.split(':').next() == Some(name)))
}

/// What loginctl says of a user whom logind does not know, and of one whom it forgot since it was asked for the name.
const GONE: [&str; 2] = ["not logged in or lingering", "Unknown object"];

/// Whether a user lingers; `None` if nobody can tell.
pub fn linger(user: &str) -> Option<bool> {
    let output = exec::tool("loginctl", &["show-user", user, "-p", "Linger", "--value"], QUICK).ok()?;
    match output.code {
        Some(0) => Some(output.stdout.trim() == "yes"),
        // logind knows only users who are there: one who is not does not linger, nor does one who goes between its two answers.
        Some(_) if GONE.iter().any(|text| output.stderr.contains(text)) => Some(false),
        _ => None,
    }
}

/// What to say where lingering is off.
pub fn linger_remark(user: &str) -> String {
    format!(
        "lingering is off: the service ends with {user}'s last logout and starts with the next login; \
         `sudo loginctl enable-linger {user}` keeps it running"
    )
}
