//! One change of a site: show what it would do, ask, sign, send, say what became of it.

use std::time::Duration;

use qb_model::action::{Action, NewKey, Role};
use qb_model::envelope::Envelope;
use qb_model::intent::{Anchor, Expect, Intent, ObjectRef};
use qb_model::trust::required;
use qb_model::{Digest, Generation, IntentId, Millis};
use qb_portal::view::{AdminKeyView, AdminView, Head, IntentState, IntentView, PlanView};

use crate::agree::{Ask, Author};
use crate::args::{Format, PlanMode};
use crate::client::memory::SeenHead;
use crate::ctx::Session;
use crate::error::{CliError, Exit, sentence};
use crate::files;
use crate::out::plan;
use crate::out::text::{clean, now};
use crate::sentence::{self, Hosts, short_key};

/// Life of an intent: long enough for a slow network and a clock that is some minutes off.
const LIFE_MS: u64 = 15 * 60_000;
/// How long a door is asked to wait for an outcome at a time.
const ASK: Duration = Duration::from_secs(20);
/// How long the outcome is waited for in all.
pub(crate) const OUTCOME: Duration = Duration::from_secs(60);

/// A change that is wanted.
#[derive(Debug, Clone)]
pub struct Change {
    /// The action.
    pub action: Action,
    /// What was looked at.
    pub expect: Vec<(ObjectRef, Generation)>,
    /// Names of the nodes in it.
    pub hosts: Hosts,
    /// How a person agrees.
    pub ask: Ask,
    /// The command that would do exactly this, for the end of a plan.
    pub again: String,
}

impl Change {
    /// A change of an action that a person agrees to with y.
    pub fn new(action: Action, again: impl Into<String>) -> Self {
        Self { action, expect: Vec::new(), hosts: Hosts::new(), ask: Ask::YesNo, again: again.into() }
    }

    /// Whether a person sees what changes before they agree: for what takes something away.
    fn shows_plan(&self) -> bool {
        // Who may sign is no matter of steps on nodes: the sentence says all of it.
        !required(&self.action).trust
            && (matches!(self.ask, Ask::Type(_)) || matches!(self.action, Action::ClusterDetach { .. }))
    }
}

fn ulid(now: Millis) -> Result<IntentId, CliError> {
    let mut random = [0; 16];
    getrandom::fill(&mut random)
        .map_err(|e| CliError::failed(format!("The system gives no random bytes: {e}.")))?;
    Ok(ulid::Ulid::from_parts(now.0, u128::from_le_bytes(random)).to_string().parse()?)
}

/// The expectations of an intent: sorted by the object's text; removals name no generation.
fn expectations(action: &Action, looked: &[(ObjectRef, Generation)], head: &Head) -> Vec<Expect> {
    let class = required(action);
    let mut all: Vec<Expect> = Vec::new();
    if !class.removal {
        let generation = |(object, generation): &(ObjectRef, Generation)| Expect::Generation {
            object: object.clone(),
            generation: *generation,
        };
        all.extend(looked.iter().map(generation));
    }
    if class.names_trust {
        all.push(Expect::Trust { hash: head.trust });
    }
    all.sort_by_key(|e| e.object().to_string());
    all
}

impl Session<'_> {
    /// Who the key of this computer belongs to.
    ///
    /// # Errors
    /// To nobody at this site.
    pub async fn author(&mut self) -> Result<Author, CliError> {
        let public = self.key()?.public;
        let mine = |a: &AdminView| a.keys.iter().any(|k| k.key == public);
        let key = short_key(&public);
        // Before founding, the charter says who may sign.
        let admins = match self.api.admins().await {
            Ok(admins) if !admins.is_empty() => admins,
            Ok(_) => self.founders()?,
            Err(error) if error.exit == Exit::Refused => return Err(error),
            Err(error) => self.founders().map_err(|_| error)?,
        };
        let admin = admins.into_iter().find(mine).ok_or_else(|| {
            CliError::refused(format!("Key {key} belongs to no admin of {}.", self.here.name))
                .remedy(format!("an owner types: qb admin add-key ADMIN {public}"))
        })?;
        Ok(Author { admin, key })
    }

    /// Who the key of this computer belongs to by the charter alone, before the site is founded.
    ///
    /// # Errors
    /// To no founder.
    pub fn founder(&mut self) -> Result<Author, CliError> {
        let public = self.key()?.public;
        let key = short_key(&public);
        let mine = |a: &AdminView| a.keys.iter().any(|k| k.key == public);
        let admin = self.founders()?.into_iter().find(mine).ok_or_else(|| {
            CliError::refused(format!("Key {key} belongs to no founder of {}.", self.here.name))
                .remedy("--key NAME with a founder's key")
        })?;
        Ok(Author { admin, key })
    }

    fn founders(&self) -> Result<Vec<AdminView>, CliError> {
        let charter = self.ctx.charter(&self.here)?;
        let key = |k: &NewKey| AdminKeyView {
            key: k.key,
            fingerprint: qb_model::words::fingerprint(&k.key.0),
            class: k.class,
            expires: k.expires_ms,
        };
        let admin = |f: &qb_model::charter::Founder| AdminView {
            admin: f.admin.clone(),
            name: f.name.clone(),
            role: Role::Owner,
            generation: Generation(0),
            keys: f.keys.iter().map(key).collect(),
        };
        Ok(charter.body().founders.iter().map(admin).collect())
    }

    /// The intent of a change, as it would be signed.
    ///
    /// # Errors
    /// The change breaks a bound of the format.
    pub fn draft(&self, change: &Change, author: &Author, head: &Head) -> Result<Intent, CliError> {
        let issued_ms = now();
        let intent = Intent {
            v: 1,
            site: self.here.config.id,
            id: ulid(issued_ms)?,
            by: author.admin.admin.clone(),
            issued_ms,
            expires_ms: issued_ms.plus(LIFE_MS),
            anchor: Anchor { index: head.index, hash: head.hash },
            after: None,
            expect: expectations(&change.action, &change.expect, head),
            action: change.action.clone(),
            note: None,
        };
        intent.check().map_err(|e| CliError::usage(sentence(&e.to_string())))?;
        Ok(intent)
    }

    /// Asks the planner.
    ///
    /// # Errors
    /// The door does not answer.
    pub async fn plan(&self, intent: &Intent) -> Result<PlanView, CliError> {
        let payload = String::from_utf8(intent.to_payload())
            .map_err(|_| CliError::failed("The intent is not text."))?;
        self.api.plan(payload).await
    }

    /// Does a change: plan, ask, sign, send. None if only the plan was asked for.
    ///
    /// # Errors
    /// Not agreed, refused, or no door answers.
    pub async fn change(&mut self, change: &Change) -> Result<Option<IntentView>, CliError> {
        let author = self.author().await?;
        let head = self.api.head().await?;
        let intent = self.draft(change, &author, &head)?;
        if let Some(mode) = self.ctx.globals.plan {
            let plan = self.plan(&intent).await?;
            self.show_plan(&plan, mode, &change.again)?;
            return Ok(None);
        }
        if self.ctx.globals.expect.is_some() || change.shows_plan() {
            let plan = self.plan(&intent).await?;
            self.check_plan(&plan, change)?;
        }
        let what = sentence::of(&change.action, &change.hosts);
        crate::cmd::verify::guard(self).await?;
        self.agree(&author, &what, &change.ask)?;
        self.sign_and_send(&intent).await.map(Some).map_err(|error| {
            // Somebody else was faster: what it would do now is what to look at.
            let stale = error.exit == Exit::Refused && error.text.contains("is at generation");
            if stale { error.remedy(format!("{} --plan", change.again)) } else { error }
        })
    }

    /// Shows a plan.
    ///
    /// # Errors
    /// It would be refused; or stdout is closed.
    pub fn show_plan(&self, plan: &PlanView, mode: PlanMode, again: &str) -> Result<(), CliError> {
        let out = &self.ctx.out;
        match out.format {
            Format::Json | Format::Yaml => out.document(plan)?,
            _ => out.print(&plan::render(plan, mode, again, &out.paint))?,
        }
        match &plan.rejected {
            None => Ok(()),
            Some(problem) => Err(CliError {
                exit: Exit::Refused,
                text: String::new(),
                remedy: None,
                problem: Some(Box::new(problem.clone())),
            }),
        }
    }

    fn check_plan(&self, plan: &PlanView, change: &Change) -> Result<(), CliError> {
        if let Some(typed) = &self.ctx.globals.expect
            && !plan::is_digest(plan, typed)
        {
            let now = crate::out::text::short_hash(&plan.digest.0);
            let text =
                format!("Refused: the plan is {now} now, you expected {}. Nothing was sent.", clean(typed));
            return Err(CliError::refused(text).remedy(format!("{} --plan", change.again)));
        }
        if change.shows_plan() && !self.ctx.out.quiet && !self.ctx.out.documents() {
            for line in &plan.changes {
                self.ctx.out.say(&clean(line));
            }
        }
        match &plan.rejected {
            Some(problem) => Err(CliError::from_problem(problem.clone())),
            None => Ok(()),
        }
    }

    /// Signs an intent, sends it, waits for its outcome.
    ///
    /// # Errors
    /// Refused, waits for signatures, or no door answers: then the signed intent is kept.
    pub async fn sign_and_send(&mut self, intent: &Intent) -> Result<IntentView, CliError> {
        let key = self.key()?;
        let envelope = intent.sign(&[&key.secret]).map_err(|e| CliError::usage(sentence(&e.to_string())))?;
        self.keep_and_send(intent, &envelope, true).await
    }

    /// Sends an envelope that is kept on this computer until it has an outcome. `fresh`: its id was
    /// never used here.
    ///
    /// # Errors
    /// As of [`Session::sign_and_send`].
    pub async fn keep_and_send(
        &self,
        intent: &Intent,
        envelope: &Envelope,
        fresh: bool,
    ) -> Result<IntentView, CliError> {
        let (digest, bytes) = (envelope.digest(), envelope.to_bytes());
        let file = self.ctx.paths.intents().join(format!("{}.json", intent.id));
        files::write(&file, &bytes, 0o600, fresh)?;
        let sent = self.deliver(bytes, &digest).await;
        let kept = |error: &CliError, what: &str| {
            Err(error.clone().remedy(format!("the signed intent is kept: {what} {}", intent.id)))
        };
        match &sent {
            // Through a relay the error says where to look; the copy here is for another door.
            Err(error) if error.exit == Exit::StillGoing && self.remote() => Err(error.clone()),
            Err(error) if matches!(error.exit, Exit::Unreachable | Exit::StillGoing) => {
                kept(error, "qb intent send")
            }
            // The relay has it too; a copy here is what another door takes.
            Err(error) if error.exit == Exit::Interrupted => Err(error.clone()),
            Err(error) if is_pending(error) => {
                let mut error = error.clone();
                error.exit = Exit::Signatures;
                let file = file.display();
                Err(error.remedy(format!("it is kept; another owner types: qb intent sign {file}")))
            }
            _ => {
                // A file that stays is harmless: it expires.
                let _ = std::fs::remove_file(&file);
                sent
            }
        }
    }

    /// Sends an envelope and waits for its outcome.
    ///
    /// # Errors
    /// Refused, waits for signatures, or no door answers.
    pub async fn deliver(&self, envelope: Vec<u8>, digest: &Digest) -> Result<IntentView, CliError> {
        if self.remote() {
            return self.deliver_through(envelope, digest).await;
        }
        let begun = tokio::time::Instant::now();
        let mut view = self.api.submit(envelope.clone(), ASK).await?;
        while matches!(view.state, IntentState::Held | IntentState::Unknown) && begun.elapsed() < OUTCOME {
            tokio::time::sleep(Duration::from_millis(200)).await;
            // The same bytes again: a site that has them answers with what became of them.
            view = self.api.submit(envelope.clone(), ASK).await?;
            view.duplicate = false;
        }
        if view.digest != *digest {
            return Err(CliError::failed("The door answers for another intent than the one that was sent."));
        }
        verdict(&view)?;
        if let (Some(_), Ok(head)) = (view.index, self.api.head().await) {
            // A door that is behind must not make this computer forget.
            self.remember(|m| {
                if m.head.is_none_or(|seen| seen.index <= head.index) {
                    m.head = Some(SeenHead { index: head.index, hash: head.hash });
                }
            })?;
        }
        Ok(view)
    }

    /// Says that an intent on the way was accepted; never a document, since more follows.
    pub fn hint_accepted(&self, view: &IntentView, what: &str) {
        let out = &self.ctx.out;
        let clock = out.clock();
        let mark = out.err.marked(crate::out::paint::Tone::Good);
        out.hint(&format!(
            "{mark} accepted by {} {}: {what}",
            self.here.name,
            clock.time(view.at.unwrap_or(clock.now))
        ));
    }

    /// Says that an intent was accepted, and what is likely next.
    ///
    /// # Errors
    /// stdout is closed.
    pub fn accepted(&self, view: &IntentView, what: &str, next: Option<&str>) -> Result<(), CliError> {
        let out = &self.ctx.out;
        if out.documents() {
            return out.document(view);
        }
        if out.quiet {
            return Ok(());
        }
        let clock = out.clock();
        let mark = out.err.marked(crate::out::paint::Tone::Good);
        let at = clock.time(view.at.unwrap_or(clock.now));
        let again = if view.duplicate { ", sent before" } else { "" };
        let next = next.map(|n| format!("  next: {n}")).unwrap_or_default();
        out.say(&format!("{mark} accepted by {} {at}{again}: {what}{next}", self.here.name));
        Ok(())
    }
}

/// Whether a site that keeps no open signatures asks for more of them.
fn is_pending(error: &CliError) -> bool {
    error.problem.as_ref().is_some_and(|p| p.code == "pending")
}

/// An outcome as a result.
///
/// # Errors
/// Rejected, pending, or not known yet.
pub fn verdict(view: &IntentView) -> Result<(), CliError> {
    let id = &view.id;
    match view.state {
        IntentState::Doing | IntentState::Done => Ok(()),
        IntentState::Rejected => {
            let why = view.detail.as_deref().or(view.reason.as_deref()).unwrap_or("the site gives no reason");
            let error = CliError::refused(format!("Refused: {}", sentence(why)));
            Err(match &view.remedy {
                Some(remedy) => error.remedy(remedy.clone()),
                None => error,
            })
        }
        IntentState::Pending => {
            let waits = view.waiting_on.as_ref().map(|w| w.text.clone());
            let text = waits.unwrap_or_else(|| "it waits for more signatures".to_owned());
            Err(CliError::signatures(format!("Accepted, and {}", sentence(&text)))
                .remedy(format!("another owner types: qb intent sign {id}")))
        }
        IntentState::Held | IntentState::Unknown => {
            let why = view.detail.as_deref().map(|why| format!(": {}", why.trim_end_matches('.')));
            let text = format!("Sent, and intent {id} has no outcome yet{}.", why.unwrap_or_default());
            Err(CliError::still_going(text).remedy(format!("qb intent send {id}")))
        }
    }
}
