//! Files and repositories, as pages ask about them: within the roots that the settings name, and nothing else by
//! construction.
//!
//! *Pure*: [`asked`] reads the path that was sent, [`rules`] says what is a root and what a secret. *Thin*: [`roots`] opens,
//! through open folders alone, and judges what was opened by where it really is; [`read`] and [`list`] look into it; [`git`]
//! asks git, as a supervised child, about what is committed. [`http`] gives the answers their shape.

pub mod asked;
pub mod error;
pub mod git;
pub mod http;
pub mod list;
pub mod places;
pub mod read;
pub mod roots;
pub mod rules;

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};

use self::asked::Asked;
use self::error::FileError;
use self::git::repo::{self, Repository};
use self::git::{Commit, Git};
use self::list::Listing;
use self::places::{Book, Sessions};
use self::roots::Roots;
pub use self::rules::{Rules, SECRETS};
use super::Counters;
use super::peer::Asker;
use super::room::{self, Room};
use crate::config::Settings;
use crate::events::hub::Hub;
use daemon::dirs::UserDirs;

/// How many look at files at once: of the four threads that may block, two stay for the store.
const READERS: usize = 2;
/// How long a question waits for one of them, and then for the disk.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often git is asked anew because the repository changed meanwhile, the first time included.
const TRIES: usize = 6;
/// What an answer takes while it is made, for each byte of the file: the bytes, and twice as many as JSON.
const TIMES: u64 = 3;

/// The files that clients may read.
#[derive(Debug, Clone)]
pub struct Files(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: watch::Receiver<Arc<Settings>>,
    hub: Arc<Hub>,
    counters: Arc<Counters>,
    home: Option<PathBuf>,
    readers: Arc<Semaphore>,
    places: Arc<Mutex<Book>>,
}

/// A file that was read, as an answer that is encoded already, and the memory that it may take.
#[derive(Debug)]
pub struct Answer {
    /// The JSON.
    pub json: Vec<u8>,
    /// Held as long as the answer is.
    pub room: Room,
}

/// A file's changes.
#[derive(Debug, Default)]
pub struct Diff {
    /// Whether git knows the file.
    pub tracked: bool,
    /// What it says.
    pub changes: git::Changes,
}

impl Files {
    /// With the live settings; `hub` knows where sessions run. Removes what a process that was killed left.
    pub fn new(settings: watch::Receiver<Arc<Settings>>, hub: Arc<Hub>, counters: Arc<Counters>) -> Self {
        // Usually there is nothing; what cannot be removed harms nobody.
        let _ = std::fs::remove_dir_all(scratch(&settings.borrow()));
        let home = UserDirs::find(crate::build::PROGRAM.name).map(|user| user.home);
        Self(Arc::new(Inner {
            settings,
            hub,
            counters,
            home,
            readers: Arc::new(Semaphore::new(READERS)),
            places: Arc::default(),
        }))
    }

    /// Whether this client may ask at all: what only one user may read is not for everybody who can connect to loopback,
    /// nor for everybody who can show that user a page.
    ///
    /// # Errors
    /// [`FileError::OtherUser`], [`FileError::ForeignPage`].
    pub async fn admit(&self, asker: Asker) -> Result<(), FileError> {
        if asker == Asker::ForeignPage {
            return Err(FileError::ForeignPage);
        }
        let all = self.0.settings.borrow().files.other_users;
        if all || asker == Asker::Known {
            return Ok(());
        }
        match self.away(move || Ok(asker.is_ours())).await? {
            true => Ok(()),
            false => Err(FileError::OtherUser),
        }
    }

    /// Counts a question and how it ended; a failure of ours is logged.
    pub fn count<T>(&self, asked: &'static str, result: &Result<T, FileError>) {
        let code = result.as_ref().err().map_or("ok", FileError::code);
        self.0.counters.file_request(asked, code);
        match result {
            Err(error) if error.status().is_server_error() => {
                tracing::warn!(asked, code, %error, "a file was not served")
            }
            Err(error) => tracing::debug!(asked, code, %error, "a file was refused"),
            Ok(_) => {}
        }
    }

    fn roots(&self) -> Roots {
        let (rules, own) = {
            let settings = self.0.settings.borrow();
            let folders = [&settings.state_dir, &settings.runtime_dir];
            let own = folders.into_iter().chain(&settings.token_file).chain(&settings.bus_password_file);
            let own = own.chain(&settings.config_files);
            (settings.files.clone(), own.cloned().collect::<Vec<_>>())
        };
        let events = if rules.sessions { self.0.hub.kept() } else { Vec::new() };
        let sessions = Sessions { events, book: Arc::clone(&self.0.places) };
        Roots::new(rules, self.0.home.clone(), &own, sessions)
    }

    /// Runs work that needs the roots of this moment, which it takes a disk to find, away from the thread that serves.
    async fn with_roots<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Roots) -> Result<T, FileError> + Send + 'static,
    ) -> Result<T, FileError> {
        let files = self.clone();
        self.away(move || work(&files.roots())).await
    }

    /// Runs work that blocks, away from the thread that serves. A disk that hangs keeps one of the places, not the client.
    async fn away<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, FileError> + Send + 'static,
    ) -> Result<T, FileError> {
        let place = tokio::time::timeout(PATIENCE, Arc::clone(&self.0.readers).acquire_owned());
        let Ok(Ok(place)) = place.await else { return Err(FileError::Busy) };
        let done = tokio::task::spawn_blocking(move || {
            let _place = place;
            work()
        });
        match tokio::time::timeout(PATIENCE, done).await {
            Ok(Ok(result)) => result,
            Ok(Err(error)) => Err(FileError::Io(std::io::Error::other(error))),
            Err(_) => Err(FileError::Slow(PATIENCE.as_secs())),
        }
    }

    /// Reads a file of at most `most` bytes, and as many as the settings allow; `encode` gets the bytes and makes the answer.
    ///
    /// # Errors
    /// [`FileError`].
    pub async fn read(
        &self,
        asked: Asked,
        most: u64,
        encode: impl FnOnce(&Asked, Vec<u8>) -> Result<Vec<u8>, FileError> + Send + 'static,
    ) -> Result<Answer, FileError> {
        let (asked, opened, limit) = self
            .with_roots(move |roots| {
                let opened = roots.file(&asked)?;
                let (size, limit) = (opened.is.len(), most.min(roots.rules().max_size));
                if size > limit { Err(FileError::TooLarge { size, limit }) } else { Ok((asked, opened, limit)) }
            })
            .await?;
        let room = self.room(opened.is.len()).await?;
        let json = self.away(move || encode(&asked, read::whole(&opened.it, opened.is.len(), limit)?)).await?;
        Ok(Answer { json, room })
    }

    async fn room(&self, size: u64) -> Result<Room, FileError> {
        let bytes = usize::try_from(size.saturating_mul(TIMES)).unwrap_or(usize::MAX);
        room::for_answer_of(bytes).await.map_err(FileError::Room)
    }

    /// Lists a folder.
    ///
    /// # Errors
    /// [`FileError`].
    pub async fn list(&self, asked: Asked) -> Result<Listing, FileError> {
        self.with_roots(move |roots| {
            let folder = roots.directory(&asked)?;
            list::list(roots, &folder, asked.path())
        })
        .await
    }

    /// The commits of a file or folder, newest first.
    ///
    /// # Errors
    /// [`FileError`].
    pub async fn history(&self, asked: Asked, limit: usize) -> Result<Vec<Commit>, FileError> {
        let found = self
            .with_roots(move |roots| {
                let real = match roots.file(&asked) {
                    Ok(file) => file.real,
                    Err(FileError::NotAFile) => roots.directory(&asked)?.real,
                    Err(error) => return Err(error),
                };
                question(roots, real)
            })
            .await?;
        let Some(mut question) = found else { return Ok(Vec::new()) };
        loop {
            let commits = git::history(&question.git, &question.path, limit).await?;
            if self.stayed(&mut question).await? {
                return Ok(commits);
            }
        }
    }

    /// The changes of a file: those of a commit, or those that are not committed.
    ///
    /// # Errors
    /// [`FileError`].
    pub async fn diff(&self, asked: Asked, commit: Option<String>) -> Result<Diff, FileError> {
        let (opened, limit, found) = self
            .with_roots(move |roots| {
                let (opened, limit) = (roots.file(&asked)?, roots.rules().max_size);
                let size = opened.is.len();
                if size > limit {
                    return Err(FileError::TooLarge { size, limit });
                }
                let found = question(roots, opened.real.clone())?;
                Ok((opened, limit, found))
            })
            .await?;
        let Some(mut question) = found else { return Ok(Diff::default()) };
        let _room = self.room(opened.is.len()).await?;
        let now = self.away(move || read::whole(&opened.it, opened.is.len(), limit)).await?;
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        let scratch = scratch(&self.0.settings.borrow());
        let bounds = (most, scratch.as_path());
        loop {
            let changes = git::changes(&question.git, &question.path, &now, commit.as_deref(), bounds).await?;
            if self.stayed(&mut question).await? {
                return Ok(changes.map_or_else(Diff::default, |changes| Diff { tracked: true, changes }));
            }
        }
    }

    /// Whether all that git followed is as it was looked at. What it said while that changed is not passed on: it is to be
    /// asked again, as whoever works there may just commit, but not for ever.
    async fn stayed(&self, question: &mut Question) -> Result<bool, FileError> {
        let real = question.real.clone();
        let now = self.with_roots(move |roots| repo::find(roots, &real)).await?;
        if now.as_ref() == Some(&question.repository) {
            return Ok(true);
        }
        question.tries -= 1;
        match now {
            Some(now) if now.top == question.repository.top && question.tries > 0 => question.repository = now,
            _ => return Err(FileError::GitMoving),
        }
        Ok(false)
    }
}

/// Where what git is to compare lies for a moment: copies of files, so below the folder that is the user's alone.
fn scratch(settings: &Settings) -> PathBuf {
    settings.state_dir.join("scratch")
}

/// What is needed to ask git about a file.
struct Question {
    git: Git,
    repository: Repository,
    real: PathBuf,
    /// From the top of the working tree.
    path: String,
    /// How often git may be asked yet.
    tries: usize,
}

/// `None` for what is in no repository.
fn question(roots: &Roots, real: PathBuf) -> Result<Option<Question>, FileError> {
    let Some(repository) = repo::find(roots, &real)? else { return Ok(None) };
    let path = match git::below(&repository.top, &real) {
        Some(path) => path.to_owned(),
        None if real == repository.top => ".".to_owned(),
        None => return Ok(None),
    };
    let program = match &roots.rules().git {
        Some(program) => program.clone(),
        None => service::exec::find("git").map_err(|_| FileError::GitMissing)?,
    };
    let git = Git { program, top: repository.top.clone() };
    Ok(Some(Question { git, repository, real, path, tries: TRIES }))
}
