//! Knocking: how a machine that is not a member talks to one that is. A listener of its own that
//! speaks one protocol, one talk per connection, both sides proved by Noise, every message, the
//! time and the number of talks bounded.

mod gate;
mod limiter;
pub(crate) mod swarm;

use bytes::Bytes;
use futures::AsyncWriteExt;
use libp2p::swarm::Stream;
use tokio::time::{Instant, timeout_at};

use crate::error::KnockError;
use crate::frame::{self, FrameError};
use crate::limits::{ADMIT_BODY, KNOCK_BODY, KNOCK_LIFE};

/// The knock's protocol.
pub(crate) const PROTOCOL: &str = "/qb/knock/1";

/// Which end of a knock this is; the stranger may say little, and be told much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The one that knocks.
    Knocker,
    /// The member that listens.
    Member,
}

impl Side {
    fn may_send(self) -> usize {
        match self {
            Self::Knocker => KNOCK_BODY,
            Self::Member => ADMIT_BODY,
        }
    }

    fn may_receive(self) -> usize {
        match self {
            Self::Knocker => ADMIT_BODY,
            Self::Member => KNOCK_BODY,
        }
    }
}

/// The talk of one knock: whole messages both ways. Ends with its deadline, counted from when the
/// stream opened; dropping it ends the connection.
#[derive(Debug)]
pub struct KnockStream {
    stream: Stream,
    side: Side,
    until: Instant,
}

impl KnockStream {
    pub(crate) fn new(stream: Stream, side: Side) -> Self {
        Self { stream, side, until: Instant::now() + KNOCK_LIFE }
    }

    /// Sends one message: at most 8 KiB from the knocker, 4 MiB from the member.
    pub async fn send(&mut self, message: Bytes) -> Result<(), KnockError> {
        let (size, limit) = (message.len(), self.side.may_send());
        if size > limit {
            return Err(KnockError::TooLarge { size, limit });
        }
        let send = async {
            frame::write_bytes(&mut self.stream, &[], &message).await?;
            Ok::<_, FrameError>(self.stream.flush().await?)
        };
        timeout_at(self.until, send).await.map_err(late)?.map_err(broken)
    }

    /// Receives one message, with the limits mirrored. An end of the stream is an error.
    pub async fn recv(&mut self) -> Result<Bytes, KnockError> {
        let limit = self.side.may_receive();
        let recv = frame::read_bytes(&mut self.stream, limit);
        let got = timeout_at(self.until, recv).await.map_err(late)?.map_err(broken)?;
        got.ok_or_else(|| KnockError::Closed("it said no more".to_owned()))
    }

    /// Ends the talk in order: what was sent arrives. Call it after the last message.
    pub async fn close(mut self) -> Result<(), KnockError> {
        let close = self.stream.close();
        timeout_at(self.until, close).await.map_err(late)?.map_err(|e| broken(e.into()))
    }
}

fn late(_: tokio::time::error::Elapsed) -> KnockError {
    KnockError::Deadline(KNOCK_LIFE)
}

fn broken(error: FrameError) -> KnockError {
    match error {
        FrameError::TooLarge { size, limit } => KnockError::TooLarge { size, limit },
        error => KnockError::Closed(error.to_string()),
    }
}
