//! `qb token mint|list|revoke`. The key pair is made here; the site learns its public half, the file
//! holds the other one. A secret is never printed.

use std::path::{Path, PathBuf};

use qb_model::action::{Action, Label};
use qb_model::dsse::{SecretKey, Signer as _};
use qb_model::limits::{ISSUED_AHEAD_MS, TOKEN_LIFE_MS};
use qb_model::words::fingerprint;
use qb_model::{Millis, PublicKey, SiteId, token};
use qb_portal::view::TokenView;
use zeroize::Zeroizing;

use crate::args::Output;
use crate::args::token::{MintArgs, TokenCommand};
use crate::change::Change;
use crate::ctx::{Ctx, Session};
use crate::error::{CliError, Exit};
use crate::files;
use crate::out::table::{Column, Table};
use crate::out::text::{clean, now, quoted};
use crate::sentence;

use super::watch::{Shown, once};

/// Runs a verb.
///
/// # Errors
/// What went wrong.
pub async fn run(ctx: &Ctx, verb: TokenCommand) -> Result<(), CliError> {
    match verb {
        TokenCommand::Mint(args) => mint(ctx, args).await,
        TokenCommand::List => list(ctx).await,
        TokenCommand::Revoke { token } => revoke(ctx, &token).await,
    }
}

/// A token as `-o json` shows it after it was minted. Its secret is in the file alone.
#[derive(serde::Serialize)]
struct Minted<'a> {
    v: u8,
    site: SiteId,
    token: PublicKey,
    fingerprint: String,
    file: &'a Path,
    uses: u16,
    expires: Millis,
    intent: qb_model::Digest,
}

async fn mint(ctx: &Ctx, args: MintArgs) -> Result<(), CliError> {
    let mut session = ctx.session().await?;
    let mut seed = Zeroizing::new([0u8; 32]);
    getrandom::fill(seed.as_mut_slice())
        .map_err(|e| CliError::failed(format!("The system gives no random bytes: {e}.")))?;
    let public = SecretKey::from_bytes(&seed).public_key();
    let site = session.here.config.id;
    let print = fingerprint(&public.0);
    let file = match &ctx.globals.output {
        Some(Output::File(path)) => path.clone(),
        _ => PathBuf::from(format!("./{}-{print}.token", session.here.name)),
    };
    let head = session.api.head().await?;
    // Site time stands still where nothing happens.
    let expires = head.log_time.max(now()).plus(life(&args));
    let change = Change::new(action(public, expires, &args)?, again(&args));
    let what = sentence::of(&change.action, &change.hosts);
    if ctx.globals.plan.is_some() {
        return session.change(&change).await.map(drop);
    }
    // Written first: a token that was minted and cannot be kept would be lost.
    let text = Zeroizing::new(token::secret_text(site, &seed));
    files::write(&file, text.as_bytes(), 0o600, true)?;
    let view = match session.change(&change).await {
        Ok(Some(view)) => view,
        Ok(None) => return Ok(()),
        Err(error) => return Err(not_minted(error, &file)),
    };
    if ctx.out.documents() {
        let (uses, fingerprint, intent) = (args.uses, print, view.digest);
        return ctx.out.document(&Minted {
            v: 1,
            site,
            token: public,
            fingerprint,
            file: &file,
            uses,
            expires,
            intent,
        });
    }
    session.accepted(&view, &what, Some("qb token list"))?;
    let shown = file.display();
    ctx.out.hint(&format!(
        "{shown} is a secret: copy it to each machine as /etc/qb/join.token, owned by the user qb, mode 0600, before the \
         agent starts, then delete it here. Machines come in on probation: no vote, no control plane."
    ));
    Ok(())
}

/// A token that was surely not minted leaves no file; one of unknown outcome keeps it.
fn not_minted(error: CliError, file: &Path) -> CliError {
    if matches!(error.exit, Exit::Unreachable | Exit::StillGoing | Exit::Interrupted | Exit::Signatures) {
        return error;
    }
    // It lets nobody in; that it stays harms nobody.
    let _ = std::fs::remove_file(file);
    error
}

fn life(args: &MintArgs) -> u64 {
    // A whole week would be refused where this computer's clock is a little ahead of the site's.
    let most = TOKEN_LIFE_MS - ISSUED_AHEAD_MS;
    u64::try_from(args.expires.as_millis()).unwrap_or(most).min(most)
}

/// The action of a mint.
///
/// # Errors
/// A label that is none, or no time at all.
pub fn action(token: PublicKey, expires_ms: Millis, args: &MintArgs) -> Result<Action, CliError> {
    if args.expires.is_zero() {
        return Err(CliError::usage("--expires: a token lives at least a moment.").remedy("--expires 24h"));
    }
    let mut labels = Vec::with_capacity(args.labels.len());
    for text in &args.labels {
        let (key, value) = text.split_once('=').ok_or_else(|| {
            CliError::usage(format!("--label {}: a label is KEY=VALUE.", clean(text)))
                .remedy("--label rack=r7")
        })?;
        labels.push(Label { key: key.to_owned(), value: value.to_owned() });
    }
    labels.sort();
    labels.dedup();
    let mut addresses = args.addresses.clone();
    addresses.sort();
    addresses.dedup();
    Ok(Action::TokenMint { token, uses: args.uses, expires_ms, host: args.host.clone(), addresses, labels })
}

/// The command line that would mint one like it again.
pub fn again(args: &MintArgs) -> String {
    let mut out = "qb token mint".to_owned();
    out.push_str(&format!(" --uses {}", args.uses));
    out.push_str(&format!(" --expires {}s", args.expires.as_secs()));
    if let Some(host) = &args.host {
        out.push_str(&format!(" --host {}", quoted(host.as_str())));
    }
    for block in &args.addresses {
        out.push_str(&format!(" --cidr {block}"));
    }
    for label in &args.labels {
        out.push_str(&format!(" --label {}", quoted(label)));
    }
    out
}

/// The token that a text names.
///
/// # Errors
/// None, or several.
pub fn find<'a>(tokens: &'a [TokenView], text: &str) -> Result<&'a TokenView, CliError> {
    let is =
        |t: &&TokenView| t.token.to_string() == text || (text.len() >= 4 && t.fingerprint.starts_with(text));
    match tokens.iter().filter(is).collect::<Vec<_>>().as_slice() {
        [one] => Ok(one),
        [] => Err(CliError::usage(format!("No live join token {}.", clean(text))).remedy("qb token list")),
        _ => {
            Err(CliError::usage(format!("{} names several tokens.", clean(text)))
                .remedy("the whole fingerprint"))
        }
    }
}

async fn revoke(ctx: &Ctx, text: &str) -> Result<(), CliError> {
    let mut session = ctx.session().await?;
    let tokens = session.api.tokens().await?;
    let token = find(&tokens, text)?.token;
    let change = Change::new(Action::TokenRevoke { token }, format!("qb token revoke {token}"));
    let what = sentence::of(&change.action, &change.hosts);
    if let Some(view) = session.change(&change).await? {
        session.accepted(&view, &what, Some("qb token list"))?;
    }
    Ok(())
}

/// The table of `qb token list`.
pub fn table(tokens: &[TokenView], clock: &crate::out::text::Clock) -> Table {
    let mut table = Table::new([
        Column::new("TOKEN"),
        Column::number("LEFT", 9),
        Column::number("USES", 9),
        Column::new("ENDS"),
        Column::cut("HOSTS", 5),
        Column::cut("ADDRESSES", 4),
        Column::cut("LABELS", 3),
        Column::cut("BY", 6),
    ]);
    let any = |text: String| if text.is_empty() { "all".to_owned() } else { text };
    for t in tokens {
        table.row([
            t.fingerprint.as_str().into(),
            if t.held { "held".to_owned() } else { t.left.to_string() }.into(),
            t.uses.to_string().into(),
            clock.moment(t.expires).into(),
            any(t.host.clone().unwrap_or_default()).into(),
            any(t.addresses.join(",")).into(),
            t.labels.join(",").into(),
            t.by.as_str().into(),
        ]);
    }
    table
}

async fn list(ctx: &Ctx) -> Result<(), CliError> {
    let session: Session<'_> = ctx.session().await?;
    let tokens = session.api.tokens().await?;
    let text = ctx.out.render(&table(&tokens, &ctx.out.clock()));
    let items = tokens.into_iter().map(|t| (t.fingerprint.clone(), t)).collect();
    once(ctx, &Shown { items, text, footer: None, lines: Vec::new() }, true)
}
