//! The idempotency key of an event: whoever sends an event again sends the same key, and the event is stored once.

use uuid::Uuid;

/// An idempotency key: a UUID of any version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key(Uuid);

impl Key {
    /// The key that `text` spells: a UUID in lower case with hyphens. `None` for every other text.
    pub fn parse(text: &str) -> Option<Self> {
        let key = Self(Uuid::try_parse(text).ok()?);
        (key.0.hyphenated().encode_lower(&mut Uuid::encode_buffer()) == text).then_some(key)
    }

    /// The key with this number.
    pub const fn from_u128(number: u128) -> Self {
        Self(Uuid::from_u128(number))
    }

    /// The number of the key.
    pub const fn as_u128(self) -> u128 {
        self.0.as_u128()
    }

    /// The bytes of the key, as the database has them.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_is_a_lower_case_uuid_with_hyphens_or_none() {
        let key = Key::parse("01234567-89ab-7fff-bfff-ffffffffffff").unwrap();
        assert_eq!(key, Key::from_u128(0x0123_4567_89ab_7fff_bfff_ffff_ffff_ffff));
        assert_eq!(key.to_bytes(), key.as_u128().to_be_bytes());
        for bad in [
            "",
            "x",
            "01234567-89AB-7fff-bfff-ffffffffffff",
            "0123456789ab7fffbfffffffffffffff",
            "0123456789ab7fffbfffffffffffffff0000",
            "{01234567-89ab-7fff-bfff-ffffffffffff}",
            "urn:uuid:01234567-89ab-7fff-bfff-ffffffffffff",
        ] {
            assert_eq!(Key::parse(bad), None, "{bad}");
        }
    }
}
