//! What the relay says on the push stream: that it lives, how far it has the site, and to a node
//! that waits: that it was let in.

use std::io;

use qb_link::{Admission, Told, push};
use qb_model::{Digest, NodeId};
use tokio::io::{AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::time::interval;

use crate::limits::BEAT;
use crate::relay::Relay;
use crate::site::LiveSite;

/// One end that speaks.
pub(super) struct Speaker<'a> {
    pub(super) relay: &'a Relay,
    pub(super) site: &'a LiveSite,
    pub(super) node: NodeId,
    /// How far the relay has the site.
    pub(super) held: watch::Receiver<Option<(Digest, u64)>>,
    /// Whether the node knocked.
    pub(super) knocked: watch::Receiver<bool>,
}

/// Tells a node that was revoked who says so, if it was.
pub(super) async fn put_out(
    (relay, site, node): (&Relay, &LiveSite, &NodeId),
    to: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let belief = site.belief();
    let Some(index) = belief.roster.revocation(node) else { return Ok(()) };
    let envelope = relay.store.roster_entry(site.id(), index).await.map_err(io::Error::other)?;
    let Some(envelope) = envelope else { return Ok(()) };
    for part in push::told_batches(belief.trust.log().to_vec()) {
        push::write(to, &part).await?;
    }
    push::write(to, &Told::Revoked(envelope)).await?;
    to.flush().await?;
    tracing::info!(site = %site.name, %node, "a revoked node hears that it was put out");
    Ok(())
}

impl Speaker<'_> {
    /// Speaks until the stream fails or nobody has anything to say any more.
    pub(super) async fn run(mut self, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let mut beat = interval(BEAT);
        let mut moved = self.site.watch();
        let mut waits = false;
        loop {
            tokio::select! {
                _ = beat.tick() => push::write(to, &Told::Beat).await?,
                changed = self.held.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    let held = *self.held.borrow_and_update();
                    if let Some((trust, roster)) = held {
                        push::write(to, &Told::Held { trust, roster }).await?;
                    }
                }
                changed = self.knocked.changed() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    waits = *self.knocked.borrow_and_update() && !self.let_in(to).await?;
                }
                _ = moved.changed(), if waits => waits = !self.let_in(to).await?,
            }
            to.flush().await?;
        }
    }

    /// Tells the node that it was let in, if it was and there is somebody whom it could dial.
    async fn let_in(&self, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<bool> {
        let belief = self.site.belief();
        let hints = self.site.hints();
        let Some(index) = belief.roster.entry(&self.node).filter(|_| !hints.members.is_empty()) else {
            return Ok(false);
        };
        let envelope =
            self.relay.store.roster_entry(self.site.id(), index).await.map_err(io::Error::other)?;
        let Some(envelope) = envelope else { return Ok(false) };
        for part in push::told_batches(belief.trust.log().to_vec()) {
            push::write(to, &part).await?;
        }
        let admission = Admission { index, envelope, hints };
        push::write(to, &Told::Admit(Box::new(admission))).await?;
        tracing::info!(site = %self.site.name, node = %self.node, "a node that waited hears that it was let in");
        Ok(true)
    }
}
