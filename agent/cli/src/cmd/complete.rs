//! `qb completion`, `qb man` and `qb __complete`: live names, at most 300 ms; else the last list that is kept.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use qb_portal::view::NodeState;

use crate::args::rest::{CompleteArgs, CompletionArgs, ManArgs, ShellArg};
use crate::args::{Globals, help};
use crate::complete::{Next, What, next};
use crate::config::Paths;
use crate::ctx::Ctx;
use crate::error::CliError;
use crate::files;
use crate::manual;
use crate::out::text::clean;
use crate::out::{Out, marks};

/// How long the site has to answer.
const PATIENCE: Duration = Duration::from_millis(300);
/// Longest kept list in bytes.
const KEPT: u64 = 1 << 20;
/// Most names that are offered.
const MOST: usize = 1_000;

type Names = Vec<(String, String)>;

/// `qb completion`.
///
/// # Errors
/// stdout is closed.
pub fn script(out: &Out, args: &CompletionArgs) -> Result<(), CliError> {
    out.print(match args.shell {
        ShellArg::Bash => include_str!("../completion/qb.bash"),
        ShellArg::Zsh => include_str!("../completion/qb.zsh"),
        ShellArg::Fish => include_str!("../completion/qb.fish"),
    })
}

/// `qb man`: every page, as a file of the folder.
///
/// # Errors
/// A page cannot be written.
pub fn manual(args: &ManArgs) -> Result<(), CliError> {
    let pages = manual::pages().map_err(|e| CliError::file("write", &args.dir, &e))?;
    for page in pages {
        let path = args.dir.join(&page.name);
        std::fs::write(&path, page.text).map_err(|e| CliError::file("write", &path, &e))?;
    }
    Ok(())
}

/// `qb __complete`: a name and what it is on each line. Never asks, never fails for a site that does
/// not answer.
///
/// # Errors
/// stdout is closed.
pub async fn run(
    mut globals: Globals,
    env: &dyn Fn(&str) -> Option<String>,
    args: &CompleteArgs,
) -> Result<(), CliError> {
    let mut root = help::command();
    root.build();
    let found = next(&root, &args.words);
    globals.no_input = true;
    globals.quiet = true;
    globals.site = found.site.as_deref().and_then(|s| s.parse().ok()).or(globals.site);
    globals.door = found.door.as_deref().and_then(|d| d.parse().ok()).or(globals.door);
    let out = Out::new(&globals, env);
    let mut names = found.words.clone();
    if let Some(what) = &found.live {
        // A wrong configuration offers no names; the verb itself says what is wrong.
        if let Ok(mut ctx) = Ctx::new(globals, env) {
            ctx.completing = true;
            names.extend(of(&ctx, what).await);
        }
    }
    out.print(&lines(&found, &names))
}

fn lines(found: &Next, names: &Names) -> String {
    let fits = |name: &str| name.starts_with(&found.prefix) && !found.used.iter().any(|u| u == name);
    names
        .iter()
        .filter(|(name, _)| fits(name))
        .take(MOST)
        .map(|(name, text)| format!("{}\t{}\n", clean(name), clean(text)))
        .collect()
}

async fn of(ctx: &Ctx, what: &What) -> Names {
    let plain = |name: String| (name, String::new());
    match what {
        What::Sites => ctx.config.site.keys().map(|n| plain(n.to_string())).collect(),
        What::Keys => {
            let keys = crate::keyfile::list(&ctx.paths.keys()).unwrap_or_default();
            keys.into_iter().map(|(n, _)| plain(n.to_string())).collect()
        }
        What::Codes => {
            let text = |code| qb_model::preflight::explain(code).unwrap_or_default().to_owned();
            qb_model::preflight::codes().map(|code| (code.to_owned(), text(code))).collect()
        }
        _ => match tokio::time::timeout(PATIENCE, live(ctx, what)).await {
            Ok(Ok(names)) => {
                keep(ctx, what, &names);
                names
            }
            _ => kept(ctx, what),
        },
    }
}

async fn live(ctx: &Ctx, what: &What) -> Result<Names, CliError> {
    let session = ctx.session().await?;
    let api = &session.api;
    Ok(match what {
        What::Clusters => {
            let all = api.clusters().await?;
            all.iter().map(|c| (c.name.to_string(), marks::cluster(c).1.to_owned())).collect()
        }
        What::Intents => {
            let all = api.intents().await?;
            all.iter().map(|i| (i.id.to_string(), i.sentence.clone())).collect()
        }
        What::Relays => {
            let trust = super::audit::trust(&session).await?;
            let text = |r: &qb_model::trust::Relay| r.org.as_ref().map(ToString::to_string);
            trust.relays().values().map(|r| (r.url.clone(), text(r).unwrap_or_default())).collect()
        }
        What::Admins => {
            let all = api.admins().await?;
            all.iter().map(|a| (a.admin.to_string(), a.name.clone())).collect()
        }
        What::AdminKeys(admin) => {
            let all = api.admins().await?;
            let keys = all.iter().filter(|a| a.admin.as_str() == admin).flat_map(|a| &a.keys);
            keys.map(|k| (k.fingerprint.clone(), super::admin::class_word(k.class).to_owned())).collect()
        }
        _ => {
            let clock = ctx.out.clock();
            let wanted = |node: &qb_portal::view::NodeView| match what {
                What::Waiting => node.state == NodeState::Waiting,
                What::Pool => node.state == NodeState::Pool,
                What::Members(cluster) => node.cluster.as_ref().is_some_and(|c| c.as_str() == cluster),
                _ => node.state != NodeState::Revoked,
            };
            let all = api.nodes().await?;
            let text = |n| format!("{} {}", marks::node(n).1, clock.ago(n.since));
            all.iter().filter(|n| wanted(n)).map(|n| (n.name.to_string(), text(n))).collect()
        }
    })
}

fn file(ctx: &Ctx) -> Option<PathBuf> {
    let here = ctx.here().ok()?;
    Some(Paths::names(&ctx.paths, &here.name))
}

fn load(ctx: &Ctx) -> Option<BTreeMap<String, Names>> {
    serde_json::from_slice(&files::read(&file(ctx)?, KEPT).ok()?).ok()
}

/// Keeps a list for a time when the site does not answer. A list that cannot be kept is no failure.
fn keep(ctx: &Ctx, what: &What, names: &Names) {
    let mut all = load(ctx).unwrap_or_default();
    let key = format!("{what:?}");
    if all.get(&key) == Some(names) || all.len() > 100 {
        return;
    }
    all.insert(key, names.clone());
    if let (Some(path), Ok(bytes)) = (file(ctx), serde_json::to_vec(&all)) {
        let _ = files::write(&path, &bytes, 0o600, false);
    }
}

fn kept(ctx: &Ctx, what: &What) -> Names {
    let names = load(ctx).and_then(|mut all| all.remove(&format!("{what:?}"))).unwrap_or_default();
    names.into_iter().map(|(name, text)| (name, format!("{text} (old)"))).collect()
}
