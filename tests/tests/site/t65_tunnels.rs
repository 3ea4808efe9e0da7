//! People reach an API server: through any door and through a relay, by `qb kubectl` and by a proxy. Who
//! is removed is cut off, and a grant opens one thing once (tests S61, S62, S63).

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use qb_link::LinkError;
use qb_link::noise::StaticKey;
use qb_link::tunnel::{Ask, ClientEnd, TunnelAnswer, dial};
use qb_model::document::{Document as _, Grant, GrantScope, GrantTarget};
use qb_model::{Digest, Name, NodeId, Nonce16, PublicKey, SiteId};
use qb_tests::process::Process;
use qb_tests::signing::{Signatory, now};
use qb_tests::site::Site;
use qb_tests::tls::{self, TlsStream};
use qb_tests::wait::eventually;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::t40_relay::Linked;
use super::{Fixture, SOON, cluster_is, told};

const CLUSTER: &str = "clus100";
/// How long a tunnel may live after its admin was removed: a rule, not patience.
const OUT: Duration = Duration::from_secs(5);

/// Makes the cluster on one node, as its control plane.
fn cluster_on(site: &mut Site, host: &str) -> Result<()> {
    site.qb.ok(&["cluster", "create", CLUSTER, "-y"])?;
    site.qb.ok(&["cluster", "attach", CLUSTER, "--control-plane", host, "-y"])?;
    cluster_is(site, CLUSTER, "ready")
}

fn address(site: &Site, host: &str) -> Result<IpAddr> {
    let agent = site.agents.iter().find(|a| a.spec.name == host).context("the node")?;
    Ok(agent.spec.address.into())
}

/// A `qb cluster proxy` that runs, and where it listens.
struct Listening {
    _process: Process,
    port: u16,
    log: PathBuf,
}

fn proxy(site: &Site, more: &[&str], name: &str) -> Result<Listening> {
    let log = site.dir.join(format!("{name}.log"));
    let process = site.qb.start(&[more, &["cluster", "proxy", CLUSTER]].concat(), &log)?;
    let port = eventually(SOON, "the proxy listens", || {
        let text = std::fs::read_to_string(&log)?;
        let at = text.lines().find_map(|l| l.strip_prefix("https://127.0.0.1:")).context(text.clone())?;
        Ok(at.trim().parse::<u16>()?)
    })?;
    Ok(Listening { _process: process, port, log })
}

/// TLS to the API server behind a proxy.
fn connect(port: u16, server: IpAddr) -> Result<TlsStream> {
    let tcp = TcpStream::connect(("127.0.0.1", port))?;
    tcp.set_read_timeout(Some(SOON))?;
    tls::connect(server, tcp)
}

/// Asks for a page over a connection that stays open.
fn ask(stream: &mut TlsStream, page: &str) -> Result<String> {
    stream.write_all(format!("GET {page} HTTP/1.1\r\nHost: api\r\n\r\n").as_bytes())?;
    let (mut text, mut bytes) = (String::new(), [0; 4096]);
    while !text.contains("\r\n\r\n") {
        let count = stream.read(&mut bytes)?;
        ensure!(count > 0, "closed after {text:?}");
        text.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    Ok(text)
}

fn answers(port: u16, server: IpAddr) -> Result<TlsStream> {
    let mut stream = connect(port, server)?;
    let said = ask(&mut stream, "/livez")?;
    ensure!(said.starts_with("HTTP/1.1 200") && said.contains("x-qb-rehearsal: true"), "{said}");
    Ok(stream)
}

#[test]
fn t65_kubectl_reaches_the_cluster_of_another_node() {
    let mut fixture = super::authorized(65).expect("a site starts");
    let result = by_another_door(&mut fixture);
    told(&fixture, result);
}

fn by_another_door(fixture: &mut Fixture) -> Result<()> {
    let site = &mut fixture.site;
    cluster_on(site, "node-2")?;
    let server = address(site, "node-2")?;
    // The door is node-1's, which is no member: bytes go over the mesh. A member's own door does too.
    let foreign = proxy(site, &[], "foreign")?;
    let own = format!("unix:{}", site.agent("node-2")?.socket().display());
    let own = proxy(site, &["--door", &own], "own")?;
    for port in [foreign.port, own.port] {
        let mut open = answers(port, server)?;
        // Several connections in one tunnel, and a megabyte of requests through one of them.
        let mut others: Vec<TlsStream> = (0..4).map(|_| answers(port, server)).collect::<Result<_>>()?;
        for round in 0..64 {
            let long = format!("/{}", "x".repeat(8_000 + round));
            let said = ask(&mut others[round % 4], &long)?;
            ensure!(said.starts_with("HTTP/1.1 4"), "{said}");
            ask(&mut open, "/livez")?;
        }
    }
    kubectl_runs(site)?;
    eventually(SOON, "the audit tells of it", || {
        let lines = site.qb.ok(&["audit", "list"])?.stdout;
        for wanted in ["mira opened a tunnel to clus100", "mira was given a certificate for clus100"] {
            ensure!(lines.contains(wanted), "{wanted}: {lines}");
        }
        Ok(())
    })?;
    site.qb.ok(&["audit", "verify"]).map(drop)
}

/// A stand-in for kubectl: shows what it was given, asks the exec plugin as kubectl does, and ends with 7.
const KUBECTL: &str = "#!/bin/sh
echo \"arguments: $*\"
cat \"$KUBECONFIG\"
echo
exit 7
";

fn kubectl_runs(site: &Site) -> Result<()> {
    let program = site.dir.join("kubectl");
    std::fs::write(&program, KUBECTL)?;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755))?;
    let log = site.dir.join("kubectl.log");
    let set = [format!("KUBECTL={}", program.display()), format!("QB_CONFIG={}", site.qb.config.display())];
    let qb = site.qb.program.to_string_lossy();
    let args = [&set[0], &set[1], &*qb, "kubectl", CLUSTER, "--", "get", "pods", "-o", "wide"];
    let mut process = Process::spawn(Path::new("/usr/bin/env"), args.iter(), &log)?;
    let status = process.wait(SOON)?;
    let text = std::fs::read_to_string(&log)?;
    ensure!(status.code() == Some(7), "{status}: {text}");
    ensure!(text.contains("arguments: get pods -o wide"), "{text}");
    let json = text.lines().find(|l| l.starts_with('{')).context("a kubeconfig")?;
    let config: Value = serde_json::from_str(json)?;
    let cluster = &config["clusters"][0]["cluster"];
    ensure!(cluster["server"].as_str().is_some_and(|s| s.starts_with("https://127.0.0.1:")), "{config}");
    ensure!(!text.contains("PRIVATE KEY"), "a kubeconfig holds no secret");
    // What kubectl would ask next.
    let exec = &config["users"][0]["user"]["exec"];
    let words: Vec<&str> =
        exec["args"].as_array().context("arguments")?.iter().filter_map(Value::as_str).collect();
    let given: Value = serde_json::from_str(&site.qb.ok(&words)?.stdout)?;
    ensure!(given["apiVersion"] == exec["apiVersion"] && given["kind"] == "ExecCredential", "{given}");
    let again: Value = serde_json::from_str(&site.qb.ok(&words)?.stdout)?;
    ensure!(given == again, "the one that is kept is used again");
    let certificate = given["status"]["clientCertificateData"].as_str().context("a certificate")?;
    ensure!(certificate.starts_with("-----BEGIN CERTIFICATE"), "{certificate}");
    let written = site.qb.json(&["cluster", "kubeconfig", CLUSTER])?;
    let authority = cluster["certificate-authority-data"].as_str().context("an authority")?;
    ensure!(written["clusters"][0]["cluster"]["certificate-authority-data"] == authority, "{written}");
    ensure!(STANDARD.decode(authority)?.starts_with(b"-----BEGIN CERTIFICATE"), "PEM");
    Ok(())
}

#[test]
fn t66_a_tunnel_through_the_relay_falls_with_its_admin() {
    let (mut linked, _) = Linked::founded(66, |_| {}).expect("a site starts");
    let result = through_the_relay(&mut linked);
    linked.told(result);
}

fn through_the_relay(linked: &mut Linked) -> Result<()> {
    let door = format!("relay:{}", linked.relay.url());
    let site = &mut linked.site;
    cluster_on(site, "node-3")?;
    let server = address(site, "node-3")?;
    site.qb.ok(&["key", "new", "ana", "--no-passphrase"])?;
    let ana = Signatory::of_file("ana", &site.qb.keys().join("ana.key"))?;
    let key = ana.public_key().to_string();
    site.qb.ok(&[
        "admin",
        "add",
        "ana",
        "--name",
        "Ana",
        "--role",
        "operator",
        "--public-key",
        &key,
        "-y",
    ])?;
    let hers =
        eventually(SOON, "the relay knows ana", || proxy(site, &["--door", &door, "--key", "ana"], "ana"))?;
    let mira = proxy(site, &["--door", &door], "mira")?;
    let mut open = answers(hers.port, server)?;
    let mut other = answers(mira.port, server)?;
    // A grant of hers that nobody has used yet.
    let id = linked.id;
    let unused = Shown::new(&ana, id)?;
    let site = &mut linked.site;
    site.qb.ok(&["admin", "remove", "ana", "-y", "--confirm", "ana"])?;
    open.sock.set_read_timeout(Some(OUT))?;
    let mut byte = [0; 1];
    match open.read(&mut byte) {
        Ok(0) => {}
        Err(e) if !matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
        still => bail!("her tunnel is still open after {} s: {still:?}", OUT.as_secs()),
    }
    ensure!(ask(&mut other, "/livez")?.starts_with("HTTP/1.1 200"), "nobody else is cut off");
    ensure!(connect(hers.port, server).and_then(|mut s| ask(&mut s, "/livez")).is_err(), "no way back");
    eventually(SOON, "she reads why", || {
        let said = std::fs::read_to_string(&hers.log)?;
        ensure!(said.contains("Refused") || said.contains("refused"), "{said}");
        Ok(())
    })?;
    refused(site, &unused, "unsigned")?;
    eventually(SOON, "the audit tells that she was cut off", || {
        let lines = site.qb.ok(&["audit", "list"])?.stdout;
        ensure!(lines.contains("ana was cut off from clus100"), "{lines}");
        Ok(())
    })
}

/// A grant with the key that it names.
struct Shown {
    noise: StaticKey,
    ask: Ask,
    site: SiteId,
}

impl Shown {
    fn new(by: &Signatory, site: SiteId) -> Result<Self> {
        Self::with(by, site, |_| {})
    }

    fn with(by: &Signatory, site: SiteId, change: impl FnOnce(&mut Grant)) -> Result<Self> {
        let noise = StaticKey::generate()?;
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce)?;
        let mut grant = Grant {
            v: 1,
            site,
            scope: GrantScope::Cluster(CLUSTER.parse()?),
            target: GrantTarget::Apiserver,
            admin_key: by.public_key(),
            client_key: PublicKey(noise.public()),
            issued_ms: now(),
            expires_ms: now().plus(60_000),
            nonce: Nonce16(nonce),
        };
        change(&mut grant);
        let ask = Ask { grant: grant.sign(&[by.key()]).to_bytes(), request: Vec::new() };
        Ok(Self { noise, ask, site })
    }

    /// Shows it at a door, as `qb` does; the tunnel is closed again.
    fn show(&self, socket: &Path) -> Result<std::result::Result<(NodeId, TunnelAnswer), String>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut io = tokio::net::UnixStream::connect(socket).await?;
            let head = format!(
                "GET /v1/sites/lyon/clusters/{CLUSTER}/tunnel HTTP/1.1\r\nHost: localhost\r\n\
                 Connection: upgrade\r\nUpgrade: qb-tunnel\r\n\r\n"
            );
            io.write_all(head.as_bytes()).await?;
            let mut answer = Vec::new();
            while !answer.ends_with(b"\r\n\r\n") {
                answer.push(io.read_u8().await?);
            }
            ensure!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
            let cluster: Name = CLUSTER.parse()?;
            let end = ClientEnd { noise: &self.noise, site: self.site, cluster: &cluster, known: &|_| true };
            match dial(io, &end, &self.ask).await {
                Ok((_, node, answer)) => Ok(Ok((node, answer))),
                Err(LinkError::Turned { code, .. }) => Ok(Err(code)),
                Err(other) => Err(other.into()),
            }
        })
    }
}

fn refused(site: &mut Site, shown: &Shown, code: &str) -> Result<()> {
    match shown.show(&site.door()?)? {
        Err(said) => ensure!(said == code, "refused by {said}, not {code}"),
        Ok(answer) => bail!("taken: {answer:?}; wanted {code}"),
    }
    Ok(())
}

#[test]
fn t67_a_grant_is_used_once_by_whom_it_names() {
    let mut fixture = super::authorized(67).expect("a site starts");
    let result = grants_refused(&mut fixture);
    told(&fixture, result);
}

fn grants_refused(fixture: &mut Fixture) -> Result<()> {
    let site = &mut fixture.site;
    cluster_on(site, "node-2")?;
    let mira = site.founder()?;
    let view: Value = site.get("")?;
    let id: SiteId = view["id"].as_str().context("an id")?.parse()?;
    let good = Shown::new(&mira, id)?;
    let door = site.door()?;
    let (_, answer) = good.show(&door)?.map_err(anyhow::Error::msg)?;
    ensure!(answer == TunnelAnswer::Open, "{answer:?}");
    refused(site, &good, "used")?;
    // Whoever carries the bytes has the grant, and not its key.
    let stolen = Shown { noise: StaticKey::generate()?, ask: Shown::new(&mira, id)?.ask, site: id };
    refused(site, &stolen, "client_key")?;
    let elsewhere = |g: &mut Grant| g.scope = GrantScope::Cluster("clus200".parse().expect("a name"));
    refused(site, &Shown::with(&mira, id, elsewhere)?, "other_cluster")?;
    refused(site, &Shown::with(&mira, id, |g| g.target = GrantTarget::AgentPortal)?, "target")?;
    let over = |g: &mut Grant| g.expires_ms = g.issued_ms.plus(1);
    refused(site, &Shown::with(&mira, id, over)?, "expired")?;
    refused(site, &Shown::new(&Signatory::fresh("mallory")?, id)?, "unsigned")?;
    // A certificate for nothing is none, and a page gets no tunnel.
    let nothing = |g: &mut Grant| g.target = GrantTarget::Certificate(Digest([1; 32]));
    refused(site, &Shown::with(&mira, id, nothing)?, "certificate")?;
    let plain = qb_tests::http::get::<Value>(&door, &format!("/v1/sites/lyon/clusters/{CLUSTER}/tunnel"));
    ensure!(plain.is_err_and(|e| e.to_string().contains("426")), "an upgrade is needed");
    Ok(())
}
