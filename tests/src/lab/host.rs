//! One host: a machine with systemd as PID 1, its own disk and its own card.

use std::fs::{self, DirBuilder, File};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use serde::Serialize;

use super::place::{MAX_HOST, Place, address};
use super::release::Kind;
use super::{cgroups, net, system, tree};
use crate::command::Ran;
use crate::wait::eventually;

/// How long a command on a host may take where nobody says.
pub const EXEC: Duration = Duration::from_secs(60);
/// How long a host may take to be up: about 2 s alone, more where many boot on two cores.
pub const BOOT: Duration = Duration::from_secs(120);
/// A boot that takes longer is told with what took so long.
const SLOW: Duration = Duration::from_secs(20);
/// How long a host may take to go down by itself: systemd's own patience with a service is 90 s.
pub const OFF: Duration = Duration::from_secs(120);

const BOOT_SCRIPT: &str = include_str!("../../lab/boot.sh");
const INIT_SCRIPT: &str = include_str!("../../lab/init.sh");
const JOIN_SCRIPT: &str = include_str!("../../lab/join.sh");

/// Units that disturb: timers that look for updates where there is no way out, a login on a console that is a
/// pipe, modules of a kernel that is not the host's.
const MASKED: [&str; 4] =
    ["apt-daily.timer", "apt-daily-upgrade.timer", "console-getty.service", "systemd-modules-load.service"];

/// Folders of a node of Kubernetes that lie on this machine's disk itself, since containers have overlays of their
/// own there, and no overlay can lie on an overlay; what each is called beside the overlay's upper layer.
const OWN_DISK: [(&str, &str); 3] =
    [("/var/lib/qb", "qb"), ("/var/lib/kubelet", "kubelet"), ("/var/lib/etcd", "etcd")];
/// Tells `init.sh` to give the host its own copies of switches of the kernel that kubelet sets.
const SWITCHES: &str = "LAB_OWN_SWITCHES";

/// All that a program on a host finds in its environment: as at boot, nothing of the caller's.
const ENVIRONMENT: [&str; 3] =
    ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LANG=C.UTF-8"];

/// How a host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// No process of it runs.
    Off,
    /// It has begun to boot, or has not quite ended.
    Changing,
    /// systemd is its PID 1; its services may still be starting.
    On,
}

/// A host of a laboratory. It may be off, or never have been made.
#[derive(Debug, Clone)]
pub struct Host {
    place: Arc<Place>,
    index: u8,
}

/// A host that was started: its supervisor, a child of this program.
pub(super) struct Starting(Option<JoinHandle<()>>);

impl Host {
    pub(super) fn new(place: &Arc<Place>, index: u8) -> Self {
        Self { place: place.clone(), index }
    }

    /// Its number, from 1.
    pub fn index(&self) -> u8 {
        self.index
    }

    /// Its name on the segment, and what it calls itself.
    pub fn name(&self) -> String {
        format!("h{}", self.index)
    }

    /// Its address.
    pub fn address(&self) -> String {
        address(self.index)
    }

    fn dir(&self) -> PathBuf {
        self.place.host_dir(self.index)
    }

    /// Whether it has a disk.
    pub fn exists(&self) -> bool {
        self.dir().join("host.json").is_file()
    }

    /// What it was made of.
    ///
    /// # Errors
    /// It was never made.
    pub fn kind(&self) -> Result<Kind> {
        let path = self.dir().join("host.json");
        let bytes = match fs::read(&path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                bail!("there is no host {}: qb-lab boot {} --release bookworm", self.index, self.index)
            }
            read => read.with_context(|| format!("cannot read {}", path.display()))?,
        };
        serde_json::from_slice(&bytes).with_context(|| format!("{} is damaged", path.display()))
    }

    /// Gives it an empty disk on a tree of this kind, unless it has a disk.
    pub(super) fn make(&self, kind: &Kind) -> Result<()> {
        ensure!((1..=MAX_HOST).contains(&self.index), "host {}: there are hosts 1 to {MAX_HOST}", self.index);
        if self.exists() {
            return Ok(());
        }
        tree::ensure_tree(&self.place, kind)?;
        let disk = self.dir().join("disk");
        for below in ["upper/etc/systemd/system", "work", "root"] {
            let dir = disk.join(below);
            // 0755, whatever the mask of the caller: it becomes the host's own root folder.
            DirBuilder::new().recursive(true).mode(0o755).create(&dir)?;
        }
        let mut names = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n".to_owned();
        (1..=MAX_HOST).for_each(|i| names += &format!("{} h{i}\n", address(i)));
        fs::write(disk.join("upper/etc/hostname"), format!("{}\n", self.name()))?;
        fs::write(disk.join("upper/etc/hosts"), names)?;
        for unit in MASKED {
            let link = disk.join("upper/etc/systemd/system").join(unit);
            match std::os::unix::fs::symlink("/dev/null", link) {
                // Its maker was killed after this.
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
                made => made.with_context(|| format!("cannot mask {unit}"))?,
            }
        }
        if kind.kubernetes {
            for (_, name) in OWN_DISK {
                DirBuilder::new().recursive(true).mode(0o755).create(disk.join("data").join(name))?;
            }
            let journald = disk.join("upper/etc/systemd/journald.conf.d");
            fs::create_dir_all(&journald)?;
            fs::write(journald.join("lab.conf"), "[Journal]\nReadKMsg=no\n")?;
        }
        // Last: a host with this file is whole.
        let (to, new) = (self.dir().join("host.json"), self.dir().join("host.new"));
        fs::write(&new, serde_json::to_vec(kind)?)?;
        fs::rename(&new, &to).with_context(|| format!("cannot write {}", to.display()))
    }

    /// Its PID 1 as this machine counts, once that is systemd.
    fn leader(&self) -> Result<Option<u32>> {
        let all = cgroups::processes(&self.place.tag, &self.name())?;
        Ok(all.into_iter().find(|pid| is_leader(*pid)))
    }

    /// How it is.
    ///
    /// # Errors
    /// The machine does not tell.
    pub fn state(&self) -> Result<State> {
        Ok(match self.leader()? {
            Some(_) => State::On,
            None if cgroups::processes(&self.place.tag, &self.name())?.is_empty() => State::Off,
            None => State::Changing,
        })
    }

    fn running(&self) -> Result<u32> {
        self.leader()?.with_context(|| format!("host {} is off: qb-lab boot {}", self.index, self.index))
    }

    fn lock(&self) -> Result<File> {
        system::lock(&self.dir().join("lock"))
    }

    /// Switches it on, if it is off, and returns at once.
    pub(super) fn start(&self) -> Result<Starting> {
        let kind = self.kind()?;
        let tree = tree::ensure_tree(&self.place, &kind)?;
        let _alone = self.lock()?;
        if self.state()? != State::Off {
            return Ok(Starting(None));
        }
        self.clear()?;
        net::connect(&self.place, self.index)?;
        let groups = cgroups::make(&self.place.tag, &self.name())?;
        let init = self.script("init.sh", INIT_SCRIPT)?;
        let boot = self.script("boot.sh", BOOT_SCRIPT)?;
        let console = File::create(self.dir().join("console.log")).context("cannot write a console's log")?;
        // A session of its own: it outlives this program, which is what `up` is for. Mounts made from now on
        // stay with it; what is unmounted here (a namespace's name) is unmounted there.
        let mut command = system::program("setsid");
        command.args(["unshare", "--mount", "--propagation", "slave", "sh"]).arg(boot);
        command.arg(self.name()).arg(net::path(&self.place.host_net(self.index))).arg(tree);
        command.arg(self.dir().join("disk")).arg(init).args(groups);
        command.arg("--");
        if kind.kubernetes {
            command.args(self.kubernetes_options());
        }
        let errors = console.try_clone()?;
        command.stdin(Stdio::null()).stdout(console).stderr(errors);
        let mut child = command.spawn().context("cannot start a host's supervisor")?;
        let wait = move || drop(child.wait());
        Ok(Starting(Some(std::thread::spawn(wait))))
    }

    /// What `systemd-nspawn` is told besides for a node of Kubernetes.
    fn kubernetes_options(&self) -> Vec<String> {
        let data = self.dir().join("disk/data");
        let disks = OWN_DISK.map(|(at, name)| format!("--bind={}:{at}", data.join(name).display()));
        // kubelet reads the kernel's messages, which here are the whole machine's.
        let quiet = ["--bind=/dev/null:/dev/kmsg".to_owned(), format!("--setenv={SWITCHES}=1")];
        disks.into_iter().chain(quiet).collect()
    }

    fn script(&self, name: &str, text: &str) -> Result<PathBuf> {
        let path = self.place.dir.join(name);
        // Hosts that run have the old file open: a new one takes its place, never its bytes.
        let new = tempfile::NamedTempFile::new_in(&self.place.dir).context("cannot write a script")?;
        fs::write(new.path(), text)?;
        fs::set_permissions(new.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
        new.persist(&path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// Waits until a host that was started has its PID 1, then until systemd says that all is running.
    pub(super) fn await_boot(&self, starting: &Starting) -> Result<()> {
        let led = eventually(BOOT, &format!("host {} boots", self.index), || {
            let ended = starting.0.as_ref().is_some_and(JoinHandle::is_finished);
            match self.leader()? {
                Some(_) => Ok(Ok(())),
                // Nothing comes any more.
                None if ended => Ok(Err(anyhow!("its supervisor ended: {}", self.console_end()))),
                None => Err(anyhow!("no PID 1 yet: {}", self.console_end())),
            }
        })?;
        led.with_context(|| format!("host {} does not boot", self.index))?;
        self.wait_running()
    }

    /// Waits until systemd says that the host is running: all that starts at boot has started.
    ///
    /// # Errors
    /// It takes too long, or a unit failed; says which.
    pub fn wait_running(&self) -> Result<()> {
        let begun = Instant::now();
        let ended = eventually(BOOT, &format!("host {} is running", self.index), || {
            let said = self.exec(&["systemctl", "is-system-running"])?;
            match said.stdout.trim() {
                "running" => Ok(Ok(())),
                word @ ("degraded" | "maintenance" | "stopping") => Ok(Err(word.to_owned())),
                word => Err(anyhow!("it is {word}{}", said.stderr.trim())),
            }
        })?;
        if begun.elapsed() >= SLOW {
            let blame = self.exec(&["systemd-analyze", "blame", "--no-pager"])?.stdout;
            let slowest = blame.lines().take(5).map(str::trim).collect::<Vec<_>>().join("; ");
            eprintln!("lab: host {} took {} s: {slowest}", self.index, begun.elapsed().as_secs());
        }
        let Err(word) = ended else { return Ok(()) };
        let failed = self.exec(&["systemctl", "--failed", "--no-legend", "--plain"])?;
        bail!("host {} is {word}: {}", self.index, failed.stdout.trim())
    }

    fn enter(&self) -> Result<Command> {
        let pid = self.running()?;
        let join = self.script("join.sh", JOIN_SCRIPT)?;
        let mut command = system::program("sh");
        command.arg(join).args(cgroups::of_process(pid)?).args([
            "--",
            "nsenter",
            "--target",
            &pid.to_string(),
        ]);
        command.args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd", "--"]);
        command.args(["env", "-i"]).args(ENVIRONMENT);
        Ok(command)
    }

    fn feed(&self, args: &[&str], input: &[u8], limit: Duration) -> Result<system::Done> {
        ensure!(!args.is_empty(), "no command for host {}", self.index);
        let mut command = self.enter()?;
        command.args(args);
        let mut done =
            system::run(command, input, limit).with_context(|| format!("on host {}", self.index))?;
        done.line = format!("h{}: {}", self.index, args.join(" "));
        Ok(done)
    }

    /// Runs a command as root to its end, whatever that is.
    ///
    /// # Errors
    /// The host is off, or the command is not done after [`EXEC`].
    pub fn exec(&self, args: &[&str]) -> Result<Ran> {
        self.exec_within(EXEC, args)
    }

    /// The same with another deadline.
    ///
    /// # Errors
    /// The host is off, or the command is not done by then.
    pub fn exec_within(&self, limit: Duration, args: &[&str]) -> Result<Ran> {
        Ok(self.feed(args, b"", limit)?.ran())
    }

    /// Runs a command and expects success.
    ///
    /// # Errors
    /// It failed; says what it printed.
    pub fn ok(&self, args: &[&str]) -> Result<Ran> {
        self.exec(args)?.ended(0)
    }

    /// Runs a script of `sh -e` and expects success.
    ///
    /// # Errors
    /// It failed; says what it printed.
    pub fn shell(&self, script: &str) -> Result<Ran> {
        self.ok(&["sh", "-euc", script])
    }

    /// Runs a command with the caller's own terminal, and gives its exit code.
    ///
    /// # Errors
    /// The host is off.
    pub fn attach(&self, args: &[String]) -> Result<i32> {
        let mut command = self.enter()?;
        // What draws on a terminal needs its name.
        command.args(std::env::var("TERM").map(|term| format!("TERM={term}"))).args(args);
        let status = command.status().context("cannot start a shell")?;
        Ok(status.code().unwrap_or(255))
    }

    /// Writes a file with these bits, its folder too; it replaces one that is there.
    ///
    /// # Errors
    /// The host is off or cannot.
    pub fn write_file(&self, path: &str, bytes: &[u8], mode: u32) -> Result<()> {
        let script = r#"mkdir -p -- "${1%/*}/"; cat >"$1.lab-new"; chmod -- "$2" "$1.lab-new"; mv -T -- "$1.lab-new" "$1""#;
        ensure!(path.starts_with('/'), "{path} is no absolute path");
        self.feed(&["sh", "-euc", script, "sh", path, &format!("{mode:o}")], bytes, EXEC)?.ok()?;
        Ok(())
    }

    /// Puts a file of this machine on the host, with its bits.
    ///
    /// # Errors
    /// It cannot be read here or written there.
    pub fn push(&self, from: &Path, to: &str) -> Result<()> {
        use std::os::unix::fs::PermissionsExt as _;
        let reading = || format!("cannot read {}", from.display());
        let mode = fs::metadata(from).with_context(reading)?.permissions().mode();
        self.write_file(to, &fs::read(from).with_context(reading)?, mode & 0o7777)
    }

    /// The bytes of a file.
    ///
    /// # Errors
    /// The host is off, or has no such file.
    pub fn read_file(&self, path: &str) -> Result<Vec<u8>> {
        Ok(self.feed(&["cat", "--", path], b"", EXEC)?.ok()?.stdout)
    }

    /// Cuts its power: its processes are gone in the middle of what they did. Its disk stays; what was not
    /// synced stays too, since this kernel runs on.
    ///
    /// # Errors
    /// It is not on, or something of it does not go.
    pub fn kill(&self) -> Result<()> {
        let _alone = self.lock()?;
        system::kill(self.running()?);
        self.clear()
    }

    /// Switches it off as its administrator would, with `systemctl poweroff`.
    ///
    /// # Errors
    /// It is not on, or does not go down by itself.
    pub fn power_off(&self) -> Result<()> {
        let _alone = self.lock()?;
        self.running()?;
        let asked = self.exec(&["systemctl", "--no-block", "poweroff"])?;
        eventually(OFF, &format!("host {} goes down", self.index), || {
            ensure!(self.state()? == State::Off, "it runs: {}", asked.stderr.trim());
            Ok(())
        })?;
        self.clear()
    }

    /// Takes its disk away: it is off and was never made.
    ///
    /// # Errors
    /// Something of it does not go.
    pub fn wipe(&self) -> Result<()> {
        {
            let _alone = self.lock()?;
            self.clear()?;
        }
        let dir = self.dir();
        fs::remove_dir_all(&dir).with_context(|| format!("cannot remove {}", dir.display()))
    }

    /// Ends what is left of it and takes its card and control groups away.
    fn clear(&self) -> Result<()> {
        let groups: Vec<_> =
            cgroups::find(&self.place.tag)?.iter().map(|dir| dir.join(self.name())).collect();
        cgroups::remove(&groups)?;
        net::disconnect(&self.place, self.index)
    }

    /// The last lines of what its boot said.
    pub fn console_end(&self) -> String {
        let said = fs::read(self.dir().join("console.log")).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let lines: Vec<_> = said.lines().filter(|line| !line.trim().is_empty()).collect();
        lines[lines.len().saturating_sub(8)..].join("\n")
    }

    /// Waits until a look at the host succeeds; see [`eventually`].
    ///
    /// # Errors
    /// Time is over.
    pub fn eventually<T>(&self, limit: Duration, what: &str, look: impl Fn(&Self) -> Result<T>) -> Result<T> {
        eventually(limit, &format!("host {}: {what}", self.index), || look(self))
    }
}

/// Whether a process is the first of a namespace directly below this one, and systemd by now.
fn is_leader(pid: u32) -> bool {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let status = read("status");
    let inner = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let numbers: Vec<_> = inner.unwrap_or_default().split_whitespace().collect();
    numbers.len() == 2 && numbers[1] == "1" && read("comm").trim() == "systemd"
}
