//! The content of files: how much of it, and whether it is text. Blocks.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use super::error::FileError;

/// Reads a whole file of at most `limit` bytes; what it grows by meanwhile counts.
///
/// # Errors
/// [`FileError::TooLarge`], or what the system says.
pub fn whole(file: &File, size: u64, limit: u64) -> Result<Vec<u8>, FileError> {
    if size > limit {
        return Err(FileError::TooLarge { size, limit });
    }
    let mut bytes = Vec::new();
    // Files of /proc and the like say that they are empty.
    bytes.try_reserve_exact(usize::try_from(size).unwrap_or_default() + 1).map_err(io::Error::other)?;
    file.take(limit + 1).read_to_end(&mut bytes)?;
    let size = bytes.len() as u64;
    if size > limit { Err(FileError::TooLarge { size, limit }) } else { Ok(bytes) }
}

/// Whether bytes are no text in any encoding that is shown: a NUL, or other controls more than one in ten.
/// Those are also what makes a text many times longer in JSON.
pub fn is_binary(bytes: &[u8]) -> bool {
    let control = |b: &&u8| matches!(**b, 0..=8 | 14..=26 | 28..=31 | 127);
    bytes.contains(&0) || bytes.iter().filter(control).count() > bytes.len() / 10
}

/// The text of a file in UTF-8.
///
/// # Errors
/// [`FileError::NotText`].
pub fn text(bytes: Vec<u8>) -> Result<String, FileError> {
    if is_binary(&bytes) {
        return Err(FileError::NotText);
    }
    String::from_utf8(bytes).map_err(|_| FileError::NotText)
}

/// The text of a file in UTF-8, else in Latin-1, and the name of the encoding.
///
/// # Errors
/// [`FileError::NotText`].
pub fn lenient_text(bytes: Vec<u8>) -> Result<(String, &'static str), FileError> {
    if is_binary(&bytes) {
        return Err(FileError::NotText);
    }
    Ok(match String::from_utf8(bytes) {
        Ok(text) => (text, "utf-8"),
        Err(error) => (error.into_bytes().into_iter().map(char::from).collect(), "latin-1"),
    })
}

/// What follows the last dot of a name, without it; empty for none, and for a name that begins with its only dot.
pub fn extension(path: &Path) -> String {
    path.extension().map(|e| e.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The media type of a picture that pages show.
pub fn image(extension: &str) -> Option<&'static str> {
    Some(match extension {
        "png" => "image/png",
        "jpg" | "jpeg" => "image/jpeg",
        "gif" => "image/gif",
        "svg" => "image/svg+xml",
        "webp" => "image/webp",
        "ico" => "image/x-icon",
        "bmp" => "image/bmp",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, Write as _};

    use super::*;

    #[test]
    fn the_limit_holds_whatever_the_size_said() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[b'x'; 100]).unwrap();
        let mut read = |size, limit| {
            file.rewind().unwrap();
            whole(&file, size, limit).map(|b| b.len()).map_err(|e| e.code())
        };
        assert_eq!(read(100, 100), Ok(100));
        assert_eq!(read(0, 100), Ok(100), "it grew");
        assert_eq!(read(0, 99), Err("too_large"));
        assert_eq!(read(5 << 30, 99), Err("too_large"));
    }

    #[test]
    fn text_is_told_from_binary_data() {
        assert_eq!(text(b"a\tb\r\n\x1b[0m\xc3\xa4".to_vec()).unwrap(), "a\tb\r\n\x1b[0m\u{e4}");
        assert!(text(b"".to_vec()).is_ok());
        for bad in [&b"a\0b"[..], b"\x7fELF\x02\x01\x01", b"\xff\xfe", b"caf\xe9", &[1; 100]] {
            assert!(text(bad.to_vec()).is_err(), "{bad:?}");
        }
        assert_eq!(lenient_text(b"caf\xe9".to_vec()).unwrap(), ("caf\u{e9}".to_owned(), "latin-1"));
        assert_eq!(lenient_text(b"caf".to_vec()).unwrap().1, "utf-8");
        assert!(lenient_text(b"\xff\0".to_vec()).is_err());
    }

    #[test]
    fn extensions_are_those_that_python_sees() {
        for (name, wanted) in [("a.txt", "txt"), ("a.tar.gz", "gz"), (".bashrc", ""), ("Makefile", ""), ("a.", "")] {
            assert_eq!(extension(Path::new(name)), wanted, "{name}");
        }
    }
}
