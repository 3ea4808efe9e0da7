//! A `qb-exec` that runs, in a directory of its own.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use qb_exec::{About, RemoteExec};

use crate::signed::Signed;

pub(crate) struct Program {
    pub(crate) root: PathBuf,
    pub(crate) home: PathBuf,
    pub(crate) remote: RemoteExec,
    child: Option<Child>,
}

impl Program {
    /// Starts one that is enrolled in a site, and waits until it answers.
    pub(crate) async fn start(home: &Path, site: &Signed) -> Self {
        let enrolment = home.join("site.enroll.json");
        std::fs::write(&enrolment, site.enrolment()).unwrap();
        std::fs::set_permissions(&enrolment, std::fs::Permissions::from_mode(0o644)).unwrap();
        let mut program = Self {
            root: home.join("exec"),
            remote: RemoteExec::new(home.join("run/exec.sock")),
            home: home.to_owned(),
            child: None,
        };
        program.again().await;
        program
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_qb-exec"));
        let uid = rustix::process::geteuid().as_raw().to_string();
        let path = |at: &str| self.home.join(at);
        command.arg("serve").arg("--root").arg(&self.root).arg("--socket").arg(path("run/exec.sock"));
        command.arg("--hold").arg(path("hold")).arg("--enroll").arg(path("site.enroll.json"));
        command.arg("--agent-user").arg(uid).args(["--units", "children"]).stdin(Stdio::null());
        command
    }

    /// Starts it again after it ended.
    pub(crate) async fn again(&mut self) -> About {
        self.kill();
        let log = std::fs::File::options().create(true).append(true).open(self.home.join("log")).unwrap();
        self.child = Some(self.command().stdout(Stdio::null()).stderr(log).spawn().unwrap());
        let answers = async {
            loop {
                match self.remote.about().await {
                    Ok(about) => return about,
                    Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
                }
            }
        };
        let about = tokio::time::timeout(Duration::from_secs(20), answers).await;
        about.unwrap_or_else(|_| panic!("{}", self.log()))
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGTERM; how it ended.
    pub(crate) fn stop(&mut self) -> bool {
        let mut child = self.child.take().unwrap();
        let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        child.wait().unwrap().success()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.home.join("log")).unwrap_or_default()
    }

    /// Names of the clusters that lie there.
    pub(crate) fn clusters(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.root.join("clusters")).unwrap();
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}
