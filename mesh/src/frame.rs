//! Frames on a lane's stream.
//!
//! ```text
//! u32, big endian: length of the rest | postcard of Head | body, raw
//! ```
//!
//! Rules for changing this: the protocol's name carries the version (`/qb/raft/1`). A new kind of
//! head goes to the end of the enum and is sent only to peers that said a hello with a version
//! that knows it. The golden bytes below never change.

use bytes::{BufMut, Bytes, BytesMut};
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use serde::{Deserialize, Serialize};

use crate::limits::{FRAME_HEAD, READ_PIECE};

/// The version that a hello names.
pub(crate) const VERSION: u16 = 1;

/// Frames up to this size leave in one write; larger bodies are not copied.
const JOINED: usize = 16 << 10;

/// What a frame is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Head {
    /// First frame of the side that opened the stream.
    Hello { version: u16, site: [u8; 32] },
    /// A request; the answering side gives up after so many milliseconds.
    Request { id: u64, kind: u8, deadline_ms: u32 },
    /// The caller gave up.
    Cancel { id: u64 },
    /// The answer to a request.
    Answer { id: u64 },
    /// The request was refused; the body is the text.
    Refusal { id: u64 },
}

/// A head and the bytes that belong to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) head: Head,
    pub(crate) body: Bytes,
}

/// Why a stream cannot be read or written further.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a frame of {size} bytes is over the limit of {limit}")]
    TooLarge { size: usize, limit: usize },
    #[error("a frame's head does not decode")]
    Malformed,
    #[error("{0}")]
    Io(#[from] std::io::Error),
}

/// Reads a length and that many bytes. Memory grows with what has arrived, not with what was
/// announced. `None` at the end of the stream. Not cancel safe.
pub(crate) async fn read_bytes<R: AsyncRead + Unpin>(
    from: &mut R,
    limit: usize,
) -> Result<Option<Bytes>, FrameError> {
    let mut length = [0u8; 4];
    if from.read(&mut length[..1]).await? == 0 {
        return Ok(None);
    }
    from.read_exact(&mut length[1..]).await?;
    let size = u32::from_be_bytes(length) as usize;
    if size > limit {
        return Err(FrameError::TooLarge { size, limit });
    }
    let mut bytes = BytesMut::new();
    while bytes.len() < size {
        let start = bytes.len();
        bytes.resize(start + (size - start).min(READ_PIECE), 0);
        from.read_exact(&mut bytes[start..]).await?;
    }
    Ok(Some(bytes.freeze()))
}

/// Reads a frame with a body of at most `limit` bytes. `None` at the end. Not cancel safe.
pub(crate) async fn read_frame<R: AsyncRead + Unpin>(
    from: &mut R,
    limit: usize,
) -> Result<Option<Frame>, FrameError> {
    let Some(bytes) = read_bytes(from, limit + FRAME_HEAD).await? else {
        return Ok(None);
    };
    let (head, rest) = postcard::take_from_bytes::<Head>(&bytes).map_err(|_| FrameError::Malformed)?;
    if rest.len() > limit {
        return Err(FrameError::TooLarge { size: rest.len(), limit });
    }
    let body = bytes.slice_ref(rest);
    Ok(Some(Frame { head, body }))
}

/// Writes a length and the bytes. Does not flush. Not cancel safe.
pub(crate) async fn write_bytes<W: AsyncWrite + Unpin>(
    to: &mut W,
    head: &[u8],
    body: &[u8],
) -> Result<(), FrameError> {
    let size = head.len() + body.len();
    let length = u32::try_from(size).map_err(|_| FrameError::TooLarge { size, limit: u32::MAX as usize })?;
    let joined = size <= JOINED;
    let mut first = BytesMut::with_capacity(4 + if joined { size } else { head.len() });
    first.put_u32(length);
    first.put_slice(head);
    if joined {
        first.put_slice(body);
        to.write_all(&first).await?;
    } else {
        to.write_all(&first).await?;
        to.write_all(body).await?;
    }
    Ok(())
}

/// Writes a frame. Does not flush. Not cancel safe.
pub(crate) async fn write_frame<W: AsyncWrite + Unpin>(to: &mut W, frame: &Frame) -> Result<(), FrameError> {
    let head = postcard::to_allocvec(&frame.head).map_err(|_| FrameError::Malformed)?;
    write_bytes(to, &head, &frame.body).await
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use proptest::prelude::*;

    use super::*;

    fn encoded(frame: &Frame) -> Vec<u8> {
        let mut bytes = Vec::new();
        block_on(write_frame(&mut bytes, frame)).expect("a vector takes every frame");
        bytes
    }

    #[test]
    fn golden_bytes() {
        let table = [
            (Head::Request { id: 300, kind: 7, deadline_ms: 1000 }, "xy", "0000000801ac0207e8077879"),
            (Head::Cancel { id: 1 }, "", "000000020201"),
            (Head::Answer { id: 1 }, "ok", "0000000403016f6b"),
            (Head::Refusal { id: 2 }, "no", "0000000404026e6f"),
        ];
        for (head, body, want) in table {
            let frame = Frame { head, body: Bytes::from(body) };
            let got: String = encoded(&frame).iter().map(|b| format!("{b:02x}")).collect();
            assert_eq!(got, want, "{frame:?}");
        }
        let hello = Head::Hello { version: VERSION, site: [9; 32] };
        let bytes = encoded(&Frame { head: hello, body: Bytes::new() });
        assert_eq!(bytes[..6], [0, 0, 0, 34, 0, 1]);
        assert_eq!(bytes[6..], [9; 32]);
    }

    #[test]
    fn a_frame_over_the_limit_is_refused_by_its_length_alone() {
        let announced = u32::MAX.to_be_bytes();
        let got = block_on(read_frame(&mut announced.as_slice(), 1 << 20));
        assert!(matches!(got, Err(FrameError::TooLarge { .. })), "{got:?}");
        // Within the head's allowance, but the body is one too long.
        let frame = Frame { head: Head::Answer { id: 1 }, body: Bytes::from(vec![0; 101]) };
        let got = block_on(read_frame(&mut encoded(&frame).as_slice(), 100));
        assert!(matches!(got, Err(FrameError::TooLarge { size: 101, limit: 100 })), "{got:?}");
    }

    #[test]
    fn a_cut_frame_is_an_error_and_a_clean_end_is_none() {
        let bytes = encoded(&Frame { head: Head::Answer { id: 1 }, body: Bytes::from("body") });
        for cut in 1..bytes.len() {
            assert!(block_on(read_frame(&mut &bytes[..cut], 100)).is_err(), "cut at {cut}");
        }
        assert!(matches!(block_on(read_frame(&mut &bytes[..0], 100)), Ok(None)));
    }

    proptest! {
        #[test]
        fn frames_round_trip(id: u64, kind: u8, deadline_ms: u32, size in 0usize..200_000) {
            let head = Head::Request { id, kind, deadline_ms };
            let frame = Frame { head, body: Bytes::from(vec![kind; size]) };
            let got = block_on(read_frame(&mut encoded(&frame).as_slice(), size));
            prop_assert_eq!(got.expect("reads").expect("a frame"), frame);
        }

        #[test]
        fn any_bytes_are_taken_or_refused(bytes: Vec<u8>) {
            let _ = block_on(read_frame(&mut bytes.as_slice(), 64));
        }
    }
}
