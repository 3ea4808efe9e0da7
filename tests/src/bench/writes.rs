//! Signed intents: how fast one is in force, and how long none is when the leader dies.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use qb_model::NodeId;
use qb_model::action::{Action, Label};

use super::{Bench, LIMIT, spread};
use crate::http;
use crate::views::Head;
use crate::wait::eventually;

/// Intents that are timed.
const WRITES: usize = 100;

/// From the signature until the door answers that the intent is applied; at the leader's door and
/// at the one of a node without a vote.
pub(super) fn latency(bench: &mut Bench) -> Result<()> {
    let leader = bench.site.leader()?;
    let nodes = bench.site.nodes()?;
    let follower = nodes.iter().find(|n| n.roles.is_empty()).context("every node votes")?.name.clone();
    for (figure, name) in [("intent_to_applied_leader", leader), ("intent_to_applied_follower", follower)] {
        let socket = bench.site.agent(&name)?.socket();
        let mut samples = Vec::with_capacity(WRITES);
        for n in 0..WRITES {
            let signed = bench.label(&socket, n)?;
            let began = Instant::now();
            bench.write(&socket, &signed)?;
            samples.push(began.elapsed());
        }
        spread(figure, &samples)?;
    }
    Ok(())
}

/// From SIGKILL of the leader until a door acknowledges a write.
pub(super) fn failover(bench: &mut Bench, kills: u32) -> Result<()> {
    let mut samples = Vec::new();
    for n in 0..kills as usize {
        bench.wait_voters()?;
        let leader = bench.site.leader()?;
        let voters = bench.site.view()?.voters;
        let other = voters.into_iter().find(|v| v.host != leader).context("the leader votes alone")?.host;
        let socket = bench.site.agent(&other)?.socket();
        eventually(LIMIT, "the other voter is connected", || settled(bench, &socket, &leader))?;
        let signed = bench.label(&socket, n)?;
        bench.site.agent(&leader)?.kill();
        let began = Instant::now();
        eventually(LIMIT, "a write is acknowledged", || bench.write(&socket, &signed))?;
        samples.push(began.elapsed());
        bench.site.start_one(&leader)?;
    }
    spread("leader_killed_to_next_write", &samples)
}

/// A door sees all three voters, and who leads.
fn settled(bench: &Bench, socket: &Path, leader: &str) -> Result<()> {
    let view: crate::views::Site = http::get(socket, &bench.site.path(""))?;
    let connected = view.voters.iter().filter(|v| v.connected).count();
    ensure!(connected == 3, "{connected} voters are connected");
    ensure!(view.voters.iter().any(|v| v.leader && v.host == leader), "it follows another leader");
    Ok(())
}

impl Bench {
    /// A signed order of a label, anchored where a door stands.
    fn label(&self, socket: &Path, n: usize) -> Result<Vec<u8>> {
        let head: Head = http::get(socket, &self.site.path("/head"))?;
        let nodes: Vec<crate::views::Node> = http::get(socket, &self.site.path("/nodes"))?;
        let node: NodeId = nodes.first().context("the site has no node")?.id.parse()?;
        let labels = vec![Label { key: "bench".to_owned(), value: format!("n{n}") }];
        let intent = self.owner.intent(self.id, &head, Action::NodeLabel { node, labels })?;
        self.owner.sign(&intent)
    }

    /// Sends it, and expects it to be in force.
    fn write(&self, socket: &Path, signed: &[u8]) -> Result<()> {
        let wait = Duration::from_secs(10).as_secs();
        let answer = http::post(socket, &self.site.path(&format!("/intents?wait={wait}s")), signed)?;
        let state = answer.text("state");
        ensure!(
            answer.status == 200 && state == "done",
            "{} {state} {}",
            answer.status,
            answer.text("detail")
        );
        Ok(())
    }
}
