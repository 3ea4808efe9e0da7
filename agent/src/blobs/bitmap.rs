//! Which chunks of a bundle are there.

use qb_drivers::bundle::CHUNKS;
use serde::{Deserialize, Serialize};

/// Bytes of the largest bitmap: 2,048 chunks.
const BYTES: usize = CHUNKS.div_ceil(8);

/// One bit for each chunk, the lowest of each byte first. Whatever comes from outside, it is bounded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bitmap(Vec<u8>);

impl Bitmap {
    /// With this many chunks, none there.
    pub fn empty(chunks: u32) -> Self {
        Self(vec![0; (chunks as usize).div_ceil(8).min(BYTES)])
    }

    /// With this many chunks, all there.
    pub fn full(chunks: u32) -> Self {
        let mut all = Self::empty(chunks);
        (0..chunks).for_each(|chunk| all.set(chunk));
        all
    }

    /// From bytes that somebody else wrote; none if there are too many.
    pub fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        (bytes.len() <= BYTES).then_some(Self(bytes))
    }

    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether a chunk is there.
    pub fn has(&self, chunk: u32) -> bool {
        self.0.get(chunk as usize / 8).is_some_and(|byte| byte & (1 << (chunk % 8)) != 0)
    }

    /// Notes that a chunk is there.
    pub fn set(&mut self, chunk: u32) {
        if let Some(byte) = self.0.get_mut(chunk as usize / 8) {
            *byte |= 1 << (chunk % 8);
        }
    }

    /// How many are there.
    pub fn count(&self) -> u32 {
        self.0.iter().map(|byte| byte.count_ones()).sum()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }
}
