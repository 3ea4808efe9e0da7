//! The agent as a service: what it tells its manager, and what it says when its machine is not as it
//! should be. One agent at a time, on addresses of its own; nothing of systemd is needed.

use std::io::Read as _;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use qb_tests::binaries::Binaries;
use qb_tests::site::{Layout, Site};
use qb_tests::wait::eventually;
use rustix::process::{Pid, Signal, kill_process};

use super::SOON;

/// A machine for one agent: enrolment files of two sites, a manager's socket, a runtime directory.
struct Machine {
    dir: PathBuf,
    /// Its agent's address.
    address: Ipv4Addr,
    manager: UnixDatagram,
    _dir: tempfile::TempDir,
}

/// An agent that runs; killed when dropped.
struct Running {
    child: Child,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).context("its number")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Waits for its end; whether it succeeded, and what it wrote.
    fn end(mut self) -> Result<(bool, String)> {
        let mut text = String::new();
        eventually(SOON, "the agent ends", || {
            ensure!(self.child.try_wait()?.is_some(), "it runs");
            Ok(())
        })?;
        self.child.stderr.take().context("its output")?.read_to_string(&mut text)?;
        let ended = self.child.wait()?;
        ensure!(!text.contains("panicked"), "{text}");
        Ok((ended.success(), text))
    }
}

impl Machine {
    fn new(net: u8) -> Result<Self> {
        let kept = tempfile::Builder::new().prefix("qb").tempdir()?;
        for name in ["lyon", "nice"] {
            let layout = Layout { dir: kept.path().join(name), name: name.into(), net: [127, 0, net] };
            Site::open(&layout, &Binaries::find()?)?.create()?;
        }
        let dir = kept.path().to_owned();
        std::fs::create_dir(dir.join("run"))?;
        let manager = UnixDatagram::bind(dir.join("notify"))?;
        manager.set_read_timeout(Some(SOON))?;
        Ok(Self { dir, address: Ipv4Addr::new(127, 0, net, 11), manager, _dir: kept })
    }

    fn enrolment(&self, site: &str) -> PathBuf {
        self.dir.join(site).join("site.enroll.json")
    }

    fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    fn command(&self, verb: &str, enrolment: &Path) -> Result<Command> {
        let mut command = Command::new(Binaries::find()?.agent);
        command
            .arg(verb)
            .args(["--host-name", "n1"])
            .arg("--enroll")
            .arg(enrolment)
            .arg("--state")
            .arg(self.state());
        Ok(command)
    }

    fn start(&self, enrolment: &Path, more: &[&str]) -> Result<Running> {
        let mut command = self.command("run", enrolment)?;
        command
            .args(["--address", &self.address.to_string()])
            .args(more)
            .stdin(Stdio::null())
            .stderr(Stdio::piped());
        command.env("NOTIFY_SOCKET", self.dir.join("notify")).env("WATCHDOG_USEC", "400000");
        command.env("RUNTIME_DIRECTORY", self.dir.join("run"));
        Ok(Running { child: command.spawn()? })
    }

    /// What the manager is told next that holds `part`.
    fn told(&self, part: &str) -> Result<String> {
        let mut bytes = [0u8; 4096];
        for _ in 0..1_000 {
            let size = self.manager.recv(&mut bytes).with_context(|| format!("it never says {part:?}"))?;
            let text = String::from_utf8_lossy(&bytes[..size]).into_owned();
            if text.contains(part) {
                return Ok(text);
            }
        }
        anyhow::bail!("it says much, and never {part:?}")
    }

    /// Starts it, and it must end with these words.
    fn refused(&self, enrolment: &Path, more: &[&str], words: &[&str]) -> Result<()> {
        let (well, text) = self.start(enrolment, more)?.end()?;
        ensure!(!well, "it went on: {text}");
        for word in words {
            ensure!(text.contains(word), "{word:?} is missing in: {text}");
        }
        Ok(())
    }
}

#[test]
fn a_manager_is_told_how_the_agent_is() {
    lives().expect("it tells");
}

fn lives() -> Result<()> {
    let machine = Machine::new(36)?;
    let lyon = machine.enrolment("lyon");
    let agent = machine.start(&lyon, &[])?;
    let ready = machine.told("READY=1")?;
    ensure!(ready.contains("STATUS=waiting to be authorized by site lyon: qb node authorize n1"), "{ready}");
    // The socket is there when it says so, for its group too.
    let socket = machine.dir.join("run/agent.sock");
    ensure!(std::fs::metadata(&socket)?.permissions().mode() & 0o777 == 0o660);
    ensure!(qb_tests::http::get::<serde_json::Value>(&socket, "/v1/sites").is_ok());
    let issue = std::fs::read_to_string(machine.dir.join("run/issue"))?;
    let words = ready.rsplit(": ").next().unwrap_or_default().trim();
    ensure!(words.split(' ').count() == 6 && issue.contains(words), "{words:?} on the console: {issue}");
    for _ in 0..3 {
        machine.told("WATCHDOG=1")?;
    }
    let id = machine.command("id", &lyon)?.output()?;
    ensure!(String::from_utf8_lossy(&id.stdout).contains(words), "{id:?}");

    // One that hangs says no more that it lives.
    agent.signal(Signal::STOP)?;
    machine.manager.set_read_timeout(Some(Duration::from_secs(1)))?;
    let mut bytes = [0u8; 4096];
    while machine.manager.recv(&mut bytes).is_ok() {}
    machine.manager.set_read_timeout(Some(SOON))?;
    agent.signal(Signal::CONT)?;
    machine.told("WATCHDOG=1")?;

    agent.signal(Signal::TERM)?;
    machine.told("STOPPING=1")?;
    let (well, text) = agent.end()?;
    ensure!(well, "{text}");
    ensure!(text.contains("node ") && text.contains(words), "the journal has the words: {text}");
    Ok(())
}

#[test]
fn a_package_of_another_site_changes_nothing() {
    stays().expect("the node stays where it belongs");
}

fn stays() -> Result<()> {
    let machine = Machine::new(37)?;
    let [lyon, nice] = ["lyon", "nice"].map(|site| machine.enrolment(site));
    let broken = machine.dir.join("broken.json");
    std::fs::write(&broken, "{\"v\": 1,")?;
    machine.refused(&broken, &[], &["broken.json is not valid", "get it again"])?;
    for (file, said) in [
        (&lyon, "waiting to be authorized by site lyon"),
        (&nice, "names site nice ("),
        (&broken, "goes on with its copy, of site lyon ("),
        (&machine.dir.join("none"), "goes on with its copy, of site lyon ("),
    ] {
        let agent = machine.start(file, &[])?;
        let ready = machine.told("READY=1")?;
        ensure!(ready.contains(said) && ready.contains("authorized by site lyon"), "{ready}");
        if *file == nice {
            ensure!(ready.contains("nothing changed") && ready.contains("qb-agent reset"), "{ready}");
            let id = String::from_utf8(machine.command("id", file)?.output()?.stdout)?;
            ensure!(id.contains("names site nice ("), "{id}");
            let refused = Command::new(Binaries::find()?.agent)
                .arg("enroll")
                .args([file, Path::new("--into"), &machine.dir.join("etc/site.enroll.json")])
                .arg("--state")
                .arg(machine.state())
                .output()?;
            ensure!(!refused.status.success() && !machine.dir.join("etc").exists(), "{refused:?}");
            // A machine moves by being reset, and not while its agent runs.
            let reset = || -> Result<String> {
                let exec = machine.dir.join("exec");
                let mut command = machine.command("reset", file)?;
                let output = command.arg("--yes").arg("--exec-state").arg(exec).output()?;
                Ok(String::from_utf8([output.stdout, output.stderr].concat())?)
            };
            ensure!(reset()?.contains(&format!("(process {})", agent.child.id())), "it says who runs");
        }
        agent.signal(Signal::TERM)?;
        ensure!(agent.end()?.0);
    }
    let reset = machine
        .command("reset", &nice)?
        .arg("--yes")
        .arg("--exec-state")
        .arg(machine.dir.join("exec"))
        .output()?;
    ensure!(reset.status.success(), "{reset:?}");
    let agent = machine.start(&nice, &[])?;
    ensure!(machine.told("READY=1")?.contains("authorized by site nice"));
    agent.signal(Signal::TERM)?;
    ensure!(agent.end()?.0);
    Ok(())
}

#[test]
fn a_machine_that_is_not_as_it_should_be_is_told() {
    refuses().expect("it says what is wrong");
}

fn refuses() -> Result<()> {
    let machine = Machine::new(38)?;
    let lyon = machine.enrolment("lyon");
    let config = machine.dir.join("agent.toml");
    let shown = config.display().to_string();
    let with = |text: &str| std::fs::write(&config, text);
    let options = ["--config", shown.as_str()];
    with("zone = \"r1\"\nadress = \"127.0.42.11\"\n")?;
    machine.refused(
        &lyon,
        &options,
        &["agent.toml line 2: adress = ", "unknown field `adress`", "--help"],
    )?;
    machine.refused(&lyon, &["--config", "/nowhere.toml"], &["there is no file /nowhere.toml"])?;
    ensure!(!machine.state().exists(), "nothing was made");

    let taken = std::net::TcpListener::bind((machine.address, 8443))?;
    let me = format!("(process {})", std::process::id());
    machine.refused(&lyon, &[], &["port 127.0.38.11:8443 is taken by", &me, "api_port", "--api-port"])?;
    drop(taken);
    // The file's port counts, and the state's secrets must be its own.
    with("api_port = 18443\n")?;
    let agent = machine.start(&lyon, &options)?;
    machine.told("READY=1")?;
    std::net::TcpStream::connect((machine.address, 18443))?;
    let pid = format!("(process {})", agent.child.id());
    machine.refused(&lyon, &[], &["another agent uses", &pid, "--state"])?;
    drop(agent);
    let key = machine.state().join("identity/seal.key");
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o640))?;
    machine.refused(&lyon, &[], &["seal.key has mode 640", "chmod 0600"])?;
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600))?;

    // By now it ended unasked three times, and began again: the next start waits a moment and says so.
    for _ in 0..3 {
        let agent = machine.start(&lyon, &[])?;
        machine.told("READY=1")?;
        drop(agent);
    }
    let agent = machine.start(&lyon, &[])?;
    let waits = machine.told("before it starts")?;
    ensure!(waits.contains("ended unasked and started again"), "{waits}");
    machine.told("READY=1")?;
    let socket = machine.dir.join("run/agent.sock");
    ensure!(socket.exists());
    agent.signal(Signal::TERM)?;
    ensure!(agent.end()?.0);
    Ok(())
}
