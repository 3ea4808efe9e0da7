//! Which wanted peers to dial, and when. Pure: time is the duration since the mesh started.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use qb_model::NodeId;

use crate::backoff;
use crate::limits::{REST_AFTER, SHORT_LIVED};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// To be dialled then.
    Due(Duration),
    Dialling,
    /// Connected since then.
    Connected(Duration),
}

#[derive(Debug)]
struct Target {
    phase: Phase,
    failures: u32,
}

/// The wanted peers and where each stands.
#[derive(Debug, Default)]
pub(crate) struct Dialer {
    targets: BTreeMap<NodeId, Target>,
}

impl Dialer {
    /// Takes the new set. A peer that was wanted already keeps its place and its failures.
    pub(crate) fn set_wanted(
        &mut self,
        wanted: &BTreeSet<NodeId>,
        connected: &BTreeSet<NodeId>,
        now: Duration,
    ) {
        self.targets.retain(|node, _| wanted.contains(node));
        for node in wanted {
            let connected = connected.contains(node);
            let phase = if connected { Phase::Connected(now) } else { Phase::Due(now) };
            self.targets.entry(*node).or_insert(Target { phase, failures: 0 });
        }
    }

    /// Takes the peers whose time has come and marks them as being dialled.
    pub(crate) fn take_due(&mut self, now: Duration) -> Vec<NodeId> {
        let mut due = Vec::new();
        for (node, target) in &mut self.targets {
            if matches!(target.phase, Phase::Due(at) if at <= now) {
                target.phase = Phase::Dialling;
                due.push(*node);
            }
        }
        due
    }

    /// When the next dial is due.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        let due = |target: &Target| match target.phase {
            Phase::Due(at) => Some(at),
            Phase::Dialling | Phase::Connected(_) => None,
        };
        self.targets.values().filter_map(due).min()
    }

    /// How long a peer is left alone: several dials in a row failed, or it closed every connection
    /// at once, and the next try is not due. Nobody else dials it meanwhile.
    pub(crate) fn resting(&self, node: &NodeId, now: Duration) -> Option<Duration> {
        match self.targets.get(node)? {
            Target { phase: Phase::Due(at), failures } if *failures >= REST_AFTER && *at > now => {
                Some(*at - now)
            }
            _ => None,
        }
    }

    /// A dial failed.
    pub(crate) fn failed(&mut self, node: NodeId, now: Duration, random: u64) {
        if let Some(target) = self.targets.get_mut(&node)
            && !matches!(target.phase, Phase::Connected(_))
        {
            target.retry(true, now, random);
        }
    }

    /// The first connection is up, whoever dialled.
    pub(crate) fn connected(&mut self, node: NodeId, now: Duration) {
        if let Some(target) = self.targets.get_mut(&node) {
            target.phase = Phase::Connected(now);
        }
    }

    /// The last connection closed. One that did not last counts as a failure.
    pub(crate) fn closed(&mut self, node: NodeId, now: Duration, random: u64) {
        if let Some(target) = self.targets.get_mut(&node) {
            let since = match target.phase {
                Phase::Connected(since) => since,
                Phase::Due(_) | Phase::Dialling => now,
            };
            target.retry(now.saturating_sub(since) < SHORT_LIVED, now, random);
        }
    }

    /// Something changed that makes a dial worth trying at once: a new address, or a new member.
    pub(crate) fn nudge(&mut self, node: NodeId, now: Duration) {
        if let Some(target) = self.targets.get_mut(&node)
            && matches!(target.phase, Phase::Due(_))
        {
            *target = Target { phase: Phase::Due(now), failures: 0 };
        }
    }
}

impl Target {
    fn retry(&mut self, failed: bool, now: Duration, random: u64) {
        self.failures = if failed { self.failures.saturating_add(1) } else { 0 };
        // The first failure waits the first delay, not twice it.
        let wait = backoff::delay(self.failures.saturating_sub(1), random);
        self.phase = Phase::Due(now + wait);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId([1; 32]);
    const B: NodeId = NodeId([2; 32]);

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }
    fn dialer(nodes: &[NodeId]) -> Dialer {
        let mut dialer = Dialer::default();
        dialer.set_wanted(&nodes.iter().copied().collect(), &BTreeSet::new(), ms(0));
        dialer
    }

    #[test]
    fn wanted_peers_are_dialled_once_until_they_fail() {
        let mut dialer = dialer(&[A, B]);
        assert_eq!(dialer.take_due(ms(0)), [A, B]);
        assert!(dialer.take_due(ms(9_000)).is_empty());
        assert_eq!(dialer.next_due(), None);
        dialer.failed(A, ms(100), u64::MAX);
        let at = dialer.next_due().expect("A is due again");
        assert!(at > ms(100) && at <= ms(150), "{at:?}");
        assert!(dialer.take_due(ms(100)).is_empty());
        assert_eq!(dialer.take_due(at), [A]);
    }

    #[test]
    fn a_peer_that_refuses_after_the_handshake_is_backed_off() {
        let mut dialer = dialer(&[A]);
        let mut now = ms(0);
        for round in 0..12 {
            assert_eq!(dialer.take_due(now), [A], "round {round}");
            dialer.connected(A, now);
            dialer.closed(A, now + ms(5), 0);
            now = dialer.next_due().expect("due again");
        }
        assert!(now > ms(10_000), "twelve refusals in {now:?}");
    }

    #[test]
    fn after_several_failures_a_peer_rests_until_its_time() {
        let mut dialer = dialer(&[A]);
        for round in 0..REST_AFTER {
            assert_eq!(dialer.resting(&A, ms(0)), None, "round {round}");
            dialer.failed(A, ms(0), 0);
        }
        let rest = dialer.resting(&A, ms(0)).expect("it rests");
        assert_eq!(dialer.resting(&A, rest), None, "its time has come");
        dialer.connected(A, ms(1));
        assert_eq!(dialer.resting(&A, ms(2)), None);
        assert_eq!(dialer.resting(&B, ms(2)), None, "not wanted");
    }

    #[test]
    fn a_connection_that_lasted_is_dialled_again_at_once() {
        let mut dialer = dialer(&[A]);
        for at in [0, 1, 2] {
            dialer.failed(A, ms(at), 0);
        }
        dialer.connected(A, ms(1_000));
        dialer.failed(A, ms(1_001), 0);
        assert_eq!(dialer.next_due(), None, "a failed second dial does not undo a connection");
        dialer.closed(A, ms(60_000), u64::MAX);
        assert!(dialer.next_due().is_some_and(|at| at <= ms(60_050)));
    }

    #[test]
    fn unwanted_peers_leave_and_news_hurries() {
        let mut dialer = dialer(&[A, B]);
        dialer.take_due(ms(0));
        for at in 0..20 {
            dialer.failed(A, ms(at), u64::MAX);
        }
        dialer.set_wanted(&BTreeSet::from([A]), &BTreeSet::new(), ms(50));
        assert!(dialer.next_due().is_some_and(|at| at > ms(1_000)), "failures are kept");
        dialer.nudge(A, ms(60));
        assert_eq!(dialer.take_due(ms(60)), [A]);
        dialer.failed(B, ms(70), 0);
        assert_eq!(dialer.next_due(), None);
    }
}
