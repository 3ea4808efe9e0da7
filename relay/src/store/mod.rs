//! What outlives a restart: SQLite in the relay's directory. One connection, used on the threads
//! for blocking work; a write is durable before it is answered.

mod outbox;
mod sites;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;

pub(crate) use outbox::{Item, NewItem};
pub(crate) use sites::NewSite;

/// Steps from one version of the database to the next; the first makes it. Never edited once
/// released: a change is a further step.
const MIGRATIONS: [&str; 1] = [include_str!("schema-1.sql")];

/// Why the store fails.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database fails.
    #[error("database: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// The database is newer than this program.
    #[error("database: it has version {have}, this relay knows {know}: install a newer relay")]
    Newer {
        /// Its version.
        have: usize,
        /// The newest version known.
        know: usize,
    },
    /// A thread that worked on it is gone.
    #[error("database: the work was not finished")]
    Lost,
}

/// The database.
#[derive(Clone)]
pub(crate) struct Store {
    connection: Arc<Mutex<Connection>>,
}

impl Store {
    /// Opens the database of a directory and brings it up to date.
    pub(crate) fn open(state: &Path) -> Result<Self, StoreError> {
        let mut connection = Connection::open(state.join("relay.sqlite"))?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        migrate(&mut connection)?;
        Ok(Self { connection: Arc::new(Mutex::new(connection)) })
    }

    /// Does some work on the database. What was begun is finished even if nobody waits for it.
    pub(crate) async fn with<T, F>(&self, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let connection = Arc::clone(&self.connection);
        let done = tokio::task::spawn_blocking(move || {
            // Work that changes several rows is a transaction: a panic inside leaves nothing half.
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            work(&mut connection)
        });
        done.await.map_err(|_| StoreError::Lost)?
    }
}

fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let have: u32 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let have = have as usize;
    if have > MIGRATIONS.len() {
        return Err(StoreError::Newer { have, know: MIGRATIONS.len() });
    }
    for (at, step) in MIGRATIONS.iter().enumerate().skip(have) {
        let change = connection.transaction()?;
        change.execute_batch(step)?;
        change.pragma_update(None, "user_version", number(at as u64 + 1))?;
        change.commit()?;
    }
    Ok(())
}

/// SQLite's numbers have a sign; ours end at 2^53.
fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn natural(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}

/// A stored value that no longer reads as what it is.
fn damaged(column: usize, why: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Blob, Box::new(why))
}
