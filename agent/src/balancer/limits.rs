//! Every bound of the balancer, with its reason.

use std::time::Duration;

/// From the beginning of one look whether an API server takes connections to the next. With
/// [`PROBE_LIMIT`] and [`MISSES`] a host that falls silent is found after 0.25 to 0.4 s.
pub const PROBE_EVERY: Duration = Duration::from_millis(100);
/// How long such a look may take, and any connection to an API server: nodes of a site are near one
/// another, and an answer that takes longer than this was lost.
pub const PROBE_LIMIT: Duration = Duration::from_millis(150);
/// A look that took longer than its limit and this much more says that this machine was busy, and
/// nothing of the server.
pub const STALL: Duration = Duration::from_millis(100);
/// Looks in a row that fail before a server is dead: one packet may be lost.
pub const MISSES: u32 = 2;
/// From one question for readiness to the next, on a connection that is kept. It costs the server a read
/// of etcd, and every node of the cluster asks.
pub const READY_EVERY: Duration = Duration::from_millis(250);
/// How long that answer may take. It is slow while etcd elects; who is late is not ready for new
/// connections, and nothing more.
pub const READY_LIMIT: Duration = Duration::from_millis(500);
/// How long a server may be not ready, while another is, before its connections are drained: an election
/// of etcd is over by then, and one whose etcd is gone for good would hold its clients for ever.
pub const PATIENCE: Duration = Duration::from_secs(2);
/// A server that sent a byte within this time is not cut: two looks may be lost where a stream goes on.
/// Shorter than the shortest time from the last byte of a silent host to the second miss.
pub const FRESH: Duration = Duration::from_millis(200);
/// A connection that is drained ends as soon as its server said nothing for this long: what was asked is
/// answered by then, or never.
pub const QUIET: Duration = Duration::from_millis(100);
/// A drained connection ends after this time in any case.
pub const DRAIN_LIMIT: Duration = Duration::from_secs(1);
/// How long a new connection waits for any server: it outlasts the restart of an API server that is
/// alone, and a client with a patience of its own leaves earlier.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(2);
/// Pause after all servers were tried in vain.
pub const AGAIN: Duration = Duration::from_millis(100);
/// Connections at a time. A node's own programs hold some tens; each costs two descriptors, of 16,384
/// that the agent's unit has, and at most 32 KiB of memory.
pub const CONNECTIONS: usize = 1_024;
/// Bytes of each of a connection's two buffers.
pub const BUFFER: usize = 16 * 1024;
/// Servers of a cluster: a control plane has 5, and one that is replaced is in the list besides.
pub const BACKENDS: usize = 16;
/// Bytes of an answer about readiness: the list of checks has some 3 KiB.
pub const ANSWER_BYTES: usize = 64 * 1024;
/// How often it is looked what passes by time alone.
pub const TICK: Duration = Duration::from_millis(50);
/// Pause between tries to open the port that another program has.
pub const PORT_AGAIN: Duration = Duration::from_secs(1);
