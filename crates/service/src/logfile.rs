//! The log of one instance out of files, where the manager keeps none: the log that the process writes itself, rotated by
//! it (`PORT.log`, `PORT.log.1`, ...), and what launchd captured of its standard error before that (`PORT.stderr.log`).

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use super::paths::Paths;
use daemon::guarded::Guard;
use daemon::logfile::older;

/// The most rotated files that are looked for; `log.older_files` allows no more.
const ROTATED: usize = 100;
/// The most bytes of each file's end that are read for its last lines.
const TAIL: u64 = 8 << 20;
/// The time between two looks for new lines; a file has no event that every system would tell.
const POLL: Duration = Duration::from_millis(100);

/// Which of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The log of the process.
    Log,
    /// What launchd captured.
    Stderr,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Where it stands.
    pub source: Source,
    /// When it was written; a line without a time of its own has that of the one before it, or of the file.
    pub time: Option<Timestamp>,
    /// It, without its end.
    pub text: String,
}

/// What to show.
#[derive(Debug, Clone)]
pub struct Query {
    /// The log of the process.
    pub log: PathBuf,
    /// What launchd captured.
    pub stderr: PathBuf,
    /// How many of the last lines.
    pub lines: usize,
    /// Only lines since then.
    pub since: Option<Timestamp>,
    /// Whether to wait for more.
    pub follow: bool,
}

impl Query {
    /// For an instance; `None` where the manager keeps the log.
    pub fn of(paths: &Paths, port: u16, lines: usize, since: Option<Timestamp>, follow: bool) -> Option<Self> {
        Some(Self { log: paths.log(port)?, stderr: paths.stderr(port)?, lines, since, follow })
    }
}

/// Takes one line; says whether more are wanted.
pub type Sink<'a> = &'a mut dyn FnMut(&Line) -> io::Result<ControlFlow<()>>;

impl Line {
    /// For people: as it stands in the file, but for what would steer a terminal; and where it is not from the log, says so.
    pub fn human(&self) -> String {
        let text = daemon::out::escaped(&self.text);
        match self.source {
            Source::Log => text.into_owned(),
            Source::Stderr => format!("stderr: {text}"),
        }
    }

    /// One JSON object in one line; a line that is one already stays as it is.
    pub fn json(&self) -> String {
        if self.source == Source::Log && self.text.starts_with('{') {
            return self.text.clone();
        }
        let file = if self.source == Source::Log { "log" } else { "stderr" };
        serde_json::json!({ "timestamp": self.time, "file": file, "message": self.text }).to_string()
    }
}

/// Hands the last lines to `sink`, oldest first, and waits for more if the query says so.
///
/// # Errors
/// When a file that is there cannot be read, or the sink fails.
pub fn read(query: &Query, sink: Sink<'_>) -> io::Result<()> {
    // Where to go on is settled before the rest is read: a line that comes meanwhile is then told once.
    let mut tails = [Tail::at_end(Source::Log, &query.log)?, Tail::at_end(Source::Stderr, &query.stderr)?];
    for line in last(query, &tails)? {
        if sink(&line)?.is_break() {
            return Ok(());
        }
    }
    if !query.follow {
        return Ok(());
    }
    loop {
        for tail in &mut tails {
            for line in tail.more()? {
                if sink(&line)?.is_break() {
                    return Ok(());
                }
            }
        }
        std::thread::sleep(POLL);
    }
}

/// The last lines of all files, in the order of their times.
fn last(query: &Query, tails: &[Tail; 2]) -> io::Result<Vec<Line>> {
    let mut all = Vec::new();
    let mut wanted = query.lines;
    let mut logs = VecDeque::new();
    for path in std::iter::once(query.log.clone()).chain((1..=ROTATED).map(|age| older(&query.log, age))) {
        // The current file ends where following begins; older ones end where they end.
        let end = if path == query.log { Some(tails[0].offset) } else { None };
        let lines = lines_of(Source::Log, &path, end)?;
        let enough = lines.len() >= wanted;
        wanted = wanted.saturating_sub(lines.len());
        logs.push_front(lines);
        if enough && query.since.is_none() {
            break;
        }
    }
    all.extend(logs.into_iter().flatten());
    all.extend(lines_of(Source::Stderr, &older(&query.stderr, 1), None)?);
    all.extend(lines_of(Source::Stderr, &query.stderr, Some(tails[1].offset))?);
    all.sort_by_key(|line| line.time);
    all.retain(|line| query.since.is_none_or(|since| line.time.is_none_or(|time| time >= since)));
    let skip = all.len().saturating_sub(query.lines);
    Ok(all.split_off(skip))
}

/// The lines of a file up to `end`, of its last [`TAIL`] bytes; none if there is no file.
fn lines_of(source: Source, path: &Path, end: Option<u64>) -> io::Result<Vec<Line>> {
    let mut file = match Guard::KEPT.open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(named(path, &e)),
    };
    let meta = file.metadata()?;
    let end = end.unwrap_or(meta.len()).min(meta.len());
    let start = end.saturating_sub(TAIL);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(end - start).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    // The file was last written when its last line was; without times in it that is all there is to know.
    let mut time = meta.modified().ok().and_then(|t| Timestamp::try_from(t).ok()).filter(|_| source == Source::Stderr);
    let first = usize::from(start > 0);
    Ok(text.lines().skip(first).map(|text| line(source, text, &mut time)).collect())
}

fn line(source: Source, text: &str, before: &mut Option<Timestamp>) -> Line {
    *before = time_of(text).or(*before);
    Line { source, time: *before, text: text.trim_end_matches('\r').to_owned() }
}

/// The time at the beginning of a line for people, or in its JSON.
fn time_of(text: &str) -> Option<Timestamp> {
    if text.starts_with('{') {
        let value: serde_json::Value = serde_json::from_str(text).ok()?;
        return value["timestamp"].as_str()?.parse().ok();
    }
    text.split_whitespace().next()?.parse().ok()
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot read {}: {error}", path.display()))
}

/// A file that grows, is rotated and is truncated.
#[derive(Debug)]
struct Tail {
    source: Source,
    path: PathBuf,
    file: Option<File>,
    offset: u64,
    /// The beginning of a line whose end has not come.
    partial: Vec<u8>,
    time: Option<Timestamp>,
}

impl Tail {
    fn at_end(source: Source, path: &Path) -> io::Result<Self> {
        let mut tail = Self { source, path: path.to_owned(), file: None, offset: 0, partial: Vec::new(), time: None };
        tail.open()?;
        tail.offset = tail.file.as_ref().map_or(Ok(0), |f| f.metadata().map(|m| m.len()))?;
        Ok(tail)
    }

    fn open(&mut self) -> io::Result<()> {
        self.file = match Guard::KEPT.open(&self.path) {
            Ok(file) => Some(file),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(named(&self.path, &e)),
        };
        self.offset = 0;
        Ok(())
    }

    /// What came since; to the end of the old file first where another one took its place.
    fn more(&mut self) -> io::Result<Vec<Line>> {
        let mut lines = Vec::new();
        self.drain(&mut lines)?;
        let at = |meta: &fs::Metadata| (meta.dev(), meta.ino());
        let now = fs::metadata(&self.path).ok();
        let open = self.file.as_ref().map(File::metadata).transpose()?;
        if now.as_ref().map(at) != open.as_ref().map(at) && now.is_some() {
            // What was written between the first look and the rename.
            self.drain(&mut lines)?;
            self.partial.clear();
            self.open()?;
            self.drain(&mut lines)?;
        }
        Ok(lines)
    }

    fn drain(&mut self, lines: &mut Vec<Line>) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        if file.metadata()?.len() < self.offset {
            // Copied and truncated: it begins anew.
            self.offset = 0;
            self.partial.clear();
        }
        file.seek(SeekFrom::Start(self.offset))?;
        let mut reader = BufReader::new(file);
        loop {
            let read = reader.read_until(b'\n', &mut self.partial)?;
            self.offset += read as u64;
            if read == 0 || self.partial.last() != Some(&b'\n') {
                return Ok(());
            }
            let text = String::from_utf8_lossy(&self.partial).trim_end().to_owned();
            lines.push(line(self.source, &text, &mut self.time));
            self.partial.clear();
        }
    }
}

/// Why there is no line, in one sentence, and what to do about it.
pub fn explain(query: &Query, installed: bool) -> String {
    let log = query.log.display();
    let dir = query.log.parent().is_some_and(Path::exists);
    if query.since.is_some() && (query.log.exists() || query.stderr.exists()) {
        "nothing was logged since then; leave --since out to see what came before".to_owned()
    } else if !installed {
        "there is no such job, and no log of an earlier one; `mpm-monitor install` makes it, `mpm-monitor list` shows what there is"
            .to_owned()
    } else if !dir {
        format!(
            "the directory of {log} is gone, and launchd starts nothing whose output it cannot open (exit code 78); \
             `mpm-monitor install` makes it again"
        )
    } else if query.log.exists() || query.stderr.exists() {
        format!("{log} is empty: the job has not logged anything; `mpm-monitor status` tells how it is")
    } else {
        format!("there is no {log} yet: the job has not run; `mpm-monitor start` starts it")
    }
}

#[cfg(test)]
#[path = "logfile_tests.rs"]
mod tests;
