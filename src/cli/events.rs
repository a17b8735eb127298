//! `events`: what the monitor has, as it comes, by what it says, or all of it.

mod line;
mod pages;

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, Subcommand};
use jiff::Zoned;

use self::pages::{Item, LIMIT, Page, PageError, Pages, Wanted};
use super::failed;
use crate::hooks::place::{Machine, Place, Said};
use daemon::exit::Exit;
use daemon::out;
use service::journal::since;

/// How often a monitor without news is asked.
const POLL: Duration = Duration::from_millis(300);

/// How much is exported in one write.
const PIECE: usize = 64 << 10;

/// Which monitor.
#[derive(Debug, Clone, Default, Args)]
pub struct Monitor {
    /// The monitor's host [default: this machine]
    #[arg(long, value_name = "HOST")]
    pub host: Option<String>,
    /// The monitor's port [default: that of the settings, else of the instance that runs]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// The monitor's Unix socket, in place of host and port
    #[arg(long, value_name = "PATH")]
    pub unix_socket: Option<PathBuf>,
    /// A file with the monitor's token [default: that of the settings]
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

impl Monitor {
    /// Where it is.
    pub fn place(&self) -> Place {
        let Self { host, port, unix_socket, token_file } = self.clone();
        Place::find(&Said { host, port, unix_socket, token_file }, &Machine::this())
    }
}

/// `events`.
#[derive(Debug, Args)]
pub struct Events {
    /// What to do.
    #[command(subcommand)]
    pub verb: EventsVerb,
}

/// `events ...`.
#[derive(Debug, Subcommand)]
pub enum EventsVerb {
    /// Show the newest events, and with -f those that come
    #[command(
        after_help = "Example:\n  mpm-monitor events tail -f\n  mpm-monitor events tail -n 100 --subtype pre_tool --json"
    )]
    Tail(Tail),
    /// Show the events that fit, oldest first
    #[command(after_help = "Example:\n  mpm-monitor events search --since '1 hour ago' 'cargo test'")]
    Search(Search),
    /// Write events as JSON lines
    #[command(
        after_help = "Example:\n  mpm-monitor events export -o events.jsonl\n  mpm-monitor events export -o events.jsonl --after 12345   # what came since, behind the rest"
    )]
    Export(Export),
}

/// Which events.
#[derive(Debug, Clone, Default, Args)]
pub struct Which {
    /// Only of this agent session
    #[arg(long, value_name = "ID")]
    pub session: Option<String>,
    /// Only with this name, such as tool_event
    #[arg(long = "type", value_name = "NAME")]
    pub name: Option<String>,
    /// Only of this subtype, such as pre_tool
    #[arg(long, value_name = "NAME")]
    pub subtype: Option<String>,
    /// Only since then: RFC 3339, `2026-11-22 10:00`, or `10 min ago`
    #[arg(long, value_name = "WHEN")]
    pub since: Option<String>,
}

impl Which {
    fn wanted(&self, until: Option<&str>) -> anyhow::Result<Wanted> {
        let now = Zoned::now();
        let moment = |text: &str| {
            since::parse(text, &now).map(|at| at.to_string()).map_err(|e| failed(Exit::Usage, e.to_string()))
        };
        let times = [("since", self.since.as_deref()), ("until", until)];
        let mut parameters: Vec<(&'static str, String)> =
            [("session", &self.session), ("type", &self.name), ("subtype", &self.subtype)]
                .into_iter()
                .filter_map(|(name, value)| Some((name, value.clone()?)))
                .collect();
        for (name, text) in times {
            if let Some(text) = text {
                parameters.push((name, moment(text)?));
            }
        }
        Ok(Wanted { parameters })
    }
}

/// `events tail`.
#[derive(Debug, Args)]
pub struct Tail {
    /// The monitor.
    #[command(flatten)]
    pub monitor: Monitor,
    /// The events.
    #[command(flatten)]
    pub which: Which,
    /// Follow: go on with those that come, over restarts of the monitor too
    #[arg(short, long)]
    pub follow: bool,
    /// How many of the newest [default: 20; with --since all of them]
    #[arg(short = 'n', long, value_name = "N")]
    pub lines: Option<usize>,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// `events search`.
#[derive(Debug, Args)]
pub struct Search {
    /// The monitor.
    #[command(flatten)]
    pub monitor: Monitor,
    /// The events.
    #[command(flatten)]
    pub which: Which,
    /// Only before then
    #[arg(long, value_name = "WHEN")]
    pub until: Option<String>,
    /// Only those with this text in them, whatever its case
    #[arg(value_name = "TEXT")]
    pub text: Option<String>,
    /// At most so many, the newest
    #[arg(short = 'n', long, value_name = "N")]
    pub lines: Option<usize>,
    /// One JSON object a line
    #[arg(long)]
    pub json: bool,
}

/// `events export`.
#[derive(Debug, Args)]
pub struct Export {
    /// The monitor.
    #[command(flatten)]
    pub monitor: Monitor,
    /// The events.
    #[command(flatten)]
    pub which: Which,
    /// Only before then
    #[arg(long, value_name = "WHEN")]
    pub until: Option<String>,
    /// Only those with greater numbers; a file that is there gets them at its end
    #[arg(long, value_name = "SEQ")]
    pub after: Option<u64>,
    /// Into this file in place of standard output
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// Does it.
///
/// # Errors
/// [`Exit::NotRunning`] when no monitor answers; when it refuses, and when the output cannot be written.
pub fn run(args: &Events) -> anyhow::Result<Exit> {
    let done = match &args.verb {
        EventsVerb::Tail(args) => tail(args),
        EventsVerb::Search(args) => search(args),
        EventsVerb::Export(args) => export(args),
    };
    match done {
        // The reader has seen enough (`| head`).
        Err(e) if e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe) => Ok(Exit::Ok),
        other => other.map(|()| Exit::Ok),
    }
}

fn told(error: PageError) -> anyhow::Error {
    let exit = match &error {
        PageError::Away(_) => Exit::NotRunning,
        PageError::Refused { status: 401 | 403, .. } => Exit::NoPermission,
        PageError::Refused { .. } => Exit::Failure,
    };
    let next = match &error {
        PageError::Away(_) => "; see mpm-monitor status, or start one with mpm-monitor start or mpm-monitor run",
        PageError::Refused { .. } => "",
    };
    failed(exit, format!("{error}{next}"))
}

/// Writes events for whoever looks.
struct Printer {
    json: bool,
    zone: jiff::tz::TimeZone,
    width: usize,
}

impl Printer {
    fn new(json: bool) -> Self {
        Self { json, zone: jiff::tz::TimeZone::system(), width: line::width() }
    }

    fn print(&mut self, item: &Item) -> io::Result<()> {
        let line = if self.json { line::json(item) } else { line::human(item, &self.zone, self.width) };
        out::line(&(line + "\n"))
    }
}

/// Every event after a number, page by page; where to go on, and of which store. What comes meanwhile is not waited for.
fn each(
    pages: &Pages,
    after: u64,
    mut take: impl FnMut(&Item, &Page) -> anyhow::Result<()>,
) -> anyhow::Result<(u64, String)> {
    let (mut after, mut end) = (after, None);
    loop {
        let page = pages.page(after, LIMIT).map_err(told)?;
        let end = *end.get_or_insert(page.last_seq);
        for item in page.events.iter().filter(|item| item.seq <= end) {
            take(item, &page)?;
        }
        after = page.next.max(after);
        if page.events.is_empty() || after >= end {
            return Ok((after.min(end), page.epoch));
        }
    }
}

/// The newest `count` events that fit. The monitor reads forwards, so ever larger pieces of its end are looked at.
fn newest(pages: &Pages, count: usize) -> anyhow::Result<(VecDeque<Item>, u64, String)> {
    let first = pages.page(u64::MAX >> 1, 1).map_err(told)?;
    let (last, oldest) = (first.last_seq, first.oldest_seq);
    let mut piece = count.max(1) as u64;
    loop {
        let mut after = last.saturating_sub(piece);
        let mut found = VecDeque::new();
        while after < last && count > 0 {
            let page = pages.page(after, LIMIT).map_err(told)?;
            let (next, is_empty) = (page.next, page.events.is_empty());
            found.extend(page.events.into_iter().filter(|item| item.seq <= last));
            found.drain(..found.len().saturating_sub(count));
            if is_empty || next <= after {
                break;
            }
            after = next;
        }
        if found.len() >= count || last.saturating_sub(piece) < oldest {
            return Ok((found, last, first.epoch));
        }
        piece = piece.saturating_mul(16);
    }
}

fn tail(args: &Tail) -> anyhow::Result<()> {
    let pages = Pages::new(args.monitor.place(), args.which.wanted(None)?)?;
    let mut printer = Printer::new(args.json);
    let (mut after, mut epoch) = match (args.lines, &args.which.since) {
        (None, Some(_)) => each(&pages, 0, |item, _| Ok(printer.print(item)?))?,
        (count, _) => {
            let (found, after, epoch) = newest(&pages, count.unwrap_or(20))?;
            found.iter().try_for_each(|item| printer.print(item))?;
            (after, epoch)
        }
    };
    if !args.follow {
        return Ok(());
    }
    let mut is_away = false;
    loop {
        match pages.page(after, LIMIT) {
            Ok(page) => {
                if is_away {
                    out::tell("the monitor answers again");
                    is_away = false;
                }
                if page.epoch != epoch {
                    out::tell("the monitor has begun a new history; its events follow from their first");
                    (epoch, after) = (page.epoch, 0);
                    continue;
                }
                if page.oldest_seq > after + 1 && page.last_seq > after {
                    out::tell(&format!("{} events are no longer kept", page.oldest_seq - after - 1));
                }
                page.events.iter().try_for_each(|item| printer.print(item))?;
                let news = !page.events.is_empty();
                after = page.next.max(after);
                if news {
                    continue;
                }
            }
            Err(PageError::Away(why)) => {
                if !std::mem::replace(&mut is_away, true) {
                    out::tell(&format!("{why}; waiting for it"));
                }
            }
            Err(error) => return Err(told(error)),
        }
        // The interval between two questions.
        std::thread::sleep(POLL);
    }
}

fn search(args: &Search) -> anyhow::Result<()> {
    let pages = Pages::new(args.monitor.place(), args.which.wanted(args.until.as_deref())?)?;
    let text = args.text.as_ref().map(|text| text.to_lowercase());
    let mut printer = Printer::new(args.json);
    let mut newest: VecDeque<String> = VecDeque::new();
    let mut count = 0_u64;
    each(&pages, 0, |item, _| {
        if text.as_deref().is_some_and(|text| !says(item, text)) {
            return Ok(());
        }
        count += 1;
        match args.lines {
            None => printer.print(item)?,
            Some(most) => {
                let line =
                    if printer.json { line::json(item) } else { line::human(item, &printer.zone, printer.width) };
                newest.push_back(line);
                newest.drain(..newest.len().saturating_sub(most));
            }
        }
        Ok(())
    })?;
    newest.iter().try_for_each(|line| out::line(&format!("{line}\n")))?;
    if count == 0 {
        out::tell("no event fits");
    }
    Ok(())
}

/// Whether an event says a text, in lower case: in its JSON, or in one of its texts as they are meant.
fn says(item: &Item, text: &str) -> bool {
    fn any(value: &serde_json::Value, text: &str) -> bool {
        match value {
            serde_json::Value::String(s) => s.to_lowercase().contains(text),
            serde_json::Value::Array(items) => items.iter().any(|v| any(v, text)),
            serde_json::Value::Object(members) => {
                members.iter().any(|(name, v)| name.to_lowercase().contains(text) || any(v, text))
            }
            other => other.to_string().contains(text),
        }
    }
    item.payload.get().to_lowercase().contains(text)
        || serde_json::from_str(item.payload.get()).is_ok_and(|value| any(&value, text))
}

/// Where events are exported to: whole lines, or none of them.
struct Sink {
    /// The file, or standard output.
    out: Option<File>,
    /// The file, if it is one that can be cut, and how long it is.
    file: Option<(File, u64)>,
    name: String,
    /// What is to be written, how many lines that are, and the number of the last.
    lines: (String, u64, u64),
    /// How many events are written, and the number of the last.
    count: u64,
    last: u64,
}

impl Sink {
    fn new(path: Option<&Path>, after: Option<u64>) -> anyhow::Result<Self> {
        let rest = |out, file, name| Self {
            out,
            file,
            name,
            lines: (String::new(), 0, 0),
            count: 0,
            last: after.unwrap_or(0),
        };
        let Some(path) = path else {
            return Ok(rest(None, None, "standard output".to_owned()));
        };
        let mut options = OpenOptions::new();
        let goes_on = after.is_some();
        options.write(true).append(goes_on).create(goes_on).create_new(!goes_on);
        let file = options.open(path).map_err(|e| match e.kind() {
            io::ErrorKind::AlreadyExists => failed(
                Exit::CantCreate,
                format!("{} is there already; go on behind it with --after SEQ, or name another", path.display()),
            ),
            _ => failed(Exit::CantCreate, format!("cannot open {}: {e}", path.display())),
        })?;
        let meta = file.metadata().ok().filter(std::fs::Metadata::is_file);
        let cut = meta.and_then(|meta| Some((file.try_clone().ok()?, meta.len())));
        Ok(rest(Some(file), cut, path.display().to_string()))
    }

    fn take(&mut self, item: &Item) -> anyhow::Result<()> {
        let (lines, count, last) = &mut self.lines;
        lines.push_str(&line::json(item));
        lines.push('\n');
        (*count, *last) = (*count + 1, item.seq);
        if lines.len() < PIECE { Ok(()) } else { self.write() }
    }

    fn write(&mut self) -> anyhow::Result<()> {
        let (lines, count, last) = std::mem::take(&mut self.lines);
        if count == 0 {
            return Ok(());
        }
        let wrote = match &mut self.out {
            Some(file) => file.write_all(lines.as_bytes()),
            None => out::line(&lines),
        };
        if let Some((file, len)) = &mut self.file {
            match wrote {
                Ok(()) => *len += lines.len() as u64,
                // The disk is full: no half of a line stays, which the next export would be put behind.
                Err(_) => drop(file.set_len(*len)),
            }
        }
        wrote.with_context(|| format!("cannot write to {}", self.name))?;
        (self.count, self.last) = (self.count + count, last);
        Ok(())
    }
}

fn export(args: &Export) -> anyhow::Result<()> {
    let pages = Pages::new(args.monitor.place(), args.which.wanted(args.until.as_deref())?)?;
    let mut sink = Sink::new(args.output.as_deref(), args.after)?;
    let tells = out::errors_to_terminal() && (args.output.is_some() || !out::is_terminal());
    let mut seen = 0_u64;
    let wrote = each(&pages, sink.last, |item, page| {
        sink.take(item)?;
        seen += 1;
        if tells && seen.is_multiple_of(1000) {
            out::progress(Some(&format!("{seen} events, {} of {}", item.seq, page.last_seq)));
        }
        Ok(())
    });
    // What came before a failure is written, unless writing is what failed.
    let wrote = wrote.and_then(|end| sink.write().map(|()| end)).inspect_err(|_| drop(sink.write()));
    if tells && seen >= 1000 {
        out::progress(None);
    }
    match wrote {
        Ok((after, _)) => {
            let next = after.max(sink.last);
            out::tell(&format!("{} events written; later, go on with --after {next}", sink.count));
            Ok(())
        }
        Err(error) => {
            if let Some(broken) = error.downcast_ref::<io::Error>().filter(|e| e.kind() == io::ErrorKind::BrokenPipe) {
                return Err(io::Error::from(broken.kind()).into());
            }
            out::tell(&format!("{} events written before it failed; go on with --after {}", sink.count, sink.last));
            Err(error)
        }
    }
}
