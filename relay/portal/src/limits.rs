//! Every bound of the API, with its reason.

use std::time::Duration;

/// Bytes of an intent's envelope: what the signed format allows.
pub const ENVELOPE_BYTES: usize = 96 * 1024;
/// Bytes of a login's envelope: its payload has about 400 bytes, its signatures 200 each.
pub const LOGIN_BYTES: usize = 8 * 1024;
/// Bytes of a plan request: 64 KiB of payload with every byte escaped inside a JSON string.
pub const PLAN_BYTES: usize = 132 * 1024;
/// Bytes of a preflight request: 1,000 node ids have 46 KiB.
pub const PREFLIGHT_BYTES: usize = 64 * 1024;
/// Nodes in a preflight request: the largest site.
pub const PREFLIGHT_NODES: usize = 1_000;
/// Bytes of a pushed bundle's file: 2 GiB of artifacts, and a manifest with its table before them.
pub const BUNDLE_BYTES: u64 = (2 << 30) + 256 * 1024;
/// Bundles that are received at a time: each takes a MiB of memory, and a disk's time.
pub const UPLOADS: usize = 2;
/// Bytes of one file of the web UI, unpacked: five times the largest.
pub const PAGE_FILE_BYTES: u64 = 1024 * 1024;
/// Bytes of a name, prefix or id in a path: the longest is a host name.
pub const SEGMENT_BYTES: usize = 64;
/// Characters of a value from outside that an error repeats: one line.
pub const SHOWN_CHARS: usize = 80;
/// Characters of a parser's message that an error repeats: it may hold a value.
pub const MESSAGE_CHARS: usize = 300;
/// Known names that a suggestion looks through.
pub const SUGGEST_FROM: usize = 4_096;

/// Longest `?wait=`: below the idle limits of common proxies.
pub const WAIT_MAX: Duration = Duration::from_secs(60);
/// Records in one answer of the audit: about 1 MiB of usual records.
pub const AUDIT_RECORDS: u32 = 500;
/// Records in one answer of the audit if no limit is asked for.
pub const AUDIT_DEFAULT: u32 = 200;
/// Open event streams of a door: a page has one, and half the connections stay free.
pub const EVENT_STREAMS: usize = 128;
/// How often an event stream looks whether its session lives: who lost a key hears nothing more after
/// 5 s, the time that the site may need to learn of it included.
pub const SESSION_LOOK: Duration = Duration::from_secs(2);
/// How often an event stream says that it lives.
pub const EVENT_BEAT: Duration = Duration::from_secs(15);
/// How long a client of the event stream waits before it connects again.
pub const EVENT_RETRY: Duration = Duration::from_secs(2);

/// Longest time for a small body to arrive: 64 KiB at the speed of a bad mobile line.
pub const BODY_DEADLINE: Duration = Duration::from_secs(15);
/// Longest time for a bundle to arrive: 2 GiB at 2 Mbit/s.
pub const UPLOAD_DEADLINE: Duration = Duration::from_secs(9_000);
/// Longest pause between two pieces of a bundle: a sender that is gone frees its room.
pub const UPLOAD_STALL: Duration = Duration::from_secs(60);
/// Longest time for an answer to begin, the longest wait included.
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(230);
/// The same for a bundle: until it has come, and was verified as a whole.
pub const UPLOAD_ANSWER: Duration = Duration::from_secs(9_300);

/// Logins that were begun: more than people at a site; when full, the oldest gives way.
pub const NONCES: usize = 1_024;
/// How long a login may take: what `login.v1` allows.
pub const NONCE_LIFE: Duration = Duration::from_secs(120);
/// Sessions of a door: when full, the one that was idle longest gives way.
pub const SESSIONS: usize = 1_024;
/// Sessions of one key: its computers and browsers; when full, the idlest gives way.
pub const SESSIONS_KEY: usize = 16;
/// A session ends after this long without a request.
pub const SESSION_IDLE: Duration = Duration::from_secs(3_600);
/// A session ends after this long in any case: a working day.
pub const SESSION_MAX: Duration = Duration::from_secs(8 * 3_600);

/// Connections of a door: 512 at 64 KiB of buffers each are 32 MiB.
pub const CONNECTIONS: usize = 512;
/// Connections of one address, of IPv6 one /64: half of all, so that nobody takes the room of others. A
/// proxy in front is one address: it has room for all event streams and as many requests.
pub const CONNECTIONS_ADDRESS: usize = 256;
/// Longest time for a TLS handshake.
pub const TLS_DEADLINE: Duration = Duration::from_secs(10);
/// Longest time for a request's head to arrive, and longest idle time between two requests.
pub const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// Bytes of a request's head and of the write buffer.
pub const HEAD_BYTES: usize = 32 * 1024;
/// Headers of a request: browsers send about 20.
pub const HEADERS: usize = 64;
/// Longest time without one written byte while there is something to write.
pub const WRITE_STALL: Duration = Duration::from_secs(30);
/// How long connections have to finish when a door closes.
pub const GRACE: Duration = Duration::from_secs(5);
/// Pause after a failed accept, which is lack of file descriptors as a rule.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
