//! What the system tells of files, boiled down on the watcher's own thread to the little that counts.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use notify::event::{AccessKind, AccessMode, EventKind, Flag, MetadataKind, ModifyKind};
use notify::{ErrorKind, Event};
use tokio::sync::mpsc::Sender;

use super::sight::Sight;

/// What happened since it was last asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Notes {
    /// Something that counts has changed.
    pub changed: bool,
    /// The folders may not be those any more, or not all was heard.
    pub look: bool,
    /// One of them is not listened to any more, though one that looks the same may be there: file systems give the number of
    /// a folder that was removed to the next one.
    pub lost: bool,
    /// Not everything is watched.
    pub problem: Option<String>,
}

/// The end of the watcher's thread: notes what happened, and rings once for however much it is. It never waits, and holds no
/// more than one [`Notes`].
pub struct Notebook {
    notes: Arc<Mutex<Notes>>,
    /// Holds one ring. When it is full, one is on its way already, and who hears that reads these notes, too.
    bell: Sender<()>,
    /// Nobody listens any more.
    over: Arc<AtomicBool>,
    roots: Vec<PathBuf>,
    links: Vec<PathBuf>,
}

impl Notebook {
    /// For a watcher of what was seen.
    pub fn new(notes: Arc<Mutex<Notes>>, bell: Sender<()>, over: Arc<AtomicBool>, sight: &Sight) -> Self {
        let roots = sight.roots.iter().map(|(root, _)| root.clone()).collect();
        Self { notes, bell, over, roots, links: sight.links.clone() }
    }

    fn note(&self, heard: &notify::Result<Event>) -> Notes {
        match heard {
            Ok(event) => Notes {
                changed: self.counts(event),
                look: event.flag() == Some(Flag::Rescan) || self.moves(event),
                lost: self.moves(event) && ends(&event.kind),
                problem: None,
            },
            Err(error) => Notes { look: true, problem: Some(describe(error)), changed: true, lost: false },
        }
    }

    /// Whether something was changed that a page may be made of.
    fn counts(&self, event: &Event) -> bool {
        event.flag() == Some(Flag::Rescan)
            || changes(&event.kind) && event.paths.iter().any(|path| self.is_ours(path) && !is_scratch(path))
    }

    fn is_ours(&self, path: &Path) -> bool {
        self.links.iter().any(|link| link == path) || self.roots.iter().any(|root| path.starts_with(root))
    }

    /// Whether one of the folders, or a link to one, was moved, removed or put there.
    fn moves(&self, event: &Event) -> bool {
        changes(&event.kind) && event.paths.iter().any(|path| self.links.contains(path) || self.roots.contains(path))
    }
}

impl notify::EventHandler for Notebook {
    fn handle_event(&mut self, heard: notify::Result<Event>) {
        if cfg!(target_os = "linux") && self.over.load(Ordering::Acquire) {
            // notify reads on as long as there is something to read, and looks for its end only then: while files go on
            // changing it would never come. This unwinds its thread, past the panic hook, and with it go its descriptors.
            std::panic::resume_unwind(Box::new("nobody listens any more"));
        }
        let note = self.note(&heard);
        if note == Notes::default() {
            return;
        }
        {
            let mut notes = self.notes.lock().unwrap_or_else(PoisonError::into_inner);
            notes.changed |= note.changed;
            notes.look |= note.look;
            notes.lost |= note.lost;
            notes.problem = note.problem.or(notes.problem.take());
        }
        // Full or closed: somebody will look, or nobody is left to.
        let _ = self.bell.try_send(());
    }
}

/// Reading a file is told, too, and is no change.
fn changes(kind: &EventKind) -> bool {
    match kind {
        EventKind::Access(kind) => *kind == AccessKind::Close(AccessMode::Write),
        EventKind::Modify(ModifyKind::Metadata(kind)) => *kind != MetadataKind::AccessTime,
        _ => true,
    }
}

/// Whether what it is about is no longer what was at its place.
fn ends(kind: &EventKind) -> bool {
    matches!(kind, EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(_)))
}

/// What editors and build tools leave for a moment: `.tmp`, `.swp` and names with a `~` at their end, as in the original.
fn is_scratch(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    [".tmp", ".swp", "~"].iter().any(|end| name.ends_with(end))
}

/// What is wrong, and what to do.
pub fn describe(error: &notify::Error) -> String {
    let os = match &error.kind {
        ErrorKind::Io(error) => error.raw_os_error().map(rustix::io::Errno::from_raw_os_error),
        _ => None,
    };
    match (&error.kind, os) {
        (ErrorKind::MaxFilesWatch, _) | (_, Some(rustix::io::Errno::NOSPC)) => {
            "the user's inotify watches are used up, so that changes go unseen; raise fs.inotify.max_user_watches \
             (sysctl), or set dashboard.watch = off"
                .to_owned()
        }
        (_, Some(rustix::io::Errno::MFILE)) => {
            "the user's inotify instances are used up, so that changes go unseen; raise fs.inotify.max_user_instances \
             (sysctl), or set dashboard.watch = off"
                .to_owned()
        }
        _ => format!("the dashboard's folder cannot be watched: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use notify::EventHandler as _;
    use notify::event::{CreateKind, DataChange, RemoveKind, RenameMode};
    use tokio::sync::mpsc::channel;

    use super::*;

    fn notebook(bell: Sender<()>) -> Notebook {
        let sight = Sight { roots: vec![("/real/build".into(), (1, 2))], links: vec!["/etc/current".into()] };
        Notebook::new(Arc::default(), bell, Arc::default(), &sight)
    }

    fn note(kind: EventKind, paths: &[&str]) -> Notes {
        let event = paths.iter().fold(Event::new(kind), |event, path| event.add_path(path.into()));
        notebook(channel(1).0).note(&Ok(event))
    }

    fn noted(kind: EventKind, paths: &[&str]) -> (bool, bool) {
        let note = note(kind, paths);
        (note.changed, note.look)
    }

    const WRITTEN: EventKind = EventKind::Modify(ModifyKind::Data(DataChange::Any));
    const RENAMED: EventKind = EventKind::Modify(ModifyKind::Name(RenameMode::Both));

    #[test]
    fn what_pages_are_made_of_counts_and_scratch_files_and_reading_do_not() {
        assert_eq!(noted(WRITTEN, &["/real/build/index.html"]), (true, false));
        assert_eq!(noted(EventKind::Create(CreateKind::Folder), &["/real/build/_app/new"]), (true, false));
        assert_eq!(noted(EventKind::Remove(RemoveKind::File), &["/real/build/a.js"]), (true, false));
        for scratch in ["/real/build/a.tmp", "/real/build/.index.html.swp", "/real/build/x~"] {
            assert_eq!(noted(WRITTEN, &[scratch]), (false, false), "{scratch}");
        }
        assert_eq!(noted(RENAMED, &["/real/build/a.tmp", "/real/build/a.js"]), (true, false));
        for read in [AccessKind::Open(AccessMode::Any), AccessKind::Close(AccessMode::Read), AccessKind::Read] {
            assert_eq!(noted(EventKind::Access(read), &["/real/build/index.html"]), (false, false), "{read:?}");
        }
        assert_eq!(noted(WRITTEN, &["/etc/other"]), (false, false), "beside a link");
    }

    #[test]
    fn a_folder_or_a_link_to_it_that_moves_makes_it_look() {
        assert_eq!(noted(EventKind::Remove(RemoveKind::Folder), &["/real/build"]), (true, true));
        assert_eq!(noted(RENAMED, &["/etc/current.new", "/etc/current"]), (true, true));
        assert!(
            note(EventKind::Remove(RemoveKind::Folder), &["/real/build"]).lost && note(RENAMED, &["/real/build"]).lost
        );
        assert!(
            !note(EventKind::Create(CreateKind::Folder), &["/real/build"]).lost,
            "what is new there is listened to"
        );
        assert!(!note(EventKind::Remove(RemoveKind::Folder), &["/real/build/_app"]).lost);
        let rescan = Event::new(EventKind::Other).set_flag(Flag::Rescan);
        let note = notebook(channel(1).0).note(&Ok(rescan));
        assert!(note.changed && note.look);
    }

    #[test]
    fn however_much_happens_one_ring_and_one_note_wait() {
        let (bell, mut rings) = channel(1);
        let mut notebook = notebook(bell);
        for n in 0..10_000 {
            notebook.handle_event(Ok(Event::new(WRITTEN).add_path(format!("/real/build/{n}").into())));
        }
        notebook.handle_event(Err(notify::Error::new(ErrorKind::MaxFilesWatch)));
        assert!(rings.try_recv().is_ok() && rings.try_recv().is_err());
        let notes = std::mem::take(&mut *notebook.notes.lock().unwrap());
        assert!(notes.changed && notes.look && notes.problem.unwrap().contains("fs.inotify.max_user_watches"));
        notebook.handle_event(Ok(Event::new(WRITTEN).add_path("/real/build/x".into())));
        assert!(rings.try_recv().is_ok(), "it rings again");
        drop(notebook);
        assert_eq!(rings.try_recv(), Err(tokio::sync::mpsc::error::TryRecvError::Disconnected));
    }
}
