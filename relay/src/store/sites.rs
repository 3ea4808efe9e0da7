//! Orgs, sites, and what is verified of them.

use qb_link::RosterEntry;
use qb_model::trust::TrustEntry;
use qb_model::{Digest, Millis, Name, PublicKey, SiteId};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{Store, StoreError, damaged, natural, number};
use crate::config::OrgConfig;

/// A site as it is stored.
pub(crate) struct SiteRow {
    pub(crate) id: SiteId,
    pub(crate) org: Name,
    pub(crate) charter: Vec<u8>,
    pub(crate) trust: Vec<TrustEntry>,
    pub(crate) roster: Vec<RosterEntry>,
    /// Part, JSON, when.
    pub(crate) views: Vec<(String, Vec<u8>, u64)>,
}

/// A site that registers.
pub(crate) struct NewSite {
    pub(crate) id: SiteId,
    pub(crate) org: Name,
    pub(crate) charter: Vec<u8>,
    pub(crate) registration: Vec<u8>,
    pub(crate) trust: Vec<TrustEntry>,
    /// Keys of the owners who signed; they found the org if there is none.
    pub(crate) signers: Vec<PublicKey>,
    pub(crate) now: u64,
}

impl Store {
    /// All sites.
    pub(crate) async fn sites(&self) -> Result<Vec<SiteRow>, StoreError> {
        self.with(|db| {
            let mut rows = db.prepare("SELECT id, org, charter FROM sites")?;
            let heads = rows.query_map([], |row| {
                Ok((row.get::<_, [u8; 32]>(0)?, row.get::<_, String>(1)?, row.get(2)?))
            })?;
            heads.map(|head| site_row(db, head?)).collect()
        })
        .await
    }

    /// Orgs as the options name them; what else there is stays.
    pub(crate) async fn put_orgs(&self, orgs: Vec<OrgConfig>) -> Result<(), StoreError> {
        let now = number(crate::site::now());
        self.with(move |db| {
            let change = db.transaction()?;
            for org in &orgs {
                let name = org.name.to_string();
                change.execute(
                    "INSERT OR IGNORE INTO orgs (name, made_ms) VALUES (?1, ?2)",
                    params![name, now],
                )?;
                for key in &org.keys {
                    change.execute(
                        "INSERT OR IGNORE INTO org_keys (org, key) VALUES (?1, ?2)",
                        params![name, key.0],
                    )?;
                }
            }
            Ok(change.commit()?)
        })
        .await
    }

    /// The keys that may register sites to an org; none if there is no such org.
    pub(crate) async fn org_keys(&self, org: &Name) -> Result<Option<Vec<PublicKey>>, StoreError> {
        let org = org.to_string();
        self.with(move |db| {
            let found = db.query_row("SELECT 1 FROM orgs WHERE name = ?1", [&org], |_| Ok(())).optional()?;
            if found.is_none() {
                return Ok(None);
            }
            let mut rows = db.prepare("SELECT key FROM org_keys WHERE org = ?1")?;
            let keys = rows.query_map([&org], |row| Ok(PublicKey(row.get(0)?)))?;
            Ok(Some(keys.collect::<Result<_, _>>()?))
        })
        .await
    }

    /// Registers a site, or moves it, with all that was verified of it.
    pub(crate) async fn register(&self, site: NewSite) -> Result<(), StoreError> {
        self.with(move |db| {
            let (id, org, now) = (site.id.0.0, site.org.to_string(), number(site.now));
            let change = db.transaction()?;
            change
                .execute("INSERT OR IGNORE INTO orgs (name, made_ms) VALUES (?1, ?2)", params![org, now])?;
            for key in &site.signers {
                change.execute(
                    "INSERT OR IGNORE INTO org_keys (org, key) VALUES (?1, ?2)",
                    params![org, key.0],
                )?;
            }
            let row = params![id, org, site.charter, site.registration, now];
            change.execute(
                "INSERT INTO sites (id, org, charter, registration, made_ms) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (id) DO UPDATE SET org = excluded.org, registration = excluded.registration",
                row,
            )?;
            change.execute("UPDATE outbox SET org = ?2 WHERE site = ?1", params![id, org])?;
            put_trust(&change, &id, 0, &site.trust)?;
            Ok(change.commit()?)
        })
        .await
    }

    /// Adds entries to a trust log that has `from` of them.
    pub(crate) async fn add_trust(
        &self,
        site: SiteId,
        from: usize,
        entries: Vec<TrustEntry>,
    ) -> Result<(), StoreError> {
        self.with(move |db| {
            let change = db.transaction()?;
            put_trust(&change, &site.0.0, from, &entries)?;
            Ok(change.commit()?)
        })
        .await
    }

    /// Adds entries to a roster.
    pub(crate) async fn add_roster(&self, site: SiteId, entries: Vec<RosterEntry>) -> Result<(), StoreError> {
        self.with(move |db| {
            let change = db.transaction()?;
            for entry in &entries {
                change.execute(
                    "INSERT OR REPLACE INTO roster (site, number, log_time, envelope) VALUES (?1, ?2, ?3, ?4)",
                    params![site.0.0, number(entry.index), number(entry.log_time.0), entry.envelope],
                )?;
            }
            Ok(change.commit()?)
        })
        .await
    }

    /// The envelope of an entry of the roster.
    pub(crate) async fn roster_entry(&self, site: SiteId, index: u64) -> Result<Option<Vec<u8>>, StoreError> {
        self.with(move |db| {
            let sql = "SELECT envelope FROM roster WHERE site = ?1 AND number = ?2";
            Ok(db.query_row(sql, params![site.0.0, number(index)], |row| row.get(0)).optional()?)
        })
        .await
    }

    /// Keeps the last views of a site.
    pub(crate) async fn put_views(
        &self,
        site: SiteId,
        views: Vec<(&'static str, Vec<u8>, u64)>,
    ) -> Result<(), StoreError> {
        self.with(move |db| {
            let change = db.transaction()?;
            for (part, json, at) in &views {
                change.execute(
                    "INSERT OR REPLACE INTO views (site, part, json, at_ms) VALUES (?1, ?2, ?3, ?4)",
                    params![site.0.0, part, json, number(*at)],
                )?;
            }
            Ok(change.commit()?)
        })
        .await
    }

    /// The receipt of an intent.
    pub(crate) async fn receipt(&self, site: SiteId, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        self.with(move |db| {
            let found = db.query_row(
                "SELECT receipt FROM receipts WHERE site = ?1 AND digest = ?2",
                params![site.0.0, digest.0],
                |row| row.get(0),
            );
            Ok(found.optional()?)
        })
        .await
    }

    /// Keeps a receipt; the oldest beyond `most` go.
    pub(crate) async fn put_receipt(
        &self,
        site: SiteId,
        digest: Digest,
        receipt: Vec<u8>,
        (now, most): (u64, usize),
    ) -> Result<(), StoreError> {
        self.with(move |db| {
            let change = db.transaction()?;
            change.execute(
                "INSERT OR REPLACE INTO receipts (site, digest, receipt, at_ms) VALUES (?1, ?2, ?3, ?4)",
                params![site.0.0, digest.0, receipt, number(now)],
            )?;
            change.execute(
                "DELETE FROM receipts WHERE site = ?1 AND digest IN
                 (SELECT digest FROM receipts WHERE site = ?1 ORDER BY at_ms DESC LIMIT -1 OFFSET ?2)",
                params![site.0.0, number(most as u64)],
            )?;
            Ok(change.commit()?)
        })
        .await
    }
}

fn put_trust(
    db: &Connection,
    site: &[u8; 32],
    from: usize,
    entries: &[TrustEntry],
) -> Result<(), StoreError> {
    for (at, entry) in entries.iter().enumerate() {
        // Serializing into memory fails for no type of the model.
        let bytes = postcard::to_stdvec(entry).unwrap_or_default();
        let seq = number((from + at) as u64);
        db.execute(
            "INSERT OR REPLACE INTO trust (site, seq, entry) VALUES (?1, ?2, ?3)",
            params![site, seq, bytes],
        )?;
    }
    Ok(())
}

fn site_row(db: &Connection, (id, org, charter): ([u8; 32], String, Vec<u8>)) -> Result<SiteRow, StoreError> {
    let mut rows = db.prepare("SELECT entry FROM trust WHERE site = ?1 ORDER BY seq")?;
    let entry = |bytes: Vec<u8>| postcard::from_bytes(&bytes).map_err(|e| damaged(0, e));
    let trust = rows.query_map([id], |row| entry(row.get(0)?))?.collect::<Result<_, _>>()?;
    let mut rows =
        db.prepare("SELECT number, log_time, envelope FROM roster WHERE site = ?1 ORDER BY number")?;
    let roster = rows.query_map([id], |row| {
        let (index, log_time) = (natural(row.get(0)?), Millis(natural(row.get(1)?)));
        Ok(RosterEntry { index, log_time, envelope: row.get(2)? })
    })?;
    let roster = roster.collect::<Result<_, _>>()?;
    let mut rows = db.prepare("SELECT part, json, at_ms FROM views WHERE site = ?1")?;
    let views = rows.query_map([id], |row| Ok((row.get(0)?, row.get(1)?, natural(row.get(2)?))))?;
    let views = views.collect::<Result<_, _>>()?;
    let org = org.parse().map_err(|e| damaged(1, e))?;
    Ok(SiteRow { id: SiteId(Digest(id)), org, charter, trust, roster, views })
}
