//! The journal: where an event is written first, and what makes it accepted.
//!
//! A group of events is one `write` to the end of a file, some microseconds, where a transaction of SQLite takes as many
//! hundreds. The indexer moves the records into the database when there is time, and removes the segments that it has
//! read. Whoever reads events looks into the database, and then into the journal for what is not there yet.

mod record;
mod recover;
mod segment;

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::model::Event;

pub use self::record::{Fault, Record, encode, encode_key, parse};
pub(super) use self::recover::{Recovered, Unusable, recover};
use self::segment::{HEAD, Head, Scan, Step};

/// A segment is closed once it has this part of the bytes that may be kept, ...
const SHARE: u64 = 16;
/// ... within these bounds.
const SEGMENT: (u64, u64) = (64 << 10, 4 << 20);

/// A file of the journal as others need to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    /// The number of its first record.
    pub first: u64,
    pub path: PathBuf,
    /// How large it is.
    pub bytes: u64,
    /// The file itself, whatever lies under its name later.
    pub inode: Inode,
}

/// What tells a file from another one under the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Inode(u64, u64);

impl Inode {
    /// Of an open file.
    pub(super) fn of(file: &File) -> io::Result<Self> {
        file.metadata().map(|m| Self(m.dev(), m.ino()))
    }

    /// Of the file that lies at `path` now.
    pub(super) fn at(path: &Path) -> io::Result<Self> {
        std::fs::metadata(path).map(|m| Self(m.dev(), m.ino()))
    }

    /// Whether `path` still leads to this file. A folder that cannot be looked into says nothing.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        match Self::at(path) {
            Ok(found) => found == *self,
            Err(error) => !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
        }
    }
}

/// The segments that exist, oldest first. The writer adds to the end, the indexer takes from the front.
#[derive(Debug, Default)]
pub(super) struct Segments(Mutex<VecDeque<Segment>>);

impl Segments {
    pub(super) fn new(found: VecDeque<Segment>) -> Self {
        Self(Mutex::new(found))
    }

    /// All of them together.
    pub(super) fn bytes(&self) -> u64 {
        self.lock().iter().map(|s| s.bytes).sum()
    }

    /// What the records after `seq` take, of which `last` is the newest; of the segment that holds `seq` the part by their
    /// number.
    pub(super) fn bytes_after(&self, seq: u64, last: u64) -> u64 {
        let all = self.lock();
        let ends = all.iter().skip(1).map(|next| next.first - 1).chain([last]);
        let part = |(segment, end): (&Segment, u64)| match (end + 1).saturating_sub(segment.first) {
            0 => 0,
            records => segment.bytes * end.saturating_sub(seq).min(records) / records,
        };
        all.iter().zip(ends).map(part).sum()
    }

    /// The number of the oldest record that is still in the journal, if there is any.
    pub(super) fn first(&self) -> Option<u64> {
        self.lock().front().map(|s| s.first)
    }

    /// The segment that holds `seq`.
    pub(super) fn holding(&self, seq: u64) -> Option<Segment> {
        self.lock().iter().rev().find(|s| s.first <= seq).cloned()
    }

    /// The number before which the oldest segment ends; `None` if it is the only one.
    pub(super) fn oldest_ends_before(&self) -> Option<u64> {
        self.lock().get(1).map(|s| s.first)
    }

    /// Removes the oldest segment. The file goes first: one that cannot be removed is still counted.
    pub(super) fn remove_oldest(&self) -> io::Result<()> {
        let Some(oldest) = self.lock().front().cloned() else { return Ok(()) };
        match std::fs::remove_file(&oldest.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut all = self.lock();
        if all.front().is_some_and(|s| s.first == oldest.first) {
            all.pop_front();
        }
        Ok(())
    }

    /// Removes the oldest segments while all take more than `bytes`; the newest stays in any case.
    pub(super) fn shrink_to(&self, bytes: u64) {
        while self.oldest_ends_before().is_some() && self.bytes() > bytes {
            if let Err(error) = self.remove_oldest() {
                tracing::warn!(%error, "a segment of the journal cannot be removed");
                return;
            }
        }
    }

    /// Whether the segment that is written to lies where it should. Older ones are removed as a matter of course.
    pub(super) fn newest_is_there(&self) -> bool {
        let newest = self.lock().back().cloned();
        newest.is_none_or(|s| s.inode.is_at(&s.path))
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Segment>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The end of the journal, where events are written.
#[derive(Debug)]
pub(super) struct Journal {
    database: PathBuf,
    epoch: String,
    durable: bool,
    size: u64,
    active: Option<Active>,
    /// Its files were removed, and there is nothing in their place yet: what is written now would be lost.
    stranded: bool,
}

#[derive(Debug)]
struct Active {
    file: File,
    length: u64,
}

impl Journal {
    /// Begins with a new segment at the first write: what was there before is never written to again.
    pub(super) fn new(database: &Path, epoch: &str, durable: bool, max_bytes: u64) -> Self {
        let size = (max_bytes / SHARE).clamp(SEGMENT.0, SEGMENT.1);
        Self { database: database.to_owned(), epoch: epoch.to_owned(), durable, size, active: None, stranded: false }
    }

    /// Writes encoded records, the first of them numbered `first`, in one piece; true if that began a new segment.
    ///
    /// # Errors
    /// What the system said; none of the records is in the journal then.
    pub(super) fn append(&mut self, first: u64, records: &[u8], segments: &Segments) -> io::Result<bool> {
        if self.stranded {
            return Err(io::Error::new(io::ErrorKind::NotFound, "its files were removed"));
        }
        let full = |a: &Active| a.length > HEAD as u64 && a.length + records.len() as u64 > self.size;
        let begins = self.active.as_ref().is_none_or(full);
        if begins {
            self.active = Some(self.begin(first, segments)?);
        }
        let Some(active) = &mut self.active else { return Ok(begins) };
        let written = active.file.write_all_at(records, active.length).and_then(|()| match self.durable {
            true => active.file.sync_data(),
            false => Ok(()),
        });
        if let Err(error) = written {
            if active.file.set_len(active.length).is_err() {
                // What is behind the end must not be followed by records that count.
                self.active = None;
            }
            return Err(error);
        }
        active.length += records.len() as u64;
        if let Some(last) = segments.lock().back_mut() {
            last.bytes = active.length;
        }
        Ok(begins)
    }

    fn begin(&self, first: u64, segments: &Segments) -> io::Result<Active> {
        let (file, segment) = self.make(first, &[])?;
        let length = segment.bytes;
        let mut all = segments.lock();
        all.retain(|s| s.first != first);
        all.push_back(segment);
        Ok(Active { file, length })
    }

    /// Makes a segment that begins with these encoded records.
    fn make(&self, first: u64, records: &[u8]) -> io::Result<(File, Segment)> {
        let path = segment::path(&self.database, first);
        let mut options = OpenOptions::new();
        // The number is free, so a file of this name holds no event: the begin of a segment that was not written to.
        let file = options.read(true).write(true).create(true).truncate(true).mode(0o600).open(&path)?;
        file.write_all_at(&segment::head(&self.epoch, first), 0)?;
        file.write_all_at(records, HEAD as u64)?;
        if self.durable {
            file.sync_data()?;
            if let Some(directory) = path.parent().filter(|d| !d.as_os_str().is_empty()) {
                File::open(directory)?.sync_all()?;
            }
        }
        let bytes = (HEAD + records.len()) as u64;
        let inode = Inode::of(&file)?;
        Ok((file, Segment { first, path, bytes, inode }))
    }

    /// Writes nothing more, as it would be lost.
    pub(super) fn strand(&mut self) {
        self.stranded = true;
    }

    /// Writes again what was removed from under the process and is still at hand: what the open segment holds, and before
    /// it the events of `memory`, oldest first, that no file of the journal has. From here until it has succeeded nothing
    /// is written to files that nobody would find.
    pub(super) fn rescue(&mut self, memory: &[Arc<Event>], segments: &Segments) -> io::Result<()> {
        self.stranded = true;
        segments.lock().retain(|s| s.inode.is_at(&s.path));
        if let Some(active) = self.active.take() {
            let moved = self.move_active(&active, segments);
            // It is the only place where its records are until they are in another.
            self.active = Some(active);
            if let Some(moved) = moved? {
                self.active = Some(moved);
            }
        }
        let known = segments.first().unwrap_or(u64::MAX);
        let mut records = Vec::new();
        let older = memory.iter().filter(|e| e.seq < known);
        for event in older.clone() {
            record::encode(&mut records, event.seq, event.accepted, event.origin.as_deref(), &event.draft)?;
        }
        if let Some(oldest) = older.clone().next() {
            let (_, segment) = self.make(oldest.seq, &records)?;
            segments.lock().push_front(segment);
        }
        self.stranded = false;
        Ok(())
    }

    /// The open segment as a new file, if its own is gone.
    fn move_active(&self, active: &Active, segments: &Segments) -> io::Result<Option<Active>> {
        let inode = Inode::of(&active.file)?;
        if segments.lock().back().is_some_and(|s| s.inode == inode) {
            return Ok(None);
        }
        let mut records = vec![0; usize::try_from(active.length).map_err(io::Error::other)? - HEAD];
        active.file.read_exact_at(&mut records, HEAD as u64)?;
        let Some(Head::Ours { first, .. }) = segment::read_head(&active.file)? else {
            return Err(io::Error::other("the open segment has no head"));
        };
        let (file, segment) = self.make(first, &records)?;
        segments.lock().push_back(segment);
        Ok(Some(Active { file, length: active.length }))
    }
}

/// Reads records in order, over the borders of segments.
#[derive(Debug)]
pub(super) struct Walk {
    scan: Scan,
    segment: u64,
    /// The next record has at least this number.
    next: u64,
}

impl Walk {
    /// Begins at the first record that is not below `next`; `None` if no segment can hold it yet.
    pub(super) fn open(segments: &Segments, next: u64) -> io::Result<Option<Self>> {
        let Some(segment) = segments.holding(next) else { return Ok(None) };
        let file = File::open(&segment.path)?;
        Ok(Some(Self { scan: Scan::new(file), segment: segment.first, next }))
    }

    /// Hands the records up to `through` to `take` until it is told to stop by false. What was damaged after it was
    /// written is left out; the number of such places.
    pub(super) fn read(
        &mut self,
        segments: &Segments,
        through: u64,
        mut take: impl FnMut(Record<'_>) -> bool,
    ) -> io::Result<u64> {
        let mut damaged = 0;
        while self.next <= through {
            let mut behind = false;
            let at = self.scan.at();
            match self.scan.step()? {
                // Not promised yet, or a leftover of a failed write.
                Step::Record(record) if record.seq > through => {
                    self.scan.back_to(at);
                    behind = true;
                }
                Step::Record(record) if record.seq < self.next => {}
                Step::Record(record) => {
                    self.next = record.seq + 1;
                    if !take(record) {
                        return Ok(damaged);
                    }
                }
                Step::End => behind = true,
                Step::Bad => {
                    damaged += 1;
                    behind = !self.scan.resync(self.next..through + 1)?;
                }
            }
            if behind || segments.holding(self.next).is_some_and(|s| s.first > self.segment) {
                // Further segments begin where the numbers go on; what lies between is lost.
                let Some(later) = segments.lock().iter().find(|s| s.first > self.segment).cloned() else {
                    return Ok(damaged);
                };
                self.next = self.next.max(later.first);
                self.scan = Scan::new(File::open(&later.path)?);
                self.segment = later.first;
            }
        }
        Ok(damaged)
    }
}

/// The segments as they are at this moment, held open: what is removed meanwhile can still be read.
#[derive(Debug)]
pub(super) struct Snapshot(Vec<(u64, File)>);

impl Snapshot {
    /// Of the journal beside a database.
    pub(super) fn take(database: &Path) -> io::Result<Self> {
        let mut open = Vec::new();
        for (first, path) in segment::list(database)? {
            match File::open(path) {
                Ok(file) => open.push((first, file)),
                // Its records are in the database already.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Self(open))
    }

    /// The events numbered above `after`, up to `through`, oldest first, until `take` says false.
    pub(super) fn read(&self, after: u64, through: u64, mut take: impl FnMut(Record<'_>) -> bool) -> io::Result<()> {
        for index in 0..self.0.len() {
            if self.end(index) > after.saturating_add(1) && !self.read_one(index, after, through, &mut take)? {
                break;
            }
        }
        Ok(())
    }

    /// The newest events above `after` and up to `through`, oldest of them first: at most `count`, and of the last
    /// ones no more than `bytes` bytes, but one in any case.
    pub(super) fn newest(&self, after: u64, through: u64, count: usize, bytes: usize) -> io::Result<VecDeque<Event>> {
        let (mut newest, mut size) = (VecDeque::<Event>::new(), 0);
        for index in (0..self.0.len()).rev() {
            let (room, mut here, mut held) = (count - newest.len(), VecDeque::new(), 0);
            self.read_one(index, after, through, &mut |record: Record<'_>| {
                held += record.payload.len();
                here.push_back(record.to_event());
                while here.len() > room || (size + held > bytes && (here.len() > 1 || !newest.is_empty())) {
                    let Some(gone) = here.pop_front() else { break };
                    held -= gone.draft.payload.len();
                }
                true
            })?;
            size += held;
            here.append(&mut newest);
            newest = here;
            if newest.len() >= count || size >= bytes || self.0[index].0 <= after.saturating_add(1) {
                break;
            }
        }
        Ok(newest)
    }

    /// The greatest number in the journal, if it holds any event.
    pub(super) fn last(&self) -> io::Result<Option<u64>> {
        for index in (0..self.0.len()).rev() {
            let mut last = None;
            self.read_one(index, 0, u64::MAX, &mut |record: Record<'_>| {
                last = Some(record.seq);
                true
            })?;
            if last.is_some() {
                return Ok(last);
            }
        }
        Ok(None)
    }

    /// Before which number a segment ends.
    fn end(&self, index: usize) -> u64 {
        self.0.get(index + 1).map_or(u64::MAX, |(first, _)| *first)
    }

    /// Reads one segment; false if `take` wants no more.
    fn read_one(
        &self,
        index: usize,
        after: u64,
        through: u64,
        take: &mut impl FnMut(Record<'_>) -> bool,
    ) -> io::Result<bool> {
        let file = &self.0[index].1;
        let end = self.end(index).min(through.saturating_add(1));
        if !matches!(segment::read_head(file)?, Some(Head::Ours { .. })) {
            return Ok(true);
        }
        let (mut scan, mut next) = (Scan::new(file.try_clone()?), after.saturating_add(1));
        while next < end {
            match scan.step()? {
                Step::Record(record) if record.seq >= end => break,
                Step::Record(record) if record.seq < next => {}
                Step::Record(record) => {
                    next = record.seq.saturating_add(1);
                    if !take(record) {
                        return Ok(false);
                    }
                }
                Step::End => break,
                Step::Bad => {
                    if !scan.resync(next..end)? {
                        break;
                    }
                }
            }
        }
        Ok(true)
    }
}
