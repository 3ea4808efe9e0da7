//! `qb-lab`: a laboratory of hosts, by hand.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use clap::{Args, Parser, Subcommand, ValueEnum};
use qb_tests::kubernetes;
use qb_tests::lab::{self, Kind, Lab, MACHINE, Place, Release, State};
use serde_json::{Value, json};

/// A laboratory of hosts on this machine: systemd as PID 1, own disk, own card, one segment
///
/// Host I is called hI and has the address 10.77.0.I; this machine is 10.77.0.254 there. Nothing outside the
/// laboratory's own namespaces is changed, and `destroy` leaves nothing. Needs root and `.ci/setup lab`.
#[derive(Parser)]
#[command(name = "qb-lab", version, after_help = EXAMPLES)]
struct Options {
    /// Which laboratory; several may be up side by side
    #[arg(long = "lab", global = true, value_name = "NAME", env = lab::NAME)]
    name: Option<String>,
    #[command(subcommand)]
    verb: Verb,
}

const EXAMPLES: &str = "\
Examples:
  qb-lab up -n 5                               five hosts of Debian 12 (90 s the first time, then 5 s)
  qb-lab boot 6 --release bullseye             one more, of Debian 11
  qb-lab push 1 target/qb-agent.deb /root/     a file onto a host
  qb-lab exec 1 -- apt-get install -y /root/qb-agent.deb
  qb-lab sh 1                                  a shell on it
  qb-lab net -- curl -sk https://10.77.0.1     a program of this machine, on the hosts' network
  qb-lab cut 1 2; qb-lab heal                  a fault, and its end
  qb-lab kill 3; qb-lab boot 3                 a power cut; it comes back with its disk
  qb-lab wan off --beyond 1                    nobody reaches host 1, where the relay is
  qb-lab destroy

Environment:
  QB_LAB         name of the laboratory (else: lab)
  QB_LAB_DIR     where laboratories keep disks (else: target/lab)
  QB_LAB_CACHE   where root trees are kept (else: target/lab/cache), about 300 MB each
  QB_LAB_MIRROR  mirror of Debian (else: the one that apt uses here)
  QB_LAB_KEEP    with any value, laboratories of tests stay for a look";

#[derive(Subcommand)]
enum Verb {
    /// Makes and boots hosts 1 to N, those that are not up already
    Up {
        /// How many
        #[arg(short = 'n', default_value_t = 3, value_parser = clap::value_parser!(u8).range(1..=i64::from(lab::MAX_HOST)))]
        hosts: u8,
        #[command(flatten)]
        made: Made,
    },
    /// Boots hosts with the disks that they have; one without is made
    Boot {
        /// Numbers of hosts
        #[arg(required = true, value_name = "I", value_parser = host)]
        hosts: Vec<u8>,
        #[command(flatten)]
        made: Made,
    },
    /// Runs a command on a host as root, with this terminal, and ends with its code
    Exec {
        /// Number of the host
        #[arg(value_name = "I", value_parser = host)]
        host: u8,
        /// The command
        #[arg(last = true, required = true, value_name = "CMD")]
        command: Vec<String>,
    },
    /// A shell on a host
    Sh {
        /// Number of the host
        #[arg(value_name = "I", value_parser = host)]
        host: u8,
    },
    /// Runs a program of this machine on the hosts' network, with the address 10.77.0.254
    Net {
        /// The program
        #[arg(last = true, required = true, value_name = "CMD")]
        command: Vec<String>,
    },
    /// Hosts and what is wrong between them
    Status {
        /// How to print it
        #[arg(short, long, default_value = "table")]
        output: Output,
    },
    /// Lets nothing pass between two hosts (254: this machine), connections that stand included
    Cut {
        #[command(flatten)]
        pair: Pair,
        /// Only from the first to the second
        #[arg(long)]
        one_way: bool,
    },
    /// Loses so many of a thousand frames between two hosts, each way; 0 ends it
    Loss {
        #[command(flatten)]
        pair: Pair,
        /// How many of a thousand
        #[arg(value_parser = clap::value_parser!(u16).range(0..=1000))]
        permille: u16,
    },
    /// Ends every fault of the segment, or those between two hosts
    Heal {
        /// The two, or nobody
        #[arg(value_name = "I", num_args = 2, value_parser = place)]
        pair: Vec<u8>,
    },
    /// Cuts all hosts off from one that stands for what is beyond the site's way out, or ends that
    Wan {
        /// Whether they reach it
        state: Switch,
        /// The host beyond
        #[arg(long, default_value_t = 1, value_name = "I", value_parser = host)]
        beyond: u8,
    },
    /// Pulls a host's cable
    Unplug {
        /// Number of the host
        #[arg(value_name = "I", value_parser = host)]
        host: u8,
    },
    /// Plugs it in again
    Plug {
        /// Number of the host
        #[arg(value_name = "I", value_parser = host)]
        host: u8,
    },
    /// Cuts a host's power: SIGKILL of its PID 1; the disk stays
    Kill {
        /// Number of the host
        #[arg(value_name = "I", value_parser = host)]
        host: u8,
    },
    /// Switches a host off cleanly; the disk stays
    PowerOff {
        /// Number of the host
        #[arg(value_name = "I", value_parser = host)]
        host: u8,
    },
    /// Takes a host's disk away, whatever it does
    Wipe {
        /// Number of the host
        #[arg(value_name = "I", value_parser = host)]
        host: u8,
    },
    /// Copies a file of this machine onto a host; a folder as DEST ends with /
    Push {
        /// Number of the host
        #[arg(value_name = "I", value_parser = host)]
        host: u8,
        /// The file
        file: PathBuf,
        /// Its path there
        dest: String,
    },
    /// Makes root trees ahead, which the first `up` would wait for
    Prepare {
        /// Releases
        #[arg(default_value = "bookworm")]
        releases: Vec<Release>,
        /// More packages in each, divided by commas
        #[arg(long, value_delimiter = ',')]
        include: Vec<String>,
    },
    /// Makes the folder that a bundle of Kubernetes is made from, and prints where it is; ten minutes the first time
    Kubernetes {
        /// Version
        #[arg(long, default_value = "v1.20.2")]
        version: kubernetes::Version,
    },
    /// What the machine has of the laboratory, one thing a line; fails if there is anything
    Leftovers,
    /// Takes hosts, their disks and the segment away; root trees stay
    Destroy,
}

/// What a host is made of, if it has no disk yet.
#[derive(Args)]
struct Made {
    /// Release of Debian, for hosts without a disk
    #[arg(long, default_value = "bookworm")]
    release: Release,
    /// More packages of Debian's, divided by commas; hosts themselves reach no mirror
    #[arg(long, value_delimiter = ',')]
    include: Vec<String>,
    /// Hosts that can be nodes of Kubernetes
    #[arg(long)]
    kubernetes: bool,
}

impl Made {
    fn kind(self) -> Kind {
        Kind { kubernetes: self.kubernetes, ..Kind::of(self.release).with(self.include) }
    }
}

#[derive(Args)]
struct Pair {
    /// One
    #[arg(value_name = "I", value_parser = place)]
    one: u8,
    /// The other
    #[arg(value_name = "J", value_parser = place)]
    other: u8,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Table,
    Json,
}

#[derive(Clone, Copy, ValueEnum)]
enum Switch {
    On,
    Off,
}

fn host(text: &str) -> Result<u8> {
    let number = lab::place_number(text)?;
    ensure!(number != MACHINE, "{number} is this machine, no host");
    Ok(number)
}

fn place(text: &str) -> Result<u8> {
    lab::place_number(text)
}

fn main() -> ExitCode {
    let options = Options::parse();
    match qb_tests::signals::listen().and_then(|()| run(options)) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("qb-lab: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<ExitCode> {
    let name = options.name.map_or_else(Place::name, Ok)?;
    let lab = Lab::open(&name)?;
    match options.verb {
        Verb::Up { hosts, made } => {
            lab.boot(1..=hosts, &made.kind())?;
            print_table(&status(&lab)?);
        }
        Verb::Boot { hosts, made } => drop(lab.boot(hosts, &made.kind())?),
        Verb::Exec { host, command } => return code(lab.host(host).attach(&command)?),
        Verb::Sh { host } => return code(lab.host(host).attach(&["bash".to_owned(), "-l".to_owned()])?),
        Verb::Net { command } => {
            let (program, args) = command.split_first().context("no program")?;
            let ended = lab.net_command(program.as_ref())?.args(args).status();
            return code(ended.context("cannot start a program on the segment")?.code().unwrap_or(255));
        }
        Verb::Status { output: Output::Json } => println!("{:#}", status(&lab)?),
        Verb::Status { output: Output::Table } => print_table(&status(&lab)?),
        Verb::Cut { pair, one_way: true } => lab.cut_one_way(pair.one, pair.other)?,
        Verb::Cut { pair, one_way: false } => lab.cut(pair.one, pair.other)?,
        Verb::Loss { pair, permille } => lab.loss(pair.one, pair.other, permille)?,
        Verb::Heal { pair } => match pair[..] {
            [one, other] => lab.heal_between(one, other)?,
            _ => lab.heal()?,
        },
        Verb::Wan { state: Switch::Off, beyond } => lab.wan_off(beyond)?,
        Verb::Wan { state: Switch::On, beyond } => lab.wan_on(beyond)?,
        Verb::Unplug { host } => lab.unplug(host)?,
        Verb::Plug { host } => lab.plug(host)?,
        Verb::Kill { host } => lab.host(host).kill()?,
        Verb::PowerOff { host } => lab.host(host).power_off()?,
        Verb::Wipe { host } => lab.host(host).wipe()?,
        Verb::Push { host, file, mut dest } => {
            if dest.ends_with('/') {
                dest += &file.file_name().context("the file has no name")?.to_string_lossy();
            }
            lab.host(host).push(&file, &dest)?;
        }
        Verb::Prepare { releases, include } => {
            let kinds: Vec<_> = releases.into_iter().map(|r| Kind::of(r).with(include.clone())).collect();
            lab.prepare(&kinds)?.iter().for_each(|tree| println!("{}", tree.display()));
        }
        Verb::Kubernetes { version } => {
            println!("{}", kubernetes::ensure_folder(&lab, version)?.display());
        }
        Verb::Leftovers => {
            let left = lab.leftovers()?;
            left.iter().for_each(|line| println!("{line}"));
            return Ok(if left.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Verb::Destroy => lab.destroy()?,
    }
    Ok(ExitCode::SUCCESS)
}

fn code(code: i32) -> Result<ExitCode> {
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}

fn status(lab: &Lab) -> Result<Value> {
    let mut hosts = Vec::new();
    for host in lab.hosts() {
        let state = host.state()?;
        let system = match state {
            // A host that goes down at this moment says nothing.
            State::On => {
                host.exec(&["systemctl", "is-system-running"]).map_or(String::new(), |ran| ran.stdout)
            }
            _ => String::new(),
        };
        let kind = host.kind()?;
        hosts.push(json!({
            "index": host.index(),
            "name": host.name(),
            "address": host.address(),
            "release": kind.release,
            "include": kind.include,
            "state": state,
            "system": system.trim(),
        }));
    }
    let place = lab.place();
    Ok(
        json!({ "lab": place.name, "dir": place.dir, "namespace": place.net(), "hosts": hosts, "faults": lab.faults()? }),
    )
}

fn print_table(status: &Value) {
    let none = Vec::new();
    let list = |value: &Value, name: &str| value[name].as_array().unwrap_or(&none).clone();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let hosts = list(status, "hosts");
    if hosts.is_empty() {
        println!("no hosts: qb-lab up");
        return;
    }
    println!("{:<5} {:<12} {:<9} {:<9} SYSTEM", "HOST", "ADDRESS", "RELEASE", "STATE");
    for host in hosts {
        let [name, address, release, state, system] =
            ["name", "address", "release", "state", "system"].map(|field| text(&host[field]));
        println!("{name:<5} {address:<12} {release:<9} {state:<9} {system}");
    }
    let faults = &status["faults"];
    for way in list(faults, "cut") {
        println!("cut: {} to {}", way[0], way[1]);
    }
    for loss in list(faults, "loss") {
        println!("loss: {} to {}, {} of 1000", loss["from"], loss["to"], loss["permille"]);
    }
    for host in list(faults, "unplugged") {
        println!("unplugged: {host}");
    }
}
