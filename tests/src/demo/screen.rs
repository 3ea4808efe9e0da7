//! What the demo says.

use anyhow::Result;

use crate::agent::Agent;
use crate::relay::Relay;
use crate::site::Site;
use crate::views::Node;

/// Column in which remarks begin.
const REMARK: usize = 52;

fn line(text: &str, remark: &str) {
    println!("{text:<REMARK$} {remark}");
}

fn count(nodes: &[Node], state: &str) -> usize {
    nodes.iter().filter(|n| n.state == state).count()
}

/// The nodes in words: "3 attached, 2 in the pool".
fn states(nodes: &[Node]) -> String {
    let words = [
        ("attached", "attached"),
        ("pool", "in the pool"),
        ("detaching", "detaching"),
        ("waiting", "waiting to be authorized"),
        ("revoked", "revoked"),
    ];
    let counted = words.iter().map(|(state, text)| (count(nodes, state), text)).filter(|(n, _)| *n > 0);
    counted.map(|(n, text)| format!("{n} {text}")).collect::<Vec<_>>().join(", ")
}

/// What runs.
pub(super) fn running(site: &mut Site, relay: &Relay, dir: &str) -> Result<()> {
    let nodes = site.nodes()?;
    let all = site.agents.len();
    let running = site.agents.iter_mut().filter_map(|a| a.is_running().then_some(())).count();
    let (first, last) = (site.agents.first(), site.agents.last());
    let range = first.zip(last).map(|(a, b)| format!("{} to {}", a.spec.address, b.spec.address));
    let door = first.map(Agent::url).unwrap_or_default();
    line("qb demo", &format!("Ctrl-C stops everything, state stays in {dir}/"));
    println!("  agents   {:<10} {}", format!("{running} of {all}"), range.unwrap_or_default());
    println!("  nodes    {}", states(&nodes));
    println!("  site     {:<10} rehearsal: real processes in folders, no Kubernetes, no root", site.name);
    println!("  relay    {:<10} {}", "1", relay.url());
    println!("  portal   {}/ at the relay, {door}/ at a node of the site", relay.url());
    println!("  logs     {dir}/log/ and {dir}/relay.log");
    Ok(())
}

/// What to type next, by what is there.
pub(super) fn next(site: &mut Site, relay: &Relay, dir: &str) -> Result<()> {
    let nodes = site.nodes()?;
    println!("Next, in another terminal");
    let steps = format!("  1  type     . {dir}/env");
    line(&steps, "sets QB_CONFIG and PATH there");
    if count(&nodes, "waiting") > 0 {
        let all = if site.view()?.founded { "lets them in" } else { "lets the five in, founds the site" };
        line("  2  type     qb node authorize --waiting", all);
        println!("  3  type     qb cluster create clus100 && qb cluster attach clus100 -n 3");
        portal(4, relay);
    } else {
        line("  2  type     qb node list", "the nodes, what they do and wait for");
        line("  3  type     qb cluster list", "the clusters");
        line("  4  type     qb audit verify", "proves who ordered what");
        portal(5, relay);
    }
    Ok(())
}

/// How the web portal is come by.
fn portal(number: u8, relay: &Relay) {
    let open = format!("  {number}  open     {}/", relay.url());
    line(&open, "the portal: shows how to add a key of this browser");
    let own = format!("  {}  or type  qb portal", number + 1);
    line(&own, "the same pages, signed with your key of qb");
}

/// A command that is about to run.
pub(super) fn command(args: &[&str]) {
    println!("\n$ qb {}", args.join(" "));
}

/// The state that was asked for is reached.
pub(super) fn populated(site: &mut Site) -> Result<()> {
    println!("\nPopulated: {}.", states(&site.nodes()?));
    Ok(())
}

/// An agent ended by itself.
pub(super) fn ended(agent: &mut Agent, lines: usize) {
    let how = agent.ended().map(|s| s.to_string()).unwrap_or_default();
    println!(
        "\n{} ended by itself ({how}); the others go on. {} ends with:",
        agent.spec.name,
        agent.log.display()
    );
    for line in agent.tail(lines).lines() {
        println!("  {line}");
    }
}

/// The relay ended by itself.
pub(super) fn relay_ended(relay: &Relay, lines: usize) {
    println!("\nThe relay ended by itself; the site goes on without it. {} ends with:", relay.log.display());
    for line in relay.tail(lines).lines() {
        println!("  {line}");
    }
}

/// The end begins.
pub(super) fn stopping(site: &Site) {
    println!("\nStopping {} agents and the relay", site.agents.len());
}

/// The end.
pub(super) fn stopped(dir: &str) {
    println!("Stopped. State stays in {dir}/: start again to go on, or remove it to begin anew.");
}
