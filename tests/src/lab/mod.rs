//! A laboratory of hosts on one machine: each has systemd as its PID 1, a disk, a card and an address.
//!
//! ```text
//!   qb-lab (a person)     tests
//!            \             /
//!              mod.rs  Lab                 hosts, the segment, taking it all away
//!             /   |    \
//!      host.rs  net.rs  sweep.rs           one host; the bridge; what is left of a laboratory
//!      disks.rs   |        \
//!        |     faults.rs    \              pure: which frames pass
//!     tree.rs               cgroups.rs     root trees, made once; control groups of hosts
//!        |
//!     release.rs  place.rs  system.rs      pure: what a tree holds, names; programs with a deadline
//! ```
//!
//! Invariants: this machine's own network and mounts are never changed; everything carries the name of its
//! laboratory and can be found by it, so `destroy` needs nothing that its maker remembered; two
//! laboratories share only root trees. `tests/lab/README.md` is for people.

mod cgroups;
mod disks;
mod faults;
mod host;
mod net;
mod place;
mod release;
mod sweep;
pub(crate) mod system;
mod tree;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use rustix::thread::LinkNameSpaceType;

use crate::command::Ran;

pub use faults::{Faults, Loss, Way};
pub use host::{BOOT, EXEC, Host, OFF, State};
pub use place::{CACHE, DEFAULT, DIR, MACHINE, MAX_HOST, NAME, Place, address};
pub use release::{Kind, Release};
pub use system::require;
pub use tree::MIRROR;
pub(crate) use tree::mirror;

/// Variable with which a laboratory of tests stays for a look.
pub const KEEP: &str = "QB_LAB_KEEP";

/// The control group of programs of this machine that run on the segment.
const GUESTS: &str = "guests";

/// A laboratory.
#[derive(Debug)]
pub struct Lab {
    place: Arc<Place>,
    /// Held by a test as long as its laboratory: no second run takes it away.
    own: Option<File>,
}

impl Lab {
    /// The laboratory of this name, which may not be there yet and stays after this program.
    ///
    /// # Errors
    /// The name does not fit, or this machine cannot have a laboratory.
    pub fn open(name: &str) -> Result<Self> {
        let place = Place::of(name)?;
        system::require(&place.runs())?;
        Ok(Self { place: Arc::new(place), own: None })
    }

    /// A new laboratory for a test: what an earlier run left is taken away, and this one when it is dropped,
    /// unless `QB_LAB_KEEP` is set.
    ///
    /// # Errors
    /// Another program has a laboratory of this name, or this machine cannot have one.
    pub fn create(name: &str) -> Result<Self> {
        let place = Place::of(name)?;
        system::require(&place.runs())?;
        let own = system::try_lock(&place.dir.with_extension("lock"))?;
        let own = own.with_context(|| format!("another test runs in the laboratory {name}: wait for it"))?;
        let lab = Self { place: Arc::new(place), own: Some(own) };
        sweep::destroy(&lab.place)?;
        std::fs::create_dir_all(&lab.place.dir)?;
        Ok(lab)
    }

    /// Its names and paths.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// Makes the root trees of these kinds ahead, where they are missing.
    ///
    /// # Errors
    /// See [`Kind`]; a mirror of Debian is needed.
    pub fn prepare<'a>(&self, kinds: impl IntoIterator<Item = &'a Kind>) -> Result<Vec<PathBuf>> {
        kinds.into_iter().map(|kind| tree::ensure_tree(&self.place, kind)).collect()
    }

    /// Makes the segment, if it is not there.
    ///
    /// # Errors
    /// The machine refuses.
    pub fn up(&self) -> Result<()> {
        net::make(&self.place)
    }

    /// One host, made or not.
    pub fn host(&self, index: u8) -> Host {
        Host::new(&self.place, index)
    }

    /// Hosts that have a disk, in order.
    pub fn hosts(&self) -> Vec<Host> {
        (1..=MAX_HOST).map(|i| self.host(i)).filter(Host::exists).collect()
    }

    /// Boots these hosts together and waits until all are running. One without a disk is made of this kind
    /// first; one that has a disk keeps what it is.
    ///
    /// # Errors
    /// One does not boot; says what its console said.
    pub fn boot(&self, hosts: impl IntoIterator<Item = u8>, kind: &Kind) -> Result<Vec<Host>> {
        let hosts: Vec<_> = hosts.into_iter().map(|i| self.host(i)).collect();
        hosts.iter().try_for_each(|host| host.make(kind))?;
        self.start(hosts)
    }

    /// Boots hosts that have a disk, and waits until all are running.
    ///
    /// # Errors
    /// One has no disk, or does not boot.
    pub fn boot_again(&self, hosts: impl IntoIterator<Item = u8>) -> Result<Vec<Host>> {
        self.start(hosts.into_iter().map(|i| self.host(i)).collect())
    }

    fn start(&self, hosts: Vec<Host>) -> Result<Vec<Host>> {
        self.up()?;
        let started = hosts.iter().map(Host::start).collect::<Result<Vec<_>>>()?;
        for (host, starting) in hosts.iter().zip(&started) {
            host.await_boot(starting)?;
        }
        Ok(hosts)
    }

    /// What is wrong with the segment.
    ///
    /// # Errors
    /// The note of it is damaged.
    pub fn faults(&self) -> Result<Faults> {
        net::read(&self.place)
    }

    /// Nothing passes between two hosts (or a host and [`MACHINE`]) from now on, connections that stand included.
    ///
    /// # Errors
    /// The laboratory is not up.
    pub fn cut(&self, one: u8, other: u8) -> Result<()> {
        net::change(&self.place, |faults| faults.cut(one, other, false))
    }

    /// Nothing passes from one to the other; the way back stays open.
    ///
    /// # Errors
    /// The laboratory is not up.
    pub fn cut_one_way(&self, from: u8, to: u8) -> Result<()> {
        net::change(&self.place, |faults| faults.cut(from, to, true))
    }

    /// So many of a thousand frames are lost between two hosts, each way; 0 heals.
    ///
    /// # Errors
    /// The laboratory is not up.
    pub fn loss(&self, one: u8, other: u8, permille: u16) -> Result<()> {
        net::change(&self.place, |faults| faults.lose(one, other, permille, false))
    }

    /// The segment is whole: no cut, no loss, every cable plugged.
    ///
    /// # Errors
    /// The laboratory is not up.
    pub fn heal(&self) -> Result<()> {
        net::change(&self.place, |faults| *faults = Faults::default())
    }

    /// Two hosts are joined again.
    ///
    /// # Errors
    /// The laboratory is not up.
    pub fn heal_between(&self, one: u8, other: u8) -> Result<()> {
        net::change(&self.place, |faults| faults.heal(one, other))
    }

    /// Cuts every other host that there is now off from this one, which stands for what lies beyond the
    /// site's way out. This machine still reaches all of them.
    ///
    /// # Errors
    /// The laboratory is not up.
    pub fn wan_off(&self, beyond: u8) -> Result<()> {
        let others = self.others(beyond);
        net::change(&self.place, |faults| others.iter().for_each(|i| faults.cut(*i, beyond, false)))
    }

    /// Undoes [`Self::wan_off`].
    ///
    /// # Errors
    /// The laboratory is not up.
    pub fn wan_on(&self, beyond: u8) -> Result<()> {
        let others = self.others(beyond);
        net::change(&self.place, |faults| others.iter().for_each(|i| faults.heal(*i, beyond)))
    }

    fn others(&self, than: u8) -> Vec<u8> {
        self.hosts().iter().map(Host::index).filter(|i| *i != than).collect()
    }

    /// Pulls a host's cable: its card has no carrier, across reboots too.
    ///
    /// # Errors
    /// The laboratory is not up.
    pub fn unplug(&self, host: u8) -> Result<()> {
        net::change(&self.place, |faults| faults.unplug(host, true))
    }

    /// Plugs it in again.
    ///
    /// # Errors
    /// The laboratory is not up.
    pub fn plug(&self, host: u8) -> Result<()> {
        net::change(&self.place, |faults| faults.unplug(host, false))
    }

    /// A program of this machine that will run on the segment, with the address 10.77.0.254 and the caller's
    /// environment. It ends with the laboratory.
    ///
    /// # Errors
    /// The laboratory is not up.
    pub fn net_command(&self, program: &Path) -> Result<Command> {
        self.ensure_up()?;
        let script = r#"while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs"; shift; done; shift; exec "$@""#;
        let mut command = Command::new("/bin/sh");
        command.args(["-euc", script, "sh"]).args(cgroups::make(&self.place.tag, GUESTS)?);
        command.args(["--", "/usr/bin/nsenter", &net::within(&self.place.net()), "--"]).arg(program);
        Ok(command)
    }

    /// Runs a program of this machine on the segment to its end, whatever that is.
    ///
    /// # Errors
    /// The laboratory is not up, or the program is not done by then.
    pub fn run_in_net(&self, program: &Path, args: &[&str], limit: Duration) -> Result<Ran> {
        let mut command = self.net_command(program)?;
        command.args(args);
        let mut done = system::run(command, b"", limit)?;
        done.line = format!("{} {}", program.display(), args.join(" "));
        Ok(done.ran())
    }

    /// Does something on a thread whose sockets, and whose children's, are on the segment: so that a client
    /// library or a browser's driver that a test uses reaches the hosts, and each other on 127.0.0.1.
    ///
    /// # Errors
    /// The laboratory is not up, or what was done fails.
    pub fn in_net<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        self.ensure_up()?;
        let path = net::path(&self.place.net());
        let net = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let body = move || {
            use std::os::fd::AsFd as _;
            rustix::thread::move_into_link_name_space(net.as_fd(), Some(LinkNameSpaceType::Network))
                .context("cannot enter the laboratory's network")?;
            work()
        };
        std::thread::scope(|scope| {
            scope.spawn(body).join().unwrap_or_else(|why| std::panic::resume_unwind(why))
        })
    }

    fn ensure_up(&self) -> Result<()> {
        let there = net::path(&self.place.net()).exists();
        ensure!(there, "the laboratory {} is not up: qb-lab up", self.place.name);
        Ok(())
    }

    /// The end of every host's journal, for the message of a test that failed.
    pub fn journals(&self, lines: u32) -> String {
        let lines = lines.to_string();
        let one = |host: &Host| {
            let said = host.exec(&["journalctl", "--no-pager", "-o", "short-precise", "-n", &lines]);
            let text = said.map_or_else(|e| format!("{e:#}"), |ran| ran.stdout);
            format!("--- {}\n{text}", host.name())
        };
        self.hosts().iter().map(one).collect()
    }

    /// What this machine has of the laboratory besides its directory: nothing, once it is destroyed.
    ///
    /// # Errors
    /// The machine does not tell.
    pub fn leftovers(&self) -> Result<Vec<String>> {
        sweep::leftovers(&self.place)
    }

    /// Takes everything away: hosts and their disks, the segment, programs on it. Root trees stay.
    ///
    /// # Errors
    /// Something does not go; says what.
    pub fn destroy(&self) -> Result<()> {
        sweep::destroy(&self.place)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.own.is_none() {
            return;
        }
        if std::env::var_os(KEEP).is_some_and(|keep| !keep.is_empty()) {
            eprintln!(
                "lab: {} stays: {NAME}={} qb-lab status, then destroy",
                self.place.name, self.place.name
            );
        } else if let Err(e) = self.destroy() {
            eprintln!("lab: {e:#}");
        }
    }
}

/// The rule that a number names a host or this machine.
///
/// # Errors
/// It names neither.
pub fn place_number(text: &str) -> Result<u8> {
    let number: u8 = text.parse().map_err(|_| anyhow!("{text:?} is no number of a host"))?;
    ensure!(
        (1..=MAX_HOST).contains(&number) || number == MACHINE,
        "{number}: hosts are 1 to {MAX_HOST}, this machine is {MACHINE}"
    );
    Ok(number)
}
