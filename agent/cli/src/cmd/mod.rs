//! The verbs: one file a noun. Each asks, decides, prints; what they decide is tested without a door.

pub mod access;
pub mod admin;
pub mod agent;
pub mod attach;
pub mod audit;
pub mod authorize;
pub mod bundle;
pub mod cluster;
pub mod cluster_backup;
pub mod cluster_kept;
pub mod cluster_upgrade;
pub mod compare;
pub mod complete;
pub mod cosign;
pub mod doctor;
pub mod follow;
pub mod intent;
pub mod key;
pub mod node;
pub mod package;
pub mod portal;
pub mod preflight;
pub mod relay;
pub mod rest;
pub mod rollout;
pub mod site;
pub mod state;
pub mod token;
pub mod verify;
pub mod watch;

use crate::args::{Cli, Command, Output};
use crate::ctx::Ctx;
use crate::error::{CliError, Exit};
use crate::out::Out;

/// Does what the command line says.
///
/// # Errors
/// What went wrong, with the exit code.
pub async fn run(cli: Cli, env: &dyn Fn(&str) -> Option<String>) -> Result<Exit, CliError> {
    check(&cli)?;
    if let Some(Command::Completion(args)) = &cli.command {
        complete::script(&Out::new(&cli.globals, env), args)?;
        return Ok(Exit::Done);
    }
    if let Some(Command::Complete(args)) = &cli.command {
        complete::run(cli.globals.clone(), env, args).await?;
        return Ok(Exit::Done);
    }
    if let Some(Command::Man(args)) = &cli.command {
        complete::manual(args)?;
        return Ok(Exit::Done);
    }
    let ctx = match Ctx::new(cli.globals.clone(), env) {
        Ok(ctx) => ctx,
        Err(error) => return doctor::without_config(&cli, &error),
    };
    let Some(command) = cli.command else { return state::overview(&ctx).await };
    // Ctrl-C ends the process wherever it asks or reads; only `follow` catches it, to say what goes on.
    dispatch(&ctx, command).await
}

async fn dispatch(ctx: &Ctx, command: Command) -> Result<Exit, CliError> {
    match command {
        Command::Site(crate::args::site::SiteCommand::Verify) => return verify::run(ctx).await,
        Command::Site(verb) => site::run(ctx, verb).await?,
        Command::Node(verb) => node::run(ctx, verb).await?,
        Command::Kubectl(args) => return access::kubectl(ctx, args).await,
        Command::Cluster(verb) => cluster::run(ctx, verb).await?,
        Command::Preflight(args) => return preflight::run(ctx, args).await,
        Command::Intent(verb) => intent::run(ctx, verb).await?,
        Command::Bundle(verb) => bundle::run(ctx, verb).await?,
        Command::Agent(verb) => agent::run(ctx, verb).await?,
        Command::Admin(verb) => admin::run(ctx, verb).await?,
        Command::Relay(verb) => relay::run(ctx, verb).await?,
        Command::Package(verb) => package::run(ctx, verb).await?,
        Command::Token(verb) => token::run(ctx, verb).await?,
        Command::Policy(verb) => admin::policy(ctx, verb).await?,
        Command::Key(verb) => key::run(ctx, verb)?,
        Command::Alert(_) => rest::alerts(ctx).await?,
        Command::Audit(verb) => return audit::run(ctx, verb).await,
        Command::Events(args) => rest::events(ctx, args).await?,
        Command::Portal(args) => portal::run(ctx, &args).await?,
        Command::Doctor => return doctor::run(ctx).await,
        // Done before, without a configuration.
        Command::Completion(_) | Command::Complete(_) | Command::Man(_) => {}
    }
    Ok(Exit::Done)
}

/// Refuses flags that would mean nothing here.
fn check(cli: &Cli) -> Result<(), CliError> {
    let globals = &cli.globals;
    let plans = cli.command.as_ref().is_some_and(Command::plans);
    if (globals.plan.is_some() || globals.expect.is_some()) && !plans {
        return Err(CliError::usage(
            "--plan and --expect go with verbs that change the site; this one has no plan.",
        ));
    }
    let watches = cli.command.as_ref().is_some_and(Command::watches);
    if globals.watch && !watches {
        return Err(CliError::usage("--watch goes with lists and show; this verb has nothing to watch."));
    }
    let packages = matches!(&cli.command, Some(Command::Package(verb)) if verb.writes());
    let writes = packages
        || matches!(
            &cli.command,
            Some(Command::Site(crate::args::site::SiteCommand::Enroll(_)))
                | Some(Command::Cluster(crate::args::cluster::ClusterCommand::Kubeconfig(_)))
                | Some(Command::Audit(crate::args::rest::AuditCommand::Export))
                | Some(Command::Token(crate::args::token::TokenCommand::Mint(_)))
                | Some(Command::Bundle(
                    crate::args::trust::BundleCommand::Build(_)
                        | crate::args::trust::BundleCommand::Export { .. }
                ))
        );
    if let Some(Output::File(path)) = &globals.output
        && !writes
    {
        return Err(CliError::usage(format!("-o {}: this verb writes no file.", path.display()))
            .remedy("-o table, wide, json, yaml or name"));
    }
    Ok(())
}
