//! `qb doctor`: checks this computer's configuration, keys and doors. Works without network and
//! without a right configuration. What is wrong comes first, with its remedy.

use std::os::unix::fs::MetadataExt as _;

use qb_model::PublicKey;
use qb_model::words::fingerprint;

use crate::args::Cli;
use crate::client::Client;
use crate::client::connect::{Target, connect};
use crate::client::memory::Memory;
use crate::ctx::{Ctx, Here};
use crate::door::RelayUrl;
use crate::error::{CliError, Exit};
use crate::keyfile;
use crate::out::Out;
use crate::out::paint::{Paint, Tone};

/// One check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Good, to be looked at, or broken.
    pub tone: Tone,
    /// What was found.
    pub text: String,
    /// What to do.
    pub remedy: Option<String>,
}

impl Check {
    fn good(text: impl Into<String>) -> Self {
        Self { tone: Tone::Good, text: text.into(), remedy: None }
    }
    fn bad(text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { tone: Tone::Broken, text: text.into(), remedy: Some(remedy.into()) }
    }
    fn of(error: &CliError) -> Self {
        Self { tone: Tone::Broken, text: error.text.clone(), remedy: error.remedy.clone() }
    }
}

/// The page: what is broken first and numbered, what is good in one line each.
pub fn page(checks: &[Check], paint: &Paint) -> String {
    let mut out = String::new();
    let mut number = 0;
    for check in checks.iter().filter(|c| c.tone != Tone::Good) {
        number += 1;
        let text = crate::out::text::clean(&check.text);
        out.push_str(&format!("{} {number}  {text}\n", paint.marked(check.tone)));
        if let Some(remedy) = &check.remedy {
            out.push_str(&format!("       {}\n", crate::out::text::clean(remedy)));
        }
    }
    for check in checks.iter().filter(|c| c.tone == Tone::Good) {
        out.push_str(&format!("{}    {}\n", paint.marked(check.tone), crate::out::text::clean(&check.text)));
    }
    out
}

/// The exit code that checks lead to.
pub fn exit(checks: &[Check]) -> Exit {
    if checks.iter().any(|c| c.tone == Tone::Broken) { Exit::Failed } else { Exit::Done }
}

/// The configuration is wrong: say so, and write completions all the same.
///
/// # Errors
/// stdout is closed.
pub fn without_config(cli: &Cli, error: &CliError) -> Result<Exit, CliError> {
    if !matches!(cli.command, Some(crate::args::Command::Doctor)) {
        return Err(error.clone());
    }
    let out = Out::new(&cli.globals, &|name| std::env::var(name).ok());
    out.print(&page(&[Check::of(error)], &out.paint))?;
    Ok(Exit::Failed)
}

fn keys(ctx: &Ctx, checks: &mut Vec<Check>) -> Result<(), CliError> {
    let folder = ctx.paths.keys();
    if let Ok(meta) = std::fs::metadata(&folder)
        && meta.mode() & 0o022 != 0
    {
        checks.push(Check::bad(
            format!("others may write into {}", folder.display()),
            format!("chmod 700 {}", folder.display()),
        ));
    }
    let mut good = Vec::new();
    for (name, file) in keyfile::list(&folder)? {
        match file {
            Ok(file) if file.sealed() => good.push(name.to_string()),
            Ok(_) => {
                let text = format!("key {name} has no passphrase: whoever reads its file is you");
                checks.push(Check { tone: Tone::You, text, remedy: None });
            }
            Err(error) => checks.push(Check::of(&error)),
        }
    }
    if !good.is_empty() {
        checks.push(Check::good(format!("key files 0600, with a passphrase: {}", good.join(", "))));
    }
    Ok(())
}

fn site(ctx: &Ctx, here: &Here, checks: &mut Vec<Check>) {
    match ctx.charter(here) {
        Ok(_) => checks.push(Check::good(format!("charter of {} is valid", here.name))),
        Err(error) => checks.push(Check::of(&error)),
    }
    match ctx.key_name(here) {
        Ok(name) if ctx.paths.key(name.as_str()).exists() => {
            checks.push(Check::good(format!("{} signs with key {name}", here.name)));
        }
        Ok(name) => checks.push(Check::bad(
            format!("key {name} of {} is not on this computer", here.name),
            "qb key list, or key = \"NAME\" in config.toml",
        )),
        Err(error) => checks.push(Check { tone: Tone::You, ..Check::of(&error) }),
    }
}

/// What is to be thought of a relay that answers.
pub fn relay(url: &RelayUrl, known: Option<&PublicKey>, answered: Result<PublicKey, CliError>) -> Check {
    let key = match answered {
        Ok(key) => key,
        Err(error) => {
            let text = format!("relay:{url} answers, but not as a relay of qb: {}", error.text);
            return Check::bad(text, "is the address right? qb relay list");
        }
    };
    let print = fingerprint(&key.0);
    match known {
        Some(known) if *known == key => Check::good(format!("relay:{url} answers with its key {print}")),
        Some(known) => Check::bad(
            format!("relay:{url} answers with another key: {print}, known is {}", fingerprint(&known.0)),
            "ask whoever runs the relay; if its key is new, an owner adds it: qb relay add URL",
        ),
        None => Check {
            tone: Tone::You,
            text: format!("relay:{url} answers with key {print}, which nobody here compared"),
            remedy: Some("qb relay list shows what the site trusts".to_owned()),
        },
    }
}

async fn doors(ctx: &Ctx, here: &Here, checks: &mut Vec<Check>) {
    let memory = match Memory::load(&ctx.paths.memory(&here.name)) {
        Ok(memory) => memory,
        Err(error) => return checks.push(Check::of(&error)),
    };
    let mut answers = 0;
    for door in ctx.doors(here) {
        let target = Target { door, site: here.config.id, memory: memory.clone() };
        match connect(&target).await {
            Ok(connection) => {
                answers += 1;
                match target.door.relay().cloned() {
                    Some(url) => {
                        let known = ctx.pinned(here, &url, &memory);
                        let client = Client::new(target, connection, ctx.out.clone());
                        checks.push(relay(
                            &url,
                            known.as_ref(),
                            client.challenge().await.map(|c| c.server_key),
                        ));
                    }
                    None => checks.push(Check::good(format!("{} answers", target.door))),
                }
            }
            Err(cause) => checks.push(Check {
                tone: Tone::You,
                text: format!("{}: {cause}", target.door),
                remedy: None,
            }),
        }
    }
    if answers == 0 {
        checks.push(Check::bad(
            format!("no door of {} answers", here.name),
            "on a machine of the site: systemctl status qb-agent; from elsewhere: --door https://ADDRESS:8443",
        ));
    }
}

/// Runs the checks.
///
/// # Errors
/// stdout is closed.
pub async fn run(ctx: &Ctx) -> Result<Exit, CliError> {
    let mut checks = vec![Check::good(format!(
        "qb {}, configuration {}",
        env!("CARGO_PKG_VERSION"),
        ctx.paths.config.display()
    ))];
    keys(ctx, &mut checks)?;
    match ctx.here() {
        Ok(here) => {
            site(ctx, &here, &mut checks);
            doors(ctx, &here, &mut checks).await;
        }
        Err(error) => checks.push(Check::of(&error)),
    }
    if ctx.out.documents() {
        let list: Vec<_> = checks
            .iter()
            .map(|c| serde_json::json!({"ok": c.tone == Tone::Good, "broken": c.tone == Tone::Broken, "text": c.text, "remedy": c.remedy}))
            .collect();
        ctx.out.document(&list)?;
    } else {
        ctx.out.print(&page(&checks, &ctx.out.paint))?;
    }
    Ok(exit(&checks))
}
