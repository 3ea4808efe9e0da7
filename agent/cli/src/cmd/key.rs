//! `qb key list|new|export-public|show`. A secret is never printed.

use qb_model::Name;
use qb_model::words::{fingerprint, words};
use serde::Serialize;

use crate::args::Format;
use crate::args::trust::KeyCommand;
use crate::ctx::Ctx;
use crate::error::CliError;
use crate::keyfile::{self, KeyFile, Kind};
use crate::out::table::{Cell, Column, Table};

/// A key as `-o json` shows it.
#[derive(Serialize)]
struct KeyView {
    name: Name,
    kind: Kind,
    public: qb_model::PublicKey,
    fingerprint: String,
    words: String,
    passphrase: bool,
    made_ms: qb_model::Millis,
    sites: Vec<Name>,
}

/// Runs a verb.
///
/// # Errors
/// What went wrong.
pub fn run(ctx: &Ctx, verb: KeyCommand) -> Result<(), CliError> {
    match verb {
        KeyCommand::List => list(ctx),
        KeyCommand::New { name, kind, no_passphrase } => new(ctx, &name, kind.into(), no_passphrase),
        KeyCommand::ExportPublic { name } => {
            let (_, file) = load(ctx, name)?;
            ctx.out.print(&file.public.to_string())
        }
        KeyCommand::Show { name } => {
            let (name, file) = load(ctx, name)?;
            show(ctx, &view(ctx, name, &file))
        }
    }
}

fn view(ctx: &Ctx, name: Name, file: &KeyFile) -> KeyView {
    let uses = |c: &crate::config::SiteConfig| {
        c.key.as_ref() == Some(&name) || c.publisher_key.as_ref() == Some(&name)
    };
    let sites = ctx.config.site.iter().filter(|(_, c)| uses(c)).map(|(n, _)| n.clone()).collect();
    KeyView {
        kind: file.kind,
        public: file.public,
        fingerprint: fingerprint(&file.public.0),
        words: words(&file.public.0).join(" "),
        passphrase: file.sealed(),
        made_ms: file.made_ms,
        sites,
        name,
    }
}

fn load(ctx: &Ctx, name: Option<Name>) -> Result<(Name, KeyFile), CliError> {
    let name = match name {
        Some(name) => name,
        None => ctx.key_name(&ctx.here()?)?,
    };
    let file = KeyFile::load(&ctx.paths.key(name.as_str()))?;
    Ok((name, file))
}

fn list(ctx: &Ctx) -> Result<(), CliError> {
    let clock = ctx.out.clock();
    let heads = ["NAME", "KIND", "FINGERPRINT", "PASSPHRASE", "SITES", "MADE"];
    let mut table = Table::new(heads.map(Column::new));
    let mut documents = Vec::new();
    for (name, file) in keyfile::list(&ctx.paths.keys())? {
        match file {
            Ok(file) => {
                let key = view(ctx, name, &file);
                let sites: Vec<&str> = key.sites.iter().map(Name::as_str).collect();
                let row: [Cell; 6] = [
                    key.name.as_str().into(),
                    key.kind.word().into(),
                    key.fingerprint.as_str().into(),
                    if key.passphrase { "yes" } else { "no" }.into(),
                    sites.join(" ").into(),
                    clock.moment(key.made_ms).into(),
                ];
                table.row(row);
                documents.push(key);
            }
            Err(error) => ctx.out.say(&error.lines().join("\n")),
        }
    }
    match ctx.out.format {
        Format::Json | Format::Yaml => ctx.out.document(&documents),
        Format::Name => ctx.out.print(&documents.iter().map(|k| format!("{}\n", k.name)).collect::<String>()),
        _ if documents.is_empty() => {
            ctx.out.hint("No key on this computer.  Next: qb site create NAME, or qb key new NAME");
            Ok(())
        }
        _ => ctx.out.print(&ctx.out.render(&table)),
    }
}

fn new(ctx: &Ctx, name: &Name, kind: Kind, plain: bool) -> Result<(), CliError> {
    let path = ctx.paths.key(name.as_str());
    if path.symlink_metadata().is_ok() {
        return Err(CliError::usage(format!("There is a key {name}.")).remedy("qb key list"));
    }
    let passphrase = ctx.passphrases.for_new(plain)?;
    if passphrase.is_none() {
        ctx.out.hint("The key has no passphrase: whoever reads its file is you.");
    }
    let (file, _) = KeyFile::create(&path, kind, passphrase.as_ref().map(|p| p.as_str()))?;
    show(ctx, &view(ctx, name.clone(), &file))?;
    if kind == Kind::Admin {
        ctx.out.hint(&format!("next, an owner types: qb admin add-key ADMIN {}", file.public));
    }
    Ok(())
}

fn show(ctx: &Ctx, key: &KeyView) -> Result<(), CliError> {
    if ctx.out.documents() {
        return ctx.out.document(key);
    }
    let sites: Vec<&str> = key.sites.iter().map(Name::as_str).collect();
    ctx.out.print(&format!(
        "{}  {} key\n  fingerprint  {}\n  words        {}\n  public       {}\n  sites        {}\n  passphrase   {}\n",
        key.name,
        key.kind.word(),
        key.fingerprint,
        key.words,
        key.public,
        sites.join(", "),
        if key.passphrase { "yes" } else { "no" },
    ))
}
