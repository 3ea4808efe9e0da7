//! `qb admin` and `qb policy`.

use qb_model::action::{Action, Eligible, KeyClass, NewKey, Policy, RevokeReason, Role};
use qb_model::intent::ObjectRef;
use qb_model::{Generation, Name, PublicKey};
use qb_portal::view::AdminView;

use crate::agree::Ask;
use crate::args::trust::{AdminCommand, ClassArg, PolicyCommand, PolicySetArgs, RoleArg};
use crate::change::Change;
use crate::ctx::{Ctx, Session};
use crate::error::CliError;
use crate::out::table::{Column, Table};
use crate::out::text::{clean, names, quoted, span};
use crate::sentence;

use super::node::find;
use super::watch::{Shown, once};

fn role(role: RoleArg) -> Role {
    match role {
        RoleArg::Viewer => Role::Viewer,
        RoleArg::Operator => Role::Operator,
        RoleArg::Owner => Role::Owner,
    }
}

fn class(class: ClassArg) -> KeyClass {
    match class {
        ClassArg::Cli => KeyClass::Cli,
        ClassArg::Browser => KeyClass::Browser,
        ClassArg::AgentOrigin => KeyClass::AgentOrigin,
        ClassArg::Hardware => KeyClass::Hardware,
    }
}

/// A key class's word.
pub fn class_word(class: KeyClass) -> &'static str {
    match class {
        KeyClass::Browser => "browser",
        KeyClass::AgentOrigin => "agent-origin",
        KeyClass::Cli => "cli",
        KeyClass::Hardware => "hardware",
    }
}

fn reason(compromised: bool) -> RevokeReason {
    if compromised { RevokeReason::Compromised } else { RevokeReason::Retired }
}

/// Runs a verb of `qb admin`.
///
/// # Errors
/// What went wrong.
pub async fn run(ctx: &Ctx, verb: AdminCommand) -> Result<(), CliError> {
    let mut session = ctx.session().await?;
    if matches!(verb, AdminCommand::List) {
        return list(&session).await;
    }
    let admins = session.api.admins().await?;
    if let Some(text) = to_compare(&verb) {
        ctx.out.say(&text);
    }
    let change = change(verb, &admins)?;
    let what = sentence::of(&change.action, &change.hosts);
    if let Some(view) = session.change(&change).await? {
        session.accepted(&view, &what, Some("qb admin list"))?;
    }
    Ok(())
}

/// What to compare before a key is added: it came over a channel that nobody checked.
pub fn to_compare(verb: &AdminCommand) -> Option<String> {
    let (key, class) = match verb {
        AdminCommand::Add { public_key, class, .. } => (public_key, class),
        AdminCommand::AddKey { key, class, .. } => (key, class),
        _ => return None,
    };
    let with = match class {
        ClassArg::Browser | ClassArg::AgentOrigin => "what the page shows where the key was made",
        ClassArg::Cli | ClassArg::Hardware => "what `qb key show` prints where the key is",
    };
    let (print, six) = (qb_model::words::fingerprint(&key.0), qb_model::words::words(&key.0).join(" "));
    Some(format!("Compare with {with}:\n  fingerprint  {print}\n  words        {six}"))
}

fn known<'a>(admins: &'a [AdminView], name: &Name) -> Result<&'a AdminView, CliError> {
    admins.iter().find(|a| a.admin == *name).ok_or_else(|| {
        let all: Vec<&str> = admins.iter().map(|a| a.admin.as_str()).collect();
        CliError::usage(format!("No admin {name}; there are {}.", names(&all))).remedy("qb admin list")
    })
}

fn key_of(admin: &AdminView, text: &str) -> Result<PublicKey, CliError> {
    let found: Vec<_> = admin
        .keys
        .iter()
        .filter(|k| k.key.to_string() == text || (text.len() >= 4 && k.fingerprint.starts_with(text)))
        .collect();
    match found.as_slice() {
        [one] => Ok(one.key),
        [] => {
            Err(CliError::usage(format!("{} has no key {}.", admin.admin, clean(text)))
                .remedy("qb admin list"))
        }
        _ => Err(CliError::usage(format!("{} names several keys of {}.", clean(text), admin.admin))
            .remedy("the whole fingerprint")),
    }
}

/// The change that a verb wants.
///
/// # Errors
/// An admin or a key that is not there.
pub fn change(verb: AdminCommand, admins: &[AdminView]) -> Result<Change, CliError> {
    let at = |admin: &AdminView| (ObjectRef::Admin(admin.admin.clone()), admin.generation);
    let new_key = |key: PublicKey, c: ClassArg| NewKey { key, class: class(c), expires_ms: None };
    Ok(match verb {
        AdminCommand::Add { admin, person, role: r, public_key, class: c } => {
            let name = person.unwrap_or_else(|| admin.to_string());
            let keys = vec![new_key(public_key, c)];
            let (word, of) = (sentence::role(role(r)), class_word(class(c)));
            let again = format!(
                "qb admin add {admin} --name {} --role {word} --public-key {public_key} --class {of}",
                quoted(&name)
            );
            let mut change =
                Change::new(Action::AdminAdd { admin: admin.clone(), name, role: role(r), keys }, again);
            let before = admins.iter().find(|a| a.admin == admin).map_or(Generation(0), |a| a.generation);
            // A generation survives removal, and only the site knows that of a removed admin.
            if before != Generation(0) {
                change.expect.push((ObjectRef::Admin(admin), before));
            }
            change
        }
        AdminCommand::Remove { admin, compromised } => {
            known(admins, &admin)?;
            let action = Action::AdminRemove { admin: admin.clone(), reason: reason(compromised) };
            let mut change = Change::new(action, format!("qb admin remove {admin}{}", flag(compromised)));
            change.ask = Ask::Type(admin.to_string());
            change
        }
        AdminCommand::Role { admin, role: r } => {
            let before = known(admins, &admin)?;
            let again = format!("qb admin role {admin} {}", sentence::role(role(r)));
            let mut change = Change::new(Action::AdminRole { admin, role: role(r) }, again);
            change.expect.push(at(before));
            change
        }
        AdminCommand::AddKey { admin, key, class: c } => {
            let before = known(admins, &admin)?;
            let again = format!("qb admin add-key {admin} {key} --class {}", class_word(class(c)));
            let mut change = Change::new(Action::KeyAdd { admin, key: new_key(key, c) }, again);
            change.expect.push(at(before));
            change
        }
        AdminCommand::RevokeKey { admin, key, compromised } => {
            let key = key_of(known(admins, &admin)?, &key)?;
            let again = format!("qb admin revoke-key {admin} {key}{}", flag(compromised));
            Change::new(Action::KeyRevoke { admin, key, reason: reason(compromised) }, again)
        }
        AdminCommand::List => return Err(CliError::usage("A list changes nothing.")),
    })
}

async fn list(session: &Session<'_>) -> Result<(), CliError> {
    let admins = session.api.admins().await?;
    let clock = session.ctx.out.clock();
    let mut table = Table::new(["ADMIN", "NAME", "ROLE", "FINGERPRINT", "CLASS", "ENDS"].map(Column::new));
    for admin in &admins {
        for (at, key) in admin.keys.iter().enumerate() {
            let head = |text: &str| if at == 0 { text.to_owned() } else { String::new() };
            table.row([
                head(admin.admin.as_str()).into(),
                head(&admin.name).into(),
                head(sentence::role(admin.role)).into(),
                key.fingerprint.as_str().into(),
                class_word(key.class).into(),
                key.expires.map(|e| clock.moment(e)).unwrap_or_default().into(),
            ]);
        }
    }
    let text = session.ctx.out.render(&table);
    let items = admins.into_iter().map(|a| (a.admin.to_string(), a)).collect();
    once(session.ctx, &Shown { items, text, footer: None, lines: Vec::new() }, true)
}

/// Runs a verb of `qb policy`. The policy is the one that the signed trust log leads to, replayed here.
///
/// # Errors
/// What went wrong.
pub async fn policy(ctx: &Ctx, verb: PolicyCommand) -> Result<(), CliError> {
    let mut session = ctx.session().await?;
    let policy = super::audit::trust(&session).await?.policy().clone();
    match verb {
        PolicyCommand::Show if ctx.out.documents() => ctx.out.document(&policy),
        PolicyCommand::Show => ctx.out.print(&policy_page(&policy)),
        PolicyCommand::Set(args) => {
            let nodes = session.api.nodes().await?;
            let wanted = with(policy, &args, |name| find(&nodes, name).map(|n| n.id))?;
            let change = Change::new(Action::PolicySet { policy: wanted }, again(&args));
            if let Some(view) = session.change(&change).await? {
                session.accepted(&view, "the policy is set", Some("qb policy show"))?;
            }
            Ok(())
        }
    }
}

fn flag(compromised: bool) -> &'static str {
    if compromised { " --compromised" } else { "" }
}

/// The command line that would set the same again.
pub fn again(args: &PolicySetArgs) -> String {
    let mut out = "qb policy set".to_owned();
    if let Some(owners) = args.owners_needed {
        out.push_str(&format!(" --owners-needed {owners}"));
    }
    if let Some(age) = args.anchor_max_age {
        out.push_str(&format!(" --anchor-max-age {}s", age.as_secs()));
    }
    if !args.voters.is_empty() {
        out.push_str(&format!(" --voters {}", args.voters.join(",")));
    }
    if !args.browser_actions.is_empty() {
        out.push_str(&format!(" --browser-actions {}", args.browser_actions.join(",")));
    }
    out
}

/// The policy with what the command line names.
///
/// # Errors
/// A node that is not there.
pub fn with(
    mut policy: Policy,
    args: &PolicySetArgs,
    node: impl Fn(&str) -> Result<qb_model::NodeId, CliError>,
) -> Result<Policy, CliError> {
    if let Some(owners) = args.owners_needed {
        policy.owners_needed = owners;
    }
    if let Some(age) = args.anchor_max_age {
        policy.anchor_max_age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
    }
    match args.voters.as_slice() {
        [] => {}
        [all] if all == "all" => policy.voters = Eligible::All,
        names => {
            let mut nodes: Vec<_> = names.iter().map(|n| node(n)).collect::<Result<_, _>>()?;
            nodes.sort_unstable();
            nodes.dedup();
            policy.voters = Eligible::Nodes { nodes };
        }
    }
    match args.browser_actions.as_slice() {
        [] => {}
        [none] if none == "none" => policy.browser_actions = Vec::new(),
        actions => {
            policy.browser_actions = actions.to_vec();
            policy.browser_actions.sort_unstable();
            policy.browser_actions.dedup();
        }
    }
    Ok(policy)
}

/// The page of `qb policy show`.
pub fn policy_page(policy: &Policy) -> String {
    let voters = match &policy.voters {
        Eligible::All => "all".to_owned(),
        Eligible::Nodes { nodes } => {
            names(&nodes.iter().map(|n| qb_model::words::fingerprint(&n.0)).collect::<Vec<_>>())
        }
    };
    let browser =
        if policy.browser_actions.is_empty() { "none".to_owned() } else { policy.browser_actions.join(", ") };
    format!(
        "owners needed    {}\nanchor max age   {}\nvoters           {voters}\nbrowser actions  {}\n",
        policy.owners_needed,
        span(policy.anchor_max_age_ms),
        clean(&browser),
    )
}
