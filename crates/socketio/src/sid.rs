//! Session ids: 20 url-safe characters, 120 random bits, the shape that the reference server's have. Whoever knows
//! an id may poll in its session's name, so they are not guessable.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// A session's id.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Sid([u8; 20]);

impl Sid {
    /// A new random one.
    ///
    /// # Errors
    /// When the operating system has no randomness to give.
    pub fn random() -> Result<Self, getrandom::Error> {
        let mut random = [0; 15];
        getrandom::fill(&mut random)?;
        let mut text = [0; 20];
        // 15 bytes are exactly 20 characters of base64, so the buffer always fits.
        URL_SAFE_NO_PAD.encode_slice(random, &mut text).map_err(|_| getrandom::Error::UNEXPECTED)?;
        Ok(Self(text))
    }

    /// Reads one; `None` for text that never was an id of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let bytes: [u8; 20] = text.as_bytes().try_into().ok()?;
        bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_')).then_some(Self(bytes))
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Display for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Sid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_and_read_back() {
        let (one, other) = (Sid::random().unwrap(), Sid::random().unwrap());
        assert_ne!(one, other);
        assert_eq!(Sid::parse(one.as_str()), Some(one));
        assert_eq!(one.as_str().len(), 20);
        assert_eq!(Sid::parse("AAAAAAAA"), None);
        assert_eq!(Sid::parse("AAAAAAAAAA/AAAAAAAAA"), None);
    }
}
