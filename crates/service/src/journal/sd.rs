//! The journal through libsystemd, with the `systemd` crate.

use std::io;

use systemd::journal::{Journal, JournalRecord, OpenOptions};

use super::{Entry, JournalError, Query, Sink};

/// Hands the entries to `sink`; see [`super::read`].
///
/// # Errors
/// [`JournalError`].
pub fn read(query: &Query, sink: Sink<'_>) -> Result<(), JournalError> {
    let mut journal = open(query).map_err(JournalError::Library)?;
    rewind(&mut journal, query).map_err(JournalError::Library)?;
    loop {
        let record = match journal.next_entry().map_err(library)? {
            Some(record) => Some(record),
            None if query.follow => journal.await_next_entry(None).map_err(library)?,
            None => None,
        };
        let Some(record) = record else { return Ok(()) };
        if sink(entry(&journal, record)).map_err(JournalError::Output)?.is_break() {
            return Ok(());
        }
    }
}

fn library(error: systemd::Error) -> JournalError {
    JournalError::Library(error.into())
}

fn open(query: &Query) -> io::Result<Journal> {
    let mut journal = OpenOptions::default().local_only(true).open()?;
    for (i, group) in query.matches().into_iter().enumerate() {
        if i > 0 {
            journal.match_or()?;
        }
        for (field, value) in group {
            journal.match_add(field, value)?;
        }
    }
    Ok(journal)
}

/// Places the journal before the first entry to show: the last `lines` ones, or fewer if `since` is later.
fn rewind(journal: &mut Journal, query: &Query) -> io::Result<()> {
    journal.seek_tail()?;
    let since = query.since.and_then(|t| u64::try_from(t.as_microsecond()).ok()).unwrap_or(0);
    let mut back = 0;
    while back < query.lines {
        if journal.previous()? == 0 {
            // The head is reached: what comes next is the first entry.
            return Ok(journal.seek_head()?);
        }
        if journal.timestamp_usec()? < since {
            // This one is too old, so what comes next is the first to show.
            return Ok(());
        }
        back += 1;
    }
    // At the first entry to show, and `next` would skip it: step over it backwards, or to the head.
    if journal.previous()? == 0 {
        return Ok(journal.seek_head()?);
    }
    Ok(())
}

fn entry(journal: &Journal, record: JournalRecord) -> Entry {
    let mut fields = record;
    // The time is not a field but a property of the entry; journalctl gives it this name.
    if let Ok(usec) = journal.timestamp_usec() {
        fields.insert("__REALTIME_TIMESTAMP".to_owned(), usec.to_string());
    }
    Entry { fields }
}
