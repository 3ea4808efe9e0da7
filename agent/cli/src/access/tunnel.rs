//! Opening a tunnel: a grant for one use, the connection that a door turns over, Noise to a node that is
//! proven to be of the site.

use std::collections::BTreeSet;

use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use qb_link::LinkError;
use qb_link::noise::{NoiseStream, StaticKey};
use qb_link::tunnel::{Ask, ClientEnd, TunnelAnswer, UPGRADE, dial};
use qb_model::document::{Document as _, Grant, GrantScope, GrantTarget};
use qb_model::limits::GRANT_MS;
use qb_model::{Name, NodeId, Nonce16, PublicKey};
use qb_portal::paths;

use crate::ctx::Session;
use crate::error::{CliError, sentence};
use crate::out::text::now;

/// A tunnel whose grant was taken.
pub struct Opened {
    /// The stream inside.
    pub stream: NoiseStream<TokioIo<Upgraded>>,
    /// The node at its end.
    pub node: NodeId,
    /// What it answered.
    pub answer: TunnelAnswer,
}

/// Signs a grant and opens a tunnel with it. `request` is what a certificate is asked for, else empty.
///
/// # Errors
/// No key signs, no door takes it, or whoever answers is not proven or refuses.
pub async fn open(
    session: &mut Session<'_>,
    cluster: &Name,
    target: GrantTarget,
    request: Vec<u8>,
) -> Result<Opened, CliError> {
    let proven: BTreeSet<NodeId> = session.roster().await?;
    let random = |e: std::io::Error| CliError::failed(format!("The system gives no random bytes: {e}."));
    let noise = StaticKey::generate().map_err(random)?;
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce)
        .map_err(|e| CliError::failed(format!("The system gives no random bytes: {e}.")))?;
    let site = session.here.config.id;
    let key = session.key()?;
    let issued_ms = now();
    let grant = Grant {
        v: 1,
        site,
        scope: GrantScope::Cluster(cluster.clone()),
        target,
        admin_key: key.public,
        client_key: PublicKey(noise.public()),
        issued_ms,
        expires_ms: issued_ms.plus(GRANT_MS),
        nonce: Nonce16(nonce),
    };
    let ask = Ask { grant: grant.sign(&[&key.secret]).to_bytes(), request };
    let path = paths::tunnel(&site.to_string(), cluster.as_str());
    let io = session.api.client.upgrade(&path, UPGRADE).await?;
    let known = |node: &NodeId| proven.contains(node);
    let end = ClientEnd { noise: &noise, site, cluster, known: &known };
    let (stream, node, answer) = dial(TokioIo::new(io), &end, &ask).await.map_err(refused)?;
    Ok(Opened { stream, node, answer })
}

fn refused(error: LinkError) -> CliError {
    match error {
        LinkError::Turned { code, text } => {
            let (what, remedy) = match text.rsplit_once(": ") {
                Some((what, remedy)) => (what.to_owned(), Some(remedy.to_owned())),
                None => (text, None),
            };
            let error = CliError::refused(format!("Refused: {} ({code}).", what.trim_end_matches('.')));
            CliError { remedy, ..error }
        }
        LinkError::Mismatch { what, remedy } => {
            CliError::refused(sentence(&format!("The tunnel is not believed: {what}"))).remedy(remedy)
        }
        other => CliError::unreachable(sentence(&format!("The tunnel fails: {other}"))).remedy("qb doctor"),
    }
}
