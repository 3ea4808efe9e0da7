//! Intents on their way. Every query names the org besides the site.

use qb_model::{Digest, IntentId, NodeId};
use rusqlite::{OptionalExtension as _, Row, params};

use super::{Store, StoreError, natural, number};
use crate::scope::Scope;

/// An intent that was taken.
pub(crate) struct NewItem {
    pub(crate) digest: Digest,
    pub(crate) label: IntentId,
    pub(crate) envelope: Vec<u8>,
    pub(crate) queued: u64,
    pub(crate) expires: u64,
}

/// An intent in the outbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) digest: Digest,
    pub(crate) envelope: Vec<u8>,
    pub(crate) queued: u64,
    pub(crate) expires: u64,
    /// Which gateway took it last, and when.
    pub(crate) handed: Option<(NodeId, u64)>,
    /// What a gateway said of it, unsigned.
    pub(crate) said: Option<String>,
    /// The site's receipt, verified when it came.
    pub(crate) receipt: Option<Vec<u8>>,
}

/// The columns of an [`Item`].
const ITEM: &str =
    "SELECT o.digest, o.envelope, o.queued_ms, o.expires_ms, o.gateway, o.handed_ms, o.said, r.receipt
    FROM outbox o LEFT JOIN receipts r ON r.site = o.site AND r.digest = o.digest
    WHERE o.org = ?1 AND o.site = ?2";

fn item(row: &Row<'_>) -> rusqlite::Result<Item> {
    let gateway: Option<[u8; 32]> = row.get(4)?;
    let at: Option<i64> = row.get(5)?;
    Ok(Item {
        digest: Digest(row.get(0)?),
        envelope: row.get(1)?,
        queued: natural(row.get(2)?),
        expires: natural(row.get(3)?),
        handed: gateway.zip(at).map(|(node, at)| (NodeId(node), natural(at))),
        said: row.get(6)?,
        receipt: row.get(7)?,
    })
}

impl Store {
    /// Takes an intent. False if it is there already, none if `most` wait.
    pub(crate) async fn queue(
        &self,
        scope: &Scope,
        new: NewItem,
        most: usize,
    ) -> Result<Option<bool>, StoreError> {
        let (org, site) = scope.parts();
        self.with(move |db| {
            let change = db.transaction()?;
            let known = "SELECT 1 FROM outbox WHERE org = ?1 AND site = ?2 AND digest = ?3";
            let known = change.query_row(known, params![org, site, new.digest.0], |_| Ok(())).optional()?;
            if known.is_some() {
                return Ok(Some(false));
            }
            let waiting = "SELECT count(*) FROM outbox o WHERE org = ?1 AND site = ?2 AND expires_ms > ?3
                AND NOT EXISTS (SELECT 1 FROM receipts r WHERE r.site = o.site AND r.digest = o.digest)";
            let waiting: i64 =
                change.query_row(waiting, params![org, site, number(new.queued)], |row| row.get(0))?;
            if natural(waiting) >= most as u64 {
                return Ok(None);
            }
            change.execute(
                "INSERT INTO outbox (org, site, digest, label, envelope, queued_ms, expires_ms)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
                params![
                    org,
                    site,
                    new.digest.0,
                    new.label.to_string(),
                    new.envelope,
                    number(new.queued),
                    number(new.expires)
                ],
            )?;
            change.commit()?;
            Ok(Some(true))
        })
        .await
    }

    /// The intents that have no receipt and are not expired, oldest first.
    pub(crate) async fn due(&self, scope: &Scope, now: u64) -> Result<Vec<Digest>, StoreError> {
        let (org, site) = scope.parts();
        self.with(move |db| {
            let mut rows = db.prepare(
                "SELECT digest FROM outbox o WHERE org = ?1 AND site = ?2 AND expires_ms > ?3
                 AND NOT EXISTS (SELECT 1 FROM receipts r WHERE r.site = o.site AND r.digest = o.digest)
                 ORDER BY queued_ms, digest",
            )?;
            let due = rows.query_map(params![org, site, number(now)], |row| Ok(Digest(row.get(0)?)))?;
            Ok(due.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// An intent by its digest.
    pub(crate) async fn item(&self, scope: &Scope, digest: Digest) -> Result<Option<Item>, StoreError> {
        let (org, site) = scope.parts();
        self.with(move |db| {
            let query = format!("{ITEM} AND o.digest = ?3");
            Ok(db.query_row(&query, params![org, site, digest.0], item).optional()?)
        })
        .await
    }

    /// The latest intent with a label.
    pub(crate) async fn labelled(&self, scope: &Scope, label: &IntentId) -> Result<Option<Item>, StoreError> {
        let ((org, site), label) = (scope.parts(), label.to_string());
        self.with(move |db| {
            let query = format!("{ITEM} AND o.label = ?3 ORDER BY o.queued_ms DESC LIMIT 1");
            Ok(db.query_row(&query, params![org, site, label], item).optional()?)
        })
        .await
    }

    /// The latest intents, newest first.
    pub(crate) async fn latest(&self, scope: &Scope, most: usize) -> Result<Vec<Item>, StoreError> {
        let (org, site) = scope.parts();
        self.with(move |db| {
            let query = format!("{ITEM} ORDER BY o.queued_ms DESC LIMIT ?3");
            let mut rows = db.prepare(&query)?;
            let items = rows.query_map(params![org, site, number(most as u64)], item)?;
            Ok(items.collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Notes what a gateway did with an intent.
    pub(crate) async fn handed(
        &self,
        scope: &Scope,
        digest: Digest,
        taken: Option<(NodeId, u64)>,
        said: Option<String>,
    ) -> Result<(), StoreError> {
        let (org, site) = scope.parts();
        let (gateway, at) = taken.map(|(node, at)| (node.0, number(at))).unzip();
        self.with(move |db| {
            db.execute(
                "UPDATE outbox SET gateway = coalesce(?4, gateway), handed_ms = coalesce(?5, handed_ms), said = ?6
                 WHERE org = ?1 AND site = ?2 AND digest = ?3",
                params![org, site, digest.0, gateway, at, said],
            )?;
            Ok(())
        })
        .await
    }

    /// Forgets what ended long ago.
    pub(crate) async fn forget(&self, scope: &Scope, before: u64) -> Result<(), StoreError> {
        let (org, site) = scope.parts();
        self.with(move |db| {
            let query = "DELETE FROM outbox WHERE org = ?1 AND site = ?2 AND expires_ms < ?3";
            db.execute(query, params![org, site, number(before)])?;
            Ok(())
        })
        .await
    }
}
