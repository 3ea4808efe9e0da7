//! Every bound of the signed formats and of the trust state, with its reason.
//!
//! Inputs from outside are measured against these before anything is decoded. A bound that takes
//! part in a verdict is consensus-critical: changing it needs a new feature level.

/// Most control plane nodes of a cluster: a store of more members writes slower and survives no more of them
/// at a time that anybody has seen.
pub const CONTROL_PLANES: usize = 5;
/// Bytes of an envelope: 64 KiB of payload as base64 (88 KiB) and 16 signatures (security rules 2.4).
pub const ENVELOPE_BYTES: usize = 96 * 1024;
/// Bytes of a decoded payload: 400 nodes with names and digests fit three times (security rules 2.3).
pub const PAYLOAD_BYTES: usize = 64 * 1024;
/// Bytes of a charter's payload: it travels in every package and enrolment file (security rules 2.2).
pub const CHARTER_BYTES: usize = 8 * 1024;
/// Signatures in an envelope: twice the largest M of N, so that stripping is never needed.
pub const SIGNATURES: usize = 16;
/// Bytes of a key id: the longest known one has 54.
pub const KEYID_BYTES: usize = 128;
/// Bytes of a decoded signature: 64 or 69 are valid, longer ones are of no known kind.
pub const SIGNATURE_BYTES: usize = 512;
/// Nesting of a signed JSON text, the outermost object being 1 (security rules 2.3).
pub const JSON_DEPTH: usize = 8;
/// Members of objects and elements of lists in a signed JSON text, all levels together.
pub const JSON_MEMBERS: usize = 4096;
/// Largest integer of a signed JSON text: what every JSON implementation reads exactly.
pub const JSON_INTEGER: u64 = (1 << 53) - 1;

/// Bytes of an intent's note, which is shown in the audit as text.
pub const NOTE_BYTES: usize = 256;
/// Bytes of a person's name.
pub const PERSON_NAME_BYTES: usize = 128;
/// Bytes of a relay's address.
pub const URL_BYTES: usize = 256;
/// Digests in `after`: an outbox orders neighbours, not whole histories.
pub const AFTER: usize = 8;
/// Objects in `expect`: what a person can have looked at.
pub const EXPECT: usize = 64;
/// Nodes in one action: ten racks, and the payload bound holds.
pub const ACTION_NODES: usize = 400;
/// Nodes whose agents are upgraded at the same time: more would hide how the first of them did.
pub const AGENT_BATCH: usize = 64;
/// Nodes that found a site together: the largest voter set.
pub const FOUNDING_NODES: usize = 5;
/// Labels of a node.
pub const LABELS: usize = 32;
/// Nodes that a policy names as eligible voters.
pub const ELIGIBLE_NODES: usize = 64;
/// Action names that a policy lists for browser keys: more than there are actions.
pub const BROWSER_ACTIONS: usize = 64;

/// Shortest life of an intent in milliseconds: shorter ones expire on the way.
pub const LIFETIME_MIN_MS: u64 = 1_000;
/// Longest life of an intent that one admin signs: 24 h.
pub const LIFETIME_MAX_MS: u64 = 24 * HOUR_MS;
/// Longest life of an intent that several owners must sign: 7 d, for people on other shifts.
pub const LIFETIME_MANY_MS: u64 = 7 * DAY_MS;
/// How far `issued_ms` may lie ahead of log time: 5 min of clock error on an admin's machine.
pub const ISSUED_AHEAD_MS: u64 = 5 * 60_000;
/// Least `anchor_max_age_ms` of a policy: an idle site makes one chain head an hour.
pub const ANCHOR_AGE_MIN_MS: u64 = HOUR_MS;
/// Largest `anchor_max_age_ms` of a policy.
pub const ANCHOR_AGE_MAX_MS: u64 = 7 * DAY_MS;
/// An idle site chains a tick when its newest head is this old, so that anchors stay fresh.
pub const IDLE_HEAD_MS: u64 = HOUR_MS;
/// One hour.
pub const HOUR_MS: u64 = 3_600_000;
/// One day.
pub const DAY_MS: u64 = 24 * HOUR_MS;

/// Chain heads that a replica remembers as anchors: 5 MiB, a week at one head each 9 s.
pub const ANCHORS: usize = 65_536;
/// How long a head is remembered: the largest anchor age, the longest life, and clock error.
pub const ANCHOR_KEEP_MS: u64 = ANCHOR_AGE_MAX_MS + LIFETIME_MANY_MS + HOUR_MS;

/// Founders of a site.
pub const FOUNDERS: usize = 8;
/// Keys of one founder in the charter.
pub const FOUNDER_KEYS: usize = 4;
/// Recovery keys.
pub const RECOVERY_KEYS: usize = 8;
/// Relays that are live at a time: one in use, one being rotated in, for two providers.
pub const RELAYS: usize = 4;
/// Publishers accepted at a time.
pub const PUBLISHERS: usize = 32;
/// Admins of a site.
pub const ADMINS: usize = 256;
/// Keys of one admin.
pub const ADMIN_KEYS: usize = 16;
/// Owners that a policy may ask to sign.
pub const OWNERS_NEEDED: u8 = 8;
/// Entries of the trust log before only removals are taken: joining nodes replay all of it.
pub const TRUST_ENTRIES: usize = 4096;
/// Bytes of the trust log's envelopes before only removals are taken.
pub const TRUST_BYTES: usize = 4 * 1024 * 1024;

/// Digests in the replay table.
pub const REPLAY_SITE: usize = 65_536;
/// Digests of one admin in the replay table: one per 21 s over a day.
pub const REPLAY_ADMIN: usize = 4096;
/// Room in the replay table that only removals by owners may use.
pub const REPLAY_RESERVED: usize = 1024;
/// Entries pruned per call: applying one command stays short.
pub const REPLAY_PRUNE: usize = 64;
/// Cancelled digests remembered per admin.
pub const CANCELS_ADMIN: usize = 256;
/// Intents that wait for approvals.
pub const PENDING: usize = 256;

/// Bytes of a knock (security rules 4 step 3).
pub const KNOCK_BYTES: usize = 8 * 1024;
/// Bytes of the facts inside a knock.
pub const KNOCK_FACTS_BYTES: usize = 4096;
/// Addresses inside a knock.
pub const KNOCK_ADDRESSES: usize = 16;
/// Bytes of a version text of an agent.
pub const AGENT_VERSION_BYTES: usize = 64;
/// Bytes of the result inside a node's command (security rules 3.10).
pub const COMMAND_RESULT_BYTES: usize = 64 * 1024;
/// Bytes of a gossip payload.
pub const GOSSIP_BYTES: usize = 64 * 1024;
/// Bytes of a gossip topic.
pub const GOSSIP_TOPIC_BYTES: usize = 64;
/// Voters of a site: an odd number, at most seven while one is replaced.
pub const VOTERS: usize = 7;
/// Longest life of a login: 2 min (security rules 2.1).
pub const LOGIN_MS: u64 = 2 * 60_000;
/// Longest life of a grant: 15 min (security rules 7.1).
pub const GRANT_MS: u64 = 15 * 60_000;
/// How far a grant's `issued_ms` may lie ahead of the clock that judges it: as of an intent.
pub const GRANT_AHEAD_MS: u64 = ISSUED_AHEAD_MS;
/// Grants remembered as used, per judge: two a second for their whole life, and a script in a loop.
pub const GRANTS_USED: usize = 2_048;
/// Of these by one admin: one each two seconds. Nobody can use up what others need.
pub const GRANTS_USED_ADMIN: usize = 512;
/// Longest life of a client certificate that a grant opens, in milliseconds (security rules 7.4).
pub const CERTIFICATE_MS: u64 = HOUR_MS;
/// Records of access in one command of a node: what a busy second brings.
pub const ACCESS_RECORDS: usize = 64;

/// Links of a chain of voters: one a week for ten years. With the intents that it cites, a chain fits
/// into one message between members.
pub const VOTER_LINKS: usize = 512;
/// Signatures of a checkpoint or a link that are looked at: each voter's, once more from a node that
/// collected twice.
pub const VOTER_SIGNATURES: usize = 2 * VOTERS;
/// Intents that an attestation cites for its voters: one each at most.
pub const ATTESTED_INTENTS: usize = VOTERS;
/// Bytes of an attestation as JSON: the trust log at its bound with its escapes, seven cited
/// envelopes, a thousand links; what a relay carries in one answer.
pub const ATTESTATION_BYTES: usize = 8 * 1024 * 1024;
/// A signed time that is older by the reader's clock makes a view stale (test S28): three
/// checkpoints of an idle site were missed.
pub const STALE_MS: u64 = 90_000;
/// How far a voter's clock may lie from the time that it attests: a second one to sign, and the error
/// of a clock that nobody tends.
pub const ATTEST_CLOCK_MS: u64 = 60_000;

/// What this agent's `apply` knows. Level 1 is what the first packaged agent knows, upgrades of agents
/// included. Rule for agents of versions N and N-1 in one site: an action, command, member or node's
/// word that N-1 does not know belongs to the next level, and N treats it as N-1 would (an action is
/// refused as malformed, without a trace) while the state's level is lower. The level rises when an
/// owner's `agent.upgrade` is done: to the least that the nodes signed to know. A replica whose own
/// level is below the state's stops and says so.
pub const FEATURE_LEVEL: u32 = 1;
/// An upgraded agent must be heard of this long after it said that it runs, in milliseconds, before the
/// next one is upgraded: a second start of a crash loop falls into it.
pub const AGENT_WELL_MS: u64 = 10_000;
/// An agent that was ordered to upgrade, or has not proved itself well, is given up after this long, in
/// milliseconds: fetching 48 MiB at 1 MB/s, a trial of 30 s, and the start of the version before.
pub const AGENT_BACK_MS: u64 = 120_000;
/// Each step of a trial of another version takes at most this long, in milliseconds: its agent is started,
/// is ready and follows the log, its executor is started, the two meet. A log of some hundred megabytes is
/// read within it.
pub const AGENT_TRIAL_MS: u64 = 30_000;
/// Bytes of the reason why an upgrade failed.
pub const AGENT_WHY_BYTES: usize = 512;
/// Bytes of an enrolment file: a charter, seeds and relays fit three times.
pub const ENROLMENT_BYTES: usize = 64 * 1024;
/// Seeds in an enrolment file: more places than a machine that waits would try in a minute.
pub const ENROLMENT_SEEDS: usize = 64;
/// Relays in an enrolment file: twice what a site trusts at a time.
pub const ENROLMENT_RELAYS: usize = 8;
/// Machines that one join token lets in: a delivery of racks; more are a second token.
pub const TOKEN_USES: usize = 1_000;
/// Longest life of a join token in milliseconds: it lies in a file on machines.
pub const TOKEN_LIFE_MS: u64 = 7 * DAY_MS;
/// Address blocks of a join token.
pub const TOKEN_ADDRESSES: usize = 16;
/// Join tokens of a site that have not ended: one a rack, and room.
pub const TOKENS: usize = 256;
/// Bytes of the envelope of a `token.mint` intent inside an entry: 32 labels at their bound, 16
/// signatures.
pub const MINT_BYTES: usize = 32 * 1024;
/// Members of one cluster of driver kubeadm, where its pods' network has room: slot N has the Nth /24 of it.
pub const KUBEADM_SLOTS: u16 = 256;
/// Least and most bits of the prefix of a cluster's pods: at /20 it has room for 16 members; what is larger
/// than a /8 is no single network anywhere.
pub const PODS_BITS: (u8, u8) = (8, 20);
/// The same of its services: API servers refuse what is larger than a /12, and a /24 has 254 services.
pub const SERVICES_BITS: (u8, u8) = (12, 24);
/// Names and addresses by which a customer serves the API of a cluster: two ways in, each with two names.
pub const ENDPOINTS: usize = 4;
/// Workers of a cluster that are upgraded at the same time: more would leave their pods nowhere to go.
pub const UPGRADE_BATCH: usize = 64;
/// Bytes of the reason why a node returned to the version before.
pub const UPGRADE_WHY_BYTES: usize = 512;
/// Taints of a node: a scheduler weighs each against each toleration of each pod.
pub const TAINTS: usize = 16;
/// Bytes of an add-on's manifest with its line ends: with every character escaped it fits into an
/// intent's payload. Larger ones travel in the bundle.
pub const ADDON_BYTES: usize = 28 * 1024;
/// Lines of an add-on's manifest: half of what a signed JSON text may hold.
pub const ADDON_LINES: usize = 2_000;
/// Add-ons of a cluster.
pub const ADDONS: usize = 16;
/// Add-ons of a site: their intents are part of the state, 6 MiB.
pub const ADDONS_SITE: usize = 128;
/// Removed add-ons that a cluster remembers, so that what they made goes also where nobody could delete it
/// at once.
pub const ADDONS_GONE: usize = 16;
