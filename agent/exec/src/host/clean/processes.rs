//! Processes of a cluster: those of its tree, and those in the slice of pods, whatever they are called.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::time::{Instant, sleep};

use crate::host::record::take::{entries, read};
use crate::progress::StepError;

/// Bytes of the list of a process' groups.
const GROUPS_BYTES: u64 = 64 * 1024;
/// How long killed ones may take to go: one that waits for a disk does not hear.
const LIMIT: Duration = Duration::from_secs(20);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) program: String,
}

/// Those of the cluster whose directory this is.
pub(crate) fn find(root: &Path, dir: &Path) -> Result<Vec<Process>, StepError> {
    let proc = root.join("proc");
    let mut found = Vec::new();
    for path in entries(&proc)? {
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(pid) = name.and_then(|name| name.parse::<i32>().ok()) else { continue };
        if let Some(program) = of_cluster(&proc, pid, dir) {
            found.push(Process { pid, program });
        }
    }
    Ok(found)
}

/// Its program, if it is one; one that ends meanwhile is none.
fn of_cluster(proc: &Path, pid: i32, dir: &Path) -> Option<String> {
    let at = proc.join(pid.to_string());
    let groups = read(&at.join("cgroup"), GROUPS_BYTES).ok()?;
    // A kernel thread has no program.
    let program = fs::read_link(at.join("exe")).ok()?;
    let ours = program.starts_with(dir) || is_pod(&String::from_utf8_lossy(&groups));
    ours.then(|| program.display().to_string())
}

/// Whether `/proc/PID/cgroup` names this host's slice of pods, in any hierarchy. A slice of that name further down
/// is of a kubelet in a container or a machine within this one.
fn is_pod(groups: &str) -> bool {
    let path = |line: &str| line.splitn(3, ':').nth(2).map(str::to_owned);
    groups.lines().filter_map(path).any(|path| {
        let mut parts = path.split('/').skip_while(|part| part.is_empty());
        matches!(parts.next(), Some("kubepods.slice" | "kubepods"))
    })
}

/// Kills them and waits until they are gone.
///
/// # Errors
/// Some do not go.
pub(crate) async fn kill(root: &Path, dir: &Path) -> Result<(), StepError> {
    let until = Instant::now() + LIMIT;
    loop {
        let found = find(root, dir)?;
        let Some(first) = found.first() else { return Ok(()) };
        if Instant::now() >= until {
            let text = format!("{} processes do not end: {} ({})", found.len(), first.pid, first.program);
            let remedy =
                format!("`ps -o pid,stat,wchan,args {}` says why; restart this host if it hangs", first.pid);
            return Err(StepError::new(text, remedy));
        }
        found.iter().for_each(|process| kill_one(root, dir, process));
        sleep(PAUSE).await;
    }
}

/// A number may be given anew at any time: what it means is looked at again, once it is held.
fn kill_one(root: &Path, dir: &Path, process: &Process) {
    let Some(pid) = Pid::from_raw(process.pid) else { return };
    let Ok(held) = pidfd_open(pid, PidfdFlags::empty()) else { return };
    if of_cluster(&root.join("proc"), process.pid, dir).is_some() {
        // It may have ended just now; the next look says.
        let _ = pidfd_send_signal(&held, Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::process::Command;

    use super::*;

    #[test]
    fn pods_are_known_by_their_slice() {
        for (groups, pod) in [
            ("0::/kubepods.slice/kubepods-burstable.slice/cri-containerd-1.scope\n", true),
            ("12:memory:/x\n1:name=systemd:/kubepods.slice/a.scope\n", true),
            ("12:memory:/x\n1:name=systemd:/machine.slice/h1/kubepods.slice/a.scope\n", false),
            ("4:cpu:/kubepods/besteffort/pod1/2\n", true),
            ("0::/system.slice/kubelet.service\n", false),
            ("0::/user.slice/my-kubepods.slice/x\n", false),
            ("1:kubepods.slice:/x\n", false),
            ("", false),
            ("nothing", false),
        ] {
            assert_eq!(is_pod(groups), pod, "{groups:?}");
        }
    }

    /// They see the processes of this test alone: pods may run on the machine that it runs on.
    #[tokio::test]
    async fn only_programs_of_the_tree_are_killed() {
        let temp = tempfile::tempdir().unwrap();
        let (dir, other) = (temp.path().join("cluster"), temp.path().join("other"));
        let proc = temp.path().join("proc");
        fs::create_dir(&proc).unwrap();
        let start = |at: &Path| {
            fs::create_dir_all(at).unwrap();
            fs::copy("/bin/sleep", at.join("sleep")).unwrap();
            let child = Command::new(at.join("sleep")).arg("600").spawn().unwrap();
            let pid = child.id().to_string();
            std::os::unix::fs::symlink(Path::new("/proc").join(&pid), proc.join(pid)).unwrap();
            child
        };
        let (mut ours, mut theirs) = (start(&dir), start(&other));
        // Nobody waits for it: one that is dead has no program any more.
        kill(temp.path(), &dir).await.unwrap();
        assert!(!ours.wait().unwrap().success());
        assert_eq!(theirs.try_wait().unwrap(), None);
        theirs.kill().unwrap();
        theirs.wait().unwrap();
    }
}
