//! The journal at the start: what the last process left is checked, its torn end cut off, and what is damaged put aside.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::segment::{self, Head, Scan, Step};
use super::{Inode, Segment, record};
use crate::store::arrivals::Cursors;
use crate::store::keys::Recent;
use crate::store::schema;

/// What was found.
#[derive(Debug, Default)]
pub(in crate::store) struct Recovered {
    /// The segments that hold events, oldest first.
    pub segments: VecDeque<Segment>,
    /// The greatest number in them; 0 without any.
    pub last: u64,
    /// Where damaged segments, whole or as they were, are now.
    pub set_aside: Vec<PathBuf>,
    /// How far the events of other nodes reach in them.
    pub cursors: Cursors,
    /// The keys of the events in them.
    pub keys: Recent,
}

/// Why the journal cannot be used as it is.
#[derive(Debug)]
pub(in crate::store) enum Unusable {
    File { doing: &'static str, path: PathBuf, source: io::Error },
    TooNew { path: PathBuf, found: u32 },
}

/// Looks through the segments beside `database`. `epoch` is that of the database; without one (it was begun a moment
/// ago) the first segment tells it.
pub(in crate::store) fn recover(database: &Path, epoch: &mut Option<String>) -> Result<Recovered, Unusable> {
    let failed = |doing, path: &Path| {
        let path = path.to_owned();
        move |source| Unusable::File { doing, path, source }
    };
    let found = segment::list(database).map_err(failed("list the journal of", database))?;
    let mut recovered = Recovered::default();
    for (index, (first, path)) in found.iter().enumerate() {
        let end = found.get(index + 1).map_or(u64::MAX, |(first, _)| *first);
        let file = File::open(path).map_err(failed("open", path))?;
        let head = segment::read_head(&file).map_err(failed("read", path))?;
        match head {
            // It was begun and not written to.
            None => {
                std::fs::remove_file(path).map_err(failed("remove", path))?;
                continue;
            }
            Some(Head::Newer(found)) => return Err(Unusable::TooNew { path: path.clone(), found }),
            Some(Head::Ours { epoch: theirs, first: named })
                if named == *first && *epoch.get_or_insert_with(|| theirs.clone()) == theirs => {}
            Some(Head::Ours { .. } | Head::Damaged) => {
                let aside = schema::free_name(path);
                std::fs::rename(path, &aside).map_err(failed("set aside", path))?;
                recovered.set_aside.push(aside);
                continue;
            }
        }
        let mut checked = check(file, *first, end, &recovered).map_err(failed("read", path))?;
        if let Some(sound) = checked.sound.take() {
            let aside = replace(path, &sound, epoch.as_deref().unwrap_or_default(), *first);
            recovered.set_aside.push(aside.map_err(failed("set aside", path))?);
            checked.bytes = (segment::HEAD + sound.len()) as u64;
        } else if checked.torn > 0 {
            tracing::info!(path = %path.display(), bytes = checked.torn, "the torn end of the journal is cut off");
            let file = OpenOptions::new().write(true).open(path).map_err(failed("open", path))?;
            file.set_len(checked.bytes).map_err(failed("cut off the torn end of", path))?;
        }
        if checked.last == 0 {
            std::fs::remove_file(path).map_err(failed("remove", path))?;
            continue;
        }
        recovered.last = checked.last;
        let inode = Inode::at(path).map_err(failed("read", path))?;
        recovered.segments.push_back(Segment { first: *first, path: path.clone(), bytes: checked.bytes, inode });
    }
    Ok(recovered)
}

/// How a segment is.
struct Checked {
    /// The greatest number in it; 0 if there is none.
    last: u64,
    /// Where its good part ends.
    bytes: u64,
    /// What follows that is the rest of a write that did not come to its end.
    torn: u64,
    /// If it is damaged in its middle: the records that are not.
    sound: Option<Vec<u8>>,
}

fn check(file: File, first: u64, end: u64, found_so_far: &Recovered) -> io::Result<Checked> {
    let size = file.metadata()?.len();
    let (mut scan, mut last, mut good) = (Scan::new(file), 0, segment::HEAD as u64);
    let (mut sound, mut damaged) = (Vec::new(), false);
    loop {
        match scan.step()? {
            Step::Record(found) if found.seq < first.max(last + 1) || found.seq >= end => break,
            Step::Record(found) => {
                last = found.seq;
                if let Some((node, epoch, seq)) = found.origin {
                    found_so_far.cursors.reach(node, epoch, seq);
                }
                if let Some(key) = found.key {
                    found_so_far.keys.note(found.seq, key);
                }
                if damaged {
                    let event = found.to_event();
                    found.key.into_iter().for_each(|key| record::encode_key(&mut sound, key));
                    record::encode(&mut sound, event.seq, event.accepted, event.origin.as_deref(), &event.draft)?;
                } else {
                    good = scan.at();
                }
            }
            Step::End => break,
            // Another record behind it: not the end of a write, but damage.
            Step::Bad => {
                if !scan.resync(first.max(last + 1)..end)? {
                    break;
                }
                if !damaged {
                    damaged = true;
                    sound = scan.bytes(segment::HEAD as u64..good)?;
                }
            }
        }
    }
    Ok(Checked { last, bytes: good, torn: size.saturating_sub(good), sound: damaged.then_some(sound) })
}

/// Puts the sound records in the place of a damaged segment, of which a copy stays. At no moment is an event nowhere.
fn replace(path: &Path, sound: &[u8], epoch: &str, first: u64) -> io::Result<PathBuf> {
    let aside = schema::free_name(path);
    std::fs::copy(path, &aside)?;
    let fresh = schema::beside(path, ".new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(&segment::head(epoch, first))?;
    file.write_all(sound)?;
    file.sync_data()?;
    std::fs::rename(&fresh, path)?;
    Ok(aside)
}
