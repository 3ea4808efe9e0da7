//! `qb portal`: opens the listener and the browser, and serves until Ctrl-C.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use tokio::net::TcpListener;

use crate::agree::agreed;
use crate::args::rest::PortalArgs;
use crate::ctx::Ctx;
use crate::error::CliError;
use crate::files;
use crate::portal::{AskFn, Portal};

/// Serves until Ctrl-C.
///
/// # Errors
/// No door answers, the key does not open, or the port is taken.
pub async fn run(ctx: &Ctx, args: &PortalArgs) -> Result<(), CliError> {
    let portal = Portal::new(ctx, ask(ctx)).await?;
    let listener = TcpListener::bind(("127.0.0.1", args.port)).await;
    let listener = listener.map_err(|e| {
        CliError::failed(format!("Cannot listen on 127.0.0.1:{}: {e}.", args.port))
            .remedy("leave --port out: any free port will do")
    })?;
    let at = listener.local_addr().map_err(|e| CliError::failed(format!("Which port is not known: {e}.")))?;
    let authority = at.to_string();
    let url = format!("http://{authority}/#token={}", portal.token());
    if ctx.out.documents() {
        ctx.out.line(&serde_json::json!({"v": 1, "url": url}))?;
    } else {
        ctx.out.print(&format!("{url}\n"))?;
    }
    ctx.out
        .hint("The address holds a secret: whoever has it reads the site and may ask here for signatures.");
    if ctx.globals.yes {
        ctx.out.say("--yes: whatever the page asks for is signed without a question.");
    } else if !ctx.can_ask() {
        ctx.out.hint("There is no terminal to ask on: this portal reads, and signs nothing.");
    }
    let shown = if args.no_browser { None } else { browse(ctx, &url) };
    ctx.out.hint("Ctrl-C ends it.");
    let stop = async {
        let _ = tokio::signal::ctrl_c().await;
    };
    qb_portal::serve(listener, portal.router(&authority), stop).await;
    if let Some(path) = shown {
        // A token of a portal that is over opens nothing.
        let _ = std::fs::remove_file(path);
    }
    Ok(())
}

fn ask(ctx: &Ctx) -> Box<AskFn> {
    let (yes, can_ask, out) = (ctx.globals.yes, ctx.can_ask(), ctx.out.clone());
    Box::new(move |question| {
        if yes {
            out.say(question);
            return Ok(true);
        }
        if !can_ask {
            out.say(question);
            return Err(CliError::refused("This portal runs where nobody can be asked; nothing was signed.")
                .remedy("start it on a terminal, or with --yes"));
        }
        agreed(question)
    })
}

/// Opens a browser by a file that only this user can read: an argument could be read by everybody.
fn browse(ctx: &Ctx, url: &str) -> Option<PathBuf> {
    if !ctx.can_ask() {
        return None;
    }
    let path = ctx.paths.portal();
    let page = format!(
        "<!doctype html><meta charset=\"utf-8\"><meta name=\"referrer\" content=\"no-referrer\"><meta http-equiv=\"refresh\" content=\"0;url={url}\"><title>qb portal</title>\n"
    );
    if let Err(error) = files::write(&path, page.as_bytes(), 0o600, false) {
        ctx.out.hint(&format!("{} Open the address yourself.", error.text));
        return None;
    }
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let mut command = Command::new(opener);
    command.arg(&path).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match command.spawn() {
        // Reaps it; how it ends is the browser's matter.
        Ok(mut child) => drop(std::thread::spawn(move || child.wait())),
        Err(_) => ctx.out.hint(&format!("There is no {opener} here: open the address yourself.")),
    }
    Some(path)
}
