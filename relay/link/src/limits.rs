//! Every bound of the link, with its reason.

use std::time::Duration;

/// The version of the protocol that this program speaks.
pub const VERSION: u16 = 1;
/// Versions that one end may offer: more than ever live at a time.
pub const VERSIONS: usize = 8;
/// Bytes of a host with its port: the longest DNS name, a colon, five digits.
pub const HOST_BYTES: usize = 259;
/// Bytes of the preface: host, versions, lengths.
pub const PREFACE_BYTES: usize = 320;
/// Bytes of one frame with its length: what a bad line carries in a few round trips.
pub const FRAME_BYTES: usize = 16 * 1024;
/// Bytes of a frame's length.
pub const LENGTH_BYTES: usize = 2;
/// Bytes that encryption adds.
pub const TAG_BYTES: usize = 16;
/// Bytes that one frame carries.
pub const PLAIN_BYTES: usize = FRAME_BYTES - LENGTH_BYTES - TAG_BYTES;
/// Longest time from the first byte to the verdict.
pub const HANDSHAKE: Duration = Duration::from_secs(10);
/// Longest time for TCP, proxy, TLS and WebSocket together.
pub const DIAL: Duration = Duration::from_secs(20);
/// Bytes of a proxy's answer.
pub const PROXY_BYTES: usize = 8 * 1024;
/// Streams of a link at a time, both directions: requests of a few people.
pub const STREAMS: usize = 64;
/// Bytes that one link may hold for its streams: what the multiplexer asks at least.
pub const WINDOW_BYTES: usize = STREAMS * 256 * 1024;
/// Streams that wait to be opened or taken: more means that nobody serves them.
pub const STREAM_QUEUE: usize = 32;
/// Bytes of one message of the push stream: an intent's envelope and its frame.
pub const PUSH_BYTES: usize = 160 * 1024;
/// Bytes of trust entries or roster entries in one message: one entry always fits besides.
pub const PUSH_BATCH_BYTES: usize = 48 * 1024;
/// Bytes of a whole trust log on its way to a node that is let in: its own cap, 4 MiB, and frames.
pub const ADMIT_BYTES: usize = 6 * 1024 * 1024;
/// Members whose addresses are told, and voters: a node needs one that answers.
pub const HINTS: usize = 64;
/// Addresses of one member.
pub const HINT_ADDRESSES: usize = 4;
/// Bytes of one address: IPv6 in brackets with a zone and a port.
pub const HINT_BYTES: usize = 64;
/// Messages that wait to be pushed: a burst of events; the oldest stand, new ones are refused.
pub const PUSH_QUEUE: usize = 256;
/// How often both ends say that they live: below the idle limits of common proxies.
pub const BEAT: Duration = Duration::from_secs(15);
/// A link is dead after this long without a message: three beats.
pub const SILENCE: Duration = Duration::from_secs(45);
/// Shortest pause before another try.
pub const RETRY_MIN: Duration = Duration::from_millis(500);
/// Longest pause before another try: a relay that comes back is found within a minute.
pub const RETRY_MAX: Duration = Duration::from_secs(60);
/// A link that lived this long counts as a success: the next try starts with the shortest pause.
pub const STEADY: Duration = Duration::from_secs(60);
/// Bytes of a message of a tunnel's handshake: a grant's envelope and a certificate request.
pub const TUNNEL_MESSAGE_BYTES: usize = 16 * 1024;
/// Bytes of the envelope of a grant: one document of a dozen short members, one signature.
pub const GRANT_BYTES: usize = 4 * 1024;
/// Bytes of a certificate request: that of an RSA key of 4096 bits.
pub const REQUEST_BYTES: usize = 4 * 1024;
/// Bytes of what the agent answers to a grant: a certificate and an authority.
pub const TUNNEL_ANSWER_BYTES: usize = 48 * 1024;
/// Longest time from a tunnel's first byte to the answer: a certificate may be signed on the way.
pub const TUNNEL_HANDSHAKE: Duration = Duration::from_secs(20);
