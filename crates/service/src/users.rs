//! Names of users, for messages and for what a manager is told.

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
