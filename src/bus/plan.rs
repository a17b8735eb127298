//! What to do with the entries of another node: take them, wait for what is missing, or tell what is lost. Pure.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;

use super::entry::{Content, Entry, Position, Verdict};
use super::streams::Stream;
use crate::events::model::{Draft, Origin};
use crate::events::store::Arrival;

/// Where entries come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The node's stream.
    Stream,
    /// The node's answer to a question.
    Answer,
}

/// What to do with some entries.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) arrivals: Vec<Arrival>,
    pub(super) known: u64,
    pub(super) unreadable: u64,
    pub(super) missing: Option<(u64, u64)>,
    pub(super) lost: Vec<(u64, u64)>,
}

impl Plan {
    /// Adds an entry to it; true if what follows has to wait.
    pub(super) fn add(&mut self, at: &mut Position, entry: Entry, stream: &Stream, source: Source) -> bool {
        let verdict = at.judge(&entry);
        if let Content::Unreadable(_) = entry.content
            && source == Source::Stream
            && verdict != Verdict::Known
        {
            // Its node can say what it was.
            self.unreadable += 1;
            self.missing = Some((at.at(), entry.seq));
            return true;
        }
        match verdict {
            Verdict::Known => {
                self.known += 1;
                return false;
            }
            Verdict::Missing(after, through) => {
                // Of an answer nothing can be missing; whatever wrote this, the question is asked again.
                self.missing = (source == Source::Stream).then_some((after, through));
                return true;
            }
            Verdict::Lost(after, through) => self.lose(at, stream, after, through, "they are gone on their node, too"),
            Verdict::Take => {}
        }
        match entry.content {
            Content::Nothing => at.verified = at.verified.max(entry.seq),
            Content::Event { draft, .. } => {
                self.arrivals.push(arrival(stream, entry.seq, at.stored, draft));
                at.stored = entry.seq;
            }
            Content::Unreadable(reason) => self.lose(at, stream, entry.seq - 1, entry.seq, reason),
        }
        false
    }

    /// In the place of what is lost stands an event that says so; with the last of the lost numbers, so that it is told once.
    pub(super) fn lose(&mut self, at: &mut Position, stream: &Stream, after: u64, through: u64, reason: &str) {
        self.lost.push((after, through));
        self.arrivals.push(arrival(stream, through, at.stored, lost_draft(stream, after, through, reason)));
        at.stored = through;
    }
}

fn arrival(Stream { node, epoch }: &Stream, seq: u64, after: u64, draft: Draft) -> Arrival {
    Arrival { origin: Arc::new(Origin { node: node.clone(), epoch: epoch.clone(), seq }), after, draft }
}

fn lost_draft(Stream { node, epoch }: &Stream, after: u64, through: u64, reason: &str) -> Draft {
    let payload = json!({
        "type": "system_event",
        "subtype": "bus_gap",
        "data": {"node": node, "epoch": epoch, "after": after, "through": through, "reason": reason},
        "timestamp": format!("{:.6}", Timestamp::now()),
        "session_id": null,
        "source": "mpm-monitor",
    });
    Draft { name: "system_event".into(), subtype: "bus_gap".into(), session: None, payload: payload.to_string().into() }
}

#[cfg(test)]
mod tests {
    use super::super::entry::tests::sample as event;
    use super::*;

    fn planned(stored: u64, entries: Vec<Entry>, source: Source) -> (Vec<(u64, u64)>, Position, Plan) {
        let stream = Stream { node: "b".into(), epoch: "e".into() };
        let (mut plan, mut at) = (Plan::default(), Position { stored, verified: 0 });
        for entry in entries {
            if plan.add(&mut at, entry, &stream, source) {
                break;
            }
        }
        (plan.arrivals.iter().map(|a| (a.origin.seq, a.after)).collect(), at, plan)
    }

    #[test]
    fn what_follows_a_gap_waits_and_what_is_lost_is_told_in_its_place() {
        let (arrivals, _, plan) =
            planned(10, vec![event(9, 8), event(12, 10), event(15, 14), event(16, 15)], Source::Stream);
        assert_eq!((arrivals, plan.known, plan.missing), (vec![(12, 10)], 1, Some((12, 14))));

        let gone = Entry { lost: true, ..event(15, 14) };
        let (arrivals, at, plan) = planned(10, vec![gone, event(16, 15)], Source::Stream);
        assert_eq!(arrivals, [(14, 10), (15, 14), (16, 15)]);
        assert_eq!((at.stored, plan.lost), (16, vec![(10, 14)]));
        let payload: serde_json::Value = serde_json::from_str(&plan.arrivals[0].draft.payload).unwrap();
        assert_eq!((&payload["data"]["after"], &payload["data"]["through"]), (&json!(10), &json!(14)));
    }

    #[test]
    fn what_cannot_be_read_is_asked_for_and_then_told() {
        let bad = || Entry { content: Content::Unreadable("no JSON"), ..event(12, 10) };
        let (arrivals, _, plan) = planned(10, vec![bad()], Source::Stream);
        assert_eq!((arrivals, plan.missing, plan.unreadable), (vec![], Some((10, 12)), 1));
        let (arrivals, at, plan) = planned(10, vec![bad(), event(13, 12)], Source::Answer);
        assert_eq!((arrivals, at.stored, plan.lost), (vec![(12, 10), (13, 12)], 13, vec![(11, 12)]));
    }

    #[test]
    fn an_answer_says_where_it_ends() {
        let nothing = Entry { content: Content::Nothing, ..event(14, 12) };
        let (arrivals, at, _) = planned(10, vec![event(12, 10), nothing], Source::Answer);
        assert_eq!((arrivals, at), (vec![(12, 10)], Position { stored: 12, verified: 14 }));
        let missing = planned(10, vec![event(12, 11)], Source::Answer);
        assert_eq!((missing.0, missing.2.missing), (vec![], None), "no answer of ours has a gap");
    }
}
