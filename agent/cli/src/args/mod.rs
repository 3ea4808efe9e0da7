//! The command line: `qb [flags] <noun> <verb> [OBJECT...]`. Nouns are singular, as in the API.

pub mod agent;
pub mod cluster;
pub mod help;
pub mod node;
pub mod package;
pub mod relay;
pub mod rest;
pub mod site;
pub mod token;
pub mod trust;
pub mod verbs;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use qb_model::Name;

/// Kubernetes on your own machines, ordered by signed intents.
#[derive(Debug, Parser)]
#[command(name = "qb", version, disable_help_subcommand = true)]
pub struct Cli {
    /// Flags on everything.
    #[command(flatten)]
    pub globals: Globals,
    /// What to do; nothing shows the state of the current site.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What `-o` takes: a format, or a file for the verbs that write one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// A format.
    Format(Format),
    /// A file.
    File(PathBuf),
}

impl std::str::FromStr for Output {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(format) = Format::from_str(text, false) {
            return Ok(Self::Format(format));
        }
        if text.contains(['/', '.']) {
            return Ok(Self::File(PathBuf::from(text)));
        }
        Err("table, wide, json, yaml or name; a file's name needs a dot or a slash".into())
    }
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// For eyes; may change.
    #[default]
    Table,
    /// The same with more columns.
    Wide,
    /// The API's documents: a contract, fields are only added.
    Json,
    /// The same documents as YAML.
    Yaml,
    /// Names only, one a line.
    Name,
}

/// How much of a plan is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PlanMode {
    /// Changes, nodes and the steps of one node of each kind.
    Short,
    /// Every step of every node.
    Full,
}

/// Flags on everything.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Flags on everything")]
pub struct Globals {
    /// The site; default: the current one
    #[arg(long, hide_short_help = true, global = true, env = "QB_SITE", value_name = "NAME")]
    pub site: Option<Name>,
    /// The door: unix:/path, https://ip:port of an agent, or relay:https://host; default: the site's doors in turn
    #[arg(long, hide_short_help = true, global = true, env = "QB_DOOR", value_name = "DOOR")]
    pub door: Option<crate::door::Door>,
    /// The configuration file; default: ~/.config/qb/config.toml
    #[arg(long, hide_short_help = true, global = true, env = "QB_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The key to sign with: a name in the folder of keys; default: the site's
    #[arg(long, hide_short_help = true, global = true, env = "QB_KEY", value_name = "NAME")]
    pub key: Option<Name>,
    /// How results are printed; for enroll, export, build, mint and kubeconfig also the file to write
    #[arg(
        short,
        long,
        hide_short_help = true,
        global = true,
        env = "QB_OUTPUT",
        value_name = "table|wide|json|yaml|name"
    )]
    pub output: Option<Output>,
    /// Show again on every change
    #[arg(short, long, hide_short_help = true, global = true)]
    pub watch: bool,
    /// Show what it would do and change nothing
    #[arg(long, hide_short_help = true, global = true, value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "short", value_name = "short|full")]
    pub plan: Option<PlanMode>,
    /// Refuse unless the plan still has this digest
    #[arg(long, hide_short_help = true, global = true, value_name = "DIGEST")]
    pub expect: Option<String>,
    /// Wait for the end, at most this long
    #[arg(long, hide_short_help = true, global = true, env = "QB_WAIT", num_args = 0..=1, require_equals = true, default_missing_value = "10m", value_parser = duration, value_name = "TIME", conflicts_with = "no_wait")]
    pub wait: Option<Duration>,
    /// Do not wait for the end
    #[arg(long, hide_short_help = true, global = true)]
    pub no_wait: bool,
    /// Sign without asking
    #[arg(short, long, hide_short_help = true, global = true)]
    pub yes: bool,
    /// Type a name in advance, for what asks for one
    #[arg(long, hide_short_help = true, global = true, value_name = "NAME")]
    pub confirm: Option<String>,
    /// Never ask on the terminal
    #[arg(long, hide_short_help = true, global = true, env = "QB_NO_INPUT", value_parser = clap::builder::FalseyValueParser::new())]
    pub no_input: bool,
    /// Tables without heads
    #[arg(long, hide_short_help = true, global = true)]
    pub no_headers: bool,
    /// No progress, no hints
    #[arg(short, long, hide_short_help = true, global = true)]
    pub quiet: bool,
    /// Say doors and requests on stderr
    #[arg(short, long, hide_short_help = true, global = true)]
    pub verbose: bool,
    /// Times in UTC
    #[arg(long, hide_short_help = true, global = true)]
    pub utc: bool,
}

/// The nouns.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make, choose and look at sites
    #[command(subcommand, after_help = help::SITE)]
    Site(site::SiteCommand),
    /// Let machines in, look at them, take them out
    #[command(subcommand, after_help = help::NODE)]
    Node(node::NodeCommand),
    /// Create clusters and attach nodes to them
    #[command(subcommand, after_help = help::CLUSTER)]
    Cluster(cluster::ClusterCommand),
    /// Run kubectl on a cluster, through a tunnel
    #[command(after_help = help::KUBECTL)]
    Kubectl(cluster::KubectlArgs),
    /// Check nodes before they are attached; changes nothing
    #[command(after_help = help::PREFLIGHT, args_conflicts_with_subcommands = true)]
    Preflight(rest::PreflightArgs),
    /// Look at what was ordered, send it again, withdraw it
    #[command(subcommand, after_help = help::INTENT)]
    Intent(rest::IntentCommand),
    /// What clusters are installed from
    #[command(subcommand, after_help = help::BUNDLE)]
    Bundle(trust::BundleCommand),
    /// The agents of all nodes, and their upgrade
    #[command(subcommand, after_help = help::AGENT)]
    Agent(agent::AgentCommand),
    /// Who may sign
    #[command(subcommand, after_help = help::ADMIN)]
    Admin(trust::AdminCommand),
    /// Join tokens: machines that hold one come in by themselves
    #[command(subcommand, after_help = help::TOKEN)]
    Token(token::TokenCommand),
    /// Relays that the site trusts
    #[command(subcommand, after_help = help::RELAY)]
    Relay(relay::RelayCommand),
    /// Packages of this site's agents: make, verify, install
    #[command(subcommand, after_help = help::PACKAGE)]
    Package(package::PackageCommand),
    /// Keys on this computer
    #[command(subcommand, after_help = help::KEY)]
    Key(trust::KeyCommand),
    /// What owners tune
    #[command(subcommand, after_help = help::POLICY)]
    Policy(trust::PolicyCommand),
    /// What is wrong now
    #[command(subcommand, after_help = help::ALERT)]
    Alert(rest::AlertCommand),
    /// Who ordered what, provable offline
    #[command(subcommand, after_help = help::AUDIT)]
    Audit(rest::AuditCommand),
    /// What happens
    #[command(after_help = help::EVENTS)]
    Events(rest::EventsArgs),
    /// The web UI on this computer, signed by a key of this computer
    #[command(after_help = help::PORTAL)]
    Portal(rest::PortalArgs),
    /// Check this computer's configuration, keys and doors
    #[command(after_help = help::DOCTOR)]
    Doctor,
    /// Print the completion script of a shell
    #[command(after_help = help::COMPLETION)]
    Completion(rest::CompletionArgs),
    /// Live names for completion scripts
    #[command(name = "__complete", hide = true)]
    Complete(rest::CompleteArgs),
    /// Write the man pages; for who builds packages
    #[command(hide = true)]
    Man(rest::ManArgs),
}

impl Command {
    /// Whether `--plan` and `--expect` mean something here. Where they do not, they are refused:
    /// a plan must never turn into the act itself.
    pub fn plans(&self) -> bool {
        match self {
            Self::Node(c) => c.changes(),
            Self::Cluster(c) => c.changes(),
            Self::Admin(c) => c.changes(),
            Self::Policy(c) => c.changes(),
            Self::Bundle(c) => c.changes(),
            Self::Intent(c) => c.changes(),
            Self::Relay(c) => c.changes(),
            Self::Agent(c) => c.changes(),
            Self::Token(c) => c.changes(),
            _ => false,
        }
    }

    /// Whether `--watch` means something here.
    pub fn watches(&self) -> bool {
        match self {
            Self::Node(c) => !c.changes(),
            Self::Cluster(c) => c.watches(),
            Self::Agent(c) => !c.changes(),
            Self::Site(c) => matches!(c, site::SiteCommand::Status),
            Self::Intent(c) => matches!(c, rest::IntentCommand::List | rest::IntentCommand::Show { .. }),
            Self::Alert(_) | Self::Events(_) => true,
            _ => false,
        }
    }
}

/// Reads a version, with or without the `v` that Kubernetes writes before its own.
///
/// # Errors
/// What a version is.
pub fn version(text: &str) -> Result<qb_model::Version, qb_model::IdError> {
    text.strip_prefix('v').unwrap_or(text).parse()
}

/// Reads `300ms`, `90s`, `10m` or `2h`.
///
/// # Errors
/// Anything else, and times above a week.
pub fn duration(text: &str) -> Result<Duration, String> {
    const RULE: &str = "a time as 90s, 10m or 2h, at most 168h";
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| RULE.to_owned())?;
    let ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        _ => return Err(RULE.into()),
    };
    let total = number.checked_mul(ms).filter(|t| *t <= 168 * 3_600_000).ok_or(RULE)?;
    Ok(Duration::from_millis(total))
}
