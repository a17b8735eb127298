//! Where the bus is: `redis://[user:password@]host[:port][/db]`. The password never shows.

use std::fmt;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use daemon::guarded::Guard;

/// The port of a server that names none.
const PORT: u16 = 6379;
/// The most bytes of the password's file; a password is a line.
const LONGEST: u64 = 4096;
/// What stands for a password.
const HIDDEN: &str = "***";

/// A secret that neither `{}` nor `{:?}` shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Reads a file that only this user, or root, can read: its first line.
    ///
    /// # Errors
    /// A sentence that says what to do about it.
    pub fn from_file(path: &Path) -> Result<Self, String> {
        let failed = |e: std::io::Error| format!("cannot read the password of the bus: {e}");
        let file = Guard::linked(LONGEST).open(path).map_err(failed)?;
        let meta = file.metadata().map_err(failed)?;
        if meta.mode() & 0o077 != 0 {
            let mode = meta.mode() & 0o7777;
            return Err(format!(
                "others than its owner may read or write the password (mode {mode:04o}); run chmod 600 on it"
            ));
        }
        if meta.uid() != 0 && meta.uid() != rustix::process::geteuid().as_raw() {
            let owner = meta.uid();
            return Err(format!("the password belongs to user {owner}, who is neither this process's user nor root"));
        }
        let mut text = String::new();
        file.take(LONGEST + 2).read_to_string(&mut text).map_err(failed)?;
        let line = text.trim_end_matches(['\n', '\r']);
        if line.is_empty() || line.len() as u64 > LONGEST || line.contains(['\n', '\r', '\0']) {
            return Err("the password of the bus must be one line of 1 to 4096 bytes".to_owned());
        }
        Ok(Self(line.to_owned()))
    }

    /// The secret itself.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

/// See the module. Shown without the password.
#[derive(Clone, PartialEq, Eq)]
pub struct BusUrl {
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Which of the server's databases.
    pub db: u32,
    /// Who we are there, if not the default user.
    pub user: Option<String>,
    /// How that is proved.
    pub password: Option<Password>,
}

impl BusUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong, in a sentence that does not repeat the URL: it may hold a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        const SHAPE: &str = "redis://[user:password@]host[:port][/db]";
        let (scheme, rest) = text.split_once("://").ok_or(format!("it is no URL; write {SHAPE}"))?;
        match scheme {
            "redis" | "valkey" => {}
            "rediss" | "valkeys" => {
                return Err(
                    "TLS is not built in; let stunnel, WireGuard or SSH carry the connection (docs/bus.md), and write \
                            redis:// with their local end"
                        .to_owned(),
                );
            }
            _ => return Err(format!("its scheme is not redis; write {SHAPE}")),
        }
        if rest.contains(['?', '#']) {
            return Err(format!(
                "it has a query or fragment; write {SHAPE}, a special character of the password as %XX"
            ));
        }
        let (authority, db) = match rest.rsplit_once('/') {
            Some((authority, db)) if !db.contains('@') => (authority, db),
            _ => (rest, ""),
        };
        let db = match db {
            "" => 0,
            digits => digits.parse().map_err(|_| "what follows the last / is no database's number".to_owned())?,
        };
        let (who, place) = match authority.rsplit_once('@') {
            Some((who, place)) => (Some(who), place),
            None => (None, authority),
        };
        let (mut user, mut password) = (None, None);
        if let Some(who) = who {
            let (name, secret) =
                who.split_once(':').ok_or("before the @ belongs user:password or :password".to_owned())?;
            let plain = |text| {
                unescape(text).ok_or("a % in user or password is not followed by two hexadecimal digits".to_owned())
            };
            user = Some(plain(name)?).filter(|u| !u.is_empty());
            password = Some(plain(secret)?).filter(|p| !p.is_empty()).map(Password);
        }
        let (host, port) = match place.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']').ok_or("its address has no closing ]".to_owned())?;
                (host, after.strip_prefix(':').unwrap_or(after))
            }
            None => place.split_once(':').unwrap_or((place, "")),
        };
        let fits = |b: u8| b.is_ascii_alphanumeric() || b"-._:".contains(&b);
        if host.is_empty() || !host.bytes().all(fits) {
            return Err(format!("it names no host; write {SHAPE}, a special character of the password as %XX"));
        }
        let port = match port {
            "" => PORT,
            digits => {
                digits.parse().ok().filter(|p| *p > 0).ok_or("its port is not a number from 1 to 65535".to_owned())?
            }
        };
        Ok(Self { host: host.to_owned(), port, db, user, password })
    }

    /// Where the server is, for people.
    pub fn place(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// Replaces each `%XX` by its byte; `None` if one is malformed or the whole is no text.
fn unescape(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let digit = |b: Option<u8>| char::from(b?).to_digit(16);
                (digit(bytes.next())? * 16 + digit(bytes.next())?) as u8
            }
            other => other,
        });
    }
    String::from_utf8(out).ok()
}

impl fmt::Display for BusUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("redis://")?;
        if self.user.is_some() || self.password.is_some() {
            let user = self.user.as_deref().unwrap_or_default();
            let hidden = if self.password.is_some() { HIDDEN } else { "" };
            write!(f, "{user}:{hidden}@")?;
        }
        f.write_str(&self.place())?;
        if self.db > 0 { write!(f, "/{}", self.db) } else { Ok(()) }
    }
}

impl fmt::Debug for BusUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BusUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn shown(text: &str) -> String {
        BusUrl::parse(text).unwrap().to_string()
    }

    #[test]
    fn urls_are_read_and_shown_without_the_password() {
        assert_eq!(shown("redis://localhost"), "redis://localhost:6379");
        assert_eq!(shown("redis://[::1]:7000/3"), "redis://[::1]:7000/3");
        assert_eq!(shown("valkey://:s3cret@10.0.0.1"), "redis://:***@10.0.0.1:6379");
        let url = BusUrl::parse("redis://mpm:a%40b%2Fc/d@bus.example.org:6380/2").unwrap();
        assert_eq!((url.user.as_deref(), url.password.as_ref().unwrap().reveal()), (Some("mpm"), "a@b/c/d"));
        assert_eq!((url.host.as_str(), url.port, url.db), ("bus.example.org", 6380, 2));
        for text in [url.to_string(), format!("{url:?}"), format!("{:?}", url.password)] {
            assert!(!text.contains("a@b"), "{text}");
        }
    }

    #[test]
    fn what_is_no_such_url_is_told_without_repeating_it() {
        for (bad, part) in [
            ("localhost:6379", "no URL"),
            ("http://h", "scheme"),
            ("rediss://:s3cret@h", "stunnel"),
            ("redis://", "no host"),
            ("redis://s3cret@h", "user:password"),
            ("redis://:s3cret@h:99999", "port"),
            ("redis://:s3cret@h:0", "port"),
            ("redis://:s3cret@h/x", "database"),
            ("redis://:s3cret%zz@h", "hexadecimal"),
            ("redis://:s3cret#@h", "%XX"),
            ("redis://[::1", "closing"),
        ] {
            let error = BusUrl::parse(bad).unwrap_err();
            assert!(error.contains(part) && !error.contains("s3cret"), "{bad}: {error}");
        }
    }

    #[test]
    fn a_password_comes_from_a_file_of_ours() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("password");
        std::fs::write(&path, "s3cret\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(Password::from_file(&path).unwrap().reveal(), "s3cret");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Password::from_file(&path).unwrap_err().contains("chmod 600"));
        assert!(Password::from_file(dir.path()).unwrap_err().contains("regular file"));
        assert!(Password::from_file(&dir.path().join("none")).unwrap_err().contains("cannot read"));
    }
}
