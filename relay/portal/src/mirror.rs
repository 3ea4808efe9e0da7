//! Schemas of the model's types that occur in views. The model knows nothing of HTTP, so their
//! shapes are repeated here, for the API document only; the tests compare them with the real ones.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The role of an admin. Each includes the ones before it.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Role {
    Viewer,
    Operator,
    Owner,
}

/// Where a key lives.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum KeyClass {
    Browser,
    AgentOrigin,
    Cli,
    Hardware,
}

/// What a node does in a cluster.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum NodeRole {
    ControlPlane,
    Worker,
}

/// How bad a finding is.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Severity {
    Warning,
    Error,
}

/// What ends a wait.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Clears {
    Itself,
    Person,
    Never,
}

/// A machine as its agent sees it.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct Facts {
    /// The host name.
    host: String,
    /// Addresses of the machine, the one that the agent listens on first.
    addresses: Vec<String>,
    /// Logical processors.
    cores: u32,
    /// Memory in bytes.
    memory_bytes: u64,
    /// Size in bytes of the file system that holds the agent's state.
    disk_bytes: u64,
    /// Free bytes on it.
    disk_free_bytes: u64,
    /// The operating system's pretty name.
    os: String,
    /// Kernel release.
    kernel: String,
    /// `x86_64` or `aarch64`.
    arch: String,
    /// Version of the agent.
    agent: String,
    /// Failure domain; empty if not known.
    zone: String,
}

/// One thing that is not as a role needs it.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct Finding {
    /// Stable code, e.g. `NET-REFUSED`.
    code: String,
    /// How bad.
    severity: Severity,
    /// Host name, or `a > b` for a pair.
    subject: String,
    /// The sentence, with the number that proves it.
    text: String,
    /// What to type, and where.
    remedy: String,
}

/// What was chosen of a cluster when it was created.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct Settings {
    /// Networks of pods, as in `10.244.0.0/16`.
    pods: String,
    /// Addresses of services, likewise.
    services: String,
    /// Host names and addresses that the API server's certificates have besides those of nodes.
    endpoints: Vec<String>,
    /// Port of the API at the first of them.
    port: u16,
}

/// Why nothing happens: the first cause.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct WaitingOn {
    /// Stable code, e.g. `node.authorize`.
    code: String,
    /// What waits.
    subject: String,
    /// The sentence after the subject.
    text: String,
    /// Since when.
    since: u64,
    /// What clears it.
    clears: Clears,
    /// The role a person needs, where one must act.
    role: Option<String>,
    /// The command that clears it, whole.
    command: Option<String>,
    /// The machine to type it on, where that matters.
    host: Option<String>,
    /// How many further causes there are.
    more: u32,
}

/// What voters signed of a site, and everything that verifies it from the charter.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct Attestation {
    /// Version of this document: 1.
    v: u8,
    /// The charter's envelope (JSON text).
    charter: String,
    /// The trust log, oldest first. Digests and heads follow from it.
    trust: Vec<CitedIntent>,
    /// Envelope of the founding intent (JSON text); none before founding.
    founding: Option<String>,
    /// The intents that let the present voters in; not the founding one.
    roster: Vec<CitedIntent>,
    /// The links from the founding set of voters to the present one, oldest first.
    voters: Vec<SignedBody>,
    /// The newest checkpoint that a majority signed; none if there is none yet.
    checkpoint: Option<SignedBody>,
    /// Why there is no newer one, as the answering node sees it. A hint for people: not signed.
    why: Option<String>,
}

/// An intent with its place in the audit chain.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct CitedIntent {
    /// Its record in the audit chain.
    index: u64,
    /// Log time when it was applied.
    log_time: u64,
    /// Its envelope (JSON text).
    envelope: String,
}

/// A body that several voters signed.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct SignedBody {
    /// The signed bytes as base64, standard alphabet, padded.
    body: String,
    /// Who signed.
    signatures: Vec<VoterSignature>,
}

/// A voter's signature.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct VoterSignature {
    /// The voter's key.
    key: String,
    /// The signature as base64, standard alphabet, padded.
    sig: String,
}

/// A DSSE envelope: exact payload bytes, their type, signatures.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct Envelope {
    /// The signed bytes as base64, standard alphabet, padded.
    payload: String,
    /// What the bytes are, e.g. `application/vnd.qb.intent.v1+json`.
    #[serde(rename = "payloadType")]
    payload_type: String,
    /// 1 to 16 signatures.
    signatures: Vec<EnvelopeSignature>,
}

/// One signature of an envelope.
#[derive(Serialize, Deserialize, ToSchema)]
pub(crate) struct EnvelopeSignature {
    /// `ed25519:` or `sk-ed25519:` and the key: a hint only.
    keyid: String,
    /// The signature as base64, standard alphabet, padded.
    sig: String,
}
