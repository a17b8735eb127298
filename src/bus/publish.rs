//! Keeps this node's stream up to date with the own store, and answers who misses something of it.
//!
//! How far the stream reaches is asked of the server with each connection, and kept nowhere else: a server that lost its data
//! gets again what the store has. The ids are the store's numbers, so that nothing can stand there twice.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use redis::streams::StreamId;
use redis::{Value, cmd, pipe};
use tokio::sync::watch;

use super::entry::{Content, Entry};
use super::generation::Generation;
use super::link::{Link, Trouble, add};
use super::{Core, Figures, check_name, pause};
use crate::events::cursor::{Cursor, Gap, Next, Why};
use crate::events::model::Event;
use crate::events::store::{Filter, Place};

/// The most events, and about the most bytes, of one batch and of one answer.
const BATCH: (usize, usize) = (256, 1 << 20);
/// How often it is looked for questions while there is nothing to publish, ...
const LOOK: Duration = Duration::from_millis(250);
/// ... sooner after one, ...
const LOOK_SOON: Duration = Duration::from_millis(20);
/// ... and how often the lease is renewed, ...
const RENEW: Duration = Duration::from_secs(2);
/// ... which ends by itself after this time.
const LEASE: Duration = Duration::from_secs(6);
/// How long the stream of a node stays that is not there.
pub(super) const KEEP: Duration = Duration::from_secs(7 * 24 * 3600);
/// How long an answer waits to be fetched.
const ANSWER: Duration = Duration::from_secs(60);
/// The most questions answered at once.
const QUESTIONS: usize = 16;
/// How many entries are compared at once to find where stream and store part, and at most how often.
const COMPARE: (usize, usize) = (32, 4096);

/// Works until it is told to stop.
pub(super) async fn run(core: Arc<Core>, mut stop: watch::Receiver<bool>) {
    let mut failures = 0;
    loop {
        let began = Instant::now();
        match session(&core, &mut stop).await {
            Ok(()) => return,
            Err(trouble) => {
                tracing::debug!(code = trouble.code(), "publishing to the bus: {trouble}");
                core.figures.publishing.store(false, Ordering::Relaxed);
                Figures::add(&core.figures.failures, 1);
                core.tell(|t| t.publish = Some(trouble.to_string()));
            }
        }
        if began.elapsed() > LEASE {
            failures = 0;
        }
        if pause(&mut failures, &mut stop).await {
            return;
        }
    }
}

/// How far the own events are published.
#[derive(Debug, Clone, Copy)]
struct Progress {
    /// The own store was looked at up to this number.
    seen: u64,
    /// No own event is between this number and the next one's.
    after: u64,
    /// What is missing before `after` is missing here, too.
    lost: bool,
}

impl Progress {
    /// Events up to `oldest - 1` are gone from the own store.
    fn skip_to(&mut self, oldest: u64) {
        if oldest > self.seen.saturating_add(1) {
            (self.seen, self.after, self.lost) = (oldest - 1, oldest - 1, true);
        }
    }

    /// The entries of the own events among these.
    fn entries(&mut self, events: &[Arc<Event>]) -> Vec<Entry> {
        let mut entries = Vec::with_capacity(events.len());
        for event in events {
            self.seen = event.seq;
            if event.origin.is_none() {
                entries.push(Entry::of(event, self.after, std::mem::take(&mut self.lost)));
                self.after = event.seq;
            }
        }
        entries
    }
}

/// One connection, until it breaks or everything is published and it is to stop.
async fn session(core: &Core, stop: &mut watch::Receiver<bool>) -> Result<(), Trouble> {
    let store = &core.around.store;
    let mut link = Link::connect(&core.url, Duration::ZERO, core.around.max_body).await?;
    take_lease(core, &mut link).await?;
    let mut generation = Generation::load(&core.around.dir, store.lineage()).await?;
    let mut progress = loop {
        match resume(core, &mut link, &generation).await? {
            Resumed::At(progress) => break progress,
            Resumed::Parted(after) => {
                generation = generation.next(after);
                generation.keep(&core.around.dir).await?;
                tracing::warn!(
                    after,
                    generation = generation.label(),
                    "the bus has events of this node that its store lost; a new stream is begun"
                );
            }
        }
    };
    let own = Own::new(core, generation.label());
    own.register(core, &mut link, progress.after).await?;
    core.figures.publishing.store(true, Ordering::Relaxed);
    let (mut next_look, mut renewed) = (Instant::now(), Instant::now());
    let mut told = false;
    loop {
        if next_look <= Instant::now() {
            // Who has asked is likely to ask for more.
            let asked = own.answer(core, &mut link).await?;
            next_look = Instant::now() + if asked { LOOK_SOON } else { LOOK };
        }
        if renewed.elapsed() >= RENEW {
            take_lease(core, &mut link).await?;
            own.register(core, &mut link, progress.after).await?;
            renewed = Instant::now();
        }
        let stopping = *stop.borrow();
        let ended = publish(core, &own, &mut link, &mut progress, stopping).await?;
        core.figures.seen.store(progress.seen, Ordering::Relaxed);
        if !ended {
            continue;
        }
        if !told {
            told = true;
            core.tell(|t| t.publish = None);
        }
        if stopping {
            // Whoever takes the name next need not wait for the lease's end.
            return give_up_lease(core, &mut link).await;
        }
        tokio::select! {
            () = core.news.notified() => {}
            () = tokio::time::sleep_until(next_look.into()) => {}
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }
}

/// Publishes a batch; true if there is nothing more at this moment. The last ones of all, when it is stopping, do not wait for
/// the hub to pass them on.
async fn publish(
    core: &Core,
    own: &Own,
    link: &mut Link,
    progress: &mut Progress,
    stopping: bool,
) -> Result<bool, Trouble> {
    let (hub, store) = (&core.around.hub, &core.around.store);
    if store.last_seq() <= progress.seen {
        return Ok(true);
    }
    let mut cursor = Cursor::new(Arc::clone(store), Arc::clone(hub), Filter::default(), progress.seen);
    let (mut next, mut events, mut bytes) = (*progress, Vec::new(), Some(BATCH.1));
    while let Some(wanted) = bytes.take() {
        let ahead = if stopping { cursor.read(wanted).await.at(&mut cursor) } else { cursor.next(wanted).await };
        for step in ahead {
            match step {
                Next::Events(piece) => events = piece,
                Next::Gap(Gap { why: Why::Pruned, to, .. }) => next.skip_to(to.saturating_add(1)),
                // Readers of the own store do not get them either.
                Next::Gap(Gap { why: Why::Unreadable, .. }) => {}
                Next::Large(size) => bytes = Some(size),
                Next::Live => {}
                Next::Failed(error) => return Err(error.into()),
            }
        }
    }
    if events.is_empty() {
        *progress = next;
        return Ok(true);
    }
    let entries = next.entries(&events);
    if !entries.is_empty() {
        let mut commands = pipe();
        commands.atomic();
        for entry in &entries {
            add(&mut commands, &own.events, entry, Some(core.settings.stream_events));
        }
        link.ask_all(&commands).await?;
        Figures::add(&core.figures.published, entries.len() as u64);
    }
    *progress = next;
    Ok(false)
}

/// The keys of this node's stream.
struct Own {
    label: String,
    events: String,
    asks: String,
}

impl Own {
    fn new(core: &Core, label: String) -> Self {
        let key = |what| core.key(&[what, &core.node, &label]);
        Self { events: key("events"), asks: key("asks"), label }
    }

    /// Tells the others of the stream and up to which number it has events, and keeps it from being forgotten. What is not in
    /// the stream up to there, as it began later, they can ask for.
    async fn register(&self, core: &Core, link: &mut Link, after: u64) -> Result<(), Trouble> {
        let streams = core.key(&["streams"]);
        let mut commands = pipe();
        commands.cmd("HSET").arg(&streams).arg(format!("{} {}", core.node, self.label)).arg(after).ignore();
        commands.cmd("EXPIRE").arg(&self.events).arg(KEEP.as_secs()).ignore();
        commands.cmd("EXPIRE").arg(&streams).arg(KEEP.as_secs()).ignore();
        link.ask_all(&commands).await
    }

    /// Answers the nodes that miss something; true if there was one.
    async fn answer(&self, core: &Core, link: &mut Link) -> Result<bool, Trouble> {
        let questions = link.range(&self.asks, "-", "+", QUESTIONS).await?;
        let asked = !questions.is_empty();
        for question in questions {
            let mut commands = pipe();
            commands.atomic();
            if let Some((who, after, through)) = question_of(&question) {
                let key = core.key(&["refill", &who, &core.node, &self.label]);
                commands.cmd("DEL").arg(&key).ignore();
                for entry in missing(core, after, through).await? {
                    add(&mut commands, &key, &entry, None);
                }
                commands.cmd("EXPIRE").arg(&key).arg(ANSWER.as_secs()).ignore();
                Figures::add(&core.figures.answered, 1);
                tracing::debug!(who, after, through, "a node misses events of ours");
            }
            commands.cmd("XDEL").arg(&self.asks).arg(&question.id).ignore();
            link.ask_all(&commands).await?;
        }
        Ok(asked)
    }
}

/// Who asks, and for which numbers.
fn question_of(raw: &StreamId) -> Option<(String, u64, u64)> {
    let field = |name| match raw.map.get(name) {
        Some(Value::BulkString(bytes)) => std::str::from_utf8(bytes).ok(),
        _ => None,
    };
    let who = field("who").filter(|who| check_name(who).is_ok())?;
    let (after, through) = (field("after")?.parse().ok()?, field("through")?.parse().ok()?);
    (after < through).then(|| (who.to_owned(), after, through))
}

/// The own events in this range, as many as fit into an answer; if these are all, it says so.
async fn missing(core: &Core, after: u64, through: u64) -> Result<Vec<Entry>, Trouble> {
    let own = Filter { node: Some(Place::Here), ..Filter::default() };
    let page = core.around.store.after(after, BATCH.0, &own).await?;
    let mut progress = Progress { seen: after, after, lost: false };
    progress.skip_to(page.oldest_seq.min(through.saturating_add(1)));
    let (mut bytes, mut complete) = (0, page.complete);
    let mut wanted = Vec::new();
    for event in page.events {
        bytes += event.draft.payload.len();
        if event.seq > through {
            complete = true;
            break;
        }
        if bytes > BATCH.1 && !wanted.is_empty() {
            complete = false;
            break;
        }
        wanted.push(Arc::new(event));
    }
    let mut entries = progress.entries(&wanted);
    if complete {
        entries.push(Entry { seq: through, after: progress.after, lost: progress.lost, content: Content::Nothing });
    }
    Ok(entries)
}

/// From where to go on.
enum Resumed {
    At(Progress),
    /// Stream and store have nothing in common after this number.
    Parted(u64),
}

async fn resume(core: &Core, link: &mut Link, generation: &Generation) -> Result<Resumed, Trouble> {
    let key = core.key(&["events", &core.node, &generation.label()]);
    let newest = link.newest(&key, "+", 1).await?;
    let mut last = 0;
    if let Some(raw) = newest.first() {
        match Entry::read(raw) {
            Some(entry) if agrees(core, &entry).await? => last = entry.seq,
            _ => return Ok(Resumed::Parted(parting(core, link, &key).await?)),
        }
    }
    let floor = core.around.store.last_seq().saturating_sub(core.settings.stream_events);
    let seen = last.max(floor).max(generation.after);
    Ok(Resumed::At(Progress { seen, after: seen, lost: false }))
}

/// Whether the own store has this very event, or has forgotten what it had under the number.
async fn agrees(core: &Core, entry: &Entry) -> Result<bool, Trouble> {
    let Content::Event { accepted, .. } = entry.content else { return Ok(false) };
    if core.around.store.last_seq() < entry.seq {
        return Ok(false);
    }
    let page = core.around.store.after(entry.seq - 1, 1, &Filter::default()).await?;
    Ok(page
        .events
        .first()
        .filter(|event| event.seq == entry.seq)
        .is_none_or(|event| event.origin.is_none() && event.accepted.as_microsecond() == accepted))
}

/// The last number that means the same in the stream and in the store.
async fn parting(core: &Core, link: &mut Link, key: &str) -> Result<u64, Trouble> {
    let (mut to, mut oldest) = ("+".to_owned(), core.around.store.last_seq().saturating_add(1));
    for _ in 0..COMPARE.1 {
        let batch = link.newest(key, &to, COMPARE.0).await?;
        let Some(end) = batch.last() else { break };
        to = format!("({}", end.id);
        for raw in &batch {
            let Some(entry) = Entry::read(raw) else { continue };
            if agrees(core, &entry).await? {
                return Ok(entry.seq);
            }
            oldest = oldest.min(entry.seq);
        }
    }
    Ok(oldest.saturating_sub(1))
}

/// Makes sure that nobody else publishes under this name.
///
/// The lease holds the store's epoch and the instance. A lease of the same store is one of an earlier life, which has ended, as
/// the store's lock says: it is taken over at once, but once only, so that two copies of a store do not fight for it.
async fn take_lease(core: &Core, link: &mut Link) -> Result<(), Trouble> {
    let key = core.key(&["lease", &core.node]);
    let (epoch, instance) = (core.around.store.lineage(), core.around.instance.as_str());
    let (mine, ms) = (format!("{epoch} {instance}"), LEASE.as_millis() as u64);
    let taken: Option<String> = link.ask(cmd("SET").arg(&key).arg(&mine).arg("NX").arg("PX").arg(ms)).await?;
    let holder: Option<String> = if taken.is_some() { None } else { link.ask(cmd("GET").arg(&key)).await? };
    if let Some(holder) = holder {
        let (theirs, who) = holder.split_once(' ').unwrap_or(("", &holder));
        if holder == mine {
            link.ask::<()>(cmd("PEXPIRE").arg(&key).arg(ms)).await?;
        } else if theirs == epoch && !core.held_lease.load(Ordering::Relaxed) {
            link.ask::<()>(cmd("SET").arg(&key).arg(&mine).arg("PX").arg(ms)).await?;
        } else {
            let who: String = who.chars().filter(char::is_ascii_alphanumeric).take(40).collect();
            return Err(Trouble::NameTaken(format!("instance {who}"), core.node.clone()));
        }
    }
    core.held_lease.store(true, Ordering::Relaxed);
    Ok(())
}

async fn give_up_lease(core: &Core, link: &mut Link) -> Result<(), Trouble> {
    let key = core.key(&["lease", &core.node]);
    let holder: Option<String> = link.ask(cmd("GET").arg(&key)).await?;
    if holder == Some(format!("{} {}", core.around.store.lineage(), core.around.instance)) {
        link.ask::<()>(cmd("DEL").arg(&key)).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::events::model::{Draft, Origin};

    fn event(seq: u64, own: bool) -> Arc<Event> {
        let origin = (!own).then(|| Arc::new(Origin { node: "b".into(), epoch: "e".into(), seq: 1 }));
        let draft = Draft { name: "n".into(), subtype: "s".into(), session: None, payload: "{}".into() };
        Arc::new(Event { seq, accepted: Timestamp::UNIX_EPOCH, origin, draft })
    }

    #[test]
    fn entries_are_linked_over_what_came_from_others() {
        let mut progress = Progress { seen: 4, after: 4, lost: false };
        let events: Vec<_> = [(5, false), (6, true), (7, false), (8, false), (9, true), (10, false)]
            .into_iter()
            .map(|(seq, own)| event(seq, own))
            .collect();
        let links = |entries: Vec<Entry>| entries.iter().map(|e| (e.seq, e.after, e.lost)).collect::<Vec<_>>();
        assert_eq!(links(progress.entries(&events)), [(6, 4, false), (9, 6, false)]);
        assert_eq!((progress.seen, progress.after), (10, 9));
        progress.skip_to(11);
        assert_eq!((progress.seen, progress.lost), (10, false), "nothing is missing");
        progress.skip_to(20);
        assert_eq!(links(progress.entries(&[event(21, true), event(22, true)])), [(21, 19, true), (22, 21, false)]);
    }

    #[test]
    fn a_question_names_who_asks_and_what_is_missing() {
        let raw = |fields: [(&str, &str); 3]| StreamId {
            map: fields.iter().map(|(n, v)| ((*n).to_owned(), Value::BulkString(v.as_bytes().to_vec()))).collect(),
            ..StreamId::default()
        };
        let good = raw([("who", "b"), ("after", "3"), ("through", "9")]);
        assert_eq!(question_of(&good), Some(("b".to_owned(), 3, 9)));
        for bad in [
            [("who", "b:c"), ("after", "3"), ("through", "9")],
            [("who", "b"), ("after", "9"), ("through", "9")],
            [("who", "b"), ("after", "x"), ("through", "9")],
        ] {
            assert_eq!(question_of(&raw(bad)), None, "{bad:?}");
        }
    }
}
