//! `config.toml`: the sites of this computer. Written by people and, a line at a time, by `qb`;
//! comments stay. An unknown field or a wrong value stops with file, line and the nearest right name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use qb_model::{Name, NodeId, SiteId};
use serde::{Deserialize, Serialize};

use crate::door::Door;
use crate::error::CliError;
use crate::files;

/// Longest configuration in bytes: hundreds of sites.
const MAX: u64 = 1 << 20;

/// The file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// The current site.
    #[serde(default)]
    pub current: Option<Name>,
    /// The sites by name.
    #[serde(default)]
    pub site: BTreeMap<Name, SiteConfig>,
}

/// One site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SiteConfig {
    /// Its id.
    pub id: SiteId,
    /// The file of its charter or its enrolment file.
    pub charter: PathBuf,
    /// Its doors, in the order in which they are tried.
    #[serde(default)]
    pub doors: Vec<Door>,
    /// Name of the key that signs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Name>,
    /// Name of the key that signs bundles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub publisher_key: Option<Name>,
    /// Nodes whose doors are believed from the beginning.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub known_nodes: Vec<NodeId>,
    /// Addresses where machines find one another, for enrolment files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seeds: Vec<String>,
}

const FIELDS: [&str; 9] =
    ["current", "site", "id", "charter", "doors", "key", "publisher_key", "known_nodes", "seeds"];

/// Where things lie on this computer.
#[derive(Debug, Clone)]
pub struct Paths {
    /// `config.toml`.
    pub config: PathBuf,
    /// The folder of this login's runtime files, if the system has one.
    run: Option<PathBuf>,
}

impl Paths {
    /// From `--config`, else below `XDG_CONFIG_HOME` or `HOME`.
    ///
    /// # Errors
    /// None of them is set.
    pub fn find(config: Option<&Path>, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, CliError> {
        let set = |name: &str| env(name).filter(|v| v.starts_with('/')).map(PathBuf::from);
        let run = set("XDG_RUNTIME_DIR");
        if let Some(config) = config {
            return Ok(Self { config: config.to_owned(), run });
        }
        let base = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|h| h.join(".config")));
        let base = base
            .ok_or_else(|| CliError::usage("Neither HOME nor QB_CONFIG says where the configuration is."))?;
        Ok(Self { config: base.join("qb/config.toml"), run })
    }

    fn folder(&self) -> &Path {
        self.config.parent().unwrap_or(Path::new("."))
    }

    /// A key's file.
    pub fn key(&self, name: &str) -> PathBuf {
        self.keys().join(format!("{name}.key"))
    }

    /// The folder of keys.
    pub fn keys(&self) -> PathBuf {
        self.folder().join("keys")
    }

    /// What can be fetched again: downloads.
    pub fn cache(&self) -> PathBuf {
        self.folder().join("cache")
    }

    /// A site's charter.
    pub fn charter(&self, site: &Name) -> PathBuf {
        self.folder().join(format!("charters/{site}.charter.json"))
    }

    /// What `qb` remembers of a site.
    pub fn memory(&self, site: &Name) -> PathBuf {
        self.folder().join(format!("known/{site}.json"))
    }

    /// Names of a site that completion offers when the site does not answer.
    pub fn names(&self, site: &Name) -> PathBuf {
        self.folder().join(format!("known/{site}.names.json"))
    }

    /// The folder of what lasts as long as a login: in memory where the system has such a place.
    pub fn runtime(&self) -> PathBuf {
        self.run.as_ref().map_or_else(|| self.folder().join("run"), |run| run.join("qb"))
    }

    /// The page that leads a browser to a portal that runs.
    pub fn portal(&self) -> PathBuf {
        self.folder().join(format!("portal-{}.html", std::process::id()))
    }

    /// A signed intent that may have to be sent again.
    pub fn intents(&self) -> PathBuf {
        self.folder().join("intents")
    }
}

/// Reads the file; an absent one is empty.
///
/// # Errors
/// Names file, line and the nearest right name.
pub fn load(path: &Path) -> Result<Config, CliError> {
    if !path.exists() {
        return Ok(Config::default());
    }
    let text = files::read_text(path, MAX)?;
    parse(path, &text)
}

/// Reads a configuration's text.
///
/// # Errors
/// Names file, line and the nearest right name.
pub fn parse(path: &Path, text: &str) -> Result<Config, CliError> {
    let config: Config = toml::from_str(text).map_err(|e| explain(path, text, &e))?;
    if let Some(current) = &config.current
        && !config.site.contains_key(current)
    {
        let known: Vec<&str> = config.site.keys().map(Name::as_str).collect();
        let error = CliError::usage(format!("{}: current = \"{current}\" is no site in it.", path.display()));
        return Err(match nearest(current.as_str(), &known) {
            Some(name) => error.remedy(format!("qb site use {name}")),
            None => error,
        });
    }
    Ok(config)
}

fn explain(path: &Path, text: &str, error: &toml::de::Error) -> CliError {
    let at = error.span().map_or(0, |span| span.start.min(text.len()));
    let line = text.as_bytes()[..at].iter().filter(|b| **b == b'\n').count() + 1;
    let said = error.message().trim().replace('\n', ": ");
    let unknown = said.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next());
    match unknown {
        Some(field) => {
            let error = CliError::usage(format!("{} line {line}: unknown field `{field}`.", path.display()));
            match nearest(field, &FIELDS) {
                Some(name) => error.remedy(format!("the nearest is `{name}`")),
                None => error.remedy(format!("fields are {}", FIELDS[2..].join(", "))),
            }
        }
        None => CliError::usage(format!("{} line {line}: {said}.", path.display())),
    }
}

/// The nearest of some names, if it is near.
pub fn nearest<'a>(name: &str, among: &[&'a str]) -> Option<&'a str> {
    let scored = among.iter().map(|known| (strsim::jaro_winkler(name, known), *known));
    scored.filter(|(score, _)| *score > 0.75).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, known)| known)
}

/// The text with another current site.
pub fn with_current(text: &str, site: &Name) -> String {
    let line = format!("current = \"{site}\"");
    let mut lines: Vec<&str> = text.lines().collect();
    let end = lines.iter().position(|l| l.trim_start().starts_with('[')).unwrap_or(lines.len());
    let at = lines[..end].iter().position(|l| l.split('=').next().is_some_and(|k| k.trim() == "current"));
    match at {
        Some(at) => lines[at] = &line,
        None => {
            let gap = if lines.is_empty() { None } else { Some("") };
            lines.splice(0..0, std::iter::once(line.as_str()).chain(gap));
        }
    }
    lines.join("\n") + "\n"
}

/// The text with one more site at its end.
///
/// # Errors
/// The site cannot be written as TOML.
pub fn with_site(text: &str, name: &Name, site: &SiteConfig) -> Result<String, CliError> {
    let body = toml::to_string(site).map_err(|e| CliError::failed(format!("Cannot write the site: {e}.")))?;
    let gap = if text.trim().is_empty() { "" } else { "\n" };
    Ok(format!("{text}{gap}[site.\"{name}\"]\n{body}"))
}

/// The text with other doors for a site, if its section has a line of doors.
pub fn with_doors(text: &str, name: &Name, doors: &[Door]) -> Option<String> {
    let list: Vec<String> = doors.iter().map(|d| format!("\"{d}\"")).collect();
    let line = format!("doors = [{}]", list.join(", "));
    let mut lines: Vec<&str> = text.lines().collect();
    let heads = [format!("[site.\"{name}\"]"), format!("[site.{name}]")];
    let start = lines.iter().position(|l| heads.iter().any(|h| l.trim() == h))? + 1;
    let end = lines[start..]
        .iter()
        .position(|l| l.trim_start().starts_with('['))
        .map_or(lines.len(), |n| start + n);
    let is_doors = |l: &&str| l.split('=').next().is_some_and(|k| k.trim() == "doors");
    match lines[start..end].iter().position(is_doors) {
        Some(at) if lines[start + at].trim_end().ends_with(']') => lines[start + at] = &line,
        Some(_) => return None,
        None => lines.insert(start, &line),
    }
    Some(lines.join("\n") + "\n")
}

/// Changes the file: reads, changes, checks that the result is what is wanted, writes.
///
/// # Errors
/// It cannot be read or written, or the change does not come out.
pub fn edit(path: &Path, change: impl FnOnce(&str) -> Result<String, CliError>) -> Result<Config, CliError> {
    let text = if path.exists() { files::read_text(path, MAX)? } else { String::new() };
    let text = change(&text)?;
    let config = parse(path, &text)?;
    files::write(path, text.as_bytes(), 0o600, false)?;
    Ok(config)
}
