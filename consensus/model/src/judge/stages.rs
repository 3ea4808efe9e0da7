//! The stages of the judgement from "site" on: a failure is final, or holds.

use super::{Context, Signed};
use crate::action::{Action, Role};
use crate::ids::{Digest, Generation, Millis, SiteId};
use crate::intent::{Anchor, Expect, Intent, ObjectRef};
use crate::limits::{ISSUED_AHEAD_MS, LIFETIME_MANY_MS, LIFETIME_MAX_MS, LIFETIME_MIN_MS};
use crate::outcome::Reason;
use crate::trust::{Shortfall, TrustState, authority, required};

/// Why the stages ended early.
pub(super) enum Stop {
    Hold(Reason),
    Reject(Reason),
    Pending { have: u8, need: u8 },
}

impl From<Reason> for Stop {
    fn from(reason: Reason) -> Self {
        Self::Reject(reason)
    }
}

/// The stages from "site" on, in order.
pub(super) fn stages(ctx: &Context<'_>, signed: &Signed) -> Result<Role, Stop> {
    let intent = &signed.intent;
    check_site(ctx.site, intent)?;
    if intent.issued_ms < ctx.issued_floor {
        return Err(Reason::IssuedFloor { issued: intent.issued_ms, floor: ctx.issued_floor }.into());
    }
    if let Some(by) = ctx.replay.cancelled(&signed.record.digest, &intent.by) {
        return Err(Reason::Cancelled { by: by.clone() }.into());
    }
    window(ctx.trust, intent, ctx.log_time)?;
    let unknown = intent.after().iter().find(|d| ctx.replay.get(d).is_none());
    if let Some(missing) = unknown {
        return Err(Stop::Hold(Reason::After { missing: *missing }));
    }
    check_label(ctx, signed)?;
    check_anchor(ctx, intent)?;
    let role = match authority(ctx.trust, intent, &signed.signers) {
        Ok(authority) => authority.role,
        Err(Shortfall::Refused(reason)) => return Err(reason.into()),
        Err(Shortfall::Pending { have, need }) => return Err(Stop::Pending { have, need }),
    };
    expectations(ctx, intent)?;
    Ok(role)
}

pub(super) fn check_site(site: SiteId, intent: &Intent) -> Result<(), Reason> {
    if intent.site == site { Ok(()) } else { Err(Reason::WrongSite { site: intent.site }) }
}

/// Whether a founding intent is judged at the beginning, where there is no time yet.
fn is_beginning(intent: &Intent, log_time: Millis) -> bool {
    log_time == Millis(0) && matches!(intent.action, Action::SiteFound { .. })
}

/// Lifetime, expiry, and the future, by log time alone.
pub(super) fn window(trust: &TrustState, intent: &Intent, log_time: Millis) -> Result<(), Stop> {
    let many = required(&intent.action).many && trust.policy().owners_needed > 1;
    let max_ms = if many { LIFETIME_MANY_MS } else { LIFETIME_MAX_MS };
    let ms = intent.lifetime();
    if !(LIFETIME_MIN_MS..=max_ms).contains(&ms) {
        return Err(Reason::Lifetime { ms, min_ms: LIFETIME_MIN_MS, max_ms }.into());
    }
    if is_beginning(intent, log_time) {
        return Ok(());
    }
    if log_time > intent.expires_ms {
        return Err(Reason::Expired { expires: intent.expires_ms, log_time }.into());
    }
    if intent.issued_ms > log_time.plus(ISSUED_AHEAD_MS) {
        return Err(Stop::Hold(Reason::NotYetValid { issued: intent.issued_ms, log_time }));
    }
    Ok(())
}

/// One key, one label, one intent. From another key both stand.
fn check_label(ctx: &Context<'_>, signed: &Signed) -> Result<(), Reason> {
    let own = signed.signers.iter().filter(|s| s.admin == signed.intent.by);
    let first = own.filter_map(|s| ctx.replay.by_id(&s.key, &signed.intent.id)).next();
    match first {
        Some(first) => Err(Reason::IdReused { id: signed.intent.id.clone(), first }),
        None => Ok(()),
    }
}

fn check_anchor(ctx: &Context<'_>, intent: &Intent) -> Result<(), Reason> {
    let anchor = &intent.anchor;
    if matches!(intent.action, Action::SiteFound { .. }) {
        let beginning = *anchor == Anchor::founding(ctx.site);
        return if beginning { Ok(()) } else { Err(Reason::AnchorUnknown { index: anchor.index }) };
    }
    let head = ctx.anchors.find(anchor).ok_or(Reason::AnchorUnknown { index: anchor.index })?;
    let age_ms = intent.issued_ms.since(head.log_time);
    let max_ms = ctx.trust.policy().anchor_max_age_ms;
    if age_ms > max_ms {
        return Err(Reason::AnchorTooOld { index: anchor.index, age_ms, max_ms });
    }
    Ok(())
}

fn expectations(ctx: &Context<'_>, intent: &Intent) -> Result<(), Reason> {
    for expect in &intent.expect {
        match expect {
            Expect::Trust { hash } => check_trust_head(ctx.trust, intent, hash)?,
            Expect::Generation { object, generation: expected } => {
                let actual = match object {
                    ObjectRef::Admin(_) => ctx.trust.generation(object),
                    _ => (ctx.generation)(object),
                };
                match actual {
                    None if *expected == Generation(0) => {}
                    None => return Err(Reason::UnknownObject { object: object.clone() }),
                    Some(actual) if actual == *expected => {}
                    Some(actual) => {
                        let (object, expected) = (object.clone(), *expected);
                        return Err(Reason::StaleGeneration { object, expected, actual });
                    }
                }
            }
        }
    }
    Ok(())
}

pub(super) fn check_trust_head(trust: &TrustState, intent: &Intent, hash: &Digest) -> Result<(), Reason> {
    let oldest = Millis(intent.issued_ms.since(Millis(trust.policy().anchor_max_age_ms)));
    if trust.is_recent(hash, oldest) { Ok(()) } else { Err(Reason::StaleTrust { hash: *hash }) }
}
