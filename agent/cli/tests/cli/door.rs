//! The binary, a site made with it, and a door in front of that site.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use qb_cli::ctx::read_charter;
use qb_model::charter::Charter;
use qb_portal::{Access, DoorConfig};

use crate::site::FakeSite;

/// What a run printed.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// `qb` with a configuration of its own, without terminal.
pub(crate) fn qb(folder: &Path, args: &[&str]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_qb"));
    command.env_clear().env("QB_CONFIG", folder.join("config/config.toml")).env("USER", "mira");
    command.args(args).current_dir(folder).stdin(Stdio::null()).output().unwrap().into()
}

/// Makes the site lyon and reads its charter.
pub(crate) fn charter(folder: &Path) -> Charter {
    let door = format!("unix:{}", folder.join("door.sock").display());
    let made = qb(
        folder,
        &[
            "site",
            "create",
            "lyon",
            "--name",
            "Mira Okafor",
            "--no-passphrase",
            "--add-door",
            &door,
            "--seed",
            "127.0.0.11:7444",
        ],
    );
    assert_eq!(made.code, 0, "{made:?}");
    read_charter(&folder.join("lyon.enroll.json")).unwrap().0
}

/// A site with machines that knock, behind a socket.
pub(crate) struct Lab {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) site: Arc<FakeSite>,
    _runtime: tokio::runtime::Runtime,
}

impl Lab {
    pub(crate) fn new(machines: u8) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let site = FakeSite::new(charter(folder.path()), machines);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let server_key = site.lock().nodes[0].id.public_key();
        let config = DoorConfig { access: Access::Local, server_key };
        let router = qb_portal::api(site.clone(), config);
        let socket: PathBuf = folder.path().join("door.sock");
        let _guard = runtime.enter();
        let listener = tokio::net::UnixListener::bind(socket).unwrap();
        runtime.spawn(qb_portal::serve(listener, router, std::future::pending()));
        Self { folder, site, _runtime: runtime }
    }

    pub(crate) fn qb(&self, args: &[&str]) -> Ran {
        qb(self.folder.path(), args)
    }

    /// The names of the actions that were sent.
    pub(crate) fn sent(&self) -> Vec<&'static str> {
        self.site.lock().intents.iter().map(|(i, _)| i.action.name()).collect()
    }
}
