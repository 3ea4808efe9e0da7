//! The tables behind a login: nonces that were given out, and sessions. Both are bounded, live in
//! memory only, and are gone when the door closes. A token is kept as its SHA-256 only.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use qb_model::Nonce;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::time::Instant;

use crate::error::code;
use crate::limits::{NONCE_LIFE, NONCES, SESSION_IDLE, SESSION_MAX, SESSIONS, SESSIONS_KEY};
use crate::site::{Answer, LoginOk};
use crate::view::Problem;

/// SHA-256 of a token: the session's name inside the door.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct TokenHash([u8; 32]);

/// A session.
struct Session {
    login: LoginOk,
    made: Instant,
    used: Instant,
}

impl Session {
    /// Why it is over, if it is.
    fn over(&self, now: Instant) -> Option<&'static str> {
        if now.duration_since(self.made) >= SESSION_MAX {
            Some("The session was 8 hours old.")
        } else if now.duration_since(self.used) >= SESSION_IDLE {
            Some("The session was idle for an hour.")
        } else {
            None
        }
    }
}

#[derive(Default)]
struct Tables {
    /// Oldest first.
    nonces: VecDeque<(Nonce, Instant)>,
    /// Looked up by hash, so that the time a look-up takes says nothing about a token.
    sessions: HashMap<TokenHash, Session>,
}

/// Nonces and sessions of a door.
#[derive(Default)]
pub(crate) struct Sessions {
    tables: Mutex<Tables>,
}

impl Sessions {
    /// Gives out a nonce. When too many are out, the oldest is void: a flood of requests can so
    /// void logins that take long, but never use memory without bound or block all logins.
    pub(crate) fn challenge(&self) -> Answer<Nonce> {
        let nonce = Nonce(random()?);
        let now = Instant::now();
        let mut tables = self.lock();
        tables.nonces.retain(|(_, given)| now.duration_since(*given) < NONCE_LIFE);
        while tables.nonces.len() >= NONCES {
            tables.nonces.pop_front();
        }
        tables.nonces.push_back((nonce, now));
        Ok(nonce)
    }

    /// Uses a nonce up. True if it was out and young enough.
    pub(crate) fn use_nonce(&self, nonce: &Nonce) -> bool {
        let now = Instant::now();
        let mut tables = self.lock();
        let mut found = None;
        // All are compared, each in constant time.
        for (at, (known, given)) in tables.nonces.iter().enumerate() {
            if bool::from(known.0.ct_eq(&nonce.0)) {
                found = Some((at, *given));
            }
        }
        let Some((at, given)) = found else {
            return false;
        };
        tables.nonces.remove(at);
        now.duration_since(given) < NONCE_LIFE
    }

    /// Opens a session and answers with its token, which is not kept.
    pub(crate) fn open(&self, login: LoginOk) -> Answer<String> {
        let token = random()?;
        let now = Instant::now();
        let mut tables = self.lock();
        tables.sessions.retain(|_, session| session.over(now).is_none());
        tables.make_room(|session| session.login.key == login.key, SESSIONS_KEY);
        tables.make_room(|_| true, SESSIONS);
        tables.sessions.insert(hash(&token), Session { login, made: now, used: now });
        Ok(URL_SAFE_NO_PAD.encode(token))
    }

    /// The session of a token that came in a request; counts as use of it.
    pub(crate) fn enter(&self, token: &str) -> Answer<(TokenHash, LoginOk)> {
        let unknown = || Problem::unauthorized("The session token is not known here.");
        let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| unknown())?;
        let key = hash(&<[u8; 32]>::try_from(bytes).map_err(|_| unknown())?);
        let now = Instant::now();
        let mut tables = self.lock();
        let session = tables.sessions.get_mut(&key).ok_or_else(unknown)?;
        if let Some(why) = session.over(now) {
            tables.sessions.remove(&key);
            return Err(Problem::session_ended(why));
        }
        session.used = now;
        Ok((key, session.login.clone()))
    }

    /// The login of a session that is not over, without counting as use.
    pub(crate) fn login(&self, key: &TokenHash) -> Option<LoginOk> {
        let now = Instant::now();
        let tables = self.lock();
        tables.sessions.get(key).filter(|s| s.over(now).is_none()).map(|s| s.login.clone())
    }

    /// Ends a session.
    pub(crate) fn close(&self, key: &TokenHash) {
        self.lock().sessions.remove(key);
    }

    /// The tables are whole after every statement, so a panic elsewhere does not spoil them.
    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    /// Ends the idlest of the sessions that `which` chooses until fewer than `limit` are left.
    fn make_room(&mut self, which: impl Fn(&Session) -> bool, limit: usize) {
        loop {
            let chosen = self.sessions.iter().filter(|(_, session)| which(session));
            let idlest = chosen.clone().min_by_key(|(_, session)| session.used).map(|(k, _)| *k);
            match idlest {
                Some(key) if chosen.count() >= limit => self.sessions.remove(&key),
                _ => return,
            };
        }
    }
}

/// 32 bytes from the system.
fn random() -> Answer<[u8; 32]> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|_| Problem::internal("Reading the system's random source"))?;
    Ok(bytes)
}

fn hash(token: &[u8; 32]) -> TokenHash {
    TokenHash(Sha256::digest(token).into())
}

/// A nonce that is not out, was used, or is too old.
pub(crate) fn nonce_problem() -> Problem {
    let minutes = Duration::as_secs(&NONCE_LIFE) / 60;
    let detail = format!(
        "The login's nonce was not given out by this door, was used, or is older than {minutes} min."
    );
    Problem::refused(code::LOGIN_NONCE, detail, "begin again: GET /v1/login")
}
