//! What this crate replicates: a state machine over opaque command bytes.

/// The machine refused a command or a snapshot for a reason that must never occur. The process
/// stops: applying on would make this replica differ from the others.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("state machine: {0}")]
pub struct MachineError(pub String);

/// The replicated state machine. Pure in memory: this crate persists snapshots of it and replays
/// the log after them, so `apply` sees a command again after a restart.
pub trait Machine: Send + 'static {
    /// Applies one committed command and returns its outcome. A function of the state, `index` and
    /// `command` only. `Err` is poison: the process must stop, so a command that is merely wrong
    /// returns an outcome that says so.
    fn apply(&mut self, index: u64, command: &[u8]) -> Result<Vec<u8>, MachineError>;
    /// The complete state as bytes.
    fn snapshot(&self) -> Vec<u8>;
    /// Says whether `snapshot` may be installed, without changing anything. Asked before a peer's
    /// snapshot reaches consensus, where a refusal would end the process.
    fn verify(&self, snapshot: &[u8]) -> Result<(), MachineError> {
        let _ = snapshot;
        Ok(())
    }
    /// Replaces the state. Verifies the whole snapshot before it swaps.
    fn install(&mut self, snapshot: &[u8]) -> Result<(), MachineError>;
    /// Called after each batch of commands and after an installation: publish what watches.
    fn applied_batch(&mut self, last_index: u64);
}
