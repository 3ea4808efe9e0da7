//! `qb-exec serve`: composes the executor, its socket and the init system.

use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};
use qb_exec::versions::Versions;
use qb_exec::{Exec, ExecConfig, SealSecret, Server, SiteSource, Units, VERSION};
use qb_service as service;
use rustix::process::DumpableBehavior;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::user::{User, UserName};

/// Where enrolment files lie: the administrator's wins over the package's.
const ENROLMENTS: [&str; 2] = ["/etc/qb/site.enroll.json", "/usr/share/qb/site.enroll.json"];
/// How often the status text is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// How long a step may take to come to its safe point when the executor is stopped. The step goes on
/// where it was when the order is given again.
const GRACE: Duration = Duration::from_secs(20);

/// Options of `qb-exec serve`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Options {
    /// Directory of the executor's state; made if missing
    #[arg(long, value_name = "DIR", default_value = "/var/lib/qb/exec")]
    root: PathBuf,
    /// Path of the socket that the agent asks at
    #[arg(long, value_name = "PATH", default_value = "/run/qb/exec/exec.sock")]
    socket: PathBuf,
    /// While this file exists no step runs
    #[arg(long, value_name = "FILE", default_value = "/etc/qb/hold")]
    hold: PathBuf,
    /// The site's enrolment file [default: /etc/qb/site.enroll.json, else /usr/share/qb/site.enroll.json]
    #[arg(long, value_name = "FILE")]
    enroll: Option<PathBuf>,
    /// User that may ask, besides root: a name or a number
    #[arg(long, value_name = "USER", default_value = "qb")]
    agent_user: UserName,
    /// Who keeps the units of clusters running: they live on without this process, or end with it
    #[arg(long, value_name = "BY", default_value = "systemd")]
    units: UnitsBy,
}

/// Who keeps units running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum UnitsBy {
    /// systemd, asked over D-Bus
    Systemd,
    /// This process, where there is no systemd
    Children,
}

/// Runs until it is asked to end.
pub(crate) fn run(options: &Options) -> Result<()> {
    service::log("qb-exec", "info", &[]);
    // The seal key is in memory: no core file, no reading by others of the same user.
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(serve(options))
}

async fn serve(options: &Options) -> Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let user = options.agent_user.find()?;
    let exec_open = open(options).await?;
    let (exec, _lock) = exec_open;
    let listener = listen(&options.socket, user)?;
    let stop = CancellationToken::new();
    let mut server = Server::new(exec.clone(), user.uid, stop.clone());
    if let Some(versions) = Versions::open(&exec, VERSION.parse()?)? {
        server = server.with_versions(versions.clone());
        let stop = stop.clone();
        tokio::spawn(async move { versions.run(stop).await });
    }
    let mut serving = tokio::spawn(async move { server.run(&listener).await });
    service::ready(&status(&exec));
    tracing::info!(socket = %options.socket.display(), "qb-exec is ready: {}", status(&exec));
    let failed = tokio::select! {
        ended = &mut serving => Some(ended),
        () = tell(&exec) => None,
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
    };
    service::stopping("ending: the step in hand comes to its safe point");
    stop.cancel();
    if let Some(ended) = failed {
        ended?.context("the socket cannot be listened at")?;
    } else if tokio::time::timeout(GRACE, &mut serving).await.is_err() {
        tracing::warn!(
            "a step did not come to its safe point in time: it goes on when its order is given again"
        );
    }
    exec.close().await;
    Ok(())
}

/// Opens the executor, and its directory for this process alone.
async fn open(options: &Options) -> Result<(Exec, std::fs::File)> {
    let root = &options.root;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(root)
        .with_context(|| format!("cannot make {}", root.display()))?;
    let lock = lock(root)?;
    let files = match &options.enroll {
        Some(file) => vec![file.clone()],
        None => ENROLMENTS.map(PathBuf::from).to_vec(),
    };
    let exec = Exec::open(ExecConfig {
        root: root.clone(),
        hold: options.hold.clone(),
        node: None,
        site: SiteSource::Enrolled(files),
        seal_secret: SealSecret::open_or_make(root).context("the seal key cannot be used")?,
        stand_in: own_program()?,
        units: match options.units {
            UnitsBy::Systemd => Units::Systemd,
            UnitsBy::Children => Units::Children,
        },
    })
    .await?;
    // Programs of other versions lie below it, which the agent's user runs.
    std::fs::set_permissions(root, std::fs::Permissions::from_mode(0o711))?;
    Ok((exec, lock))
}

/// The path by which units start this program: the link that it was started by, where there is one. It
/// leads to a program whatever version runs next; the file itself is tidied up some day.
fn own_program() -> Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find this program's own file")?;
    let started_by = std::env::args_os().next().map(PathBuf::from);
    let leads_here = |path: &PathBuf| path.is_absolute() && path.canonicalize().is_ok_and(|file| file == own);
    Ok(started_by.filter(leads_here).unwrap_or(own))
}

/// One executor per directory: a second one would run everything twice.
fn lock(root: &Path) -> Result<std::fs::File> {
    let path = root.join("lock");
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .with_context(|| format!("cannot open {}", path.display()))?;
    rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).with_context(|| {
        format!("another qb-exec uses {}: stop it first, or give this one another --root", root.display())
    })?;
    Ok(file)
}

/// The socket: for its owner and the agent's group.
fn listen(path: &Path, user: User) -> Result<UnixListener> {
    let shown = path.display();
    let dir = path.parent().unwrap_or(Path::new("/"));
    let group = user.gid.map(rustix::fs::Gid::from_raw).filter(|_| rustix::process::geteuid().is_root());
    if !dir.exists() {
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o750).create(dir);
        made.with_context(|| format!("cannot make {}", dir.display()))?;
        give(dir, group)?;
    }
    // Left behind by a process that was killed; the directory's lock says that none lives.
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            return Err(e).with_context(|| format!("cannot replace the socket {shown}"));
        }
        _ => {}
    }
    let listener = UnixListener::bind(path).with_context(|| format!("cannot open the socket {shown}"))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    give(path, group)?;
    Ok(listener)
}

/// Gives a path to a group, unless it is the group's: what a service whose group that is makes belongs to it
/// already, and its unit forbids it to change owners at all.
fn give(path: &Path, group: Option<rustix::fs::Gid>) -> Result<()> {
    let failed = || format!("cannot give {} to the agent's group", path.display());
    let Some(group) = group else { return Ok(()) };
    if std::fs::metadata(path).with_context(failed)?.gid() == group.as_raw() {
        return Ok(());
    }
    rustix::fs::chown(path, None, Some(group)).with_context(failed)
}

/// Tells the init system how it is, for as long as it runs.
async fn tell(exec: &Exec) {
    let mut shown = String::new();
    let every = service::watchdog().map_or(LOOK, |every| every.min(LOOK));
    loop {
        let now = status(exec);
        if now != shown {
            service::status(&now);
            shown = now;
        }
        service::alive();
        tokio::time::sleep(every).await;
    }
}

/// One line for `systemctl status`.
fn status(exec: &Exec) -> String {
    let site = match exec.site() {
        Ok(site) => format!("site {}", qb_model::words::words(&site.0.0).join(" ")),
        Err(error) => return error.to_string(),
    };
    let waits = exec.waits();
    let clusters = exec.clusters().unwrap_or_default();
    let clusters: Vec<String> = clusters.iter().map(ToString::to_string).collect();
    let carries = if clusters.is_empty() { "no cluster".to_owned() } else { clusters.join(", ") };
    let held = if exec.is_held() { "; held on this machine" } else { "" };
    let waits = if waits.is_empty() { waits } else { format!("; {waits}") };
    format!("{site}; {carries}{held}{waits}")
}
