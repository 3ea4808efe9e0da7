//! Every bound of the mesh, each with its reason. Whatever comes from outside is checked against
//! one of these before memory is set aside for it.

use std::time::Duration;

/// Body of a Raft request or answer: a batch of log entries, never a snapshot.
pub const RAFT_BODY: usize = 4 << 20;
/// Body of a control request or answer: reports, proposals, queries.
pub const CONTROL_BODY: usize = 1 << 20;
/// Body of a bulk request or answer: one chunk of a snapshot, a page of the log.
pub const BULK_BODY: usize = 4 << 20;
/// Body of a blob request or answer: one chunk of a bundle, and which others are there.
pub const BLOB_BODY: usize = (1 << 20) + (64 << 10);
/// A gossiped fact with its signature and framing: rare and small, since every node carries it.
pub const GOSSIP_MESSAGE: usize = 16 << 10;
/// What a publisher may hand in: leaves room for source, signature, topic and sequence number.
pub const GOSSIP_BODY: usize = GOSSIP_MESSAGE - 512;
/// What a stranger may say in one frame of a knock.
pub const KNOCK_BODY: usize = 8 << 10;
/// What a knocker may be told: the admit document holds the whole trust log.
pub const ADMIT_BODY: usize = 4 << 20;
/// Head of a frame, above the body: the widest head (a hello) is 38 bytes.
pub const FRAME_HEAD: usize = 64;
/// A frame is read in pieces of this size, so that a length alone makes nobody allocate megabytes.
pub const READ_PIECE: usize = 64 << 10;
/// Characters of a refusal's text, cut by the sender: it ends in a log line.
pub const REFUSAL_CHARS: usize = 512;

/// Requests that may wait for an answer on one lane to one peer; the next caller waits its turn.
pub const OUTSTANDING_PER_LANE: usize = 32;
/// The same on the blob lane: each is a MiB on a line and in memory, and what else goes to that peer
/// shares the line with it.
pub const OUTSTANDING_BLOBS: usize = 4;
/// Streams that one peer may hold open on one lane: the one that it uses, and the one before it, whose end
/// was not heard yet. A further one ends the oldest: whoever comes again is not shut out by its own past.
pub const STREAMS_PER_LANE: usize = 2;
/// Frames that wait for the writer of one stream; the senders wait when it is full.
pub const FRAMES_QUEUED: usize = 32;
/// Longest time a handler may take: a long poll is 10 s; a peer cannot ask for more than this.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(120);
/// A frame that the peer does not take in this time ends its stream.
pub const WRITE_STALL: Duration = Duration::from_secs(30);
/// The first frame of a stream must have come by then.
pub const HELLO_DEADLINE: Duration = Duration::from_secs(5);
/// Negotiating a stream's protocol takes one round trip.
pub const STREAM_NEGOTIATION: Duration = Duration::from_secs(5);
/// A lane that carried nothing for this long gives its stream back.
pub const LANE_IDLE: Duration = Duration::from_secs(300);

/// Connections of the mesh port in all: 1,000 nodes, a second one each for bulk, and slack.
pub const CONNECTIONS: u32 = 4096;
/// Connections per peer: two that crossed, one for bulk each way, and as many that died unnoticed.
pub const CONNECTIONS_PER_PEER: u32 = 8;
/// Handshakes in progress, inbound: strangers come this far, and each costs a key exchange.
pub const PENDING_INBOUND: u32 = 256;
/// Of these from one source address: members behind one address, and no more.
pub const PENDING_PER_SOURCE: usize = 64;
/// Handshakes in progress, outbound.
pub const PENDING_OUTBOUND: u32 = 256;
/// A handshake must be complete by then.
pub const HANDSHAKE: Duration = Duration::from_secs(5);
/// Yamux streams of one connection: lanes, ping and gossip take a score.
pub const YAMUX_STREAMS: usize = 64;
/// A connection without a stream is closed after this.
pub const CONNECTION_IDLE: Duration = Duration::from_secs(3600);
/// Time between two pings of a connection.
pub const PING_INTERVAL: Duration = Duration::from_secs(3);
/// A ping unanswered for this long has failed; the second failure in a row closes the connection.
pub const PING_TIMEOUT: Duration = Duration::from_secs(3);
/// Failures in a row that are told of a bulk connection before it is closed, half a minute: a ping waits
/// there behind what the line has to carry, and a slow line is not a dead one.
pub const BULK_PINGS_MISSED: u32 = 5;

/// First delay between two dials of a wanted peer.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(50);
/// Longest delay between two dials of a wanted peer.
pub const BACKOFF_LAST: Duration = Duration::from_secs(5);
/// A connection that ends sooner counts as a failed dial: a peer that refuses us accepts the
/// handshake first and closes after it.
pub const SHORT_LIVED: Duration = Duration::from_secs(2);
/// Addresses kept per node: several interfaces, v4 and v6, and where it was before.
pub const ADDRESSES_PER_NODE: usize = 8;
/// Nodes in the address book: twice the largest site.
pub const ADDRESS_BOOK_NODES: usize = 2048;
/// Commands that wait for the swarm's loop.
pub const COMMANDS_QUEUED: usize = 1024;
/// Gossip that waits for the handler; what comes on top is dropped, since each fact has a pull.
pub const GOSSIP_QUEUED: usize = 256;

/// A knock, from the connection's first byte to its last.
pub const KNOCK_LIFE: Duration = Duration::from_secs(12);
/// A knock connection on which nothing is open is closed after this.
pub const KNOCK_IDLE: Duration = Duration::from_secs(3);
/// Knocks at once in all.
pub const KNOCKS: usize = 256;
/// Knocks at once per /24 (v4) or /64 (v6).
pub const KNOCKS_PER_SUBNET: usize = 64;
/// Knocks per second and source address, on average.
pub const KNOCK_RATE: u64 = 1;
/// Knocks that one source address may make in a row: hosts behind one address start together.
pub const KNOCK_BURST: u64 = 5;
/// Source addresses whose rate is remembered; when all are active the next is refused.
pub const KNOCK_SOURCES: usize = 4096;
/// Streams of a knock connection: one, and one that is refused.
pub const KNOCK_YAMUX_STREAMS: usize = 2;

/// Failed dials in a row after which requests no longer cause a dial before its time: a peer that
/// refuses every connection would otherwise cost a handshake for each request to it.
pub const REST_AFTER: u32 = 5;
