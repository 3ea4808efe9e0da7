//! Help: one sentence, three examples, then flags; and what mistyped verbs are called here.

use clap::builder::StyledStr;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, CommandFactory, FromArgMatches};

use super::{Cli, verbs};

/// Of `qb` itself.
pub const ROOT: &str = "Examples:
  qb node authorize --waiting              let the machines that knock into the pool
  qb cluster attach clus100 -n 3 --plan    show what an attach of three nodes would do
  qb audit verify                          prove who ordered what";
/// Of `qb site`.
pub const SITE: &str = "Examples:
  qb site create lyon --admin mira --name \"Mira Okafor\" --seed 10.20.1.11:7444
  qb site status
  qb site enroll -o lyon.enroll.json";
/// Of `qb node`.
pub const NODE: &str = "Examples:
  qb node list
  qb node authorize --waiting
  qb node show lyon-r1-01 -o json";
/// Of `qb node list`.
pub const NODE_LIST: &str = "Examples:
  qb node list --where 'state:waiting zone:rack-1'
  qb node list --where 'disk>80 os:debian' --sort -disk
  qb node list -o wide --watch";
/// Of `qb cluster list`.
pub const CLUSTER_LIST: &str = "Examples:
  qb cluster list
  qb cluster list --where state:ready --sort -workers
  qb cluster list -o name";
/// Of `qb node authorize`.
pub const AUTHORIZE: &str = "Examples:
  qb node authorize --waiting
  qb node authorize lyon-r1-01 k7mq-2v9d --plan
  qb --door relay:https://relay.example node authorize k7mq-2v9d-9x2c-tq5h

Through a relay each machine is compared: name it by the fingerprint that its console shows
(qb-agent id), or type the last two words when asked.";
/// Of `qb cluster`.
pub const CLUSTER: &str = "Examples:
  qb cluster create clus100
  qb cluster attach clus100 -n 3
  qb cluster show clus100 --watch";
/// Of `qb cluster create`.
pub const CREATE: &str = "Examples:
  qb cluster create clus100 --plan
  qb cluster create clus100 --driver kubeadm --bundle DIGEST
  qb cluster create clus100 --pods 10.8.0.0/16 --services 10.9.0.0/16 --endpoint k8s.example.com

Networks and endpoints hold for all the cluster's life. No node may have an address in the networks.
Every API server's certificate has the endpoints, and `qb cluster kubeconfig CLUSTER --endpoint`
goes to the first; nodes do not use them.";
/// Of `qb cluster upgrade`.
pub const CLUSTER_UPGRADE: &str = "Examples:
  qb cluster upgrade clus100 --version 1.36.3 --bundle kubeadm-1.36.3.qbb --plan
  qb cluster upgrade clus100 --version 1.36.3 --bundle 3f9a51c2 --batch 4
  qb cluster upgrade clus100 --version 1.36.3 --bundle 3f9a51c2 --no-wait";
/// Of `qb cluster backup`.
pub const CLUSTER_BACKUP: &str = "Examples:
  qb cluster backup clus100
  qb cluster backup clus100 -o json
  qb cluster backup clus100 --no-wait

A backup stays on its node, readable by root alone: it holds every secret of the cluster.";
/// Of `qb cluster restore`.
pub const CLUSTER_RESTORE: &str = "Examples:
  qb cluster restore clus100 3f9a51c2
  qb cluster restore clus100 3f9a51c2 --on lyon-r1-02 --plan
  qb cluster restore clus100 3f9a51c2 --on lyon-r1-02

The other control plane nodes are reset and join again, two or four of them; a single one, left of three, stays in
the pool. Workers and what runs on them stay.";
/// Of `qb cluster label`.
pub const CLUSTER_LABEL: &str = "Examples:
  qb cluster label clus100 lyon-r1-02 disk=ssd gpu-
  qb cluster label clus100 lyon-r1-02 topology.kubernetes.io/zone=r1
  qb cluster label clus100 lyon-r1-02 disk- --plan

The labels are those of the node in Kubernetes, for node selectors and affinity. They are set again when
somebody changes them, and every other label is left alone. Keys of kubernetes.io and k8s.io are kept by
Kubernetes and kubeadm and are refused, but for topology.kubernetes.io/zone and region. Labels that the
site itself uses are set with `qb node label`. The cluster must be of driver kubeadm.";
/// Of `qb cluster taint`.
pub const CLUSTER_TAINT: &str = "Examples:
  qb cluster taint clus100 lyon-r1-02 gpu=a100:NoSchedule
  qb cluster taint clus100 lyon-r1-02 gpu- maintenance:NoExecute
  qb cluster taint clus100 lyon-r1-02 gpu:NoSchedule-

Effects are NoSchedule, PreferNoSchedule and NoExecute: the last one evicts what runs. KEY- removes the
taints of that key, KEY:EFFECT- one of them; those that were not set here stay.";
/// Of `qb cluster addon`.
pub const ADDON: &str = "Examples:
  qb cluster addon set clus100 metrics -f metrics-server.yaml
  qb cluster addon list clus100
  qb cluster addon remove clus100 metrics";
/// Of `qb cluster addon set`.
pub const ADDON_SET: &str = "Examples:
  qb cluster addon set clus100 metrics -f metrics-server.yaml --plan
  qb cluster addon set clus100 metrics -f metrics-server.yaml
  qb cluster addon set clus100 policies -f policies.json

A control plane node applies the manifest with kubectl, again every ten minutes, and deletes what a newer
one no longer holds. Its objects have the label qb.addon=NAME. It must be YAML or JSON of at most 28 KiB;
larger ones belong into the bundle's manifests/. Every object needs a name. Secrets are refused: the
manifest stands in the site's log. Its images must be in the bundle, or the nodes must be able to pull them.";
/// Of `qb cluster attach`.
pub const ATTACH: &str = "Examples:
  qb cluster attach clus100 -n 3 --plan
  qb cluster attach clus100 lyon-r1-02 lyon-r2-02 --control-planes 1
  qb cluster attach clus100 --control-plane lyon-r1-02,lyon-r2-02,lyon-r3-02";
/// Of `qb cluster kubeconfig`.
pub const KUBECONFIG: &str = "Examples:
  qb cluster kubeconfig clus100 -o clus100.yaml
  qb cluster kubeconfig clus100 --merge
  qb cluster kubeconfig clus100 --endpoint api.example.com:6443 -o clus100.yaml

It holds no secret: kubectl gets a certificate of an hour from qb, for which your key signs. Who is
removed as an admin is out of the cluster at once. Your rights there follow your role: owners and
operators are cluster-admin, viewers may view. --endpoint goes through a load balancer of your own (TCP
to port 6443 of the control plane nodes): it needs no certificate, and nodes do not use it; alone it is the
one that the cluster was created with. Where a relay is the door, use `qb kubectl CLUSTER -- get nodes`,
or `qb cluster proxy CLUSTER` and its port as --port.";
/// Of `qb cluster credential`.
pub const CREDENTIAL: &str = "Examples:
  qb cluster credential clus100
  qb cluster credential clus100 --key ana
  qb cluster credential clus100 --site lyon

It holds the private key of that certificate. It is made on this computer, kept in a file that only
you can read, and made anew five minutes before the certificate ends.";
/// Of `qb cluster proxy`.
pub const PROXY: &str = "Examples:
  qb cluster proxy clus100
  qb cluster proxy clus100 --port 16443
  qb --door relay:https://relay.example cluster proxy clus100 --port 16443

For tools other than kubectl. What goes through is encrypted from here to a node of the site, also
through a relay; whoever connects on this computer needs a certificate as everywhere.";
/// Of `qb kubectl`.
pub const KUBECTL: &str = "Examples:
  qb kubectl clus100 -- get nodes
  qb kubectl clus100 -- logs -f deploy/web
  qb kubectl clus100 -- port-forward svc/web 8080:80

Runs the kubectl of your PATH, or of the variable KUBECTL, and ends as it does. The way to the
cluster is a tunnel through whatever door answers, also a relay's. Nobody between this computer and
a node of the site can read it.";
/// Of `qb preflight`.
pub const PREFLIGHT: &str = "Examples:
  qb preflight
  qb preflight lyon-r1-03 lyon-r3-02
  qb preflight explain NET-ONE-WAY";
/// Of `qb intent`.
pub const INTENT: &str = "Examples:
  qb intent list
  qb intent show 01K9P4XW --watch
  qb intent withdraw 01K9P4XW";
/// Of `qb intent sign`.
pub const INTENT_SIGN: &str = "Examples:
  qb intent sign 01K9P6QH --plan
  qb intent sign 01K9P6QH
  qb intent sign 01K9P6QH --key ana";
/// Of `qb intent release`.
pub const INTENT_RELEASE: &str = "Examples:
  qb intent list
  qb intent release 01K9P6QH --plan
  qb intent release 01K9P6QH";
/// Of `qb bundle`.
pub const BUNDLE: &str = "Examples:
  qb bundle list
  qb bundle build --driver kubeadm --version v1.36.2 --from DIR -o k8s-1.36.2.qbb
  qb bundle push k8s-1.36.2.qbb";
/// Of `qb agent`.
pub const AGENT: &str = "Examples:
  qb agent list
  qb agent upgrade agent-0.2.0.qbb --first lyon-r1-01 --plan
  qb agent stop";
/// Of `qb bundle trust`.
pub const BUNDLE_TRUST: &str = "Examples:
  qb bundle trust acme KEY --plan
  qb bundle trust acme KEY
  qb bundle distrust KEY";
/// Of `qb admin`.
pub const ADMIN: &str = "Examples:
  qb admin list
  qb admin add ana --name \"Ana Ruiz\" --role owner --public-key KEY
  qb admin add-key ana KEY --class browser";
/// Of `qb relay`.
pub const RELAY: &str = "Examples:
  qb relay add https://relay.example --relay-key KEY --org acme
  qb relay list
  qb --door relay:https://relay.example node list";
/// Of `qb package`.
pub const PACKAGE: &str = "Examples:
  qb package line
  qb package verify qb-agent_0.1.0-1_lyon_amd64.deb --vendor qb-agent_0.1.0-1_amd64.deb
  qb package build --vendor qb-agent_0.1.0-1_amd64.deb --seed 10.20.1.11:7444";
/// Of `qb token`.
pub const TOKEN: &str = "Examples:
  qb token mint --uses 20 --expires 8h --host 'lyon-r1-*' -o rack1.token
  qb token list
  qb token revoke 9rtx-e5m1";
/// Of `qb key`.
pub const KEY: &str = "Examples:
  qb key list
  qb key new ana
  qb key export-public ana";
/// Of `qb policy`.
pub const POLICY: &str = "Examples:
  qb policy show
  qb policy set --voters all
  qb policy set --browser-actions none";
/// Of `qb alert`.
pub const ALERT: &str = "Examples:
  qb alert list
  qb alert list --watch
  qb alert list -o json";
/// Of `qb audit`.
pub const AUDIT: &str = "Examples:
  qb audit list
  qb audit export -o lyon.audit
  qb audit verify lyon.audit";
/// Of `qb events`.
pub const EVENTS: &str = "Examples:
  qb events
  qb events --max 10
  qb events -o json";
/// Of `qb portal`.
pub const PORTAL: &str = "Examples:
  qb portal
  qb portal --port 8499 --no-browser
  qb --door relay:https://relay.example portal";
/// Of `qb doctor`.
pub const DOCTOR: &str = "Examples:
  qb doctor
  qb doctor --site lyon
  qb doctor --door https://10.20.1.11:8443";
/// Of `qb completion`.
pub const COMPLETION: &str = "Examples:
  qb completion bash > /etc/bash_completion.d/qb
  qb completion zsh > ~/.zfunc/_qb
  qb completion fish > ~/.config/fish/completions/qb.fish";

/// One sentence, examples, usage, then the verb's own flags. What goes on everything is one block.
const TEMPLATE: &str = "{about}{after-help}\n\n{usage-heading} {usage}\n\n{all-args}";
const GLOBALS: &str = "Flags on everything (qb --help explains them):
  --site NAME  --door DOOR  --key NAME  --config FILE  -o table|wide|json|yaml|name
  --plan[=full]  --expect DIGEST  --wait[=TIME]  --no-wait  -w, --watch  -y, --yes
  --confirm NAME  --no-input  --no-headers  -q, --quiet  -v, --verbose  --utc";
/// What the numbers mean that `qb` ends with.
pub const EXITS: &str = "Exit codes:
  0  done; with --plan: it would be accepted     5  accepted and still going
  1  tried and failed                            6  preflight findings block it
  2  wrong use; nothing was sent                 7  waits for more signatures
  3  refused by the site, or no right key here   130  interrupted; what was accepted goes on
  4  no door answers
Through a relay, 5 also means: sent, and no node of the site has signed for it yet.";

/// The grammar, with examples before flags everywhere.
pub fn command() -> clap::Command {
    let root = decorate(Cli::command().after_help(ROOT), "");
    let flags: String = root
        .get_arguments()
        .filter(|arg| arg.is_global_set())
        .map(|arg| format!("  {:<30} {}\n", spelled(arg), arg.get_help().cloned().unwrap_or_default()))
        .collect();
    root.help_template(format!("{TEMPLATE}\n\nFlags on everything:\n{flags}\n{EXITS}"))
}

/// A flag as it is typed: `-o, --output <table|wide>`.
fn spelled(arg: &Arg) -> String {
    let short = arg.get_short().map_or_else(|| "    ".to_owned(), |short| format!("-{short}, "));
    let value = arg.get_value_names().filter(|_| arg.get_action().takes_values());
    let value = value.and_then(<[_]>::first).map(ToString::to_string).unwrap_or_default();
    let value = match (value.as_str(), arg.is_require_equals_set()) {
        ("", _) => value,
        (_, true) => format!("[={value}]"),
        (_, false) if value.contains('|') => " FORMAT".to_owned(),
        (_, false) => format!(" {value}"),
    };
    format!("{short}--{}{value}", arg.get_long().unwrap_or_default())
}

fn decorate(command: clap::Command, path: &str) -> clap::Command {
    let path = format!("{path} {}", command.get_name()).trim().to_owned();
    let examples = command.get_after_help().map_or_else(|| verbs::examples(&path), |_| None);
    let command = match examples {
        Some(text) => command.after_help(format!("Examples:\n{text}")),
        None => command,
    };
    let names: Vec<String> = command.get_subcommands().map(|c| c.get_name().to_owned()).collect();
    let help = Arg::new("help")
        .short('h')
        .long("help")
        .action(ArgAction::HelpShort)
        .help("Print help")
        .help_heading("Options");
    let command = command.help_template(format!("{TEMPLATE}\n\n{GLOBALS}")).disable_help_flag(true).arg(help);
    names.into_iter().fold(command, |command, name| command.mut_subcommand(name, |sub| decorate(sub, &path)))
}

/// Reads a command line.
///
/// # Errors
/// What clap says, with the name that a mistyped verb has here.
pub fn parse<I, T>(args: I) -> Result<Cli, clap::Error>
where
    I: IntoIterator<Item = T>,
    T: Into<std::ffi::OsString>,
{
    let args: Vec<std::ffi::OsString> = args.into_iter().map(Into::into).collect();
    let mut grammar = command();
    if args.iter().any(|arg| arg.to_str().is_some_and(is_hyphened_key)) {
        grammar = hyphens_begin_values(grammar);
    }
    let matches = grammar.try_get_matches_from(args).map_err(explain)?;
    Cli::from_arg_matches(&matches)
}

/// Whether this is a key, an id or a digest that begins with a hyphen, as one of 64 does in base64url.
fn is_hyphened_key(arg: &str) -> bool {
    arg.starts_with('-') && arg.parse::<qb_model::Digest>().is_ok()
}

/// What begins with a hyphen and is no flag is a value. Not the rule for every command line: a mistyped flag is
/// named as that.
fn hyphens_begin_values(command: clap::Command) -> clap::Command {
    let takes =
        |arg: &Arg| matches!(arg.get_action(), ArgAction::Set | ArgAction::Append) && !arg.is_last_set();
    let command = command.mut_args(|arg| if takes(&arg) { arg.allow_hyphen_values(true) } else { arg });
    command.mut_subcommands(hyphens_begin_values)
}

/// What other tools call it, and how it is called here.
const CALLED: [(&str, &str); 9] = [
    ("join", "A node joins by attach: qb cluster attach CLUSTER NODE"),
    ("add", "A machine is let in by authorize: qb node authorize NODE"),
    ("approve", "A machine is let in by authorize: qb node authorize NODE"),
    ("remove", "A node leaves a cluster by detach, a site by revoke"),
    ("leave", "A node leaves a cluster by detach: qb cluster detach CLUSTER NODE"),
    ("get", "Lists are by noun: qb node list, qb cluster list"),
    ("init", "A site is made by create: qb site create NAME"),
    ("cancel", "An intent is withdrawn: qb intent withdraw ID"),
    ("describe", "One thing is shown by show: qb node show NODE"),
];

fn explain(mut error: clap::Error) -> clap::Error {
    if error.kind() == ErrorKind::InvalidSubcommand
        && let Some(ContextValue::String(verb)) = error.get(ContextKind::InvalidSubcommand)
        && let Some((_, text)) = CALLED.iter().find(|(name, _)| name == verb)
    {
        let said = ContextValue::StyledStrs(vec![StyledStr::from((*text).to_owned())]);
        error.insert(ContextKind::Suggested, said);
    }
    error
}
