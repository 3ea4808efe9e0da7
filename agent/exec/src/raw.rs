//! Byte strings for serde as such: element by element, as a `Vec<u8>` is by itself, a MiB costs
//! milliseconds of a thread that others wait for. The bytes on the wire are the same in postcard.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserializer, Serializer};

/// Writes bytes.
///
/// # Errors
/// What the serializer says.
pub fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
    to.serialize_bytes(bytes)
}

/// Reads bytes.
///
/// # Errors
/// There are none here.
pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
    from.deserialize_bytes(Bytes)
}

struct Bytes;

impl Visitor<'_> for Bytes {
    type Value = Vec<u8>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
        Ok(bytes.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
    struct Raw(#[serde(with = "super")] Vec<u8>);

    #[test]
    fn the_wire_is_that_of_a_sequence() {
        for bytes in [vec![], vec![7], (0..=255).cycle().take(70_000).collect::<Vec<u8>>()] {
            let sequence = postcard::to_allocvec(&bytes).expect("it encodes");
            let raw = Raw(bytes);
            assert_eq!(postcard::to_allocvec(&raw).expect("it encodes"), sequence);
            assert_eq!(postcard::from_bytes::<Raw>(&sequence), Ok(raw));
            assert!(
                sequence.is_empty() || postcard::from_bytes::<Raw>(&sequence[..sequence.len() - 1]).is_err()
            );
        }
    }
}
