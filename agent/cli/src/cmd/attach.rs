//! `qb cluster attach`: nodes are named before they are signed for. `-n N` asks the planner which
//! nodes it would take and signs exactly those; only `--auto` leaves the choice to the site.

use qb_model::NodeId;
use qb_model::action::{Action, NodeRole, PlacedNode, Placement};
use qb_portal::view::{NodeState, NodeView, PlanView};

use crate::args::cluster::AttachArgs;
use crate::change::Change;
use crate::ctx::Session;
use crate::error::{CliError, sentence};
use crate::out::text::plural;
use crate::sentence::Hosts;

use super::cluster::expectation;
use super::follow::{Goal, follow};
use super::node::{find, words};

/// The command line that would do the same again.
pub fn again(args: &AttachArgs) -> String {
    let mut out = format!("qb cluster attach {}", args.cluster);
    for node in &args.nodes {
        out.push_str(&format!(" {node}"));
    }
    if let Some(count) = args.count {
        out.push_str(&format!(" -n {count}"));
    }
    if args.auto {
        out.push_str(" --auto");
    }
    if !args.control_plane.is_empty() {
        out.push_str(&format!(" --control-plane {}", args.control_plane.join(",")));
    }
    if let Some(count) = args.control_planes {
        out.push_str(&format!(" --control-planes {count}"));
    }
    out
}

/// What the command line says, before anything is resolved.
///
/// # Errors
/// A name is no node's, or names one twice in two roles.
pub fn placement(args: &AttachArgs, nodes: &[NodeView]) -> Result<Placement, CliError> {
    let control_plane = args.control_planes.unwrap_or(0);
    if let Some(count) = args.count {
        return Ok(Placement::Auto { count, control_plane });
    }
    let id = |name: &String| find(nodes, name).map(|n| n.id);
    let mut control: Vec<NodeId> = args.control_plane.iter().map(id).collect::<Result<_, _>>()?;
    let mut named: Vec<NodeId> = args.nodes.iter().map(id).collect::<Result<_, _>>()?;
    control.sort_unstable();
    control.dedup();
    named.sort_unstable();
    named.dedup();
    named.retain(|n| !control.contains(n));
    if control.is_empty() {
        return Ok(Placement::Named { nodes: named, control_plane });
    }
    let mut placed: Vec<PlacedNode> =
        control.into_iter().map(|node| PlacedNode { node, role: NodeRole::ControlPlane }).collect();
    placed.extend(named.into_iter().map(|node| PlacedNode { node, role: NodeRole::Worker }));
    placed.sort_by_key(|p| p.node);
    Ok(Placement::Explicit { nodes: placed })
}

/// The explicit placement that a plan shows for an open one.
///
/// # Errors
/// The plan refuses, or shows a node without a role, or one that is not in the pool.
pub fn resolved(plan: &PlanView, nodes: &[NodeView], wanted: &Placement) -> Result<Placement, CliError> {
    if let Some(problem) = &plan.rejected {
        return Err(CliError::from_problem(problem.clone()));
    }
    let mut placed = Vec::with_capacity(plan.nodes.len());
    for node in &plan.nodes {
        let role =
            node.role.ok_or_else(|| CliError::failed(format!("The plan gives {} no role.", node.host)))?;
        let free = nodes.iter().any(|n| n.id == node.node && n.state == NodeState::Pool);
        if !free {
            return Err(CliError::failed(format!("The plan takes {}, which is not in the pool.", node.host)));
        }
        placed.push(PlacedNode { node: node.node, role });
    }
    placed.sort_by_key(|p| p.node);
    placed.dedup_by_key(|p| p.node);
    let fits = match wanted {
        Placement::Auto { count, .. } => placed.len() == usize::from(*count),
        Placement::Named { nodes, .. } => placed.iter().map(|p| &p.node).eq(nodes.iter()),
        Placement::Explicit { nodes } => placed == *nodes,
    };
    if !fits {
        let text =
            format!("The plan takes {}, which is not what was asked for.", plural(placed.len(), "node"));
        return Err(CliError::failed(text).remedy("qb node list, then name the nodes"));
    }
    Ok(Placement::Explicit { nodes: placed })
}

/// A named node that is not in the pool: said before anybody signs.
///
/// # Errors
/// Names the node and where it is.
pub fn free(wanted: &Placement, nodes: &[NodeView]) -> Result<(), CliError> {
    let named: Vec<&NodeId> = match wanted {
        Placement::Auto { .. } => return Ok(()),
        Placement::Named { nodes, .. } => nodes.iter().collect(),
        Placement::Explicit { nodes } => nodes.iter().map(|p| &p.node).collect(),
    };
    let taken = nodes.iter().find(|n| named.contains(&&n.id) && n.state != NodeState::Pool);
    let Some(node) = taken else { return Ok(()) };
    let (name, word) = (&node.name, crate::out::marks::node_word(node.state));
    Err(match (&node.cluster, node.state) {
        (_, NodeState::Waiting) => CliError::failed(format!("{name} is not in the pool: it is waiting."))
            .remedy(format!("qb node authorize {name}")),
        (Some(cluster), NodeState::Detaching) => {
            CliError::failed(format!("{name} is not in the pool: it leaves {cluster}."))
                .remedy(format!("qb cluster show {cluster}"))
        }
        (Some(cluster), _) => {
            CliError::failed(format!("{name} is not in the pool: it is {word} to {cluster}."))
                .remedy(format!("qb cluster detach {cluster} {name}"))
        }
        _ => CliError::failed(format!("{name} is not in the pool: it is {word}.")).remedy("qb node list"),
    })
}

/// Too few nodes: said before anybody signs.
///
/// # Errors
/// The pool is too small for the count.
pub fn enough(wanted: &Placement, nodes: &[NodeView]) -> Result<(), CliError> {
    let Placement::Auto { count, .. } = wanted else { return Ok(()) };
    let number = |state: NodeState| nodes.iter().filter(|n| n.state == state).count();
    let (pool, waiting) = (number(NodeState::Pool), number(NodeState::Waiting));
    if pool >= usize::from(*count) {
        return Ok(());
    }
    let text =
        format!("Not enough nodes: {count} wanted, {pool} in the pool, {waiting} waiting to be authorized.");
    let error = CliError::failed(text);
    Err(if waiting > 0 {
        error.remedy("qb node authorize --waiting")
    } else {
        error.remedy("for more machines: qb site enroll -o FILE")
    })
}

/// Runs the verb.
///
/// # Errors
/// What went wrong.
pub async fn run(session: &mut Session<'_>, mut args: AttachArgs) -> Result<(), CliError> {
    args.nodes = words(args.nodes)?;
    let (nodes, cluster) = (session.api.nodes().await?, session.api.cluster(&args.cluster).await?);
    let wanted = placement(&args, &nodes)?;
    free(&wanted, &nodes)?;
    let hosts: Hosts = nodes.iter().map(|n| (n.id, n.name.clone())).collect();
    let change_of = |placement: Placement| {
        let action = Action::ClusterAttach { cluster: args.cluster.clone(), placement };
        let mut change = Change::new(action, again(&args));
        change.expect.push(expectation(&cluster));
        change.hosts = hosts.clone();
        change
    };
    let open = matches!(wanted, Placement::Auto { .. } | Placement::Named { .. });
    let change = if open && !args.auto {
        enough(&wanted, &nodes)?;
        let draft = change_of(wanted.clone());
        let author = session.author().await?;
        let head = session.api.head().await?;
        let plan = session.plan(&session.draft(&draft, &author, &head)?).await?;
        change_of(resolved(&plan, &nodes, &wanted)?)
    } else {
        change_of(wanted)
    };
    let Some(view) = session.change(&change).await? else { return Ok(()) };
    let what = sentence(&crate::sentence::of(&change.action, &hosts));
    session.hint_accepted(&view, what.trim_end_matches('.'));
    follow(session, &view, &args.cluster, Goal::Serves).await
}
