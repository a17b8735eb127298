//! Why a file is not read, or git not asked: what the client is told, in the words of the original where it has some.

use std::io;

use axum::http::StatusCode;

use super::asked::AskedError;
use crate::server::answer::Refusal;
use crate::server::beneath::BeneathError;

/// See the module.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// `files.enabled` says no.
    #[error("files are not served here (files.enabled is false)")]
    Disabled,
    /// The client is another user of this machine.
    #[error(
        "Access denied: you are another user than the one whose files these are; the token helps, or files.other_users"
    )]
    OtherUser,
    /// The client is a page of another origin.
    #[error(
        "Access denied: only pages of this monitor's own address get files; list the page's origin in server.allow_origin"
    )]
    ForeignPage,
    /// The text is no path.
    #[error("Invalid file path")]
    Path(#[from] AskedError),
    /// It is in none of the roots, or leads out of them.
    #[error("Access denied: file is outside allowed directories")]
    Outside,
    /// `files.deny` names it.
    #[error("Access denied: this is kept secret (files.deny)")]
    Secret,
    /// It is not there.
    #[error("File not found")]
    Absent,
    /// A folder that is not there.
    #[error("Directory not found")]
    NoDirectory,
    /// It is there, but no regular file.
    #[error("Path is not a file")]
    NotAFile,
    /// It is there, but no folder.
    #[error("Path is not a directory")]
    NotADirectory,
    /// The service's user may not read it.
    #[error("Permission denied")]
    Forbidden,
    /// The privacy settings of macOS keep it from the service.
    #[error(
        "Permission denied: macOS keeps this folder from the service; allow mpm-monitor in System Settings > Privacy & Security > \
         Files and Folders (docs/macos.md)"
    )]
    Guarded,
    /// It has more bytes than are read.
    #[error("File too large (>{limit} bytes)")]
    TooLarge {
        /// How many it has, as far as is known.
        size: u64,
        /// How many are read.
        limit: u64,
    },
    /// It is binary, or not in an encoding that the client takes.
    #[error("File is not a text file")]
    NotText,
    /// All the places for such work are taken, perhaps by a disk that hangs.
    #[error("other clients' files are being read; try again")]
    Busy,
    /// The disk did not answer, or macOS asks at the screen whether this program may.
    #[error(
        "the file could not be read within {0} s: the disk does not answer, or macOS asks at the screen whether it may be"
    )]
    Slow(u64),
    /// There is no memory for an answer of that size now.
    #[error("{}", .0.message)]
    Room(Refusal),
    /// The disk or the process's limits.
    #[error("cannot read it: {0}")]
    Io(io::Error),
    /// git is not on this machine.
    #[error("git is not installed here; install it, or name it in files.git")]
    GitMissing,
    /// All the places for git are taken.
    #[error("git is busy for other clients; try again")]
    GitBusy,
    /// The repository changed whenever git was asked.
    #[error("the repository is being changed; try again")]
    GitMoving,
    /// git did not end in time, and was killed.
    #[error("git did not answer within {0} s and was ended")]
    GitTimeout(u64),
    /// git could not be started, or said what it should not.
    #[error("git failed: {0}")]
    Git(String),
}

impl FileError {
    /// A name that stays the same over versions.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Disabled => "files_disabled",
            Self::OtherUser => "other_user",
            Self::ForeignPage => "foreign_page",
            Self::Path(error) => error.code(),
            Self::Outside => "outside_roots",
            Self::Secret => "secret",
            Self::Absent | Self::NoDirectory => "not_found",
            Self::NotAFile => "not_a_file",
            Self::NotADirectory => "not_a_directory",
            Self::Forbidden | Self::Guarded => "permission_denied",
            Self::TooLarge { .. } => "too_large",
            Self::NotText => "not_text",
            Self::Busy | Self::Slow(_) => "files_busy",
            Self::Room(refusal) => refusal.code,
            Self::Io(_) => "file_unreadable",
            Self::GitMissing => "git_missing",
            Self::GitBusy | Self::GitMoving => "git_busy",
            Self::GitTimeout(_) => "git_timeout",
            Self::Git(_) => "git_failed",
        }
    }

    /// The HTTP status.
    pub const fn status(&self) -> StatusCode {
        match self {
            Self::Path(_) | Self::NotAFile | Self::NotADirectory => StatusCode::BAD_REQUEST,
            Self::Disabled
            | Self::OtherUser
            | Self::ForeignPage
            | Self::Outside
            | Self::Secret
            | Self::Forbidden
            | Self::Guarded => StatusCode::FORBIDDEN,
            Self::Absent | Self::NoDirectory => StatusCode::NOT_FOUND,
            Self::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NotText => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Busy | Self::Slow(_) | Self::Room(_) | Self::GitMissing | Self::GitBusy | Self::GitMoving => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::GitTimeout(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::Io(_) | Self::Git(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl From<BeneathError> for FileError {
    fn from(error: BeneathError) -> Self {
        match error {
            BeneathError::Absent => Self::Absent,
            BeneathError::Outside => Self::Outside,
            BeneathError::NotAFile => Self::NotAFile,
            BeneathError::Forbidden => Self::Forbidden,
            BeneathError::Guarded => Self::Guarded,
            BeneathError::Io(error) => Self::Io(error),
        }
    }
}

impl From<io::Error> for FileError {
    fn from(error: io::Error) -> Self {
        BeneathError::from(error).into()
    }
}
