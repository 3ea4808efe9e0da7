//! Steps that handle what a node needs to be let in.

use qb_drivers::{RelPath, SecretFiles};
use qb_model::action::NodeRole;

use super::certificates::write_pair;
use crate::clock;
use crate::host::ENDED;
use crate::join::kube::KubeSecret;
use crate::join::{JoinSecret, write_offer};
use crate::pki;
use crate::progress::StepError;
use crate::seal;
use crate::stage::Context;
use crate::standin::Identity;

/// The kubelet's own files, once it was let in.
const KUBELET: &str = "/etc/kubernetes/kubelet.conf";
const LET_IN: &str = "/var/lib/kubelet/pki/kubelet-client-current.pem";

fn joined(context: &Context, identity: &RelPath) -> Result<bool, StepError> {
    let identity = Identity::read(&context.dir, identity).map_err(|e| StepError::disk(identity, &e))?;
    Ok(identity.is_some_and(|identity| identity.joined))
}

fn is_there(context: &Context, at: &RelPath) -> Result<bool, StepError> {
    Ok(context.dir.mode(at).map_err(|e| StepError::disk(at, &e))?.is_some())
}

pub(super) fn has_credential(
    context: &Context,
    into: &RelPath,
    identity: &RelPath,
) -> Result<bool, StepError> {
    Ok(joined(context, identity)? || is_there(context, into)?)
}

/// The offer first, then the credential: one that is on disk always works.
pub(super) fn own_credential(context: &Context, offers: &RelPath, into: &RelPath) -> Result<(), StepError> {
    let bootstrap = write_offer(&context.dir, offers, context.order.node)?;
    bootstrap.write(&context.dir, into)
}

pub(super) fn is_open(context: &Context, parts: &SecretFiles) -> Result<bool, StepError> {
    if joined(context, &parts.identity)? {
        return Ok(true);
    }
    // With a secret at hand, a credential on disk may be an older one that has expired: only the
    // one that was just written counts.
    let from_supplies = match &context.supplies.join {
        Some(sealed) => context.inner.opened(sealed),
        None => true,
    };
    let mut files = vec![&parts.credential, &parts.authority];
    if let Some(serving) = &parts.serving {
        files.extend([&serving.key, &serving.certificate]);
    }
    for file in files {
        if !is_there(context, file)? {
            return Ok(false);
        }
    }
    Ok(from_supplies)
}

/// Checks what the secret is for, opens it, and writes its parts, the credential last.
pub(super) fn open(context: &Context, parts: &SecretFiles) -> Result<(), StepError> {
    let sealed = context.supplies.join.as_ref().ok_or_else(|| {
        let first = context.order.members.iter().find(|m| m.node == context.order.first);
        let first = first.map_or_else(|| "the first control plane node".to_owned(), |m| m.host.to_string());
        StepError::new(
            format!("no join secret from {first} yet"),
            format!("it comes by itself while {first} answers"),
        )
    })?;
    expected(context, sealed)?;
    let plain = seal::open(sealed, &context.inner.config.seal_secret)
        .map_err(|e| StepError::new(e.to_string(), "give the order again"))?;
    let secret = JoinSecret::decode(&plain).ok_or_else(|| {
        StepError::new("the join secret cannot be read", "update the older of the two agents")
    })?;
    if !pki::is_authority(secret.authority().as_bytes()) {
        return Err(StepError::damaged("the authority in the join secret"));
    }
    let write = context.dir.write(&parts.authority, secret.authority().as_bytes(), 0o644);
    write.map_err(|e| StepError::disk(&parts.authority, &e))?;
    if let Some(files) = &parts.serving {
        let (key, certificate) = secret.serving().ok_or_else(|| {
            StepError::new(
                "the join secret holds no serving certificate",
                "give the order again: it was made for a worker",
            )
        })?;
        write_pair(&context.dir, files, key, certificate)?;
    }
    secret.bootstrap().write(&context.dir, &parts.credential)?;
    context.inner.note_opened(sealed);
    Ok(())
}

/// Whether the secret of a real cluster is open, or this node was let in before.
pub(super) fn is_kube_open(context: &Context, into: &RelPath) -> Result<bool, StepError> {
    let file = |path: &str| std::fs::metadata(path).is_ok_and(|meta| meta.len() > 0);
    // A control plane node needs it until its join has come to its end.
    let ended = context.order.role == NodeRole::Worker || {
        let mut any = false;
        for name in ENDED {
            any |=
                is_there(context, &name.parse().map_err(|e: qb_drivers::PathError| StepError::damaged(e))?)?;
        }
        any
    };
    if ended && file(KUBELET) && file(LET_IN) {
        return Ok(true);
    }
    // With a secret at hand, one on disk may be older, and its certificate at its end.
    let from_supplies = context.supplies.join.as_ref().is_none_or(|sealed| context.inner.opened(sealed));
    Ok(from_supplies && is_there(context, into)?)
}

/// Checks what the secret is for, opens it, and keeps it for the helper, which puts its parts where they
/// belong.
pub(super) fn open_kube(context: &Context, into: &RelPath) -> Result<(), StepError> {
    let sealed = context.supplies.join.as_ref().ok_or_else(|| {
        StepError::new("no join secret from a control plane node yet", "it comes by itself while one answers")
    })?;
    expected(context, sealed)?;
    let plain = seal::open(sealed, &context.inner.config.seal_secret)
        .map_err(|e| StepError::new(e.to_string(), "give the order again"))?;
    let secret = KubeSecret::decode(&plain).ok_or_else(|| {
        StepError::new("the join secret cannot be read", "update the older of the two agents")
    })?;
    if secret.role() != context.order.role {
        return Err(StepError::new("the join secret was made for another role", "give the order again"));
    }
    if let Some((above, _)) = into.as_str().rsplit_once('/') {
        let above: RelPath = above.parse().map_err(|e: qb_drivers::PathError| StepError::damaged(e))?;
        context.dir.make_dirs(&above).map_err(|e| StepError::disk(&above, &e))?;
    }
    context.dir.write(into, &plain, 0o600).map_err(|e| StepError::disk(into, &e))?;
    context.inner.note_opened(sealed);
    Ok(())
}

/// The secret must be for exactly this order, from a control plane node of this cluster.
fn expected(context: &Context, sealed: &seal::SealedSecret) -> Result<(), StepError> {
    let (is, order) = (&sealed.context, &context.order);
    let from_control_plane = order
        .members
        .iter()
        .any(|m| m.node == is.sender && m.role == NodeRole::ControlPlane && m.node != order.node);
    let right = is.site == order.site
        && is.epoch == crate::join::EPOCH
        && is.purpose.as_str() == crate::join::PURPOSE
        && is.cluster == order.cluster
        && is.generation == order.generation
        && is.recipient == order.node
        && from_control_plane;
    if !right {
        return Err(StepError::new(
            "the join secret is for another order",
            "a right one is made when the order is given again",
        ));
    }
    if is.expires_ms <= clock::now() {
        return Err(StepError::new(
            "the join secret has expired (15 min)",
            "a new one is made when the order is given again; compare the clocks of both nodes",
        ));
    }
    Ok(())
}
