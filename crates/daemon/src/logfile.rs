//! A log file that stays small: launchd keeps what a job writes to standard error for ever, in one file, and the system's
//! own rotation renames that file under the job's feet.
//!
//! Written here because the kept libraries rotate by time, which bounds nothing.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The file and how it is bounded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// The most bytes of one file.
    pub bytes: u64,
    /// How many older files are kept, as `NAME.1` (the newest) to `NAME.N`.
    pub older: usize,
}

/// The open file. Each write is one line, which is never torn between two files.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    bounds: Bounds,
    file: File,
    size: u64,
}

/// The file that was `path` `age` rotations ago.
pub fn older(path: &Path, age: usize) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(format!(".{age}"));
    name.into()
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

impl LogFile {
    /// Opens it for appending, and makes its directory if that is missing.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn open(path: &Path, bounds: Bounds) -> io::Result<Self> {
        if let Some(dir) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        let file = append(path)?;
        let size = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), bounds, file, size })
    }

    /// Makes room: each older file becomes one older, the oldest goes. A step that fails loses nothing: then the file grows.
    fn rotate(&mut self) -> io::Result<()> {
        for age in (1..self.bounds.older).rev() {
            match fs::rename(older(&self.path, age), older(&self.path, age + 1)) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                _ => {}
            }
        }
        match self.bounds.older {
            0 => self.file.set_len(0)?,
            _ => fs::rename(&self.path, older(&self.path, 1))?,
        }
        self.file = append(&self.path)?;
        self.size = 0;
        Ok(())
    }
}

impl Write for LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.size > 0 && self.size.saturating_add(line.len() as u64) > self.bounds.bytes {
            // There is nowhere to say it: this is the log.
            let _ = self.rotate();
        }
        self.file.write_all(line)?;
        self.size += line.len() as u64;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// How large what launchd caught of standard error may be before a start makes it small again.
const CAUGHT: u64 = 1 << 20;
/// How much of its end is kept, as `NAME.1`.
const KEPT: u64 = 256 << 10;

/// Bounds the file that standard error goes to, if it is one: its end is copied to `NAME.1`, and it is emptied in place, for
/// launchd goes on writing to this very file. Returns what was done.
///
/// # Errors
/// When it cannot be copied; then it stays as it is.
pub fn shorten_caught(stderr: &File) -> io::Result<Option<PathBuf>> {
    let meta = stderr.metadata()?;
    if !meta.is_file() || meta.len() <= CAUGHT {
        return Ok(None);
    }
    let path = path_of(stderr)?;
    let mut source = File::open(&path)?;
    source.seek(SeekFrom::Start(meta.len() - KEPT))?;
    let mut end = Vec::new();
    source.take(KEPT).read_to_end(&mut end)?;
    // From the first whole line on.
    let from = end.iter().position(|b| *b == b'\n').map_or(0, |at| at + 1);
    let kept = older(&path, 1);
    fs::write(&kept, &end[from..])?;
    OpenOptions::new().write(true).open(&path)?.set_len(0)?;
    Ok(Some(kept))
}

#[cfg(target_vendor = "apple")]
fn path_of(file: &File) -> io::Result<PathBuf> {
    use std::os::unix::ffi::OsStringExt;
    Ok(OsString::from_vec(rustix::fs::getpath(file)?.into_bytes()).into())
}

#[cfg(not(target_vendor = "apple"))]
fn path_of(file: &File) -> io::Result<PathBuf> {
    use std::os::fd::AsRawFd;
    fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_bounded_in_size_and_number_and_no_line_is_torn() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("logs/8765.log");
        let bounds = Bounds { bytes: 100, older: 3 };
        for life in 0..2 {
            let mut log = LogFile::open(&path, bounds.clone()).unwrap();
            for n in 0..50 {
                log.write_all(format!("life {life} line {n:03} of the log\n").as_bytes()).unwrap();
            }
        }
        let mut names: Vec<_> = fs::read_dir(path.parent().unwrap())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["8765.log", "8765.log.1", "8765.log.2", "8765.log.3"]);
        let text: String =
            (1..=3).rev().map(|age| older(&path, age)).chain([path.clone()]).fold(String::new(), |all, p| {
                let part = fs::read_to_string(p).unwrap();
                assert!(part.len() <= 100 && part.ends_with('\n'), "{part:?}");
                all + &part
            });
        let last: Vec<_> = text.lines().collect();
        assert_eq!(last.last(), Some(&"life 1 line 049 of the log"));
        let numbers: Vec<u32> = last.iter().map(|l| l[12..15].parse().unwrap()).collect();
        assert!(numbers.windows(2).all(|w| w[1] == w[0] + 1), "{numbers:?}");
    }

    #[test]
    fn a_line_longer_than_the_bound_has_a_file_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("l");
        let mut log = LogFile::open(&path, Bounds { bytes: 10, older: 1 }).unwrap();
        for line in ["short\n", "this one is longer than the bound\n", "end\n"] {
            log.write_all(line.as_bytes()).unwrap();
        }
        assert_eq!(fs::read_to_string(older(&path, 1)).unwrap(), "this one is longer than the bound\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), "end\n");
    }

    #[test]
    fn what_launchd_caught_is_emptied_in_place_and_its_end_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("caught");
        let mut launchd = append(&path).unwrap();
        launchd.write_all(b"small\n").unwrap();
        assert_eq!(shorten_caught(&launchd).unwrap(), None);
        for n in 0..60_000 {
            writeln!(launchd, "panic number {n} in a loop").unwrap();
        }
        let kept = shorten_caught(&launchd).unwrap().unwrap();
        let end = fs::read_to_string(&kept).unwrap();
        assert!(end.starts_with("panic number ") && end.ends_with("panic number 59999 in a loop\n"));
        assert!(end.len() as u64 <= KEPT);
        // launchd holds the same file, and what it writes next is the first line of it.
        launchd.write_all(b"next\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "next\n");
        assert_eq!(shorten_caught(&File::open("/dev/null").unwrap()).unwrap(), None);
    }
}
