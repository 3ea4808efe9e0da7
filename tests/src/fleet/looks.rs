//! What a person at a host looks at.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};

use super::SOON;
use crate::command::Ran;
use crate::lab::Host;

/// The unit of the agent.
pub const AGENT: &str = "qb-agent.service";
/// The unit of the executor.
pub const EXEC: &str = "qb-exec.service";
/// The unit of the relay.
pub const RELAY: &str = "qb-relay.service";

/// What `qb-agent id` shows of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Id {
    /// The whole fingerprint.
    pub fingerprint: String,
    /// Six words.
    pub words: String,
}

impl Host {
    /// apt's answer to something, without a question.
    ///
    /// # Errors
    /// The host is off.
    pub fn apt(&self, args: &[&str]) -> Result<Ran> {
        let apt = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-y", "-q", "-o", "Dpkg::Use-Pty=0"];
        self.exec(&[&apt[..], args].concat())
    }

    /// Installs a package as an administrator does.
    ///
    /// # Errors
    /// apt refuses; says what it said.
    pub fn apt_install(&self, deb: &str) -> Result<()> {
        self.apt(&["install", "--allow-downgrades", deb])?.ended(0).map(drop)
    }

    /// Waits until a unit is active.
    ///
    /// # Errors
    /// It is not; says what systemd says of it.
    pub fn is_active(&self, unit: &str) -> Result<()> {
        self.eventually(SOON, &format!("{unit} is active"), |host| {
            let ran = host.exec(&["systemctl", "is-active", unit])?;
            if ran.stdout.trim() == "active" {
                return Ok(());
            }
            let status = host.exec(&["systemctl", "status", "--no-pager", "-n", "5", unit])?;
            anyhow::bail!("it is {}: {}", ran.stdout.trim(), status.stdout)
        })
    }

    /// A property of a unit.
    ///
    /// # Errors
    /// The host is off.
    pub fn property(&self, unit: &str, name: &str) -> Result<String> {
        let ran = self.ok(&["systemctl", "show", "--property", name, "--value", unit])?;
        Ok(ran.stdout.trim().to_owned())
    }

    /// What a unit has said since the host booted.
    ///
    /// # Errors
    /// The host is off.
    pub fn journal(&self, unit: &str) -> Result<String> {
        Ok(self.ok(&["journalctl", "--no-pager", "-b", "-o", "short-precise", "-u", unit])?.stdout)
    }

    /// What `qb-agent id` shows, once the node has keys.
    ///
    /// # Errors
    /// It shows none.
    pub fn id(&self) -> Result<Id> {
        self.eventually(SOON, "it has keys", |host| {
            let said = host.ok(&["qb-agent", "id"])?.stdout;
            let mut lines = said.lines().skip_while(|line| !line.starts_with("node "));
            let fingerprint = lines.next().and_then(|line| line.rsplit("  ").next());
            let fingerprint =
                fingerprint.with_context(|| format!("no fingerprint: {said}"))?.trim().to_owned();
            let words = lines.next().unwrap_or_default().trim().to_owned();
            ensure!(words.split(' ').count() == 6, "no words: {said}");
            Ok(Id { fingerprint, words })
        })
    }

    /// The main processes of the units of clusters, by the unit's name.
    ///
    /// # Errors
    /// The host is off.
    pub fn workloads(&self) -> Result<BTreeMap<String, u32>> {
        let script = r#"systemctl list-units --plain --no-legend --type=service --state=active 'qb-*' | while read -r unit _; do
            [ "$(systemctl show -p Slice --value "$unit")" = qb-workloads.slice ] || continue
            echo "$unit $(systemctl show -p MainPID --value "$unit")"; done"#;
        let said = self.shell(script)?.stdout;
        let one = |line: &str| {
            let (unit, pid) = line.split_once(' ')?;
            Some((unit.to_owned(), pid.parse().ok()?))
        };
        Ok(said.lines().filter_map(one).collect())
    }

    /// What has `qb` in its name on the disk, of users, units and sockets.
    ///
    /// # Errors
    /// The host is off.
    pub fn leftovers(&self) -> Result<Vec<String>> {
        // What apt and dpkg keep of every package that was ever there, and the journal, are not qb's.
        let script = r#"
            find / -xdev \( -path /proc -o -path /sys -o -path /root -o -path /var/log -o -path /var/cache/apt \) -prune \
                -o -iname '*qb*' -print
            find /run /var/lib /etc -xdev -iname '*qb*'
            getent passwd qb || true; getent group qb || true
            systemctl list-units --all --plain --no-legend 'qb*'
            ss -lxH | grep -i qb || true"#;
        let said = self.shell(script)?.stdout;
        Ok(said.lines().map(str::to_owned).filter(|line| !line.trim().is_empty()).collect())
    }
}
