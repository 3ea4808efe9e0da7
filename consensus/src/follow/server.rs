//! The voter's side of following.

use std::time::Duration;

use bytes::Bytes;

use super::{FollowAnswer, FollowQuestion, Want};
use crate::limits::{FOLLOW_WAIT, MAX_ENTRIES_BYTES, SNAPSHOT_CHUNK};
use crate::seat::Seat;
use crate::wire::{LogPos, SnapshotChunk, decode, encode};

impl Seat {
    /// Answers a follower.
    pub(crate) async fn handle_follow(&self, body: &[u8]) -> Result<Bytes, String> {
        let question: FollowQuestion = decode(body).map_err(|e| e.to_string())?;
        if question.tag != self.context.tag {
            return Err("request of another site or epoch".into());
        }
        let answer = match question.want {
            Want::Entries { after, wait_ms } => {
                let wait = Duration::from_millis(wait_ms.into()).min(FOLLOW_WAIT);
                self.entries_after(after, wait).await
            }
            Want::Chunk { last, offset } => self.chunk(last, offset).await,
        };
        answer.map(|answer| encode(&answer))
    }

    async fn entries_after(&self, after: Option<LogPos>, wait: Duration) -> Result<FollowAnswer, String> {
        let mut applied = self.context.state.watch_applied();
        let here = *applied.borrow();
        match after {
            Some(after) if here.is_none_or(|here| here.index < after.index) => {
                return Ok(FollowAnswer::Behind);
            }
            Some(after) => match self.log.position(after.index) {
                Some(at) if at == after => {}
                Some(_) => return Ok(FollowAnswer::Diverged),
                None => return Ok(self.snapshot_instead()),
            },
            None if self.log.purged().is_some() => return Ok(self.snapshot_instead()),
            None => {}
        }
        let next = after.map_or(0, |at| at.index + 1);
        let more = applied.wait_for(|at| at.is_some_and(|at| at.index >= next));
        // Nothing new before the deadline is an answer, too: it says that this voter is alive.
        let end = match tokio::time::timeout(wait, more).await {
            Ok(Ok(at)) => at.map_or(next, |at| at.index + 1),
            Ok(Err(_)) | Err(_) => next,
        };
        let entries = self.log.read(next, end, MAX_ENTRIES_BYTES).map_err(|e| e.to_string())?;
        if entries.first().is_some_and(|e| e.at.index != next) {
            return Ok(self.snapshot_instead());
        }
        let metrics = self.metrics();
        let leader = metrics.current_leader;
        let leader = leader.and_then(|id| metrics.membership_config.membership().get_node(&id));
        let leader = leader.map(|member| member.node);
        Ok(FollowAnswer::Entries { entries, term: metrics.current_term, leader })
    }

    fn snapshot_instead(&self) -> FollowAnswer {
        match self.context.state.snapshot_info() {
            Some(info) => FollowAnswer::Snapshot { meta: info.meta, total: info.length, sha256: info.sha256 },
            None => FollowAnswer::Behind,
        }
    }

    async fn chunk(&self, last: LogPos, offset: u64) -> Result<FollowAnswer, String> {
        let Some(info) = self.context.state.snapshot_info().filter(|i| i.meta.last == Some(last)) else {
            return Ok(FollowAnswer::Gone);
        };
        let (total, sha256) = (info.length, info.sha256);
        let read = tokio::task::spawn_blocking(move || info.read_piece(offset, SNAPSHOT_CHUNK));
        // A newer snapshot may have replaced the file meanwhile.
        Ok(match read.await.map_err(|e| e.to_string())? {
            Ok(data) => FollowAnswer::Chunk(SnapshotChunk { offset, total, sha256, data }),
            Err(_) => FollowAnswer::Gone,
        })
    }
}
