//! Steps that wait for, or talk to, an API server.

use std::time::Duration;

use hyper::Method;
use qb_drivers::config::NodeServiceConfig;
use qb_drivers::{RelPath, StandIn};
use tokio::time::{Instant, sleep};

use super::certificates::read_certificate;
use crate::client::Client;
use crate::progress::{StepError, StepState};
use crate::stage::Context;
use crate::standin::wire::NodeRequest;
use crate::standin::{Identity, read_status};

/// Bytes of a configuration.
const CONFIG_BYTES: u64 = 1 << 20;
/// How long one try may take.
const TRY_LIMIT: Duration = Duration::from_secs(2);
/// Pause between tries. Short: people watch.
const PAUSE: Duration = Duration::from_millis(50);

/// What must answer.
#[derive(Clone, Copy)]
pub(super) struct Ready<'a> {
    pub(super) server: &'a str,
    pub(super) path: &'a str,
    pub(super) authority: &'a RelPath,
}

/// One try; the text says why not.
pub(super) async fn is_ready(
    context: &Context,
    server: &str,
    path: &str,
    authority: &RelPath,
) -> Result<(), String> {
    let client = client(context, server, authority).map_err(|e| e.text)?;
    let (status, _) =
        client.call(Method::GET, path, Vec::new(), TRY_LIMIT).await.map_err(|e| e.to_string())?;
    if status.is_success() { Ok(()) } else { Err(format!("{server} answers {status}")) }
}

pub(super) async fn await_ready(
    context: &Context,
    id: u16,
    what: Ready<'_>,
    limit_s: u16,
) -> Result<(), StepError> {
    let until = Instant::now() + Duration::from_secs(u64::from(limit_s));
    loop {
        let Err(problem) = is_ready(context, what.server, what.path, what.authority).await else {
            return Ok(());
        };
        if Instant::now() >= until {
            let text =
                format!("https://{}{} is not ready after {limit_s} s: {problem}", what.server, what.path);
            return Err(StepError::new(text, look_at(context, StandIn::ApiServer)));
        }
        context.note(id, StepState::Applying, &problem);
        pause(context).await?;
    }
}

/// Whether the node service that runs now has joined; the text says why not.
pub(super) async fn has_joined(context: &Context, status: &RelPath) -> Result<Result<(), String>, StepError> {
    let units = context.inner.supervisor.look(&context.order.cluster).await?;
    let name = StandIn::NodeService.name();
    let Some(pid) = units.iter().find(|(unit, _)| unit.name == name).and_then(|(unit, _)| unit.pid) else {
        return Ok(Err("the node service does not run".to_owned()));
    };
    let read = read_status(&context.dir, status).map_err(|e| StepError::disk(status, &e))?;
    Ok(match read {
        Some(status) if status.pid == pid && status.joined => Ok(()),
        Some(status) if status.pid == pid && !status.problem.is_empty() => Err(status.problem),
        _ => Err("the node service starts".to_owned()),
    })
}

pub(super) async fn await_joined(
    context: &Context,
    id: u16,
    status: &RelPath,
    limit_s: u16,
) -> Result<(), StepError> {
    let until = Instant::now() + Duration::from_secs(u64::from(limit_s));
    loop {
        let Err(problem) = has_joined(context, status).await? else {
            return Ok(());
        };
        if Instant::now() >= until {
            let text = format!("not joined after {limit_s} s: {problem}");
            return Err(StepError::new(text, look_at(context, StandIn::NodeService)));
        }
        context.note(id, StepState::Applying, &problem);
        pause(context).await?;
    }
}

async fn pause(context: &Context) -> Result<(), StepError> {
    tokio::select! {
        () = sleep(PAUSE) => Ok(()),
        () = context.cancel.cancelled() => Err(StepError::cancelled()),
    }
}

fn look_at(context: &Context, stand_in: StandIn) -> String {
    let host = context.order.member().map_or_else(|| "this node".to_owned(), |m| m.host.to_string());
    format!("on {host}: tail {}/log/{}.log", context.dir.path().display(), stand_in.name())
}

fn client(context: &Context, server: &str, authority: &RelPath) -> Result<Client, StepError> {
    let pem = read_certificate(&context.dir, authority)?.ok_or_else(|| StepError::damaged(authority))?;
    let address = server.parse().map_err(|_| StepError::damaged(server))?;
    Client::new(address, &pem).map_err(|_| StepError::damaged(authority))
}

fn config(context: &Context, at: &RelPath) -> Result<Option<NodeServiceConfig>, StepError> {
    let bytes = context.dir.read(at, CONFIG_BYTES).map_err(|e| StepError::disk(at, &e))?;
    // One that cannot be read names no API server to sign off at.
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

/// A node without a credential of its own is not known anywhere.
pub(super) fn is_signed_off(context: &Context, at: &RelPath) -> Result<bool, StepError> {
    let Some(config) = config(context, at)? else {
        return Ok(true);
    };
    let identity = context.dir.mode(&config.identity).map_err(|e| StepError::disk(&config.identity, &e))?;
    Ok(identity.is_none())
}

/// Tells the API server, if it answers, then forgets the credential. A node can always leave.
pub(super) async fn sign_off(
    context: &Context,
    id: u16,
    at: &RelPath,
    limit_s: u16,
) -> Result<(), StepError> {
    let Some(config) = config(context, at)? else {
        return Ok(());
    };
    let disk = |e| StepError::disk(&config.identity, &e);
    if let Some(identity) = Identity::read(&context.dir, &config.identity).map_err(disk)?
        && let Err(problem) = say_goodbye(context, &config, &identity, limit_s).await
    {
        tracing::info!(cluster = %context.order.cluster, %problem, "left without signing off");
        context.note(id, StepState::Applying, &format!("left without signing off: {problem}"));
    }
    context.dir.remove(&config.identity).map_err(disk)
}

async fn say_goodbye(
    context: &Context,
    config: &NodeServiceConfig,
    identity: &Identity,
    limit_s: u16,
) -> Result<(), String> {
    let client = client(context, &config.server, &config.authority).map_err(|e| e.text)?;
    let request = NodeRequest { node: config.node, credential: identity.credential.clone() };
    let body = serde_json::to_vec(&request).map_err(|e| e.to_string())?;
    let limit = Duration::from_secs(u64::from(limit_s));
    let (status, _) = client.call(Method::POST, "/leave", body, limit).await.map_err(|e| e.to_string())?;
    if status.is_success() { Ok(()) } else { Err(format!("{} answers {status}", config.server)) }
}
