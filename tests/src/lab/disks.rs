//! Faults of a host's disk and clock.
//!
//! Hosts share one disk and one clock with this machine. A folder gets a small disk of its own, which can be
//! full or read-only without harm; a service gets a wrong clock from a library that is loaded into it.

use anyhow::{Context as _, Result, ensure};

use super::host::Host;

/// Largest disk that a fault gives to a folder, KiB: it lies in memory.
const DISK_MAX_KIB: u64 = 512 * 1024;
/// What fills a full disk.
const FILLER: &str = ".lab-filler";
/// The library of Debian's package `libfaketime`.
const FAKETIME: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

impl Host {
    /// Gives a folder a disk of so many KiB, with what is in the folder. It lies in memory until the host goes
    /// off; then the folder is as it was before. Services that run keep what they have open: do this before.
    ///
    /// # Errors
    /// The disk is too small for the folder, or too large for this machine.
    pub fn small_disk(&self, path: &str, kib: u64) -> Result<()> {
        ensure!(kib <= DISK_MAX_KIB, "a disk of {kib} KiB lies in memory: at most {DISK_MAX_KIB}");
        // Filled before it is seen at its place, and bound there, since a mount below a shared one cannot move.
        let script = r#"
            mkdir -p -- "$1" /run/lab-disk
            mount -t tmpfs -o "size=$2k" lab-disk /run/lab-disk
            chown --reference="$1" /run/lab-disk; chmod --reference="$1" /run/lab-disk
            if cp -a -- "$1/." /run/lab-disk/; then mount --bind /run/lab-disk "$1"; ended=0; else ended=1; fi
            umount /run/lab-disk; exit $ended"#;
        let ran = self.ok(&["sh", "-euc", script, "sh", path, &kib.to_string()]);
        ran.with_context(|| format!("cannot give {path} a disk of {kib} KiB")).map(drop)
    }

    /// Fills the disk that [`Self::small_disk`] gave to a folder, to the last byte.
    ///
    /// # Errors
    /// The folder has no disk of its own.
    pub fn fill_disk(&self, path: &str) -> Result<()> {
        self.own_disk(path)?;
        // Ends when nothing fits any more, which is an error of dd's and what is wanted.
        let script = r#"dd if=/dev/zero of="$1" bs=4k status=none 2>/dev/null || true; ! { echo x >"$1-more"; } 2>/dev/null"#;
        self.ok(&["sh", "-uc", script, "sh", &format!("{path}/{FILLER}")]).map(drop)
    }

    /// Makes room again on the disk that was filled.
    ///
    /// # Errors
    /// The folder has no disk of its own.
    pub fn free_disk(&self, path: &str) -> Result<()> {
        self.own_disk(path)?;
        self.ok(&["rm", "-f", "--", &format!("{path}/{FILLER}"), &format!("{path}/{FILLER}-more")]).map(drop)
    }

    /// Makes a folder's file system read-only, as a kernel does after errors of a disk. A folder without a
    /// disk of its own gets one first: a mere read-only bind would be undone by services that ask for a
    /// writable folder. Until [`Self::writable`], or the host goes off.
    ///
    /// # Errors
    /// The host cannot.
    pub fn read_only(&self, path: &str) -> Result<()> {
        if self.own_disk(path).is_err() {
            self.small_disk(path, DISK_MAX_KIB)?;
        }
        self.ok(&["mount", "-o", "remount,ro", "lab-disk", path]).map(drop)
    }

    /// Makes a folder writable again that was read-only.
    ///
    /// # Errors
    /// The folder has no disk of its own.
    pub fn writable(&self, path: &str) -> Result<()> {
        self.own_disk(path)?;
        self.ok(&["mount", "-o", "remount,rw", "lab-disk", path]).map(drop)
    }

    fn own_disk(&self, path: &str) -> Result<()> {
        let mounts = String::from_utf8(self.read_file("/proc/self/mounts")?).context("no text")?;
        let own = format!("lab-disk {path} tmpfs ");
        ensure!(
            mounts.lines().any(|line| line.starts_with(&own)),
            "{path} of host {} has no disk of its own",
            self.index()
        );
        Ok(())
    }

    /// From its next start on, a service believes that it started at this time, for instance
    /// `1970-01-01 00:00:10`; none puts that right. The host must be made with the package `libfaketime`: all
    /// hosts share this machine's clock, and a time namespace moves only the clocks that count from boot.
    ///
    /// # Errors
    /// The library is missing, or the host is off.
    pub fn fake_clock(&self, unit: &str, start: Option<&str>) -> Result<()> {
        let file = format!("/etc/systemd/system/{unit}.d/90-lab-clock.conf");
        match start {
            Some(start) => {
                let found = self.exec(&["test", "-f", FAKETIME])?;
                ensure!(
                    found.code == 0,
                    "host {} has no libfaketime: make it with --include libfaketime",
                    self.index()
                );
                // Clocks that count from boot stay right, as they do on a machine without a battery.
                let text = format!(
                    "[Service]\nEnvironment=LD_PRELOAD={FAKETIME} \"FAKETIME=@{start}\" DONT_FAKE_MONOTONIC=1 \
                     FAKETIME_DONT_FAKE_MONOTONIC=1\nMemoryDenyWriteExecute=no\n"
                );
                self.write_file(&file, text.as_bytes(), 0o644)?;
            }
            None => drop(self.ok(&["rm", "-f", "--", &file])?),
        }
        self.ok(&["systemctl", "daemon-reload"]).map(drop)
    }
}
