//! Reads the streams of the other nodes into the own store.
//!
//! How far each was read is what the store has of it ([`Store::reached`](crate::events::store::Store::reached)); nothing else is
//! kept. Where an entry says that something is missing before it, or its node says that it has more than its stream, the node is
//! asked, and nothing of it is taken until the answer is there or `bus.gap_wait` has passed: then the gap is told, as an event.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use redis::streams::StreamId;
use redis::{cmd, pipe};
use tokio::sync::watch;

use super::entry::{Entry, Position};
use super::link::{Link, Trouble};
use super::plan::{Plan, Source};
use super::streams::{Stream, Streams};
use super::{Core, Figures, pause};
use crate::events::intake::Brought;
use crate::events::store::Arrival;

/// How long a read waits for entries.
const BLOCK: Duration = Duration::from_millis(500);
/// The same while answers are waited for.
const BLOCK_SHORT: Duration = Duration::from_millis(25);
/// How often it is looked for new nodes.
const LOOK: Duration = Duration::from_secs(1);
/// How often a question is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// The fewest and the most entries of all streams that are read at once. The server counts entries, not bytes: what comes after
/// small ones may be large.
const COUNT: (usize, usize) = (1, 128);
/// From here on fewer are read at once.
const LARGE: usize = 2 << 20;
/// The most questions that wait for a node that is not there, and how long.
const QUESTIONS: (u64, u64) = (64, 3600);
/// The most entries of an answer.
const ANSWER: usize = 300;

/// Works until it is told to stop.
pub(super) async fn run(core: Arc<Core>, mut stop: watch::Receiver<bool>) {
    let mut failures = 0;
    let mut streams = Streams::default();
    let mut count = COUNT.1 / 2;
    loop {
        let began = Instant::now();
        let ended = tokio::select! {
            ended = session(&core, &mut streams, &mut count) => ended,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        if let Err(trouble) = ended {
            tracing::debug!(code = trouble.code(), "receiving from the bus: {trouble}");
            if matches!(trouble, Trouble::TooLarge(..)) && count > COUNT.0 {
                // Of fewer entries the answer may be small enough.
                count /= 2;
                continue;
            }
            core.figures.receiving.store(false, Ordering::Relaxed);
            Figures::add(&core.figures.failures, 1);
            core.tell(|t| t.receive = Some(trouble.to_string()));
        }
        if began.elapsed() > LOOK {
            failures = 0;
        }
        if pause(&mut failures, &mut stop).await {
            return;
        }
    }
}

/// One connection, until it breaks.
async fn session(core: &Core, streams: &mut Streams, count: &mut usize) -> Result<(), Trouble> {
    let mut link = Link::connect(&core.url, BLOCK, core.around.max_body).await?;
    streams.ask_again();
    let (mut looked, mut turn, mut told) = (None::<Instant>, 0, false);
    loop {
        if looked.is_none_or(|at| at.elapsed() >= LOOK) {
            streams.look(core, &mut link).await?;
            looked = Some(Instant::now());
        }
        refill(core, &mut link, streams).await?;
        let (wanted, are_all) = some_of(streams.wanted(), *count, &mut turn);
        let block = if are_all && streams.waiting().is_empty() { BLOCK } else { BLOCK_SHORT };
        if wanted.is_empty() {
            tokio::time::sleep(block).await;
        } else {
            let at = |stream: &Stream| {
                (
                    core.key(&["events", &stream.node, &stream.epoch]),
                    format!("{}-0", streams.position(core, stream).at()),
                )
            };
            let keys: Vec<_> = wanted.iter().map(at).collect();
            let each = (*count / keys.len()).max(1);
            let mut read = link.read(&keys, each, block).await?;
            *count = next_count(*count, each, are_all, &read);
            for (stream, (key, _)) in wanted.iter().zip(&keys) {
                match read.remove(key) {
                    Some(entries) => take(core, streams, stream, &entries, Source::Stream).await?,
                    None => streams.has_nothing_new(core, stream),
                }
            }
        }
        if !told {
            told = true;
            core.figures.receiving.store(true, Ordering::Relaxed);
            core.tell(|t| t.receive = None);
        }
    }
}

/// Where few entries are read at once, as they are large, not every stream is read each time: they take turns. Which they are,
/// and whether they are all.
fn some_of(mut wanted: Vec<Stream>, count: usize, turn: &mut usize) -> (Vec<Stream>, bool) {
    if wanted.len() <= count || count >= COUNT.1 {
        return (wanted, true);
    }
    let from = *turn % wanted.len();
    wanted.rotate_left(from);
    wanted.truncate(count);
    *turn = from + count;
    (wanted, false)
}

/// So many entries that an answer stays of a bearable size.
fn next_count(count: usize, each: usize, are_all: bool, read: &HashMap<String, Vec<StreamId>>) -> usize {
    let bytes: usize = read.values().flatten().filter_map(Entry::read).map(|e| e.size()).sum();
    let full = !are_all || read.values().any(|entries| entries.len() >= each);
    match bytes {
        b if b > LARGE => (count / 2).max(COUNT.0),
        b if full && b < LARGE / 4 => (count * 2).min(COUNT.1),
        _ => count,
    }
}

/// Asks for what is missing, takes what was answered, and gives up what nobody has.
async fn refill(core: &Core, link: &mut Link, streams: &mut Streams) -> Result<(), Trouble> {
    for stream in streams.waiting() {
        let Stream { node, epoch } = &stream;
        let answer = core.key(&["refill", &core.node, node, epoch]);
        let entries = link.range(&answer, "-", "+", ANSWER).await?;
        if !entries.is_empty() {
            take(core, streams, &stream, &entries, Source::Answer).await?;
            link.ask::<()>(cmd("DEL").arg(&answer)).await?;
        }
        let at = streams.position(core, &stream).at();
        let Some(followed) = streams.get_mut(&stream) else { continue };
        let Some(gap) = &mut followed.gap else { continue };
        if at >= gap.through {
            followed.gap = None;
        } else if gap.since.elapsed() >= core.settings.gap_wait {
            let through = gap.through;
            followed.gap = None;
            tell_lost(core, &stream, at, through, "its node did not answer in time").await?;
        } else if !entries.is_empty() || gap.asked.is_none_or(|at| at.elapsed() >= ASK_AGAIN) {
            gap.asked = Some(Instant::now());
            let asks = core.key(&["asks", node, epoch]);
            let mut ask = pipe();
            ask.cmd("XADD").arg(&asks).arg("MAXLEN").arg(QUESTIONS.0).arg("*");
            ask.arg("who").arg(&core.node).arg("after").arg(at).arg("through").arg(gap.through).ignore();
            ask.cmd("EXPIRE").arg(&asks).arg(QUESTIONS.1).ignore();
            link.ask_all(&ask).await?;
        }
    }
    let told: BTreeMap<String, String> = streams
        .waiting()
        .into_iter()
        .map(|Stream { node, .. }| (node.clone(), format!("events of node {node} are missing and asked for")))
        .collect();
    core.tell(|t| t.waiting = told);
    Ok(())
}

/// Stores what is new among these entries of a stream, up to the first that something is missing before.
async fn take(
    core: &Core,
    streams: &mut Streams,
    stream: &Stream,
    entries: &[StreamId],
    source: Source,
) -> Result<(), Trouble> {
    let mut at = streams.position(core, stream);
    let mut plan = Plan::default();
    for raw in entries {
        let Some(entry) = Entry::read(raw) else {
            Figures::add(&core.figures.unreadable, 1);
            continue;
        };
        if plan.add(&mut at, entry, stream, source) {
            break;
        }
    }
    let Plan { arrivals, known, unreadable, missing, lost } = plan;
    Figures::add(&core.figures.duplicates, known);
    Figures::add(&core.figures.unreadable, unreadable);
    for (after, through) in lost {
        tracing::warn!(node = stream.node, after, through, "events of another node are lost");
        Figures::add(&core.figures.gaps_lost, 1);
    }
    if let (Some(followed), Some((after, through))) = (streams.get_mut(stream), missing) {
        followed.misses(core, &stream.node, after, through);
    }
    bring(core, &stream.node, arrivals).await?;
    // Not before: what could not be stored would be passed over for good.
    if let Some(followed) = streams.get_mut(stream) {
        followed.verified = at.verified;
    }
    Ok(())
}

async fn tell_lost(core: &Core, stream: &Stream, after: u64, through: u64, reason: &str) -> Result<(), Trouble> {
    let mut plan = Plan::default();
    let mut at = Position { stored: core.around.store.reached(&stream.node, &stream.epoch), verified: 0 };
    plan.lose(&mut at, stream, after, through, reason);
    tracing::warn!(node = stream.node, after, through, "events of another node are lost: {reason}");
    Figures::add(&core.figures.gaps_lost, 1);
    bring(core, &stream.node, plan.arrivals).await
}

/// Stores arrivals, in order, and lets the subscribers keep up.
async fn bring(core: &Core, node: &str, arrivals: Vec<Arrival>) -> Result<(), Trouble> {
    if arrivals.is_empty() {
        return Ok(());
    }
    let Brought { new, known, failed } = core.around.intake.bring(arrivals).await;
    Figures::add(&core.figures.duplicates, known);
    Figures::add(&core.figures.received, new);
    core.figures.of_node(node, |f| f.received += new);
    failed.map_or(Ok(()), |error| Err(error.into()))
}

#[cfg(test)]
mod tests {
    use super::super::entry::Content;
    use super::*;
    use crate::events::model::Draft;

    #[test]
    fn large_entries_are_read_in_small_numbers() {
        let read = |bytes: usize, entries: usize| {
            let draft = Draft {
                name: "n".into(),
                subtype: "s".into(),
                session: None,
                payload: format!("\"{}\"", "x".repeat(bytes)).into(),
            };
            let ids = (1..=entries as u64).map(|seq| {
                let entry = Entry {
                    seq,
                    after: seq - 1,
                    lost: false,
                    content: Content::Event { accepted: 0, draft: draft.clone() },
                };
                let map =
                    entry.fields().into_iter().map(|(n, v)| (n.to_owned(), redis::Value::BulkString(v))).collect();
                StreamId { id: entry.id(), map, ..StreamId::default() }
            });
            HashMap::from([("k".to_owned(), ids.collect())])
        };
        assert_eq!(next_count(16, 16, true, &read(1 << 20, 3)), 8);
        assert_eq!(next_count(16, 16, true, &read(10, 16)), 32);
        assert_eq!(next_count(16, 16, true, &read(10, 15)), 16);
        assert_eq!(next_count(16, 4, true, &read(10, 4)), 32, "one of four streams has more");
        assert_eq!(next_count(COUNT.1, COUNT.1, true, &read(10, COUNT.1)), COUNT.1);
        assert_eq!(next_count(1, 1, true, &read(4 << 20, 1)), 1);
        assert_eq!(next_count(4, 1, false, &HashMap::new()), 8, "not all of them were read, and those had nothing");
    }

    #[test]
    fn streams_take_turns_where_few_entries_are_read_at_once() {
        let all: Vec<Stream> = (0..5).map(|n| Stream { node: n.to_string(), epoch: "e".into() }).collect();
        let mut turn = 0;
        let mut nodes = |count| {
            let (some, are_all) = some_of(all.clone(), count, &mut turn);
            (some.iter().map(|s| s.node.as_str()).collect::<Vec<_>>().join(" "), are_all)
        };
        assert_eq!(nodes(2), ("0 1".into(), false));
        assert_eq!(nodes(2), ("2 3".into(), false));
        assert_eq!(nodes(2), ("4 0".into(), false));
        assert!(nodes(5).1);
    }
}
