//! The streams of the other nodes: which there are, which of them are read, and how far.
//!
//! Each node registers its stream every two seconds, and holds a lease of its name. One that holds none and whose stream has
//! expired is gone: whoever sees it sweeps its name away. Machines that live for an hour, each under a name of its own, would
//! leave more names than can be read otherwise.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

use redis::{cmd, pipe};

use super::entry::Position;
use super::link::{Link, Trouble};
use super::{Core, Figures, check_name};

/// The most streams that are read.
const MOST_STREAMS: usize = 256;
/// How often what is left of nodes that are gone is swept away.
const SWEEP: Duration = Duration::from_secs(60);

/// A stream's node and its epoch there.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stream {
    pub node: String,
    pub epoch: String,
}

impl Stream {
    /// The one that is registered under this name.
    fn named(name: &str) -> Option<Self> {
        let (node, epoch) = name.split_once(' ')?;
        let good = check_name(node).is_ok() && check_name(epoch).is_ok();
        good.then(|| Self { node: node.to_owned(), epoch: epoch.to_owned() })
    }

    fn name(&self) -> String {
        format!("{} {}", self.node, self.epoch)
    }

    /// Whether this lease is that of the stream's node, in this epoch or a generation of it.
    fn is_held_by(&self, lease: &str) -> bool {
        let held = lease.split(' ').next().unwrap_or_default();
        self.epoch.strip_prefix(held).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    }
}

/// A stream that is read.
#[derive(Debug, Default)]
pub(super) struct Followed {
    /// Its node has nothing more up to here.
    pub verified: u64,
    /// Its node says that it has events up to here.
    registered: u64,
    pub gap: Option<Gap>,
}

/// Something is missing.
#[derive(Debug)]
pub(super) struct Gap {
    pub through: u64,
    pub since: Instant,
    pub asked: Option<Instant>,
}

impl Followed {
    /// Notes that what is after the first number and up to the second is missing.
    pub fn misses(&mut self, core: &Core, node: &str, after: u64, through: u64) {
        if self.gap.as_ref().is_some_and(|gap| gap.through >= through) {
            return;
        }
        tracing::info!(node, after, through, "events of another node are missing; it is asked for them");
        Figures::add(&core.figures.gaps, 1);
        self.gap = Some(Gap { through, since: Instant::now(), asked: None });
    }
}

/// The streams that are read.
#[derive(Debug, Default)]
pub(super) struct Streams {
    followed: BTreeMap<Stream, Followed>,
    swept: Option<Instant>,
    /// Whether it was told that there are too many.
    told: bool,
}

impl Streams {
    pub fn get_mut(&mut self, stream: &Stream) -> Option<&mut Followed> {
        self.followed.get_mut(stream)
    }

    /// How far the events of a stream are here.
    pub fn position(&self, core: &Core, stream: &Stream) -> Position {
        let stored = core.around.store.reached(&stream.node, &stream.epoch);
        Position { stored, verified: self.followed.get(stream).map_or(0, |f| f.verified) }
    }

    /// Those in which nothing is missing: they can be read on.
    pub fn wanted(&self) -> Vec<Stream> {
        self.followed.iter().filter(|(_, f)| f.gap.is_none()).map(|(stream, _)| stream.clone()).collect()
    }

    /// Those that wait for what is missing.
    pub fn waiting(&self) -> Vec<Stream> {
        self.followed.iter().filter(|(_, f)| f.gap.is_some()).map(|(stream, _)| stream.clone()).collect()
    }

    /// The questions may have gone with the server's data.
    pub fn ask_again(&mut self) {
        for gap in self.followed.values_mut().filter_map(|f| f.gap.as_mut()) {
            gap.asked = None;
        }
    }

    /// A read found nothing. What the node had registered before, and is not here, is not in its stream: the server lost it,
    /// and the node began again after it. A node that nothing is known of yet begins with what the stream has.
    pub fn has_nothing_new(&mut self, core: &Core, stream: &Stream) {
        let at = self.position(core, stream).at();
        if let Some(followed) = self.followed.get_mut(stream)
            && (1..followed.registered).contains(&at)
        {
            followed.misses(core, &stream.node, at, followed.registered);
        }
    }

    /// Finds the streams of the other nodes, and how far they have come; now and then forgets those that are gone.
    pub async fn look(&mut self, core: &Core, link: &mut Link) -> Result<(), Trouble> {
        let mut registered = registered(core, link).await?;
        if self.swept.is_none_or(|at| at.elapsed() >= SWEEP) {
            sweep(core, link, &mut registered).await?;
            self.swept = Some(Instant::now());
        }
        registered.retain(|stream, _| stream.node != core.node);
        // What is not registered any more has expired.
        self.followed.retain(|stream, _| registered.contains_key(stream));
        let crowded = registered.len() > MOST_STREAMS;
        let living = if crowded { living(core, link, registered.keys()).await? } else { BTreeSet::new() };
        self.choose(&registered, &living, |streams, stream| streams.position(core, stream).at());
        if crowded && !self.told {
            tracing::warn!(
                streams = registered.len(),
                most = MOST_STREAMS,
                "there are more streams on the bus than are read; those of nodes that are there come first"
            );
        }
        self.told = crowded;
        let mut behind = BTreeMap::<&str, u64>::new();
        for (stream, has) in &registered {
            let at = self.position(core, stream).at();
            *behind.entry(&stream.node).or_default() += has.saturating_sub(at);
        }
        for (node, behind) in behind {
            core.figures.of_node(node, |f| f.behind = behind);
        }
        Ok(())
    }

    /// Follows what is registered; where that is too much, the living first, and of the others those that are not read yet.
    fn choose(
        &mut self,
        registered: &BTreeMap<Stream, u64>,
        living: &BTreeSet<&Stream>,
        at: impl Fn(&Self, &Stream) -> u64,
    ) {
        let mut chosen: Vec<&Stream> = registered.keys().collect();
        chosen.sort_by_cached_key(|stream| {
            let unread = at(self, stream) < registered[*stream];
            (!living.contains(stream), !unread, !self.followed.contains_key(stream))
        });
        chosen.truncate(MOST_STREAMS);
        let chosen: BTreeSet<&Stream> = chosen.into_iter().collect();
        self.followed.retain(|stream, _| chosen.contains(stream));
        for stream in chosen {
            // Where there are too many they take turns.
            if registered.len() <= MOST_STREAMS && !self.followed.contains_key(stream) {
                tracing::info!(node = stream.node, epoch = stream.epoch, "a node on the bus");
            }
            self.followed.entry(stream.clone()).or_default().registered = registered[stream];
        }
    }
}

/// All streams, and how far their nodes say to have events. What is no node's is passed over: anybody can write anything there.
async fn registered(core: &Core, link: &mut Link) -> Result<BTreeMap<Stream, u64>, Trouble> {
    let all: HashMap<Vec<u8>, Vec<u8>> = link.ask(cmd("HGETALL").arg(core.key(&["streams"]))).await?;
    let text = |bytes| String::from_utf8(bytes).ok();
    Ok(all
        .into_iter()
        .filter_map(|(name, has)| Some((Stream::named(&text(name)?)?, text(has)?.parse().ok()?)))
        .collect())
}

/// Those of these streams whose nodes are there at this moment.
async fn living<'a>(
    core: &Core,
    link: &mut Link,
    streams: impl Iterator<Item = &'a Stream>,
) -> Result<BTreeSet<&'a Stream>, Trouble> {
    let streams: Vec<&Stream> = streams.collect();
    let mut get = cmd("MGET");
    for stream in &streams {
        get.arg(core.key(&["lease", &stream.node]));
    }
    let leases: Vec<Option<Vec<u8>>> = if streams.is_empty() { Vec::new() } else { link.ask(&get).await? };
    let held = |(stream, lease): (&'a Stream, Option<Vec<u8>>)| {
        stream.is_held_by(std::str::from_utf8(&lease?).ok()?).then_some(stream)
    };
    Ok(streams.into_iter().zip(leases).filter_map(held).collect())
}

/// Forgets the names of nodes that are gone. One that was only away registers again when it is back.
async fn sweep(core: &Core, link: &mut Link, registered: &mut BTreeMap<Stream, u64>) -> Result<(), Trouble> {
    let living = living(core, link, registered.keys()).await?;
    let away: Vec<Stream> = registered.keys().filter(|stream| !living.contains(stream)).cloned().collect();
    if away.is_empty() {
        return Ok(());
    }
    let mut ask = pipe();
    for stream in &away {
        ask.cmd("EXISTS").arg(core.key(&["events", &stream.node, &stream.epoch]));
    }
    let exists: Vec<bool> = link.ask_each(&ask).await?;
    let gone: Vec<Stream> = away.into_iter().zip(exists).filter(|(_, exists)| !exists).map(|(s, _)| s).collect();
    if !gone.is_empty() {
        tracing::info!(count = gone.len(), "forgetting nodes that are gone from the bus");
        let names: Vec<String> = gone.iter().map(Stream::name).collect();
        link.ask::<()>(cmd("HDEL").arg(core.key(&["streams"])).arg(names)).await?;
        for stream in &gone {
            registered.remove(stream);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(node: &str) -> Stream {
        Stream { node: node.to_owned(), epoch: "e".to_owned() }
    }

    #[test]
    fn a_name_is_a_node_and_its_epoch() {
        assert_eq!(Stream::named("b e").unwrap(), stream("b"));
        assert_eq!(stream("b").name(), "b e");
        for bad in ["b", "b e f", "b:c e", " e", "b ", ""] {
            assert_eq!(Stream::named(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_lease_holds_the_generations_of_its_epoch() {
        let of = |epoch: &str| Stream { node: "b".into(), epoch: epoch.into() };
        assert!(of("aa").is_held_by("aa 17") && of("aa.2").is_held_by("aa 17"));
        assert!(!of("aab").is_held_by("aa 17") && !of("bb").is_held_by("aa 17") && !of("aa").is_held_by(""));
    }

    #[test]
    fn where_there_are_too_many_the_living_come_first_and_what_is_read_goes() {
        let mut streams = Streams::default();
        let mut registered: BTreeMap<Stream, u64> =
            (0..MOST_STREAMS as u64).map(|n| (stream(&format!("dead{n:03}")), n)).collect();
        streams.choose(&registered, &BTreeSet::new(), |_, _| 0);
        assert_eq!(streams.followed.len(), MOST_STREAMS);
        let new: Vec<Stream> = (0..10).map(|n| stream(&format!("new{n}"))).collect();
        registered.extend(new.iter().map(|s| (s.clone(), 7)));
        // The first hundred of the dead are read.
        let at = |_: &Streams, s: &Stream| if registered[s] < 100 { registered[s] } else { 0 };
        streams.choose(&registered, &new.iter().collect(), at);
        assert_eq!(streams.followed.len(), MOST_STREAMS);
        assert!(new.iter().all(|s| streams.followed.contains_key(s)));
        assert!((100..MOST_STREAMS).all(|n| streams.followed.contains_key(&stream(&format!("dead{n:03}")))));
    }
}
