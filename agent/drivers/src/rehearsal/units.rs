//! The steps that run the rehearsal's units and wait for them.

use std::net::SocketAddr;

use super::{API_SERVER_PORT, Action, Compiler, ip};
use crate::DriverError;
use crate::step::{StandIn, StepAction};

/// Longest wait for an API server: it starts in milliseconds, a loaded machine takes seconds.
const READY_LIMIT_S: u16 = 60;
/// Longest wait for the node service to join: longer, since the other end may restart meanwhile.
const JOINED_LIMIT_S: u16 = 120;

impl Compiler<'_> {
    /// Unit and wait of an API server on this node.
    pub(super) fn api_server(&self) -> Result<[Action; 2], DriverError> {
        let server = SocketAddr::new(ip(self.me)?, API_SERVER_PORT).to_string();
        Ok([
            ("run the API server".to_owned(), self.unit(StandIn::ApiServer)?),
            (
                format!("wait for https://{server}/readyz"),
                StepAction::AwaitReady {
                    server,
                    path: "/readyz".to_owned(),
                    authority: self.authority.certificate.clone(),
                    limit_s: READY_LIMIT_S,
                },
            ),
        ])
    }

    /// Unit and wait of the node service, and the end of its bootstrap credential.
    pub(super) fn node_service(&self) -> Result<[Action; 3], DriverError> {
        Ok([
            ("run the node service".to_owned(), self.unit(StandIn::NodeService)?),
            (
                format!("wait until {} has joined {}", self.me.host, self.order.cluster),
                StepAction::AwaitJoined { status: "run/node-service.json".parse()?, limit_s: JOINED_LIMIT_S },
            ),
            (
                "delete the bootstrap credential".to_owned(),
                StepAction::Remove { path: "secret/join.json".parse()? },
            ),
        ])
    }

    fn unit(&self, stand_in: StandIn) -> Result<StepAction, DriverError> {
        Ok(StepAction::Unit {
            stand_in,
            config: format!("config/{}.json", stand_in.name()).parse()?,
            defaults: self.bundle.join("units")?.join(&format!("{}.json", stand_in.name()))?,
        })
    }
}
