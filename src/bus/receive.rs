//! Reads the streams of the other nodes into the own store.
//!
//! How far each was read is what the store has of it ([`Store::reached`](crate::events::store::Store::reached)); nothing else is
//! kept. Where an entry says that something is missing before it, or its node says that it has more than its stream, the node is
//! asked, and nothing of it is taken until the answer is there or `bus.gap_wait` has passed: then the gap is told, as an event.

use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use redis::streams::StreamId;
use redis::{cmd, pipe};
use tokio::sync::watch;

use super::entry::{Entry, Position};
use super::link::{Link, Trouble};
use super::plan::{Plan, Source};
use super::{Core, Figures, check_name, pause};
use crate::events::store::{Arrival, Store, StoreError, Stored};

/// How long a read waits for entries.
const BLOCK: Duration = Duration::from_millis(500);
/// The same while answers are waited for.
const BLOCK_SHORT: Duration = Duration::from_millis(25);
/// How often it is looked for new nodes.
const LOOK: Duration = Duration::from_secs(1);
/// How often a question is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// The most streams that are read.
const MOST_STREAMS: usize = 256;
/// The fewest and the most entries of each stream that are read at once.
const COUNT: (usize, usize) = (1, 256);
/// From here on fewer are read at once.
const LARGE: usize = 2 << 20;
/// The most questions that wait for a node that is not there, and how long.
const QUESTIONS: (u64, u64) = (64, 3600);
/// The most entries of an answer.
const ANSWER: usize = 300;

/// Works until it is told to stop.
pub(super) async fn run(core: Arc<Core>, mut stop: watch::Receiver<bool>) {
    let mut failures = 0;
    let mut streams = Streams::new();
    loop {
        let began = Instant::now();
        let ended = tokio::select! {
            ended = session(&core, &mut streams) => ended,
            _ = stop.wait_for(|stop| *stop) => return,
        };
        if let Err(trouble) = ended {
            tracing::debug!(code = trouble.code(), "receiving from the bus: {trouble}");
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

/// The streams that are read, by node and epoch.
type Streams = BTreeMap<(String, String), Followed>;

/// A stream that is read.
#[derive(Debug, Default)]
struct Followed {
    /// Its node has nothing more up to here.
    verified: u64,
    /// Its node says that it has events up to here.
    registered: u64,
    gap: Option<Gap>,
}

impl Followed {
    /// Notes that what is after the first number and up to the second is missing.
    fn misses(&mut self, core: &Core, node: &str, after: u64, through: u64) {
        if self.gap.as_ref().is_some_and(|gap| gap.through >= through) {
            return;
        }
        tracing::info!(node, after, through, "events of another node are missing; it is asked for them");
        Figures::add(&core.figures.gaps, 1);
        self.gap = Some(Gap { through, since: Instant::now(), asked: None });
    }
}

/// Something is missing.
#[derive(Debug)]
struct Gap {
    through: u64,
    since: Instant,
    asked: Option<Instant>,
}

/// One connection, until it breaks.
async fn session(core: &Core, streams: &mut Streams) -> Result<(), Trouble> {
    let mut link = Link::connect(&core.url, BLOCK).await?;
    for followed in streams.values_mut() {
        // A question may have gone with the server's data.
        if let Some(gap) = &mut followed.gap {
            gap.asked = None;
        }
    }
    let (mut looked, mut count, mut told) = (None::<Instant>, 16, false);
    loop {
        if looked.is_none_or(|at| at.elapsed() >= LOOK) {
            look(core, &mut link, streams).await?;
            looked = Some(Instant::now());
        }
        refill(core, &mut link, streams).await?;
        let waits = streams.values().any(|s| s.gap.is_some());
        let block = if waits { BLOCK_SHORT } else { BLOCK };
        let keys: Vec<((String, String), String)> = streams
            .iter()
            .filter(|(_, followed)| followed.gap.is_none())
            .map(|((node, epoch), _)| ((node.clone(), epoch.clone()), core.key(&["events", node, epoch])))
            .collect();
        if keys.is_empty() {
            tokio::time::sleep(block).await;
        } else {
            let at = |(stream, key): &((String, String), String)| {
                (key.clone(), format!("{}-0", position(core, streams, stream).at()))
            };
            let wanted: Vec<_> = keys.iter().map(at).collect();
            let mut read = link.read(&wanted, count, block).await?;
            count = next_count(count, &read);
            for (stream, key) in keys {
                match read.remove(&key) {
                    Some(entries) => take(core, streams, &stream, &entries, Source::Stream).await?,
                    None => compare(core, streams, &stream),
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

fn position(core: &Core, streams: &Streams, stream: &(String, String)) -> Position {
    let stored = core.around.store.reached(&stream.0, &stream.1);
    Position { stored, verified: streams.get(stream).map_or(0, |s| s.verified) }
}

/// The stream has nothing new. What its node has registered before that was read, and is not here, is not in the stream: the
/// server lost it, and the node began again after it. A node that nothing is known of yet begins with what the stream has.
fn compare(core: &Core, streams: &mut Streams, stream: &(String, String)) {
    let at = position(core, streams, stream).at();
    if let Some(followed) = streams.get_mut(stream)
        && (1..followed.registered).contains(&at)
    {
        followed.misses(core, &stream.0, at, followed.registered);
    }
}

/// So many entries that an answer stays of a bearable size.
fn next_count(count: usize, read: &HashMap<String, Vec<StreamId>>) -> usize {
    let bytes: usize = read.values().flatten().filter_map(Entry::read).map(|e| e.size()).sum();
    let full = read.values().any(|entries| entries.len() >= count);
    match bytes {
        b if b > LARGE => (count / 2).max(COUNT.0),
        b if full && b < LARGE / 4 => (count * 2).min(COUNT.1),
        _ => count,
    }
}

/// Finds the streams of the other nodes, and how far they have come.
async fn look(core: &Core, link: &mut Link, streams: &mut Streams) -> Result<(), Trouble> {
    let registered: HashMap<String, u64> = link.ask(cmd("HGETALL").arg(core.key(&["streams"]))).await?;
    let mut behind = BTreeMap::<&str, u64>::new();
    for (name, has) in &registered {
        let Some((node, epoch)) = name.split_once(' ') else { continue };
        if node == core.node || check_name(node).is_err() || check_name(epoch).is_err() {
            continue;
        }
        let stream = (node.to_owned(), epoch.to_owned());
        if !streams.contains_key(&stream) {
            if streams.len() >= MOST_STREAMS {
                tracing::warn!(node, most = MOST_STREAMS, "there are more streams on the bus than are read");
                continue;
            }
            tracing::info!(node, epoch, "a node on the bus");
            streams.insert(stream.clone(), Followed::default());
        }
        let at = position(core, streams, &stream).at();
        *behind.entry(node).or_default() += has.saturating_sub(at);
        if let Some(followed) = streams.get_mut(&stream) {
            followed.registered = *has;
        }
    }
    for (node, behind) in behind {
        core.figures.of_node(node, |f| f.behind = behind);
    }
    // What is not registered any more has expired.
    streams.retain(|(node, epoch), _| registered.contains_key(&format!("{node} {epoch}")));
    Ok(())
}

/// Asks for what is missing, takes what was answered, and gives up what nobody has.
async fn refill(core: &Core, link: &mut Link, streams: &mut Streams) -> Result<(), Trouble> {
    let waiting: Vec<(String, String)> =
        streams.iter().filter(|(_, f)| f.gap.is_some()).map(|(stream, _)| stream.clone()).collect();
    for stream in waiting {
        let (node, epoch) = &stream;
        let answer = core.key(&["refill", &core.node, node, epoch]);
        let entries = link.range(&answer, "-", "+", ANSWER).await?;
        if !entries.is_empty() {
            take(core, streams, &stream, &entries, Source::Answer).await?;
            link.ask::<()>(cmd("DEL").arg(&answer)).await?;
        }
        let at = position(core, streams, &stream).at();
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
        .iter()
        .filter(|(_, followed)| followed.gap.is_some())
        .map(|((node, _), _)| (node.clone(), format!("events of node {node} are missing and asked for")))
        .collect();
    core.tell(|t| t.waiting = told);
    Ok(())
}

/// Stores what is new among these entries of a stream, up to the first that something is missing before.
async fn take(
    core: &Core,
    streams: &mut Streams,
    stream: &(String, String),
    entries: &[StreamId],
    source: Source,
) -> Result<(), Trouble> {
    let mut at = position(core, streams, stream);
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
        tracing::warn!(node = stream.0, after, through, "events of another node are lost");
        Figures::add(&core.figures.gaps_lost, 1);
    }
    if let (Some(followed), Some((after, through))) = (streams.get_mut(stream), missing) {
        followed.misses(core, &stream.0, after, through);
    }
    bring(core, &stream.0, arrivals).await?;
    // Not before: what could not be stored would be passed over for good.
    if let Some(followed) = streams.get_mut(stream) {
        followed.verified = at.verified;
    }
    Ok(())
}

async fn tell_lost(
    core: &Core,
    stream: &(String, String),
    after: u64,
    through: u64,
    reason: &str,
) -> Result<(), Trouble> {
    let mut plan = Plan::default();
    let mut at = Position { stored: core.around.store.reached(&stream.0, &stream.1), verified: 0 };
    plan.lose(&mut at, stream, after, through, reason);
    tracing::warn!(node = stream.0, after, through, "events of another node are lost: {reason}");
    Figures::add(&core.figures.gaps_lost, 1);
    bring(core, &stream.0, plan.arrivals).await
}

/// Stores arrivals, in order, and lets the subscribers keep up.
async fn bring(core: &Core, node: &str, arrivals: Vec<Arrival>) -> Result<(), Trouble> {
    if arrivals.is_empty() {
        return Ok(());
    }
    let (mut new, mut failed) = (0, None);
    for result in append_all(&core.around.store, arrivals).await {
        match result {
            Ok(Stored::Now(_)) => new += 1,
            Ok(Stored::Before) => Figures::add(&core.figures.duplicates, 1),
            // The first reason is the one that counts; what comes after it was refused for want of it.
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    Figures::add(&core.figures.received, new);
    core.figures.of_node(node, |f| f.received += new);
    core.around.hub.has_room().await;
    failed.map_or(Ok(()), |error| Err(error.into()))
}

/// Appends all at once, so that they are committed together; the store keeps their order, or takes none after the first that
/// fails.
async fn append_all(store: &Store, arrivals: Vec<Arrival>) -> Vec<Result<Stored, StoreError>> {
    let mut results: Vec<Option<Result<Stored, StoreError>>> = arrivals.iter().map(|_| None).collect();
    let mut appends: Vec<Option<Pin<Box<dyn Future<Output = _> + Send + '_>>>> =
        arrivals.into_iter().map(|a| Some(Box::pin(store.append_remote(a)) as _)).collect();
    poll_fn(|context| {
        let mut waits = false;
        for (append, result) in appends.iter_mut().zip(&mut results) {
            let Some(future) = append else { continue };
            match future.as_mut().poll(context) {
                Poll::Ready(done) => (*result, *append) = (Some(done), None),
                Poll::Pending => waits = true,
            }
        }
        if waits { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
    results.into_iter().flatten().collect()
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
        assert_eq!(next_count(16, &read(1 << 20, 3)), 8);
        assert_eq!(next_count(16, &read(10, 16)), 32);
        assert_eq!(next_count(16, &read(10, 15)), 16);
        assert_eq!(next_count(1, &read(4 << 20, 1)), 1);
    }
}
