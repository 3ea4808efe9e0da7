//! Takes a bundle as its bytes come: the manifest's signature is verified before the table is taken, the
//! table before the first chunk, and each chunk before it is handed out. Never more than the head or one
//! chunk is held.

use std::sync::Arc;

use qb_model::ids::PublicKey;

use super::error::BundleError;
use super::head::VerifiedHead;
use super::limits::CHUNK_BYTES;
use super::manifest::{envelope_end, parse_manifest, signer, split};

/// See the module.
#[derive(Debug)]
pub struct Intake {
    publishers: Vec<PublicKey>,
    held: Vec<u8>,
    /// Bytes of the head, once its manifest is there and signed.
    head_ends: Option<usize>,
    head: Option<Arc<VerifiedHead>>,
    /// The chunk that comes next.
    next: u32,
    /// Whether what is held was handed out.
    given: bool,
}

/// What has come whole.
#[derive(Debug)]
pub enum Came<'a> {
    /// The head: verified, and its bytes as they came.
    Head(&'a Arc<VerifiedHead>, &'a [u8]),
    /// A verified chunk.
    Chunk(u32, &'a [u8]),
}

impl Intake {
    /// For a bundle of one of these publishers.
    pub fn new(publishers: Vec<PublicKey>) -> Self {
        Self { publishers, held: Vec::new(), head_ends: None, head: None, next: 0, given: false }
    }

    /// Takes bytes from the front of `input` until something has come whole, or none are left.
    ///
    /// # Errors
    /// What is wrong with the bundle: nothing more of it is to be taken.
    pub fn take<'a>(&'a mut self, input: &mut &[u8]) -> Result<Option<Came<'a>>, BundleError> {
        if self.given {
            self.held.clear();
            self.given = false;
        }
        while let Some(wanted) = self.wanted()? {
            if self.held.len() == wanted {
                break;
            }
            if input.is_empty() {
                return Ok(None);
            }
            let (now, later) = input.split_at(input.len().min(wanted - self.held.len()));
            self.held.extend_from_slice(now);
            *input = later;
        }
        self.complete(input)
    }

    /// Checks that everything has come.
    ///
    /// # Errors
    /// [`BundleError::Damaged`] if it ended early.
    pub fn finish(&self) -> Result<Arc<VerifiedHead>, BundleError> {
        match &self.head {
            Some(head) if self.next == head.chunks() => Ok(Arc::clone(head)),
            _ => Err(BundleError::Damaged("it ends early")),
        }
    }

    /// Bytes that are held now.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// How many bytes make what comes next; none if nothing is to come.
    fn wanted(&mut self) -> Result<Option<usize>, BundleError> {
        if let Some(head) = &self.head {
            // A chunk has at most 1 MiB.
            return Ok(head
                .chunk(self.next)
                .map(|r| usize::try_from(r.end - r.start).unwrap_or(CHUNK_BYTES)));
        }
        if let Some(end) = self.head_ends {
            return Ok(Some(end));
        }
        let Some(end) = envelope_end(&self.held) else { return Ok(Some(4)) };
        let end = end?;
        if self.held.len() < end {
            return Ok(Some(end));
        }
        let (envelope, _) = split(&self.held)?;
        signer(&envelope, &self.publishers)?;
        let table = parse_manifest(envelope.payload())?.chunks.size;
        // At most 64 KiB, by the rules of the manifest.
        let whole = end + usize::try_from(table).unwrap_or_default();
        self.head_ends = Some(whole);
        Ok(Some(whole))
    }

    fn complete(&mut self, input: &[u8]) -> Result<Option<Came<'_>>, BundleError> {
        let Some(head) = self.head.clone() else {
            let head = Arc::new(VerifiedHead::verify(&self.held, &self.publishers)?);
            self.given = true;
            return Ok(Some(Came::Head(self.head.insert(head), &self.held)));
        };
        let chunk = self.next;
        if head.chunk(chunk).is_none() {
            let ended = input.is_empty() && self.held.is_empty();
            return if ended {
                Ok(None)
            } else {
                Err(BundleError::Damaged("it goes on after its last artifact"))
            };
        }
        head.check_chunk(chunk, &self.held)?;
        self.next += 1;
        self.given = true;
        Ok(Some(Came::Chunk(chunk, &self.held)))
    }
}
