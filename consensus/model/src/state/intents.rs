//! Judging and carrying out what admins signed.

use super::LiveIntent;
use super::SiteState;
use super::apply::{Applied, Happened};
use super::cluster::{Cluster, ClusterPhase};
use super::cluster_upgrade::ClusterUpgrade;
use super::kept::Marking;
use super::restore::Restore;
use super::upgrade::{AgentUpgrade, UpgradePhase};
use crate::action::{Action, AuthorizedNode, KeyClass, RevokeReason, Role};
use crate::assignment::Citation;
use crate::chain::AuditKind;
use crate::command::Found;
use crate::envelope::Envelope;
use crate::ids::{Generation, Millis, Name, PublicKey};
use crate::intent::{Intent, ObjectRef};
use crate::judge::{Context, Record, Verdict, Verified, judge};
use crate::key::KeyId;
use crate::limits::ISSUED_AHEAD_MS;
use crate::outcome::{Outcome, Reason};
use crate::settings::Settings;
use crate::trust::{KeyUse, required};

impl SiteState {
    pub(super) fn apply_found(&mut self, found: &Found, stamp: Millis, told: &mut Vec<Happened>) -> Applied {
        if self.founded {
            return Applied::Ignored("the site is founded already".into());
        }
        if found.charter != self.charter {
            return Applied::Ignored("the charter is another one".into());
        }
        match self.judge(&found.envelope) {
            Verdict::Pass(verified) => {
                let Action::SiteFound { nodes } = &verified.intent().action else {
                    return Applied::Unsigned("the first intent must be site.found".into());
                };
                let nodes = nodes.clone();
                if let Err(why) = self.check_founding(verified.intent(), &nodes, stamp) {
                    return Applied::Ignored(why);
                }
                self.log_time = stamp;
                let cites = self.cite(verified.record());
                self.found_with(&nodes, cites);
                let outcome = Outcome::Accepted { generation: Generation(1) };
                self.record(&verified, outcome, told)
            }
            Verdict::Refused(refusal) => Applied::Unsigned(refusal.to_string()),
            other => Applied::Ignored(format!("the founding intent does not pass: {other:?}")),
        }
    }

    /// What the judgement does not look at in a founding intent, since there is no time and no roster
    /// yet: that the stamp is within its life (else the site's audit holds at no time), and that no key
    /// of a node has another use.
    fn check_founding(&self, intent: &Intent, nodes: &[AuthorizedNode], stamp: Millis) -> Result<(), String> {
        if stamp > intent.expires_ms || intent.issued_ms > stamp.plus(ISSUED_AHEAD_MS) {
            return Err(format!(
                "the founding intent is not valid at {stamp} ms: set the clocks, sign it again"
            ));
        }
        match nodes.iter().find_map(|n| self.trust.key_use(&n.node.public_key())) {
            Some(used_as) => Err(format!("the key of a founding node is in use as {used_as} key")),
            None => Ok(()),
        }
    }

    /// Judges an envelope against the state as it is.
    pub fn judge(&self, envelope: &[u8]) -> Verdict {
        self.judge_at(envelope, self.log_time)
    }

    /// Judges an envelope as if log time were `at`: what a leader does before it proposes, since the
    /// entry's stamp moves the clock of a site that was idle.
    pub fn judge_at(&self, envelope: &[u8], at: Millis) -> Verdict {
        let generation = |object: &ObjectRef| self.generations.get(object).copied();
        judge(
            &Context {
                site: self.site,
                trust: &self.trust,
                replay: &self.replay,
                anchors: &self.anchors,
                feature_level: self.feature_level,
                log_time: self.log_time.max(at),
                issued_floor: self.issued_floor,
                generation: &generation,
            },
            envelope,
        )
    }

    pub(super) fn apply_intent(&mut self, envelope: &[u8], told: &mut Vec<Happened>) -> Applied {
        match self.judge(envelope) {
            Verdict::Refused(refusal) => {
                told.push(self.tell("alert", "leader", format!("proposed an unsigned intent: {refusal}")));
                Applied::Unsigned(refusal.to_string())
            }
            Verdict::Duplicate { digest, outcome, index } => Applied::Intent {
                digest,
                outcome: Outcome::Duplicate { first: Box::new(outcome), index },
                index,
            },
            // The leader holds these; one that reaches the log all the same leaves no trace.
            Verdict::Hold { reason, .. } => Applied::Ignored(format!("held: {reason}")),
            Verdict::Rejected { reason, record } => self.reject(&record, reason, told),
            Verdict::Pending { have, need, .. } => {
                Applied::Ignored(format!("{have} of {need} owners signed"))
            }
            Verdict::Pass(verified) => match self.carry_out(&verified) {
                Ok(generation) => self.record(&verified, Outcome::Accepted { generation }, told),
                Err(reason) => self.reject(verified.record(), reason, told),
            },
        }
    }

    /// What an intent would do to a copy of this state: used by plans. Signatures are not looked at.
    ///
    /// # Errors
    /// The precondition that it breaks.
    pub fn preview(&self, intent: &Intent) -> Result<Self, Reason> {
        let mut copy = self.clone();
        for expect in &intent.expect {
            if let crate::intent::Expect::Generation { object, generation } = expect {
                let actual = match object {
                    ObjectRef::Admin(_) => copy.trust.generation(object).unwrap_or_default(),
                    _ => copy.generation(object),
                };
                if actual != *generation {
                    let (object, expected) = (object.clone(), *generation);
                    return Err(Reason::StaleGeneration { object, expected, actual });
                }
            }
        }
        let cites = Citation { digest: intent.digest(), index: copy.chained + 1 };
        let live = LiveIntent {
            cites,
            at: copy.log_time,
            by: intent.by.clone(),
            envelope: Vec::new(),
            finished: None,
            held: false,
        };
        copy.intents.insert(cites.digest, live);
        match &intent.action {
            // What these change follows from signatures, which a plan has not: the act judges them.
            Action::IntentCancel { .. } | Action::IntentRelease { .. } => {}
            Action::AgentUpgradeStop { upgrade } => drop(copy.stop_upgrade(upgrade, &intent.by)?),
            Action::ClusterUpgradeStop { cluster, upgrade } => {
                let _ = copy.stop_cluster_upgrade(cluster, upgrade, &intent.by)?;
            }
            action if required(action).trust => {}
            action => drop(copy.act(action, KeyClass::Cli, cites)?),
        }
        Ok(copy)
    }

    /// Where the intent will be in the audit chain: it is recorded right after it is carried out.
    fn cite(&self, record: &Record) -> Citation {
        Citation { digest: record.digest, index: self.chained + 1 }
    }

    fn carry_out(&mut self, verified: &Verified) -> Result<Generation, Reason> {
        let action = &verified.intent().action;
        if required(action).trust {
            return self.change_trust(verified);
        }
        let cites = self.cite(verified.record());
        // The strongest class among the author's signing keys decides about probation.
        let class = verified
            .signers()
            .iter()
            .filter(|s| s.admin == *verified.author())
            .map(|s| s.class)
            .max()
            .unwrap_or(KeyClass::Browser);
        match action {
            Action::IntentCancel { intent } => {
                let owner = verified.role() == Role::Owner;
                // The replay table forgets what expired; what is not finished is known all the same.
                if self.replay.get(intent).is_some() || self.intents.contains_key(intent) {
                    return Err(Reason::Precondition {
                        code: "already_judged".into(),
                        text: "that intent has its outcome already".into(),
                        remedy: Some("undo it instead: qb cluster detach, qb cluster delete".into()),
                    });
                }
                self.replay.cancel(*intent, verified.author(), owner, self.log_time)?;
                Ok(Generation(0))
            }
            Action::IntentRelease { intent } => match self.intents.get_mut(intent) {
                Some(live) if live.held => {
                    live.held = false;
                    Ok(Generation(0))
                }
                Some(_) => Err(Reason::NoChange { what: "the intent is not held: it".into() }),
                None => Err(Reason::UnknownIntent { digest: *intent }),
            },
            Action::AgentUpgradeStop { upgrade } => self.stop_upgrade(upgrade, verified.author()),
            Action::ClusterUpgradeStop { cluster, upgrade } => {
                self.stop_cluster_upgrade(cluster, upgrade, verified.author())
            }
            _ => self.act(action, class, cites),
        }
    }

    /// Actions on pool and clusters.
    fn act(&mut self, action: &Action, class: KeyClass, cites: Citation) -> Result<Generation, Reason> {
        match action {
            Action::NodeAuthorize { nodes } => {
                let taken = nodes.iter().map(|n| n.node.public_key()).find_map(|key| {
                    let token = self.tokens.contains_key(&key).then_some(KeyUse::Token);
                    self.trust.key_use(&key).or(token).map(|used_as| (key, used_as))
                });
                if let Some((key, used_as)) = taken {
                    return Err(Reason::KeyInUse { key, used_as });
                }
                self.authorize(nodes, class, cites)
            }
            Action::NodeRevoke { node, then } => self.revoke(node, *then, cites),
            Action::NodeLabel { node, labels } => self.label(node, labels),
            Action::ClusterCreate { cluster, driver, version, bundle, settings } => self.create(Cluster {
                name: cluster.clone(),
                driver: driver.clone(),
                version: version.clone(),
                bundle: *bundle,
                settings: Settings::of(settings.as_ref())
                    .map_err(|e| Reason::Malformed { what: e.to_string() })?,
                created: cites,
                installed: cites,
                upgrade: None,
                backup: None,
                restore: None,
                phase: ClusterPhase::Empty,
                since: self.log_time,
                attach: None,
                deleting: None,
                first: None,
                public: Vec::new(),
                offers: std::collections::BTreeMap::new(),
                releases: std::collections::BTreeMap::new(),
                marks: std::collections::BTreeMap::new(),
                addons: std::collections::BTreeMap::new(),
                stages: Vec::new(),
                ca_exposed: false,
            }),
            Action::ClusterAttach { cluster, placement } => self.attach(cluster, placement, cites),
            Action::ClusterDetach { cluster, nodes } => self.detach(cluster, nodes, cites),
            Action::ClusterDelete { cluster } => self.delete(cluster, cites),
            Action::AgentUpgrade { bundle, version, first, batch } => self.begin_upgrade(AgentUpgrade {
                cites,
                bundle: *bundle,
                version: version.clone(),
                first: first.clone(),
                batch: *batch,
                phase: UpgradePhase::Rolling,
                since: self.log_time,
                ordered_at: Millis(0),
                nodes: std::collections::BTreeMap::new(),
            }),
            Action::ClusterUpgrade { cluster, driver, version, bundle, batch, settings } => {
                let new = ClusterUpgrade {
                    cites,
                    version: version.clone(),
                    bundle: *bundle,
                    batch: *batch,
                    phase: UpgradePhase::Rolling,
                    since: self.log_time,
                    nodes: std::collections::BTreeMap::new(),
                };
                self.begin_cluster_upgrade(cluster, (driver, settings.as_ref()), new)
            }
            Action::ClusterBackup { cluster } => self.ask_backup(cluster, cites),
            Action::ClusterRestore { cluster, node, backup, others } => {
                self.begin_restore(cluster, *node, *backup, others, cites)
            }
            Action::ClusterLabel { cluster, node, host, labels, taints } => {
                self.mark(cluster, &Marking { node: *node, host, labels, taints }, cites)
            }
            Action::ClusterAddonSet { cluster, addon, manifest } => {
                self.set_addon(cluster, addon, manifest, cites)
            }
            Action::ClusterAddonRemove { cluster, addon } => self.remove_addon(cluster, addon, cites),
            Action::TokenMint { .. } => self.mint(action, cites),
            Action::TokenRevoke { token } => self.end_token(token),
            Action::SiteFound { .. } => Err(Reason::AlreadyFounded {}),
            // Trust actions, cancel, release and stop are carried out by the caller.
            other => Err(Reason::Malformed { what: format!("{} is not carried out here", other.name()) }),
        }
    }

    fn change_trust(&mut self, verified: &Verified) -> Result<Generation, Reason> {
        let action = &verified.intent().action;
        if let Action::PolicySet { policy } = action
            && policy.owners_needed != 1
        {
            return Err(Reason::Precondition {
                code: "feature_level".into(),
                text: format!(
                    "owners_needed {} needs a later feature level than {}",
                    policy.owners_needed, self.feature_level
                ),
                remedy: Some("set owners_needed to 1".into()),
            });
        }
        let nodes: &std::collections::BTreeMap<_, _> = &self.nodes;
        let (tombstones, tokens) = (&self.tombstones, &self.tokens);
        let elsewhere = |key: &PublicKey| {
            let node = crate::ids::NodeId(key.0);
            let is_node = nodes.contains_key(&node) || tombstones.contains_key(&node);
            let token = tokens.contains_key(key).then_some(KeyUse::Token);
            is_node.then_some(KeyUse::Node).or(token)
        };
        let compromised = self.compromised_by(action);
        let signer = match action {
            Action::KeyRevoke { admin, .. } | Action::AdminRemove { admin, .. } => Some(admin),
            _ => None,
        };
        let generation = self.trust.apply(verified, self.chained + 1, self.log_time, &elsewhere)?;
        if let Some(admin) = signer {
            self.hold(admin, &compromised);
        }
        Ok(generation)
    }

    /// Keys that an action revokes as compromised.
    fn compromised_by(&self, action: &Action) -> Vec<PublicKey> {
        match action {
            Action::KeyRevoke { key, reason: RevokeReason::Compromised, .. } => vec![*key],
            Action::AdminRemove { admin, reason: RevokeReason::Compromised } => {
                self.trust.admins().get(admin).map(|a| a.keys.keys().copied().collect()).unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }

    /// Holds what is unfinished and was signed by its author with one of these keys. The envelope says
    /// so: the replay table knows one key only, and forgets.
    fn hold(&mut self, admin: &Name, keys: &[PublicKey]) {
        if keys.is_empty() {
            return;
        }
        for live in self.intents.values_mut().filter(|l| l.finished.is_none() && l.by == *admin) {
            let Ok(envelope) = Envelope::parse(&live.envelope) else { continue };
            let signers = envelope.signatures().iter().filter_map(|s| s.keyid.parse::<KeyId>().ok());
            live.held |= signers.into_iter().any(|id| keys.contains(&id.key));
        }
    }

    pub(super) fn reject(&mut self, record: &Record, reason: Reason, told: &mut Vec<Happened>) -> Applied {
        let outcome = Outcome::Rejected(reason);
        let index =
            self.chain_up(AuditKind::Intent, record.digest, Some(outcome.clone()), record.envelope.clone());
        self.replay.record(record, outcome.clone(), index, self.log_time);
        if let Outcome::Rejected(reason) = &outcome {
            told.push(self.tell(
                "intent",
                record.id.as_str(),
                format!("by {} rejected: {reason}", record.author),
            ));
        }
        Applied::Intent { digest: record.digest, outcome, index }
    }

    pub(super) fn record(
        &mut self,
        verified: &Verified,
        outcome: Outcome,
        told: &mut Vec<Happened>,
    ) -> Applied {
        let record = verified.record();
        let index =
            self.chain_up(AuditKind::Intent, record.digest, Some(outcome.clone()), record.envelope.clone());
        self.replay.record(record, outcome.clone(), index, self.log_time);
        let action = &verified.intent().action;
        let lasting = matches!(
            action,
            Action::SiteFound { .. }
                | Action::NodeAuthorize { .. }
                | Action::NodeRevoke { .. }
                | Action::ClusterCreate { .. }
                | Action::ClusterAttach { .. }
                | Action::ClusterDetach { .. }
                | Action::ClusterDelete { .. }
                | Action::AgentUpgrade { .. }
                | Action::ClusterUpgrade { .. }
                | Action::ClusterBackup { .. }
                | Action::ClusterRestore { .. }
                | Action::ClusterLabel { .. }
                | Action::ClusterAddonSet { .. }
                | Action::ClusterAddonRemove { .. }
                | Action::TokenMint { .. }
        );
        let open = match action {
            Action::ClusterAttach { cluster, .. } => {
                self.clusters.get(cluster).is_some_and(|c| c.attach.is_some())
            }
            Action::ClusterDelete { cluster } => {
                self.clusters.get(cluster).is_some_and(|c| c.deleting.is_some())
            }
            Action::ClusterDetach { .. } => {
                self.nodes.values().any(|n| n.phase.cites().is_some_and(|c| c.digest == record.digest))
            }
            Action::TokenMint { .. } => true,
            Action::ClusterUpgrade { cluster, .. } => {
                self.clusters.get(cluster).is_some_and(|c| c.upgrades())
            }
            Action::ClusterRestore { cluster, .. } => {
                self.clusters.get(cluster).and_then(|c| c.restore.as_ref()).is_some_and(Restore::is_open)
            }
            Action::AgentUpgrade { .. } => self.agent_upgrade().is_some_and(AgentUpgrade::rolling),
            _ => false,
        };
        if lasting {
            let live = LiveIntent {
                cites: Citation { digest: record.digest, index },
                at: self.log_time,
                by: record.author.clone(),
                envelope: record.envelope.clone(),
                finished: (!open).then_some(self.log_time),
                held: false,
            };
            self.intents.insert(record.digest, live);
        }
        let text = format!("by {}: {}", record.author, crate::sentence::of(action, self));
        told.push(self.tell("intent", record.id.as_str(), text));
        Applied::Intent { digest: record.digest, outcome, index }
    }
}
