//! The last hour of every node's figures, packed: what a graph needs, and no more.
//!
//! A ring per node with one sample each 15 seconds, eight bytes each, that grows as samples come: 1,000
//! nodes take 2 MiB. Nothing is stored for a time in which nothing was heard.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::board::{MAX_NODES, NodeReport};
use crate::ids::{Millis, NodeId};

/// Milliseconds between two samples.
pub const STEP_MS: u64 = 15_000;
/// Samples of a node: one hour.
pub const SAMPLES: u64 = 240;
/// A growth is told from samples at least this far apart, in milliseconds: less is noise.
const TREND_MS: u64 = 10 * 60_000;
/// Bytes of memory in one unit of a sample; three bytes hold 16 TiB.
const MEMORY_UNIT: u64 = 1 << 20;
/// Bytes of disk in one unit of a sample; three bytes hold 64 TiB.
const DISK_UNIT: u64 = 4 << 20;
/// Thousandths of load in one unit of a sample; two bytes hold a load of 655.
const LOAD_UNIT: u32 = 10;
/// The largest number of three bytes.
const MAX_24: u64 = (1 << 24) - 1;

/// What was heard in one step: of one node, or summed over several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// When the step began, by the clock of who heard it.
    pub at: Millis,
    /// Nodes that were heard in it.
    pub nodes: u32,
    /// Load averages over one minute, in thousandths.
    pub load_milli: u64,
    /// Used memory in bytes.
    pub memory_used_bytes: u64,
    /// Used bytes on the file systems that hold the agents' states.
    pub disk_used_bytes: u64,
}

/// A sample as it is kept: load, memory and disk in their units. A load of all ones is no sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Packed([u8; 8]);

const NOTHING: Packed = Packed([0xff; 8]);

impl Packed {
    fn of(report: &NodeReport) -> Self {
        let load = u16::try_from(report.load_milli / LOAD_UNIT).unwrap_or(u16::MAX).min(u16::MAX - 1);
        let [memory, disk] = [report.memory_used_bytes / MEMORY_UNIT, report.disk_used_bytes() / DISK_UNIT]
            .map(|n| {
                let [a, b, c, ..] = n.min(MAX_24).to_le_bytes();
                [a, b, c]
            });
        let [l0, l1] = load.to_le_bytes();
        Self([l0, l1, memory[0], memory[1], memory[2], disk[0], disk[1], disk[2]])
    }

    fn open(self, slot: u64) -> Option<Sample> {
        let [l0, l1, m0, m1, m2, d0, d1, d2] = self.0;
        let load = u16::from_le_bytes([l0, l1]);
        (self != NOTHING).then(|| Sample {
            at: Millis(slot.saturating_mul(STEP_MS)),
            nodes: 1,
            load_milli: u64::from(load) * u64::from(LOAD_UNIT),
            memory_used_bytes: u64::from(u32::from_le_bytes([m0, m1, m2, 0])) * MEMORY_UNIT,
            disk_used_bytes: u64::from(u32::from_le_bytes([d0, d1, d2, 0])) * DISK_UNIT,
        })
    }
}

/// The samples of one node; the last one is of step `newest`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Ring {
    newest: u64,
    samples: VecDeque<Packed>,
}

impl Ring {
    fn put(&mut self, slot: u64, sample: Packed) {
        let ahead = slot.saturating_sub(self.newest);
        // So far from the newest, before or after, nothing of the ring is in the last hour.
        if ahead >= SAMPLES || self.newest.saturating_sub(slot) >= SAMPLES || self.samples.is_empty() {
            self.samples.clear();
            self.samples.push_back(sample);
            self.newest = slot;
            return;
        }
        for _ in 0..ahead {
            if self.samples.len() as u64 == SAMPLES {
                self.samples.pop_front();
            }
            self.samples.push_back(NOTHING);
        }
        self.newest = self.newest.max(slot);
        // A clock that was set back writes over what it wrote before, as far as that is kept.
        let back = usize::try_from(self.newest - slot).unwrap_or(usize::MAX);
        let place = self.samples.len().checked_sub(back.saturating_add(1));
        if let Some(held) = place.and_then(|at| self.samples.get_mut(at)) {
            *held = sample;
        }
    }

    /// What was heard in the hour before `now`, oldest first.
    fn since_an_hour(&self, now: Millis) -> impl Iterator<Item = Sample> {
        let last = now.0 / STEP_MS;
        let first = (self.newest + 1).saturating_sub(self.samples.len() as u64);
        let wanted = last.saturating_sub(SAMPLES - 1)..=last;
        let samples = self.samples.iter().zip(first..);
        samples.filter(move |(_, slot)| wanted.contains(slot)).filter_map(|(packed, slot)| packed.open(slot))
    }
}

/// The last hour of every node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    rings: BTreeMap<NodeId, Ring>,
}

impl History {
    /// Takes a report in that was heard at `at`. The last one in a step counts.
    pub fn hear(&mut self, report: &NodeReport, at: Millis) {
        if self.rings.len() < MAX_NODES || self.rings.contains_key(&report.node) {
            let ring = self.rings.entry(report.node).or_default();
            ring.put(at.0 / STEP_MS, Packed::of(report));
        }
    }

    /// Drops nodes that `keep` does not name.
    pub fn retain(&mut self, keep: impl Fn(&NodeId) -> bool) {
        self.rings.retain(|node, _| keep(node));
    }

    /// What was heard of a node in the hour before `now`, oldest first.
    pub fn of_node(&self, node: &NodeId, now: Millis) -> Vec<Sample> {
        self.rings.get(node).map(|ring| ring.since_an_hour(now).collect()).unwrap_or_default()
    }

    /// The sums over all nodes that were heard, step by step, in the hour before `now`.
    pub fn of_site(&self, now: Millis) -> Vec<Sample> {
        let mut sums = BTreeMap::<Millis, Sample>::new();
        for sample in self.rings.values().flat_map(|ring| ring.since_an_hour(now)) {
            let sum = sums.entry(sample.at).or_insert(Sample { at: sample.at, ..Sample::default() });
            sum.nodes = sum.nodes.saturating_add(1);
            sum.load_milli = sum.load_milli.saturating_add(sample.load_milli);
            sum.memory_used_bytes = sum.memory_used_bytes.saturating_add(sample.memory_used_bytes);
            sum.disk_used_bytes = sum.disk_used_bytes.saturating_add(sample.disk_used_bytes);
        }
        sums.into_values().collect()
    }

    /// By how many bytes an hour the used disk of a node grows; none if it does not, or if too little
    /// was heard to tell.
    pub fn disk_growth(&self, node: &NodeId, now: Millis) -> Option<u64> {
        let mut samples = self.rings.get(node)?.since_an_hour(now);
        let first = samples.next()?;
        let last = samples.last()?;
        let took = last.at.since(first.at);
        let grown = last.disk_used_bytes.checked_sub(first.disk_used_bytes).filter(|n| *n > 0)?;
        (took >= TREND_MS).then(|| u64::try_from(u128::from(grown) * 3_600_000 / u128::from(took)).ok())?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::tests::report;

    const NODE: NodeId = NodeId([1; 32]);
    const HOUR: u64 = SAMPLES * STEP_MS;
    /// The beginning of a step.
    const T: u64 = 1_000 * HOUR;

    fn said(memory: u64, disk_used: u64, load: u32) -> NodeReport {
        let mut said = report(1, 1, 1);
        said.memory_used_bytes = memory;
        said.facts.memory_bytes = u64::MAX;
        said.facts.disk_bytes = u64::MAX;
        said.facts.disk_free_bytes = u64::MAX - disk_used;
        said.load_milli = load;
        said
    }

    fn heard(times: impl IntoIterator<Item = u64>) -> History {
        let mut history = History::default();
        for at in times {
            history.hear(&said(at << 20, 0, 0), Millis(at));
        }
        history
    }

    fn times(history: &History, now: u64) -> Vec<u64> {
        history.of_node(&NODE, Millis(now)).iter().map(|s| s.at.0).collect()
    }

    #[test]
    fn a_sample_has_eight_bytes_and_saturates() {
        assert_eq!(size_of::<Packed>(), 8);
        let mut history = History::default();
        for (memory, disk, load, want) in [
            (3 << 30, 5 << 30, 2_340, (3 << 30, 5 << 30, 2_340)),
            (MEMORY_UNIT - 1, DISK_UNIT - 1, 9, (0, 0, 0)),
            (u64::MAX, u64::MAX, u32::MAX, (MAX_24 << 20, MAX_24 << 22, 655_340)),
        ] {
            history.hear(&said(memory, disk, load), Millis(T));
            let [sample] = history.of_node(&NODE, Millis(T))[..] else { panic!("one sample") };
            assert_eq!((sample.memory_used_bytes, sample.disk_used_bytes, sample.load_milli), want);
        }
    }

    #[test]
    fn a_thousand_nodes_take_two_mebibytes() {
        let ring = heard((0..2 * SAMPLES).map(|n| T + n * STEP_MS));
        assert!(ring.rings[&NODE].samples.capacity() * size_of::<Packed>() * 1_000 <= 2 << 20);
        assert_eq!(ring.rings[&NODE].samples.len() as u64, SAMPLES);
    }

    #[test]
    fn what_was_not_heard_is_not_there() {
        let history = heard([T + 3, T + 14_999, T + 45_000, T + 60_001]);
        assert_eq!(times(&history, T + 61_000), [T, T + 45_000, T + 60_000]);
        assert_eq!(times(&history, T + HOUR), [T + 45_000, T + 60_000], "an hour later");
        assert_eq!(times(&history, T + 3 * HOUR), [0; 0]);
        assert!(history.of_node(&NodeId([9; 32]), Millis(T)).is_empty());
    }

    #[test]
    fn the_last_report_in_a_step_counts() {
        let mut history = heard([T]);
        history.hear(&said(7 << 30, 0, 0), Millis(T + 14_000));
        assert_eq!(history.of_node(&NODE, Millis(T + 14_000))[0].memory_used_bytes, 7 << 30);
    }

    #[test]
    fn clocks_jump() {
        let mut history = heard((0..SAMPLES).map(|n| T + n * STEP_MS));
        history.hear(&said(9 << 30, 0, 0), Millis(T + STEP_MS));
        let kept = history.of_node(&NODE, Millis(T + HOUR - 1));
        assert_eq!((kept.len() as u64, kept[1].memory_used_bytes), (SAMPLES, 9 << 30), "set back a little");
        assert_eq!(times(&history, T + STEP_MS), [T, T + STEP_MS], "later samples are not of the past hour");
        history.hear(&said(1, 0, 0), Millis(5));
        assert_eq!(times(&history, 6), [0], "set back to the beginning");
        history.hear(&said(1, 0, 0), Millis(u64::MAX));
        assert_eq!(times(&history, u64::MAX).len(), 1, "set to the end of time");
    }

    #[test]
    fn a_site_is_the_sum_of_who_was_heard() {
        let mut history = History::default();
        for (node, at) in [(1, T), (2, T + 1), (2, T + STEP_MS)] {
            let mut said = said(2 << 30, 8 << 30, 500);
            said.node = NodeId([node; 32]);
            history.hear(&said, Millis(at));
        }
        let sums = history.of_site(Millis(T + STEP_MS));
        let told: Vec<_> = sums.iter().map(|s| (s.at.0 - T, s.nodes, s.load_milli)).collect();
        assert_eq!(told, [(0, 2, 1_000), (STEP_MS, 1, 500)]);
        assert_eq!((sums[0].memory_used_bytes, sums[0].disk_used_bytes), (4 << 30, 16 << 30));
        history.retain(|node| *node == NodeId([2; 32]));
        assert_eq!(history.of_site(Millis(T + STEP_MS))[0].nodes, 1);
    }

    #[test]
    fn growth_is_told_from_ten_minutes_on() {
        let grow = |minutes: u64, bytes: u64| {
            let mut history = History::default();
            history.hear(&said(0, 100 << 30, 0), Millis(T));
            history.hear(&said(0, (100 << 30) + bytes, 0), Millis(T + minutes * 60_000));
            history.disk_growth(&NODE, Millis(T + minutes * 60_000))
        };
        assert_eq!(grow(30, 1 << 30), Some(2 << 30));
        assert_eq!(grow(9, 1 << 30), None, "too short");
        assert_eq!(grow(30, 0), None, "nothing grows");
        assert_eq!(History::default().disk_growth(&NODE, Millis(T)), None);
        assert_eq!(heard([T]).disk_growth(&NODE, Millis(T)), None, "one sample is no trend");
    }
}
