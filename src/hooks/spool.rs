//! Events that could not be delivered, kept in order until they can: one folder for each monitor.
//!
//! Hooks append to `queue` under a lock. Whoever delivers, one at a time, a hook or the daemon itself, renames it to `sending`
//! and works it off from the front. Each record is a line: one byte of state, the event's key, a space, its body. The state
//! alone is ever changed, in place, so a crash at any moment leaves every record as it was before or after.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};

use super::key;

/// The most bytes of each of the two files; what no longer fits is counted and let go.
pub const MOST: u64 = 8 << 20;
/// How long nobody tries a monitor that took an event and did not answer.
const HOLD_OFF: Duration = Duration::from_secs(1);
/// The longest line that is a record: state, key, space, and a body well above what hooks make.
const LINE: u64 = 4 << 20;

/// How far a record is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum State {
    /// It was never sent.
    New = b'+',
    /// It was sent, or is being sent, and may have arrived.
    Maybe = b'?',
    /// It has arrived, or never can.
    Done = b'-',
}

/// A record of the spool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// How far it is.
    pub state: State,
    /// The event's key.
    pub key: String,
    /// The event's body.
    pub body: String,
    /// Where it stands in the file.
    at: u64,
}

/// What became of records that were to be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// They are in the spool.
    All,
    /// There is no room.
    Full,
}

/// What waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Waiting {
    /// Records that are not delivered.
    pub events: u64,
    /// The bytes of both files.
    pub bytes: u64,
    /// Events that were lost since the folder was made, because they found no room.
    pub dropped: u64,
    /// When the first of those that wait was made.
    pub since: Option<Timestamp>,
}

/// The spool of one monitor.
#[derive(Debug, Clone)]
pub struct Spool {
    dir: PathBuf,
}

impl Spool {
    /// In this folder, which is made when something is put into it.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Whether something waits.
    pub fn waits(&self) -> bool {
        ["sending", "queue"].iter().any(|name| fs::metadata(self.at(name)).is_ok_and(|meta| meta.len() > 0))
    }

    /// Whether the monitor is better left alone for a moment.
    pub fn is_held_off(&self) -> bool {
        let touched = fs::metadata(self.at("held-off")).and_then(|meta| meta.modified());
        // A clock that was set back does not make a moment long.
        touched.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age < HOLD_OFF))
    }

    /// Leaves the monitor alone for a moment.
    pub fn hold_off(&self) {
        // Without the note the next hook asks again, which costs it time and nothing else.
        let _ = self.make().and_then(|()| self.open("held-off").map(|f| f.set_modified(SystemTime::now())));
    }

    /// Asks the monitor again at once.
    pub fn go_on(&self) {
        let _ = fs::remove_file(self.at("held-off"));
    }

    fn make(&self) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)
    }

    fn open(&self, name: &str) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits() as i32)
            .open(self.at(name))
    }

    fn lock(&self, deadline: Instant) -> io::Result<File> {
        let file = self.open("lock")?;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(file),
                Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) if Instant::now() < deadline => {
                    // flock(2) has no deadline of its own; who holds it does so for microseconds.
                    std::thread::sleep(Duration::from_micros(200));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Makes what delivering and counting need. On a disk that is full later they change it in place.
    fn furnish(&self) -> io::Result<()> {
        if fs::metadata(self.at("dropped")).is_ok_and(|meta| meta.len() > 0) {
            return Ok(());
        }
        self.open("deliver.lock")?;
        self.open("dropped")?.write_all_at(b"0\n", 0)
    }

    /// Puts events behind those that wait: all of them or none.
    ///
    /// # Errors
    /// What the system says; the spool is then as it was.
    pub fn append<'r>(
        &self,
        records: impl IntoIterator<Item = (State, &'r str, &'r str)>,
        deadline: Instant,
    ) -> io::Result<Kept> {
        let mut text = Vec::new();
        for (state, key, body) in records {
            text.push(state as u8);
            text.extend_from_slice(format!("{key} {body}\n").as_bytes());
        }
        self.make()?;
        let _lock = self.lock(deadline)?;
        if Instant::now() > deadline {
            // A disk that hung kept this one till now; those that came later may stand there already.
            return Err(io::ErrorKind::TimedOut.into());
        }
        // Where there is no room for it there is none for events either, and that is told below.
        let _ = self.furnish();
        let mut queue = self.open("queue")?;
        let end = repair(&mut queue)?;
        if end + text.len() as u64 > MOST {
            return Ok(Kept::Full);
        }
        queue.seek(SeekFrom::Start(end))?;
        if let Err(error) = queue.write_all(&text) {
            // The disk is full: no half of a record stays.
            let _ = queue.set_len(end);
            return Err(error);
        }
        Ok(Kept::All)
    }

    /// Counts events that found no room and are lost.
    pub fn count_lost(&self, more: usize, deadline: Instant) {
        let add = || -> io::Result<()> {
            let _lock = self.lock(deadline)?;
            let mut file = self.open("dropped")?;
            let mut text = String::new();
            Read::by_ref(&mut file).take(32).read_to_string(&mut text)?;
            let all = text.trim().parse::<u64>().unwrap_or(0).saturating_add(more as u64);
            file.write_all_at(format!("{all}\n").as_bytes(), 0)
        };
        // Where even this finds no room there is nobody left to tell.
        let _ = add();
    }

    /// The right to deliver what waits; nothing if another has it, or nothing was ever kept.
    ///
    /// # Errors
    /// What the system says.
    pub fn deliver(&self, deadline: Instant) -> io::Result<Option<Delivery>> {
        if !self.dir.is_dir() {
            return Ok(None);
        }
        let right = self.open("deliver.lock")?;
        match flock(&right, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
        Ok(Some(Delivery { spool: self.clone(), deadline, current: None, _right: right }))
    }

    /// What waits, counted.
    pub fn waiting(&self) -> Waiting {
        let mut all = Waiting::default();
        for name in ["sending", "queue"] {
            let Ok(file) = File::open(self.at(name)) else { continue };
            all.bytes += file.metadata().map_or(0, |meta| meta.len());
            for line in BufReader::new(file.take(2 * MOST)).split(b'\n').map_while(Result::ok) {
                if line.first().is_some_and(|state| *state != State::Done as u8) {
                    all.events += 1;
                    all.since = all.since.or_else(|| made(&line));
                }
            }
        }
        let dropped = fs::read_to_string(self.at("dropped")).ok();
        all.dropped = dropped.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        all
    }

    /// Why nothing more could be put into it; nothing if that is not known of its file system.
    pub fn trouble(&self) -> Option<String> {
        let dir = self.dir.ancestors().find(|dir| dir.exists())?;
        if let Err(error) = rustix::fs::access(dir, rustix::fs::Access::WRITE_OK) {
            return Some(io::Error::from(error).to_string());
        }
        let fs = rustix::fs::statvfs(dir).ok()?;
        // One that does not count inodes says 0 of 0.
        (fs.f_bavail == 0 || (fs.f_files > 0 && fs.f_ffree == 0)).then(|| "its file system has no room left".to_owned())
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// When the event of a record was made: its key says so.
fn made(line: &[u8]) -> Option<Timestamp> {
    let made = key::time(std::str::from_utf8(line.get(1..37)?).ok()?)?;
    Timestamp::from_millisecond(i64::try_from(made.as_millis()).ok()?).ok()
}

/// Cuts off what a crash left behind the last whole line; the length then.
fn repair(file: &mut File) -> io::Result<u64> {
    let len = file.metadata()?.len();
    if len == 0 {
        return Ok(0);
    }
    let mut last = [0_u8; 1];
    file.read_exact_at(&mut last, len - 1)?;
    if last == *b"\n" {
        return Ok(len);
    }
    let mut end = len;
    let mut buffer = vec![0_u8; 64 << 10];
    while end > 0 {
        let start = end.saturating_sub(buffer.len() as u64);
        let piece = &mut buffer[..(end - start) as usize];
        file.read_exact_at(piece, start)?;
        if let Some(at) = piece.iter().rposition(|b| *b == b'\n') {
            end = start + at as u64 + 1;
            break;
        }
        end = start;
    }
    file.set_len(end)?;
    Ok(end)
}

/// Works the spool off from the front. As long as it lives nobody else does.
#[derive(Debug)]
pub struct Delivery {
    spool: Spool,
    deadline: Instant,
    current: Option<BufReader<File>>,
    _right: File,
}

impl Delivery {
    /// How long it may wait for hooks that append, from now on.
    pub fn until(&mut self, deadline: Instant) {
        self.deadline = deadline;
    }

    /// The next record that is not done; nothing when nothing waits any more.
    ///
    /// # Errors
    /// What the system says.
    pub fn next_record(&mut self) -> io::Result<Option<Record>> {
        loop {
            if self.current.is_none() && !self.begin()? {
                return Ok(None);
            }
            if let Some(record) = self.next_record_here()? {
                return Ok(Some(record));
            }
            self.current = None;
            fs::remove_file(self.spool.at("sending"))?;
        }
    }

    /// The same, but only of the file that was begun: those that it gave can still be noted as done.
    ///
    /// # Errors
    /// What the system says.
    pub fn next_record_here(&mut self) -> io::Result<Option<Record>> {
        let Some(reader) = &mut self.current else { return Ok(None) };
        loop {
            let at = reader.stream_position()?;
            let mut line = Vec::new();
            if reader.take(LINE).read_until(b'\n', &mut line)? == 0 {
                return Ok(None);
            }
            if let Some(record) = parse(&line, at) {
                return Ok(Some(record));
            }
            // Done, or damaged from outside: there is nothing to send.
        }
    }

    fn begin(&mut self) -> io::Result<bool> {
        let sending = self.spool.at("sending");
        for _ in 0..2 {
            match OpenOptions::new().read(true).write(true).open(&sending) {
                Ok(file) => {
                    self.current = Some(BufReader::with_capacity(64 << 10, file));
                    return Ok(true);
                }
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(e),
            }
            let _lock = self.spool.lock(self.deadline)?;
            match OpenOptions::new().read(true).write(true).open(self.spool.at("queue")) {
                Ok(mut queue) => repair(&mut queue)?,
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
                Err(e) => return Err(e),
            };
            fs::rename(self.spool.at("queue"), &sending)?;
        }
        Ok(false)
    }

    /// Notes how far a record is.
    ///
    /// # Errors
    /// What the system says; it is then as far as it was.
    pub fn mark(&self, record: &Record, state: State) -> io::Result<()> {
        match &self.current {
            Some(reader) => reader.get_ref().write_all_at(&[state as u8], record.at),
            // Its file is gone, and was gone only when all of it was done.
            None => Ok(()),
        }
    }
}

fn parse(line: &[u8], at: u64) -> Option<Record> {
    let state = match line.first()? {
        b'+' => State::New,
        b'?' => State::Maybe,
        _ => return None,
    };
    let text = std::str::from_utf8(&line[1..]).ok()?.strip_suffix('\n')?;
    let (key, body) = text.split_once(' ')?;
    Some(Record { state, key: key.to_owned(), body: body.to_owned(), at })
}

#[cfg(test)]
mod tests;
