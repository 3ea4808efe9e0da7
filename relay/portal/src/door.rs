//! A door: where the API is served, to whom, and what it keeps while it is open.

use std::sync::Arc;

use axum::body::Bytes;
use qb_model::PublicKey;
use tokio::sync::Semaphore;

use crate::limits::{EVENT_STREAMS, UPLOADS};
use crate::openapi;
use crate::session::Sessions;
use crate::site::Site;

/// Who may come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// A socket that only this machine's administrators can open: reads need no session, and a
    /// change is a signed intent here as everywhere.
    Local,
    /// A network: everything but the login needs a session.
    Network {
        /// Origins as browsers write them, `https://10.20.3.11:8443`: exact, no slash at the end.
        origins: Vec<String>,
        /// Hosts as the header `Host` has them, `10.20.3.11:8443`: exact but for the letters' case.
        hosts: Vec<String>,
    },
}

/// How a door is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DoorConfig {
    /// Who may come in.
    pub access: Access,
    /// The key of the node that answers: a login is signed for it.
    pub server_key: PublicKey,
}

/// The state of an open door. Sessions of one door are unknown at another.
pub(crate) struct Door {
    /// What is shown.
    pub(crate) site: Arc<dyn Site>,
    /// How the door is set up; hosts in lower case.
    pub(crate) config: DoorConfig,
    /// Logins that were begun, and sessions.
    pub(crate) sessions: Sessions,
    /// Room for bundles on their way.
    pub(crate) uploads: Arc<Semaphore>,
    /// Room for event streams.
    pub(crate) streams: Arc<Semaphore>,
    /// The API document.
    pub(crate) document: Bytes,
}

impl Door {
    /// Sets a door up.
    pub(crate) fn new(site: Arc<dyn Site>, mut config: DoorConfig) -> Arc<Self> {
        if let Access::Network { hosts, .. } = &mut config.access {
            hosts.iter_mut().for_each(|host| host.make_ascii_lowercase());
        }
        Arc::new(Self {
            site,
            config,
            sessions: Sessions::default(),
            uploads: Arc::new(Semaphore::new(UPLOADS)),
            streams: Arc::new(Semaphore::new(EVENT_STREAMS)),
            document: Bytes::from(openapi::document().to_string()),
        })
    }
}
