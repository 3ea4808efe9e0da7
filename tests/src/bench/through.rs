//! The same order at a node's door and through the relay: until it is applied and, through the relay,
//! until the receipt that a node signed for it is there.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use qb_model::action::{Action, Label};

use super::{Bench, LIMIT, spread};
use crate::http;
use crate::views::{Head, Node};
use crate::wait::eventually;

/// Intents that are timed.
const ORDERS: usize = 100;
/// Runs of `qb` that are timed.
const RUNS: usize = 20;

pub(super) fn measure(bench: &mut Bench) -> Result<()> {
    let door = bench.relay.log_in(&bench.owner)?;
    let path = bench.site.path("");
    eventually(LIMIT, "the relay shows the site", || {
        let nodes: Vec<Node> = door.get(&format!("{path}/nodes"))?;
        ensure!(nodes.len() == bench.site.agents.len(), "{} nodes", nodes.len());
        Ok(())
    })?;
    let socket = bench.site.door()?;
    let (mut near, mut far) = (Vec::new(), Vec::new());
    // In turn, so that both see the same machine.
    for n in 0..ORDERS {
        let signed = bench.order(n)?;
        let began = Instant::now();
        done(&http::post(&socket, &format!("{path}/intents?wait=10s"), &signed)?)?;
        near.push(began.elapsed());
        let signed = bench.order(n + ORDERS)?;
        let began = Instant::now();
        let answer = door.post(&format!("{path}/intents?wait=10s"), &signed)?;
        done(&answer)?;
        ensure!(answer.json()["receipt"].is_string(), "it is done without a receipt");
        far.push(began.elapsed());
    }
    spread("intent_at_door", &near)?;
    spread("intent_through_relay_receipted", &far)?;
    whole(bench)
}

/// The same by `qb`, from its start to its end: it reads, signs, sends, waits, verifies the receipt.
fn whole(bench: &Bench) -> Result<()> {
    let far = format!("relay:{}", bench.relay.url());
    let near = format!("unix:{}", bench.site.agents.first().context("no agent")?.socket().display());
    for (figure, door) in [("qb_label_at_door", near), ("qb_label_through_relay", far)] {
        let mut samples: Vec<Duration> = Vec::new();
        for n in 0..RUNS {
            let label = format!("run=r{n}");
            let began = Instant::now();
            bench.site.qb.ok(&["--door", &door, "node", "label", "node-2", &label, "-y"])?;
            samples.push(began.elapsed());
        }
        spread(figure, &samples)?;
    }
    Ok(())
}

/// Fails if an intent is not in force.
pub(super) fn done(answer: &http::Answer) -> Result<()> {
    let state = answer.text("state");
    ensure!(answer.status == 200 && state == "done", "{} {state} {}", answer.status, answer.text("detail"));
    Ok(())
}

impl Bench {
    /// A signed order, anchored where the site stands.
    fn order(&mut self, n: usize) -> Result<Vec<u8>> {
        let head: Head = self.site.head()?;
        let node = self.site.nodes()?.first().context("the site has no node")?.id.parse()?;
        let labels = vec![Label { key: "through".to_owned(), value: format!("n{n}") }];
        let intent = self.owner.intent(self.id, &head, Action::NodeLabel { node, labels })?;
        self.owner.sign(&intent)
    }
}
