//! What administrators do on hosts: installing the relay and nodes.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::{Fleet, LATE, RELAY, SOON};
use crate::lab::{Host, Kind};

/// Where a host has the certificates of its administrators.
const TRUSTED: &str = "/usr/local/share/ca-certificates/fleet.crt";

impl Fleet {
    /// Installs the relay, gives it its certificate and address, and returns its key.
    pub(super) fn install_relay(&self, host: &Host) -> Result<String> {
        let issued = self.issuer.issue(&[host.address()])?;
        host.push(&self.packages.deb("qb-relay")?, "/root/qb-relay.deb")?;
        host.apt_install("/root/qb-relay.deb")?;
        host.write_file("/etc/qb/relay.crt", issued.certificate.as_bytes(), 0o644)?;
        host.write_file("/etc/qb/relay.key", issued.key.as_bytes(), 0o600)?;
        host.ok(&["chown", "qb-relay:", "/etc/qb/relay.key"])?;
        let config = format!(
            "listen = \"0.0.0.0:443\"\nurl = \"https://{}\"\ntls_certificate = \"/etc/qb/relay.crt\"\n\
             tls_key = \"/etc/qb/relay.key\"\nopen_registration = true\n",
            host.address()
        );
        host.write_file("/etc/qb/relay.toml", config.as_bytes(), 0o644)?;
        host.ok(&["systemctl", "restart", RELAY])?;
        host.is_active(RELAY)?;
        host.eventually(SOON, "the relay tells its key", |host| {
            let said = host.journal(RELAY)?;
            let key = said.rsplit_once("trust it by its key ");
            let key = key.and_then(|(_, rest)| rest.split_whitespace().next());
            Ok(key.context("no key in the journal")?.to_owned())
        })
    }

    /// Boots hosts that trust the company's issuer, as its administrators make them.
    ///
    /// # Errors
    /// They do not boot.
    pub fn machines(&self, hosts: impl IntoIterator<Item = u8>, kind: &Kind) -> Result<Vec<Host>> {
        let hosts = self.lab.boot(hosts, kind)?;
        for host in &hosts {
            host.write_file(TRUSTED, self.issuer.pem().as_bytes(), 0o644)?;
            host.ok(&["update-ca-certificates"])?;
            host.write_file("/etc/qb/agent.toml", b"relay_outer_tls = \"system\"\n", 0o644)?;
        }
        Ok(hosts)
    }

    /// The line that installs a node, verified against the vendor's packages on the admin's computer.
    ///
    /// # Errors
    /// `qb` refuses.
    pub fn install_line(&self) -> Result<String> {
        let [deb, rpm] = [self.packages.deb("qb-agent")?, self.packages.rpm("qb-agent")?];
        let (deb, rpm) = (deb.display().to_string(), rpm.display().to_string());
        let ran = self.run(&["package", "line", "--vendor", &deb, "--vendor", &rpm])?.ended(0)?;
        let line = ran.stdout.trim().to_owned();
        ensure!(line.lines().count() == 1 && line.contains(&self.url()), "no line: {}", ran.stdout);
        Ok(line)
    }

    /// Runs the line that installs a node on these hosts, at the same time.
    ///
    /// # Errors
    /// It fails on one; says what it said there.
    pub fn install_by_line(&self, hosts: &[Host]) -> Result<()> {
        let line = self.install_line()?;
        let install = |host: &Host| host.exec_within(LATE, &["sh", "-c", &line])?.ended(0).map(drop);
        std::thread::scope(|scope| {
            let all: Vec<_> = hosts.iter().map(|host| scope.spawn(|| install(host))).collect();
            all.into_iter()
                .try_for_each(|one| one.join().unwrap_or_else(|why| std::panic::resume_unwind(why)))
        })
    }

    /// The generic package and the site's enrolment file, put there by hand.
    ///
    /// # Errors
    /// apt refuses.
    pub fn install_by_hand(&self, host: &Host) -> Result<()> {
        host.push(&self.packages.deb("qb-agent")?, "/root/qb-agent.deb")?;
        host.push(&self.enrolment(), "/etc/qb/site.enroll.json")?;
        host.apt_install("/root/qb-agent.deb")
    }

    /// Installs a package of this machine's on a host.
    ///
    /// # Errors
    /// apt refuses.
    pub fn install(&self, host: &Host, deb: &Path) -> Result<()> {
        host.push(deb, "/root/pushed.deb")?;
        host.apt_install("/root/pushed.deb")
    }

    /// What a host's agent shows of itself is what waits at the relay.
    ///
    /// # Errors
    /// It is another machine.
    pub fn same_words(&self, host: &Host) -> Result<()> {
        let own = host.id()?;
        let node = self.await_knocks(&[host.index()])?.remove(0);
        ensure!(
            node.words == own.words,
            "{}: {:?} at the relay, {:?} on its console",
            host.name(),
            node.words,
            own.words
        );
        Ok(())
    }
}
