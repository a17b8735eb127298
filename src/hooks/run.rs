//! `mpm-monitor hook`: reads what Claude Code hands over, posts it, and is gone before the agent notices. It never fails.
//!
//! The work is done by a thread of its own; the one that began only waits for it, until the deadline, and then ends the
//! process, whatever a name server or a monitor keeps the other waiting for. A disk may keep a thread from ending: what writes
//! to one is done [`apart`], which costs some 0.7 ms and is needed only where no monitor takes the events.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::event::{self, Made, Surroundings};
use super::input;
use super::place::{Machine, Place, Said};
use super::spool::{Kept, Spool, State};
use super::wire::{Client, Sent};
use super::{apart, branch, key};
use daemon::out;

/// How long a hook may take in all, unless it is told otherwise.
pub const DEADLINE: Duration = Duration::from_millis(250);
/// The part of it that is kept back for putting events into the spool, at most; a quarter of a short deadline.
const SPOOLING: Duration = Duration::from_millis(200);
/// The most that a hook spends on what others left in the spool, if its own event waits there as well.
const BACKLOG: Duration = Duration::from_millis(100);

/// What a hook is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Orders {
    /// Where the monitor is.
    pub said: Said,
    /// How long it may take, from the start of the process; else what the environment says, else [`DEADLINE`].
    pub deadline: Option<Duration>,
    /// Whether it says on standard error what it did.
    pub verbose: bool,
    /// What was not understood of what it was told; it says that in any case.
    pub wrong: Vec<String>,
}

impl Orders {
    /// Reads the words after `hook`. A word that is not understood is passed over, for a hook that ended with the exit code
    /// for a wrong command line would block the agent.
    pub fn parse(words: impl IntoIterator<Item = String>) -> Self {
        let mut orders = Self::default();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let (name, joined) = match word.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (word, None),
            };
            if name == "--verbose" {
                orders.verbose = true;
                continue;
            }
            let known = ["--deadline", "--host", "--port", "--unix-socket", "--token-file"].contains(&&*name);
            let Some(value) = known.then(|| joined.or_else(|| words.next())).flatten() else {
                orders.wrong.push(name);
                continue;
            };
            let (path, said) = (PathBuf::from(&value), &mut orders.said);
            let mut taken = true;
            match &*name {
                "--deadline" => match deadline(&value) {
                    None => taken = false,
                    known => orders.deadline = known,
                },
                "--port" => match value.parse::<u16>() {
                    Ok(port) if port > 0 => said.port = Some(port),
                    _ => taken = false,
                },
                "--host" => said.host = Some(value.clone()),
                "--unix-socket" => said.unix_socket = Some(path),
                _ => said.token_file = Some(path),
            }
            if !taken {
                orders.wrong.push(format!("{name} {value}"));
            }
        }
        orders
    }
}

/// A deadline as `250ms` or `2s`, from 20 ms to a minute.
pub fn deadline(text: &str) -> Option<Duration> {
    let known = humantime::parse_duration(text).ok()?;
    (Duration::from_millis(20)..=Duration::from_secs(60)).contains(&known).then_some(known)
}

/// Does it, within the deadline counted from `began`.
pub fn run(orders: Orders, began: Instant) {
    let of_environment = || deadline(&std::env::var("MPM_MONITOR_HOOK_DEADLINE").ok()?);
    let most = orders.deadline.or_else(of_environment).unwrap_or(DEADLINE);
    // Whoever wants it gone waits no longer than the deadline; till then the event can still be brought to safety.
    // And a limit on the size of files is an error like a full disk, not the end.
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
    for signal in [SIGTERM, SIGINT, SIGHUP, SIGXFSZ] {
        let _ = signal_hook::flag::register(signal, Arc::new(AtomicBool::new(false)));
    }
    let end = began + most;
    let (done, wait) = mpsc::channel();
    let work = std::thread::Builder::new().name("hook".into()).spawn(move || {
        let told = work(&orders, most, end);
        tell(&orders, &told);
        let _ = done.send(());
    });
    if work.is_ok() {
        // Its end without a word is a panic, which has told about itself.
        let _ = wait.recv_timeout(end.saturating_duration_since(Instant::now()));
    }
}

/// Says what is to be said, last of all: a standard error that nobody reads keeps this thread, and one that is closed or full
/// is nobody's trouble.
fn tell(orders: &Orders, told: &str) {
    let mut text = String::new();
    if !orders.wrong.is_empty() {
        // Not an exit code: Claude Code would take that for a veto.
        text = format!(
            "mpm-monitor hook: not understood and passed over: {}; see mpm-monitor hook --help\n",
            orders.wrong.join(", ")
        );
    }
    if orders.verbose {
        text.push_str(&format!("mpm-monitor hook: {told}\n"));
    }
    if !text.is_empty() {
        out::tell(text.trim_end());
    }
}

/// What was done, in words.
fn work(orders: &Orders, most: Duration, end: Instant) -> String {
    let spooling = end - SPOOLING.min(most / 4);
    // Whoever waits for the spool till then can still say so.
    let end = end - most / 25;
    // Claude Code has written it all when it starts a hook, so whoever is still silent then has nothing to say.
    let reading = spooling - most * 2 / 5;
    let input = match input::read(std::io::stdin(), reading) {
        Ok(input) => input,
        Err(error) => return format!("cannot read standard input: {error}"),
    };
    let around = Surroundings { now: jiff::Timestamp::now(), branch: branch::of, key: key::fresh };
    let events = event::of(&input, around);
    if events.is_empty() {
        return "standard input holds no hook's input, a JSON object; nothing is sent".to_owned();
    }
    let place = Place::find(&orders.said, &Machine::this());
    let spool = place.spool.as_ref().map(Spool::new);
    let mut client = Client::new(&place);
    match &spool {
        // Those that wait go first.
        Some(spool) if spool.waits() => apart::run(|| behind_others(spool, &events, &mut client, spooling, end)),
        _ => {
            let (mut told, rest) = at_once(&events, &mut client, spooling);
            told.extend(rest.map(|rest| apart::run(|| keep(spool.as_ref(), &rest, end))));
            told.join("; ")
        }
    }
}

/// What a monitor has not taken.
struct Rest<'e> {
    events: &'e [Made],
    /// How far the first of them is.
    state: State,
    reason: String,
}

/// Posts the events; what was done with each, and what is left.
fn at_once<'e>(events: &'e [Made], client: &mut Client<'_>, until: Instant) -> (Vec<String>, Option<Rest<'e>>) {
    let mut told = Vec::new();
    for (number, event) in events.iter().enumerate() {
        let (state, reason) = match client.post(&event.key, &event.body, false, until) {
            Sent::Accepted => {
                told.push(format!("{} posted", event.subtype));
                continue;
            }
            Sent::Useless(status) => {
                told.push(format!("{} refused for good with {status}", event.subtype));
                continue;
            }
            Sent::NotNow(reason) => (State::New, reason),
            Sent::Unknown(reason) => (State::Maybe, reason),
        };
        return (told, Some(Rest { events: &events[number..], state, reason }));
    }
    (told, None)
}

/// Puts what is left into the spool.
fn keep(spool: Option<&Spool>, rest: &Rest<'_>, end: Instant) -> String {
    let Rest { events, state, reason } = rest;
    let what = &events[0].subtype;
    let Some(spool) = spool else { return format!("{what} lost: {reason}, and there is no home to keep it in") };
    let records = events
        .iter()
        .enumerate()
        .map(|(n, event)| (if n == 0 { *state } else { State::New }, event.key.as_str(), event.body.as_str()));
    let kept = spool.append(records, end);
    if *state == State::Maybe {
        spool.hold_off();
    }
    match not_kept(kept, spool) {
        None => format!("{what} kept for later: {reason}"),
        Some(why) => {
            spool.count_lost(events.len(), end);
            format!("{what} lost: {reason}, and {why}")
        }
    }
}

/// Why the spool has not kept something.
fn not_kept(kept: std::io::Result<Kept>, spool: &Spool) -> Option<String> {
    let dir = spool.dir().display();
    match kept {
        Ok(Kept::All) => None,
        Ok(Kept::Full) => Some(format!("{dir} is full")),
        Err(error) => Some(format!("{dir}: {error}")),
    }
}

/// Puts the events behind those that wait, and delivers what it can in the time there is.
fn behind_others(spool: &Spool, events: &[Made], client: &mut Client<'_>, until: Instant, end: Instant) -> String {
    let records = events.iter().map(|event| (State::New, event.key.as_str(), event.body.as_str()));
    let not_kept = not_kept(spool.append(records, until), spool);
    if spool.is_held_off() {
        let what = not_kept.map_or("kept behind others".to_owned(), |why| {
            spool.count_lost(events.len(), end);
            format!("lost: {why}")
        });
        return format!("{what}; the monitor did not answer a moment ago");
    }
    let now = Instant::now();
    // What was not kept has to be posted by this very hook.
    let most = if not_kept.is_some() { until.saturating_duration_since(now) / 2 } else { BACKLOG };
    let delivering = until.min(now + most);
    let (mut delivered, mut trouble) = (0, String::new());
    // Once more where something was appended while the right to deliver was given back.
    while spool.waits() && Instant::now() < delivering {
        match deliver(spool, client, delivering, &mut delivered) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                trouble = format!(", then {error}");
                break;
            }
        }
    }
    match not_kept {
        None => format!("kept behind others; {delivered} delivered{trouble}"),
        // Before those that wait, if it must be: that is better than never.
        Some(why) => {
            let (mut told, rest) = at_once(events, client, until);
            told.extend(rest.map(|rest| keep(Some(spool), &rest, end)));
            format!("{why}; {delivered} delivered{trouble}; {}", told.join("; "))
        }
    }
}

/// Delivers until nothing waits or the time is over; whether it got to the end.
fn deliver(spool: &Spool, client: &mut Client<'_>, until: Instant, delivered: &mut usize) -> std::io::Result<bool> {
    let Some(mut delivery) = spool.deliver(until)? else { return Ok(false) };
    while Instant::now() < until {
        let Some(record) = delivery.next_record()? else { return Ok(true) };
        delivery.mark(&record, State::Maybe)?;
        match client.post(&record.key, &record.body, record.state == State::Maybe, until) {
            Sent::Accepted | Sent::Useless(_) => {
                delivery.mark(&record, State::Done)?;
                *delivered += 1;
            }
            Sent::NotNow(_) => {
                delivery.mark(&record, record.state)?;
                return Ok(false);
            }
            Sent::Unknown(_) => {
                spool.hold_off();
                return Ok(false);
            }
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Orders {
        Orders::parse(words.iter().map(|w| (*w).to_owned()))
    }

    #[test]
    fn no_word_stops_a_hook() {
        let orders = parse(&["--port", "9", "--deadline=1s", "--host", "::1", "--verbose"]);
        assert_eq!((orders.said.port, orders.deadline, orders.verbose), (Some(9), Some(Duration::from_secs(1)), true));
        assert_eq!((orders.said.host.as_deref(), orders.wrong.len()), (Some("::1"), 0));
        let orders = parse(&["--port", "0", "--deadline", "1h", "--colour", "x", "--token-file"]);
        assert_eq!(orders.wrong, ["--port 0", "--deadline 1h", "--colour", "x", "--token-file"]);
        assert_eq!(Orders { wrong: Vec::new(), ..orders }, Orders::default());
    }
}
