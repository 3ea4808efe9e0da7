//! `qb cluster kubeconfig|credential|proxy`, `qb kubectl`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use qb_model::Name;
use qb_model::settings::Settings;
use qb_portal::view::ClusterView;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use crate::access::credential::{self, Credential};
use crate::access::kubeconfig::{EVERY_SERVER, Parts, exec_credential, kubeconfig, server, version};
use crate::access::proxy::Proxy;
use crate::args::Format;
use crate::args::cluster::{KubeconfigArgs, KubectlArgs, ProxyArgs};
use crate::ctx::{Ctx, Session};
use crate::error::{CliError, Exit};
use crate::{files, out};

/// Bytes of a kubeconfig that others are merged into.
const KUBECONFIG: usize = 8 << 20;

/// `qb cluster credential`: what kubectl asks for. With a fresh one at hand nobody is asked.
///
/// # Errors
/// The site does not certify it.
pub async fn credential(ctx: &Ctx, cluster: &Name) -> Result<(), CliError> {
    let info = std::env::var("KUBERNETES_EXEC_INFO").ok();
    let version = version(info.as_deref())?;
    let here = ctx.here()?;
    let credential = match credential::kept(ctx, &here, cluster)? {
        Some(credential) => credential,
        None => credential::make(&mut ctx.session().await?, cluster).await?,
    };
    ctx.out.print(&format!("{}\n", exec_credential(&credential, version)))
}

/// `qb cluster kubeconfig`.
///
/// # Errors
/// The cluster does not serve, the site certifies nothing, or a file cannot be written.
pub async fn kubeconfig_of(ctx: &Ctx, args: &KubeconfigArgs) -> Result<(), CliError> {
    let mut session = ctx.session().await?;
    let cluster = session.api.cluster(&args.cluster).await?;
    if args.endpoint.is_some() && cluster.rehearsal {
        return Err(CliError::usage(
            "A rehearsal's API server is on one node: no load balancer stands before it.",
        )
        .remedy(format!("qb cluster kubeconfig {} --direct", args.cluster)));
    }
    let asked = balancer(args, &cluster)?;
    let balancer = asked.as_ref().filter(|_| cluster.endpoint.is_some());
    let server = match (args.port, balancer.or(cluster.endpoint.as_ref())) {
        (Some(port), _) => format!("https://127.0.0.1:{port}"),
        (None, _) if session.at_relay() && !args.direct && args.endpoint.is_none() => {
            let name = &args.cluster;
            return Err(CliError::usage("Through a relay this computer need not reach the cluster's own address.")
                .remedy(format!("qb kubectl {name} -- get nodes, or --direct if it does reach it, or qb cluster proxy {name} --port 16443 and --port 16443 here")));
        }
        (None, Some(endpoint)) => server(&out::text::clean(endpoint)),
        (None, None) => {
            return Err(CliError::failed(format!("{} does not serve yet.", args.cluster))
                .remedy(format!("qb cluster show {} --watch", args.cluster)));
        }
    };
    let credential = credential::get(&mut session, &args.cluster).await?;
    let mut file = config(&session, &args.cluster, &server, &credential, !args.merge)?;
    if asked.is_some_and(|asked| !is_certified(&cluster, &asked)) {
        // The balancer's name is in no certificate; the cluster's authority and this name are as good.
        file["clusters"][0]["cluster"]["tls-server-name"] = EVERY_SERVER.into();
    }
    if args.merge {
        let path = merge(ctx, &file).await?;
        ctx.out.say(&format!("Merged into {}.", path.display()));
        ctx.out.hint(&format!("kubectl --context {}@{} get nodes", args.cluster, session.here.name));
        return Ok(());
    }
    let text = match ctx.out.format {
        Format::Json => format!("{file:#}\n"),
        _ => out::yaml(&file)?,
    };
    match ctx.file() {
        Some(path) => {
            files::write(path, text.as_bytes(), 0o600, false)?;
            ctx.out.hint(&format!("kubectl --kubeconfig {} get nodes", path.display()));
            Ok(())
        }
        None => ctx.out.print(&text),
    }
}

/// The load balancer that was asked for, with its port: the one that is named, or the cluster's own.
///
/// # Errors
/// None is named, and the cluster was created without any.
pub fn balancer(args: &KubeconfigArgs, cluster: &ClusterView) -> Result<Option<String>, CliError> {
    match &args.endpoint {
        None => Ok(None),
        Some(Some(named)) => Ok(Some(named.clone())),
        Some(None) => match cluster.settings.as_ref().and_then(Settings::first_endpoint) {
            Some(own) => Ok(Some(own)),
            None => Err(CliError::usage(format!("{} was created without an endpoint.", cluster.name))
                .remedy(format!("qb cluster kubeconfig {} --endpoint HOST", cluster.name))),
        },
    }
}

/// Whether the cluster's certificates have the name of a load balancer.
pub fn is_certified(cluster: &ClusterView, balancer: &str) -> bool {
    let host = balancer.rsplit_once(':').map_or(balancer, |(host, _)| host);
    cluster.settings.iter().flat_map(|s| &s.endpoints).any(|endpoint| endpoint.as_str() == host)
}

/// A kubeconfig whose user asks this very program, with what it was called with.
fn config(
    session: &Session<'_>,
    cluster: &Name,
    server: &str,
    credential: &Credential,
    current: bool,
) -> Result<serde_json::Value, CliError> {
    let ctx = session.ctx;
    let program = std::env::current_exe()
        .map_err(|e| CliError::failed(format!("Where this program lies is not known: {e}.")))?;
    let text = |path: &Path| {
        let text = path.to_str().map(str::to_owned);
        text.ok_or_else(|| CliError::usage(format!("{} is not text.", path.display())))
    };
    let mut arguments = vec!["--site".to_owned(), session.here.name.to_string()];
    if let Some(config) = &ctx.globals.config {
        let whole = std::path::absolute(config).map_err(|e| CliError::file("find", config, &e))?;
        arguments.extend(["--config".to_owned(), text(&whole)?]);
    }
    if let Some(key) = &ctx.globals.key {
        arguments.extend(["--key".to_owned(), key.to_string()]);
    }
    if let Some(door) = &ctx.globals.door {
        arguments.extend(["--door".to_owned(), door.to_string()]);
    }
    let parts = Parts {
        site: &session.here.name,
        cluster,
        server,
        authority: &credential.authority,
        program: &text(&program)?,
        arguments: &arguments,
        current,
    };
    Ok(kubeconfig(&parts))
}

/// A file of this run that is gone with it.
struct Temporary(PathBuf);

impl Temporary {
    fn write(ctx: &Ctx, file: &serde_json::Value) -> Result<Self, CliError> {
        let path = ctx.paths.runtime().join(format!("kubeconfig-{}.json", std::process::id()));
        files::write(&path, file.to_string().as_bytes(), 0o600, false)?;
        Ok(Self(path))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // It holds no secret; one that is left is replaced by a run with the same number.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Merges by kubectl itself, which knows its files: what is new wins.
async fn merge(ctx: &Ctx, file: &serde_json::Value) -> Result<PathBuf, CliError> {
    let named = std::env::var_os("KUBECONFIG").filter(|v| !v.is_empty());
    let first = named.as_ref().and_then(|v| std::env::split_paths(v).next());
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".kube/config"));
    let path = first.or(home).ok_or_else(|| {
        CliError::usage("Neither KUBECONFIG nor HOME says which file to merge into.")
            .remedy("write one of its own: qb cluster kubeconfig CLUSTER -o FILE.yaml")
    })?;
    let fresh = Temporary::write(ctx, file)?;
    let both = std::env::join_paths([fresh.0.as_path(), path.as_path()])
        .map_err(|e| CliError::usage(format!("{} cannot be merged into: {e}.", path.display())))?;
    let mut command = Command::new(program());
    command.args(["config", "view", "--flatten"]).env("KUBECONFIG", both).stdin(Stdio::null());
    let done = command.output().await.map_err(|e| no_kubectl(&e))?;
    if !done.status.success() || done.stdout.is_empty() || done.stdout.len() > KUBECONFIG {
        let said = String::from_utf8_lossy(&done.stderr).trim().to_owned();
        return Err(CliError::failed(format!("kubectl does not merge into {}: {said}.", path.display()))
            .remedy("write one of its own: qb cluster kubeconfig CLUSTER -o FILE.yaml"));
    }
    files::write(&path, &done.stdout, 0o600, false)?;
    Ok(path)
}

/// The stock kubectl: what KUBECTL names, else the first of the PATH.
fn program() -> OsString {
    std::env::var_os("KUBECTL").filter(|v| !v.is_empty()).unwrap_or_else(|| "kubectl".into())
}

fn no_kubectl(error: &std::io::Error) -> CliError {
    let name = program();
    CliError::failed(format!("Cannot run {}: {error}.", name.to_string_lossy()))
        .remedy("install kubectl, or name one: KUBECTL=/path/to/kubectl")
}

/// `qb cluster proxy`: listens until Ctrl-C.
///
/// # Errors
/// The site lets nobody in, or the port is taken.
pub async fn proxy(ctx: &Ctx, args: &ProxyArgs) -> Result<(), CliError> {
    let mut session = ctx.session().await?;
    let mut proxy = Proxy::open(&mut session, &args.cluster, args.port).await?;
    let address = proxy.address()?;
    if ctx.out.documents() {
        let server = format!("https://{address}");
        ctx.out.line(&serde_json::json!({ "v": 1, "cluster": args.cluster, "server": server }))?;
    } else {
        ctx.out.print(&format!("https://{address}\n"))?;
    }
    let hint = "A kubeconfig for it, with this port as --port: qb cluster kubeconfig CLUSTER -o FILE.yaml";
    ctx.out.hint(hint);
    ctx.out.hint("Ctrl-C ends it.");
    tokio::select! {
        () = proxy.serve(&mut session) => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    Ok(())
}

/// `qb kubectl`: the stock kubectl, through a tunnel.
///
/// # Errors
/// The site lets nobody in, or there is no kubectl.
pub async fn kubectl(ctx: &Ctx, args: KubectlArgs) -> Result<Exit, CliError> {
    let mut session = ctx.session().await?;
    let credential = credential::get(&mut session, &args.cluster).await?;
    let mut proxy = Proxy::open(&mut session, &args.cluster, 0).await?;
    let server = format!("https://{}", proxy.address()?);
    let file = config(&session, &args.cluster, &server, &credential, true)?;
    drop(credential);
    let file = Temporary::write(ctx, &file)?;
    let mut command = Command::new(program());
    command.args(&args.arguments).env("KUBECONFIG", &file.0).kill_on_drop(true);
    let child = command.spawn().map_err(|e| no_kubectl(&e))?;
    tokio::select! {
        exit = finish(child) => exit,
        () = proxy.serve(&mut session) => Ok(Exit::Failed),
    }
}

/// Waits for kubectl, hands on what it is sent, and ends as it does. Ctrl-C reaches it by itself.
async fn finish(mut child: Child) -> Result<Exit, CliError> {
    let failed = |e: std::io::Error| CliError::failed(format!("kubectl cannot be followed: {e}."));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut end = signal(SignalKind::terminate()).map_err(failed)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw);
    loop {
        let pass = tokio::select! {
            status = child.wait() => return Ok(ended(status.map_err(failed)?)),
            _ = interrupt.recv() => None,
            _ = end.recv() => Some(rustix::process::Signal::TERM),
            _ = hangup.recv() => Some(rustix::process::Signal::HUP),
        };
        if let (Some(signal), Some(pid)) = (pass, pid) {
            // It may have ended already.
            let _ = rustix::process::kill_process(pid, signal);
        }
    }
}

/// A shell's numbers: its own, or 128 and that of the signal.
fn ended(status: std::process::ExitStatus) -> Exit {
    use std::os::unix::process::ExitStatusExt as _;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    match code.and_then(|code| u8::try_from(code).ok()) {
        Some(0) => Exit::Done,
        Some(code) => Exit::Program(code),
        None => Exit::Failed,
    }
}
