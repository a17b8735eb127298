//! A file of the journal: a head that says whose it is, then records with rising numbers.
//!
//! It is named after the database, `events.db.journal-FIRST`, where FIRST is the number of its first record. Its records
//! end where they cease to parse, and before the FIRST of the next segment, whichever comes sooner: what a failed write
//! left behind is never taken for an event.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `mpmJ` |
//! | 4 | the format, 1 |
//! | 8 | the epoch of the database it belongs to |
//! | 8 | FIRST |
//! | 4 | CRC-32 of the bytes before |

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::record::{self, Fault, Record, u32_at, u64_at};
use crate::store::schema::beside;

/// The bytes before the first record.
pub(super) const HEAD: usize = 28;
const MAGIC: [u8; 4] = *b"mpmJ";
/// The format this version writes.
pub(super) const FORMAT: u32 = 1;
/// What a read asks the kernel for at once.
const CHUNK: usize = 128 << 10;

/// What a segment's head says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Head {
    /// It is one of ours.
    Ours {
        epoch: String,
        first: u64,
    },
    /// A newer version's.
    Newer(u32),
    Damaged,
}

/// The head of a new segment.
pub(super) fn head(epoch: &str, first: u64) -> [u8; HEAD] {
    let mut out = [0; HEAD];
    out[..4].copy_from_slice(&MAGIC);
    out[4..8].copy_from_slice(&FORMAT.to_le_bytes());
    let len = epoch.len().min(8);
    out[8..8 + len].copy_from_slice(&epoch.as_bytes()[..len]);
    out[16..24].copy_from_slice(&first.to_le_bytes());
    let check = crc32fast::hash(&out[..24]);
    out[24..].copy_from_slice(&check.to_le_bytes());
    out
}

/// What the head of the file says; `None` where the file ends before it does.
pub(super) fn read_head(file: &File) -> io::Result<Option<Head>> {
    let mut bytes = [0; HEAD];
    match file.read_exact_at(&mut bytes, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    if bytes[..4] != MAGIC || u32_at(&bytes, 24) != crc32fast::hash(&bytes[..24]) {
        return Ok(Some(Head::Damaged));
    }
    let format = u32_at(&bytes, 4);
    if format > FORMAT {
        return Ok(Some(Head::Newer(format)));
    }
    let epoch = std::str::from_utf8(&bytes[8..16]).map(|e| e.trim_end_matches('\0').to_owned());
    Ok(Some(epoch.map_or(Head::Damaged, |epoch| Head::Ours { epoch, first: u64_at(&bytes, 16) })))
}

/// Where the segment that begins with `first` lies.
pub(super) fn path(database: &Path, first: u64) -> PathBuf {
    beside(database, &format!(".journal-{first}"))
}

/// The segments beside a database, in order.
pub(super) fn list(database: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let directory = database.parent().filter(|d| !d.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let prefix = beside(Path::new(database.file_name().unwrap_or_default()), ".journal-");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let name = entry?.file_name();
        let first = name.to_str().zip(prefix.to_str()).and_then(|(name, prefix)| name.strip_prefix(prefix));
        if let Some(first) = first.and_then(|digits| digits.parse().ok()) {
            found.push((first, path(database, first)));
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// What comes next in a segment.
#[derive(Debug)]
pub(super) enum Step<'a> {
    Record(Record<'a>),
    /// Nothing more.
    End,
    /// Bytes that are no record; see [`Scan::at`].
    Bad,
}

/// Reads the records of one segment in order, a piece of the file at a time.
#[derive(Debug)]
pub(super) struct Scan {
    file: File,
    buffer: Vec<u8>,
    /// Where in `buffer` the next record begins, ...
    next: usize,
    /// ... and where in the file the buffer does.
    offset: u64,
    /// Whether the buffer is to be read anew.
    stale: bool,
}

impl Scan {
    /// From the first record.
    pub(super) fn new(file: File) -> Self {
        Self { file, buffer: Vec::new(), next: 0, offset: HEAD as u64, stale: false }
    }

    /// Where in the file the next record begins.
    pub(super) fn at(&self) -> u64 {
        self.offset + self.next as u64
    }

    /// Goes back to a place that [`Scan::at`] told.
    pub(super) fn back_to(&mut self, at: u64) {
        (self.offset, self.next, self.stale) = (at, 0, false);
        self.buffer.clear();
    }

    /// The next record. After `End` and `Bad` it can be asked again, and sees what was written meanwhile.
    pub(super) fn step(&mut self) -> io::Result<Step<'_>> {
        if self.stale {
            self.back_to(self.at());
        }
        loop {
            let held = self.buffer.len() - self.next;
            let wanted = match record::total(&self.buffer[self.next..]) {
                Ok(total) => total,
                Err(Fault::Short) => held + 1,
                Err(Fault::Damaged) => {
                    self.stale = true;
                    return Ok(Step::Bad);
                }
            };
            if held >= wanted {
                break;
            }
            if !self.fill()? {
                // The file may say more by the next time.
                self.stale = true;
                return Ok(if held == 0 { Step::End } else { Step::Bad });
            }
        }
        match record::parse(&self.buffer[self.next..]) {
            Ok((found, total)) => {
                self.next += total;
                Ok(Step::Record(found))
            }
            Err(_) => {
                self.stale = true;
                Ok(Step::Bad)
            }
        }
    }

    /// Reads on; false at the end of the file.
    fn fill(&mut self) -> io::Result<bool> {
        self.buffer.drain(..self.next);
        self.offset += self.next as u64;
        self.next = 0;
        let held = self.buffer.len();
        self.buffer.resize(held + CHUNK, 0);
        let read = self.file.read_at(&mut self.buffer[held..], self.offset + held as u64);
        self.buffer.truncate(held + read.as_ref().copied().unwrap_or(0));
        Ok(read? > 0)
    }

    /// A piece of the file.
    pub(super) fn bytes(&self, range: std::ops::Range<u64>) -> io::Result<Vec<u8>> {
        let mut all = vec![0; usize::try_from(range.end - range.start).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut all, range.start)?;
        Ok(all)
    }

    /// Goes on behind damage, to the next place that holds a record whose number lies in `numbers`. False where there
    /// is none up to the end.
    pub(super) fn resync(&mut self, numbers: std::ops::Range<u64>) -> io::Result<bool> {
        let mut all = Vec::new();
        let from = self.at();
        io::Read::read_to_end(&mut At { file: &self.file, at: from + 1 }, &mut all)?;
        for start in 0..all.len() {
            if let Ok((found, _)) = record::parse(&all[start..])
                && numbers.contains(&found.seq)
            {
                self.back_to(from + 1 + start as u64);
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// Reads from a place of its own, so that those who share the file do not move each other's.
struct At<'a> {
    file: &'a File,
    at: u64,
}

impl io::Read for At<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}
