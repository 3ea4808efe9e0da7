//! Units of the host, by systemd over D-Bus.

use futures::future::BoxFuture;

use crate::progress::StepError;

/// A unit as it is now.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct HostUnit {
    /// `active`, `activating`, `failed`, `inactive`.
    pub(crate) active: String,
    /// The file that it is of; empty if there is none.
    pub(crate) file: String,
    /// `enabled`, `disabled`, `static`; empty if there is no such file.
    pub(crate) enabled: String,
    /// Its environment as systemd has it.
    pub(crate) environment: Vec<String>,
    /// Whether its file changed since systemd read it.
    pub(crate) stale: bool,
}

/// What is asked of systemd; in tests a table.
pub(crate) trait HostUnits: Send + Sync {
    /// A unit, as it is; one that is not known has nothing set.
    fn look<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<HostUnit, StepError>>;
    /// Reads all unit files anew.
    fn reload(&self) -> BoxFuture<'_, Result<(), StepError>>;
    /// Starts a unit at boot, or no longer.
    fn enable<'a>(&'a self, name: &'a str, on: bool) -> BoxFuture<'a, Result<(), StepError>>;
    /// Starts a unit, again if it runs; returns when it runs.
    fn restart<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StepError>>;
    /// Stops a unit and forgets that it failed; returns when its processes are gone. One that is not
    /// known is stopped.
    fn stop<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StepError>>;
}
