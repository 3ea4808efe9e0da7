//! A bundle that comes through the door: its manifest's signature counts before anything else is taken,
//! and each chunk is verified before it is written.

use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt as _;
use qb_drivers::bundle::{BundleError, Came, Intake};
use qb_model::Digest;
use qb_portal::view::Problem;
use qb_portal::{Answer, Upload};

use super::publishers;
use crate::blobs::{BlobError, Blobs, Partial};
use crate::node::Node;

/// Bytes that are read and sent at a time.
const PIECE: usize = 256 * 1024;

/// Takes a bundle; its digest.
///
/// # Errors
/// No publisher of the site signed it, it is damaged or too large, or the disk cannot be written.
pub(crate) async fn take(node: &Arc<Node>, mut upload: Upload) -> Answer<Digest> {
    let mut taking = Taking::new(node);
    while let Some(piece) = upload.body.next().await {
        let piece = piece?;
        // Hashing and a disk: not on a thread that others wait for.
        let taken = tokio::task::spawn_blocking(move || taking.take(&piece).map(|()| taking)).await;
        taking = taken.map_err(|_| Problem::internal("taking the bundle was cut short"))?.map_err(problem)?;
    }
    let finished = tokio::task::spawn_blocking(move || taking.finish()).await;
    let digest =
        finished.map_err(|_| Problem::internal("taking the bundle was cut short"))?.map_err(problem)?;
    super::arrived(node, &digest);
    Ok(digest)
}

/// The file of a bundle that lies here, a piece at a time.
///
/// # Errors
/// It is not here, or cannot be read.
pub(crate) async fn give(node: &Arc<Node>, digest: &Digest) -> Answer<Upload> {
    let here = node.blobs.open_file(digest).map_err(|e| problem(e.into()))?;
    let shown = digest.to_string();
    let file = here.ok_or_else(|| Problem::not_found::<&str>("bundle", &shown, &[], "qb bundle list"))?;
    let length = file.metadata().ok().map(|meta| meta.len());
    let body = futures::stream::unfold(Some((file, 0u64)), |state| async move {
        let (file, at) = state?;
        let from = Arc::clone(&file);
        let read = tokio::task::spawn_blocking(move || {
            let mut piece = vec![0; PIECE];
            from.read_at(&mut piece, at).map(|read| {
                piece.truncate(read);
                Bytes::from(piece)
            })
        });
        match read.await.unwrap_or_else(|e| Err(std::io::Error::other(e))) {
            Ok(piece) if piece.is_empty() => None,
            Ok(piece) => {
                let at = at + piece.len() as u64;
                Some((Ok(piece), Some((file, at))))
            }
            Err(error) => Some((
                Err(Problem::unavailable("the bundle folder", error, "look at the disk of this node")),
                None,
            )),
        }
    });
    Ok(Upload { length, body: body.boxed() })
}

/// A bundle as its bytes come.
pub(super) struct Taking {
    intake: Intake,
    blobs: Blobs,
    to: Option<Arc<Partial>>,
}

impl Taking {
    /// Into this node's bundles, of a publisher that its site accepts.
    pub(super) fn new(node: &Node) -> Self {
        Self { intake: Intake::new(publishers(node)), blobs: node.blobs.clone(), to: None }
    }

    /// The next bytes.
    pub(super) fn take(&mut self, mut bytes: &[u8]) -> Result<(), BlobError> {
        while let Some(came) = self.intake.take(&mut bytes)? {
            match (came, &self.to) {
                (Came::Head(head, bytes), _) => {
                    let here = self.blobs.open_file(&head.digest())?.is_some();
                    // What is here is verified: the rest is only read, to say whether it is the same.
                    if !here {
                        self.to = Some(self.blobs.begin(Arc::clone(head), bytes)?);
                    }
                }
                (Came::Chunk(chunk, bytes), Some(to)) => to.put(chunk, bytes)?,
                (Came::Chunk(..), None) => {}
            }
        }
        Ok(())
    }

    /// The bundle's digest, once it is here as a whole.
    pub(super) fn finish(self) -> Result<Digest, BlobError> {
        let head = self.intake.finish()?;
        if let Some(partial) = &self.to {
            self.blobs.finish(partial)?;
        }
        Ok(head.digest())
    }
}

fn problem(error: BlobError) -> Problem {
    match error {
        BlobError::Bundle(error) => {
            let remedy = match error {
                BundleError::Unsigned { .. } => {
                    "qb bundle trust NAME KEY, which an owner signs; `qb bundle verify FILE` shows the key"
                }
                _ => "qb bundle verify FILE",
            };
            Problem::refused("bundle", error.to_string(), remedy)
        }
        error => Problem::unavailable("the bundle folder", error, "look at the disk of this node"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bundle_that_is_not_taken_has_a_way_out() {
        let remedy = |error: BundleError| problem(error.into()).remedy.unwrap_or_default();
        let unsigned = remedy(BundleError::Unsigned { tried: 2 });
        assert!(unsigned.starts_with("qb bundle trust NAME KEY"), "{unsigned}");
        assert_eq!(remedy(BundleError::Damaged("it ends early")), "qb bundle verify FILE");
    }
}
