//! A cluster's store goes back to a backup on the one control plane node that holds it. The others are reset
//! before, and join again after: what is restored is a store of one member.
//!
//! Nothing is stopped before the backup was found and read as a whole. The data of before is set aside on the
//! same disk, and stays there until the next restore.

use super::{Action, Compiler, READY_LIMIT_S, host};
use crate::DriverError;
use crate::host_step::HostAction;

/// Longest time in seconds until all parts of the control plane have ended: an API server ends its requests.
const PARK_LIMIT_S: u16 = 120;

impl Compiler<'_> {
    pub(super) fn restore(&self) -> Result<Vec<Action>, DriverError> {
        if !self.is_control_plane() {
            return Err(self.refuse("only a control plane node does: the store is there"));
        }
        let Some(backup) = self.observed.backup else {
            return Err(self.refuse("needs a signed intent that names a backup"));
        };
        // What tells this restore from another one of the same backup.
        let order = self.order.generation;
        let (name, address) = (self.me.host.clone(), self.me.address.clone());
        let version = self.order.version.clone();
        Ok(vec![
            host("look whether the backup is here and whole", HostAction::CheckBackup { backup }),
            host("stop the control plane", HostAction::Park { order, limit_s: PARK_LIMIT_S }),
            host(
                "restore the store as one of a single member",
                HostAction::RestoreStore { backup, order, name: name.clone(), address },
            ),
            host("start the control plane", HostAction::Unpark),
            self.api_is_ready("wait for the API server here", None),
            host(
                "forget the other control plane nodes",
                HostAction::OnlyControlPlane { name: name.clone(), version: version.clone() },
            ),
            host(
                "wait until the node is ready",
                HostAction::AwaitNode { name, version, limit_s: READY_LIMIT_S },
            ),
            host("put everything on the disk", HostAction::Sync),
        ])
    }
}
