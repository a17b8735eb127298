//! The secret that lets a client in: read from a file that nobody else can read, or from a systemd credential.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use sha2::{Digest, Sha256};

use daemon::guarded::{Guard, Refusal};

/// The name of the credential (`LoadCredential=token:PATH`) that is used where no file is named.
pub const CREDENTIAL: &str = "token";
/// The fewest characters: 128 bits as hexadecimal digits have 32, a good password has 16.
const SHORTEST: usize = 16;
/// The most bytes of the file; a token is a line.
const LONGEST: usize = 4096;

/// The token, kept as its digest: a copy of the process's memory, or a log line, does not give it away.
#[derive(Clone, PartialEq, Eq)]
pub struct Token([u8; 32]);

/// Why a file is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// It cannot be read.
    #[error("cannot read the token: {0}")]
    Io(#[from] io::Error),
    /// It is a directory, a pipe, a device.
    #[error("the token is not a regular file")]
    NotAFile,
    /// Others can read or change it.
    #[error("others than its owner may read or write the token (mode {0:04o}); run chmod 600 on it")]
    Mode(u32),
    /// It is somebody else's.
    #[error("the token belongs to user {0}, who is neither this process's user nor root")]
    Owner(u32),
    /// Nobody should guess it, and a header must carry it.
    #[error(
        "the token must be one line of 16 to 4096 printable characters without spaces; openssl rand -hex 32 makes a good one"
    )]
    Weak,
}

impl Token {
    /// Reads a token file of the user's: a regular file with mode 0600 (or less), of this user or root.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn from_file(path: &Path) -> Result<Self, TokenError> {
        let file = open(path)?;
        let meta = file.metadata()?;
        if meta.mode() & 0o077 != 0 {
            return Err(TokenError::Mode(meta.mode() & 0o7777));
        }
        if meta.uid() != 0 && meta.uid() != rustix::process::geteuid().as_raw() {
            return Err(TokenError::Owner(meta.uid()));
        }
        read(file)
    }

    /// Reads what the service manager put into its credentials directory, which it keeps from others itself.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn from_credential(path: &Path) -> Result<Self, TokenError> {
        read(open(path)?)
    }

    /// The token that these characters are.
    ///
    /// # Errors
    /// [`TokenError::Weak`].
    pub fn new(text: &str) -> Result<Self, TokenError> {
        let fits = (SHORTEST..=LONGEST).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if fits { Ok(Self(Sha256::digest(text).into())) } else { Err(TokenError::Weak) }
    }

    /// Whether a client knows it. How long this takes tells nothing about the token, for digests are compared.
    pub fn matches(&self, said: &str) -> bool {
        self.0 == <[u8; 32]>::from(Sha256::digest(said))
    }
}

fn open(path: &Path) -> Result<File, TokenError> {
    Guard::linked(LONGEST as u64).open(path).map_err(|e| match Refusal::of(&e) {
        Some(_) => TokenError::NotAFile,
        None => TokenError::Io(e),
    })
}

fn read(file: File) -> Result<Token, TokenError> {
    let mut text = String::new();
    file.take(LONGEST as u64 + 2).read_to_string(&mut text)?;
    Token::new(text.trim_end_matches(['\n', '\r']))
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    #[test]
    fn a_private_line_is_a_token() {
        let (_dir, path) = file("0123456789abcdef\n", 0o600);
        let token = Token::from_file(&path).unwrap();
        assert!(token.matches("0123456789abcdef"));
        for wrong in ["", "0123456789abcdef\n", "0123456789abcdeF", "0123456789abcde"] {
            assert!(!token.matches(wrong), "{wrong:?}");
        }
        assert_eq!(format!("{token:?}"), "Token");
    }

    #[test]
    fn what_others_can_read_is_none() {
        for mode in [0o640, 0o604, 0o620, 0o666] {
            let (_dir, path) = file("0123456789abcdef", mode);
            let error = Token::from_file(&path).unwrap_err();
            assert!(error.to_string().contains("chmod 600"), "{error}");
            // systemd gives a credential's file to one user by other means than its mode.
            assert!(Token::from_credential(&path).is_ok());
        }
    }

    #[test]
    fn what_can_be_guessed_or_not_be_sent_is_none() {
        for text in
            ["", "short", "0123456789abcde", "two words of a token", "tök3n-tök3n-tök3n", "a\nb0123456789abcdef"]
        {
            let (_dir, path) = file(text, 0o600);
            assert!(matches!(Token::from_file(&path), Err(TokenError::Weak)), "{text:?}");
        }
        let (_dir, path) = file(&"x".repeat(4097), 0o600);
        assert!(matches!(Token::from_file(&path), Err(TokenError::Weak)));
        assert!(matches!(Token::from_file(Path::new("/dev/null")), Err(TokenError::NotAFile)));
        assert!(matches!(Token::from_file(Path::new("/nonexistent")), Err(TokenError::Io(_))));
    }
}
