//! What is counted of the bus.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};

/// The most nodes with figures of their own: a label is not to have any number of values.
pub const MOST_NODES: usize = 32;
/// What the others are counted under.
const OTHERS: &str = "other";

/// Counters only grow.
#[derive(Debug, Default)]
pub struct Figures {
    node: String,
    /// Whether this node's events go out at this moment.
    pub publishing: AtomicBool,
    /// Whether those of others are read.
    pub receiving: AtomicBool,
    /// Events published.
    pub published: AtomicU64,
    /// Events of others stored.
    pub received: AtomicU64,
    /// Entries that were here already.
    pub duplicates: AtomicU64,
    /// Connections that were lost or could not be made.
    pub failures: AtomicU64,
    /// Times that events of a node were missing and asked for.
    pub gaps: AtomicU64,
    /// Of them, those that could not be had.
    pub gaps_lost: AtomicU64,
    /// Questions for missing events that were answered.
    pub answered: AtomicU64,
    /// Entries that no node of ours can have written.
    pub unreadable: AtomicU64,
    /// The own store is published up to this number.
    pub seen: AtomicU64,
    nodes: Mutex<BTreeMap<String, NodeFigures>>,
}

/// What is known of another node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NodeFigures {
    /// Events of it that were stored by this life.
    pub received: u64,
    /// How many numbers it is ahead of what is here.
    pub behind: u64,
}

/// All figures of one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// This node's name.
    pub node: String,
    /// See [`Figures::publishing`].
    pub publishing: bool,
    /// See [`Figures::receiving`].
    pub receiving: bool,
    /// Name and value of each counter.
    pub counters: [(&'static str, &'static str, u64); 8],
    /// How many numbers of the own store were not published yet.
    pub unpublished: u64,
    /// The other nodes.
    pub nodes: BTreeMap<String, NodeFigures>,
}

impl Figures {
    /// Of the node of this name.
    pub fn new(node: &str) -> Self {
        Self { node: node.to_owned(), ..Self::default() }
    }

    /// Adds to a counter.
    pub fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }

    /// Changes what is known of a node.
    pub fn of_node(&self, node: &str, change: impl FnOnce(&mut NodeFigures)) {
        let mut nodes = self.nodes();
        let known = nodes.contains_key(node) || nodes.len() < MOST_NODES;
        change(nodes.entry(if known { node } else { OTHERS }.to_owned()).or_default());
    }

    /// All of them, as of now; `last_seq` is the last number of the own store.
    pub fn snapshot(&self, last_seq: u64) -> Snapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Snapshot {
            node: self.node.clone(),
            publishing: self.publishing.load(Ordering::Relaxed),
            receiving: self.receiving.load(Ordering::Relaxed),
            counters: [
                ("published", "Events published to the bus", read(&self.published)),
                ("received", "Events of other nodes stored", read(&self.received)),
                ("duplicates", "Entries of other nodes that were here already", read(&self.duplicates)),
                ("failures", "Connections to the bus that were lost or could not be made", read(&self.failures)),
                ("gaps", "Times that events of another node were missing and asked for", read(&self.gaps)),
                ("gaps_lost", "Times that missing events could not be had", read(&self.gaps_lost)),
                ("answered", "Questions for missing events that were answered", read(&self.answered)),
                ("unreadable", "Entries that no node can have written", read(&self.unreadable)),
            ],
            unpublished: last_seq.saturating_sub(read(&self.seen)),
            nodes: self.nodes().clone(),
        }
    }

    fn nodes(&self) -> MutexGuard<'_, BTreeMap<String, NodeFigures>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Snapshot {
    /// As `/api/status` has it.
    pub fn to_json(&self) -> Value {
        let mut body = json!({
            "node": self.node,
            "publishing": self.publishing,
            "receiving": self.receiving,
            "unpublished": self.unpublished,
        });
        for (name, _, value) in self.counters {
            body[name] = value.into();
        }
        let of = |f: &NodeFigures| json!({"received": f.received, "behind": f.behind});
        body["nodes"] =
            self.nodes.iter().map(|(name, f)| (name.clone(), of(f))).collect::<serde_json::Map<_, _>>().into();
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_nodes_makes_a_bounded_number_of_series() {
        let figures = Figures::new("a");
        for index in 0..100 {
            figures.of_node(&format!("n{index:03}"), |f| f.received += 1);
        }
        let nodes = figures.snapshot(0).nodes;
        assert_eq!((nodes.len(), nodes[OTHERS].received), (MOST_NODES + 1, 68));
    }
}
