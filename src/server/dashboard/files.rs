//! Files below a folder, opened so that none outside of it can be, and sent in pieces.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::http::HeaderMap;
use axum::http::header::IF_NONE_MATCH;
use bytes::Bytes;
use cap_std::ambient_authority;
use cap_std::fs::{Dir, MetadataExt as _};
use hyper::body::{Frame, SizeHint};
use jiff::fmt::rfc2822::DateTimePrinter;
use tokio::task::JoinHandle;

use super::below::Below;
use crate::server::beneath::{self, BeneathError};

/// What is read and sent at once, bytes.
const PIECE: u64 = 64 << 10;

/// Why a file is not served.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It is not there, is no file, or is not below the folder.
    #[error("there is no such file")]
    Absent,
    /// The disk or the process's limits.
    #[error("cannot read the file: {0}")]
    Io(io::Error),
}

impl FileError {
    /// A name that stays the same over versions.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Absent => "not_found",
            Self::Io(_) => "file_unreadable",
        }
    }
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        BeneathError::from(error).into()
    }
}

impl From<BeneathError> for FileError {
    /// To a page of the web, what is out of the folder is not there.
    fn from(error: BeneathError) -> Self {
        match error {
            BeneathError::Io(error) => Self::Io(error),
            _ => Self::Absent,
        }
    }
}

/// An open file and what a cache needs to know of it.
#[derive(Debug)]
pub struct Found {
    /// It.
    pub file: File,
    /// Bytes.
    pub size: u64,
    /// Changes whenever the file does.
    pub tag: String,
    /// When it changed, as HTTP writes it; absent for a time before the year 0.
    pub modified: Option<String>,
}

/// Opens a file below `root`. Blocks.
///
/// The root is opened anew each time, as an upgrade of the package replaces the folder.
///
/// # Errors
/// [`FileError`].
pub fn open(root: &Path, below: &Below) -> Result<Found, FileError> {
    let dir = Dir::open_ambient_dir(root, ambient_authority())?;
    let (file, is) = beneath::open_regular(&dir, Path::new(below.as_str()))?;
    // The time of the last change, not of the last writing: packages are unpacked with times of long ago.
    let tag = format!("\"{:x}-{:x}-{:x}.{:x}\"", is.ino(), is.len(), is.ctime(), is.ctime_nsec());
    let modified = is.modified().ok().and_then(|at| jiff::Timestamp::try_from(at.into_std()).ok());
    let modified = modified.and_then(|at| DateTimePrinter::new().timestamp_to_rfc9110_string(&at).ok());
    Ok(Found { size: is.len(), file, tag, modified })
}

/// Whether the client has it already.
pub fn is_known(request: &HeaderMap, tag: &str) -> bool {
    let lists = request.get_all(IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    lists
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

/// A file as a body: at most one piece of it is in memory. Its reads block, so they are made on the blocking threads.
#[derive(Debug)]
pub struct Pieces {
    left: u64,
    state: State,
}

#[derive(Debug)]
enum State {
    Idle(File),
    Reading(JoinHandle<io::Result<(File, Bytes)>>),
    Ended,
}

impl Pieces {
    /// The first `size` bytes of a file, from where it is.
    pub const fn new(file: File, size: u64) -> Self {
        Self { left: size, state: State::Idle(file) }
    }
}

/// The next piece of at most `most` bytes.
fn read(mut file: File, most: u64) -> io::Result<(File, Bytes)> {
    let mut piece = Vec::with_capacity(usize::try_from(most).unwrap_or_default());
    file.by_ref().take(most).read_to_end(&mut piece)?;
    Ok((file, piece.into()))
}

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.left == 0 {
            self.state = State::Ended;
            return Poll::Ready(None);
        }
        let mut reading = match std::mem::replace(&mut self.state, State::Ended) {
            State::Ended => return Poll::Ready(None),
            State::Reading(reading) => reading,
            State::Idle(file) => {
                let most = self.left.min(PIECE);
                tokio::task::spawn_blocking(move || read(file, most))
            }
        };
        let read = match Pin::new(&mut reading).poll(cx) {
            Poll::Pending => {
                self.state = State::Reading(reading);
                return Poll::Pending;
            }
            Poll::Ready(read) => read,
        };
        let (file, piece) = read.map_err(io::Error::other)??;
        if piece.is_empty() {
            // Its length has been announced, so that the client can tell that this is not all.
            return Poll::Ready(Some(Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file became shorter"))));
        }
        self.left = self.left.saturating_sub(piece.len() as u64);
        self.state = State::Idle(file);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use http_body_util::BodyExt as _;

    use super::*;

    fn opened(root: &Path, path: &str) -> Result<Found, FileError> {
        open(root, &Below::from_url(path).unwrap())
    }

    #[test]
    fn links_within_the_folder_are_followed_and_those_out_of_it_are_not() {
        use std::os::unix::fs::symlink;
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("sub")).unwrap();
        std::fs::write(dir.path().join("secret"), "s").unwrap();
        std::fs::write(root.join("sub/file"), "inside").unwrap();
        symlink("sub/file", root.join("in")).unwrap();
        symlink("../secret", root.join("out")).unwrap();
        symlink(dir.path().join("secret"), root.join("absolute")).unwrap();
        symlink("..", root.join("up")).unwrap();
        symlink("ring", root.join("ring")).unwrap();
        assert_eq!(opened(&root, "in").unwrap().size, 6);
        for path in ["out", "absolute", "up", "up/secret", "ring", "sub", "none", "in/x"] {
            assert!(matches!(opened(&root, path), Err(FileError::Absent)), "{path}");
        }
    }

    #[test]
    fn what_is_no_file_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let made = std::process::Command::new("mkfifo").arg(dir.path().join("pipe")).status().unwrap();
        assert!(made.success());
        let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
        for path in ["pipe", "socket"] {
            assert!(matches!(opened(dir.path(), path), Err(FileError::Absent)), "{path}");
        }
    }

    #[tokio::test]
    async fn a_file_comes_in_pieces_and_one_that_became_shorter_is_an_error() {
        let mut file = tempfile::tempfile().unwrap();
        let text: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
        file.write_all(&text).unwrap();
        let size = text.len() as u64;
        let from_start = || {
            use std::io::Seek as _;
            let mut file = file.try_clone().unwrap();
            file.rewind().unwrap();
            file
        };
        let mut pieces = Pieces::new(from_start(), size);
        let (mut all, mut count) = (Vec::new(), 0);
        while let Some(frame) = pieces.frame().await {
            let piece = frame.unwrap().into_data().unwrap();
            assert!(piece.len() as u64 <= PIECE);
            all.extend_from_slice(&piece);
            count += 1;
        }
        assert!(all == text && count == size.div_ceil(PIECE), "{count} pieces, {} bytes", all.len());
        let longer = Pieces::new(from_start(), size + 1).collect().await;
        assert_eq!(longer.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_tag_is_known_in_every_form_that_http_has() {
        let ask = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(IF_NONE_MATCH, value.parse().unwrap());
            is_known(&headers, "\"a-1\"")
        };
        assert!(ask("\"a-1\"") && ask("W/\"a-1\"") && ask("*") && ask("\"x\", \"a-1\""));
        assert!(!ask("\"a-2\"") && !ask("a-1") && !is_known(&HeaderMap::new(), "\"a-1\""));
    }
}
