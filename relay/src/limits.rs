//! Every bound of the relay, with its reason.

use std::time::Duration;

/// Bytes of a registration: charter, a whole trust log, the envelope, as JSON.
pub const REGISTER_BYTES: usize = 8 * 1024 * 1024;
/// Longest time for a registration to arrive: 8 MiB at 1 Mbit/s.
pub const REGISTER_DEADLINE: Duration = Duration::from_secs(90);
/// Registrations that are verified at a time: each may verify thousands of signatures.
pub const REGISTERING: usize = 2;
/// Sites of an org.
pub const SITES_ORG: usize = 1_000;
/// Sites of a relay.
pub const SITES: usize = 20_000;
/// Proven links of a site: its gateway and its standby.
pub const LINKS_SITE: usize = 2;
/// Links of a site whose node is not on the roster that the relay has.
pub const UNPROVEN_SITE: usize = 4;
/// Nodes that knock through the relay, of a site.
pub const KNOCKS_SITE: usize = 64;
/// Links of nodes that wait, of a site: those that knock, and as many that were let in and have yet
/// to hear it.
pub const WAITING_SITE: usize = 2 * KNOCKS_SITE;
/// How long a link may take to prove its node, or to knock.
pub const PROVE: Duration = Duration::from_secs(10);
/// Connections whose upgrade or handshake is under way, of a relay.
pub const GREETING: usize = 512;
/// Tunnels through a relay at a time: each is a stream of a link and a connection.
pub const TUNNELS: usize = 1_024;
/// Of these of one admin's key.
pub const TUNNELS_KEY: usize = 16;
/// How long a site has to take a tunnel.
pub const TUNNEL_OPEN: Duration = Duration::from_secs(10);
/// How often a tunnel's session is looked at: it ends within 5 s of its key.
pub const TUNNEL_LOOK: Duration = Duration::from_secs(3);
/// Bytes of tunnels that are moved at a time, each way.
pub const TUNNEL_PIECE: usize = 16 * 1024;
/// Bytes of trust or roster entries on their way in one batch.
pub const BATCH_BYTES: usize = 6 * 1024 * 1024;
/// Roster entries of a site: authorized and revoked nodes, one intent each at worst.
pub const ROSTER: usize = 30_000;
/// How often an idle link says that it lives; as the agent's end.
pub const BEAT: Duration = qb_link::limits::BEAT;
/// How long a link that ends has to say why.
pub const LAST_WORD: Duration = Duration::from_secs(1);
/// How long an old link has to answer when its node seems to come twice.
pub const PROBE: Duration = Duration::from_secs(3);
/// How long a question over a link may take, besides what it is asked to wait.
pub const ASK: Duration = Duration::from_secs(5);
/// How long a plan or a preflight may take.
pub const ASK_LONG: Duration = Duration::from_secs(60);
/// Bytes of a bundle that goes through a relay: the agent's two programs packed, three times. It is held in
/// memory on its way, and a larger one is pushed at a door of the site.
pub const PUSH_BYTES: usize = 48 * 1024 * 1024;
/// Longest time for a site to take a bundle: 48 MiB at 2 Mbit/s.
pub const PUSH: Duration = Duration::from_secs(210);
/// Bytes of an answer over a link: views of 1,000 nodes with their facts.
pub const ANSWER_BYTES: usize = 8 * 1024 * 1024;
/// Longest pause between two reads of a site's views.
pub const REFRESH: Duration = Duration::from_secs(30);
/// Shortest pause between two reads: a burst of events is one change.
pub const REFRESH_MIN: Duration = Duration::from_millis(500);
/// A site without a link is dark after this long.
pub const DARK: Duration = Duration::from_secs(90);
/// Intents of a site that wait for a receipt.
pub const OUTBOX_SITE: usize = 4_096;
/// Intents that are handed over at a time, of a site.
pub const HANDING: usize = 8;
/// How long a gateway may take to answer for an intent; it waits for the outcome itself.
pub const HAND: Duration = Duration::from_secs(15);
/// Without a receipt after this long an intent goes to the standby too.
pub const STANDBY_AFTER: Duration = Duration::from_secs(10);
/// Longest pause until an intent without a receipt is handed over again.
pub const AGAIN_MAX: Duration = Duration::from_secs(600);
/// How long what became of an intent is kept.
pub const KEEP: Duration = Duration::from_secs(7 * 24 * 3_600);
/// Receipts that are kept of a site.
pub const RECEIPTS_SITE: usize = 10_000;
/// Intents in one list.
pub const LIST: usize = 100;
/// Events of a site that are kept for readers who come back.
pub const EVENTS: usize = 256;
/// Bytes of an event's texts.
pub const EVENT_BYTES: usize = 4_096;
/// Marks of a site: clones, forks.
pub const MARKS: usize = 32;
/// Bytes of a vendor's package that the relay keeps in memory: three times what the agent's weighs.
pub const PACKAGE_BYTES: u64 = 128 * 1024 * 1024;
/// Files that are looked at in the directory of packages: it holds two to four.
pub const PACKAGE_FILES: usize = 256;
/// Bytes of a package that are handed to a connection at a time: what it copies to send them.
pub const PACKAGE_CHUNK: usize = 64 * 1024;
/// Packages that are hashed at a time: each reads tens of megabytes, once per site and state.
pub const HASHING: usize = 2;
/// Downloads that one address may begin at once: the machines of some racks behind one address.
pub const DOWNLOADS: u32 = 256;
/// How long until one address may begin one download more.
pub const DOWNLOAD_EVERY: Duration = Duration::from_millis(500);
/// Addresses whose downloads are counted: 64 bytes each. When full, the one that was quiet longest goes.
pub const DOWNLOADERS: usize = 8_192;
