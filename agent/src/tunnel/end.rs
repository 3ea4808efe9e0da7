//! The end of a tunnel: Noise, the grant, then streams to the one address.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use qb_exec::{CredentialRequest, TrustGrounds};
use qb_link::limits::TUNNEL_HANDSHAKE;
use qb_link::mux::streams;
use qb_link::noise::NoiseStream;
use qb_link::tunnel::{Asked, Credential, ServerEnd, TunnelAnswer, accept, answer};
use qb_link::{MuxEnd, Stream};
use qb_model::document::GrantTarget;
use qb_model::grant::{Access, AccessRecord, GrantContext, Granted, judge_grant};
use qb_model::{Millis, Name};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;

use super::{TUNNELS_ADMIN, lock, target};
use crate::node::Node;

/// How often the admin, the key and the cluster are looked at while nothing changes.
const LOOK: Duration = Duration::from_secs(60);
/// How long the API server has to take a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Bytes that are moved at a time, each way.
const PIECE: usize = 16 * 1024;

/// Serves one tunnel to its end.
pub async fn serve<S>(node: &Arc<Node>, cluster: &Name, io: S, _room: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    tokio::select! {
        ended = run(node, cluster, io) => if let Err(why) = ended {
            tracing::debug!(%cluster, "a tunnel: {why}");
        },
        () = node.cancel.cancelled() => {}
    }
}

/// Why a grant is not taken here.
struct Turned {
    code: &'static str,
    text: String,
}

impl From<qb_model::grant::GrantError> for Turned {
    fn from(error: qb_model::grant::GrantError) -> Self {
        Self { code: error.code(), text: error.to_string() }
    }
}

async fn run<S>(node: &Arc<Node>, cluster: &Name, io: S) -> Result<(), qb_link::LinkError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let noise = node.tunnels.noise()?;
    let site = node.enrolment.site;
    let end = ServerEnd { signer: &node.identity.key, noise: &noise, site, cluster };
    let (mut stream, asked) = accept(io, &end).await?;
    let granted = match judge(node, cluster, &asked) {
        Ok(granted) => granted,
        Err(turned) => return refuse(node, cluster, stream, turned).await,
    };
    match granted.target() {
        GrantTarget::Certificate(_) => {
            let given = certify(node, &granted, asked).await;
            match given {
                Ok(credential) => {
                    let what =
                        Access::Certificate { at: node.site_now(), expires: Millis(credential.expires_ms) };
                    super::said::note(node, record(&granted, what));
                    answer(&mut stream, &TunnelAnswer::Certificate(credential)).await?;
                    linger(stream).await;
                    Ok(())
                }
                Err(text) => refuse(node, cluster, stream, Turned { code: "certificate", text }).await,
            }
        }
        GrantTarget::Apiserver => open(node, granted, stream).await,
        // `judge_grant` lets it not through.
        GrantTarget::AgentPortal => Ok(()),
    }
}

async fn refuse<S>(
    node: &Node,
    cluster: &Name,
    mut stream: NoiseStream<S>,
    Turned { code, text }: Turned,
) -> Result<(), qb_link::LinkError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let told = format!("a tunnel was refused: {text} ({code})");
    node.events.say(node.site_now(), "cluster", cluster.as_str(), told);
    answer(&mut stream, &TunnelAnswer::Refused { code: code.to_owned(), text }).await?;
    linger(stream).await;
    Ok(())
}

/// The last word has yet to reach the other end, which closes when it has it.
async fn linger<S: AsyncRead + AsyncWrite + Unpin>(mut stream: NoiseStream<S>) {
    let close = async {
        let _ = stream.shutdown().await;
        let _ = stream.read_u8().await;
    };
    // Whoever does not close has had its time.
    let _ = tokio::time::timeout(TUNNEL_HANDSHAKE, close).await;
}

/// Judges what was asked, and uses the grant up.
fn judge(node: &Node, cluster: &Name, asked: &Asked) -> Result<Granted, Turned> {
    let (state, now) = (node.site(), node.site_now());
    let exists = state.cluster(cluster).is_some();
    let ctx = GrantContext { site: state.site(), trust: state.trust(), cluster, exists, now };
    let granted = judge_grant(&ctx, &asked.ask.grant)?;
    if granted.client_key() != asked.client {
        let text = "the grant names another key than the one that was proved: it is another's".to_owned();
        return Err(Turned { code: "client_key", text });
    }
    lock(&node.tunnels.used).take(&granted, now)?;
    Ok(granted)
}

/// Has the executor sign, which verifies all of it again.
async fn certify(node: &Node, granted: &Granted, asked: Asked) -> Result<Credential, String> {
    let exec = node.exec.get().ok_or("the executor is not up yet: try again in a moment")?;
    let state = node.site();
    let grounds = TrustGrounds { charter: state.charter().to_vec(), trust_log: state.trust().log().to_vec() };
    let cluster = granted.cluster().clone();
    let request = CredentialRequest { cluster, grant: asked.ask.grant, request: asked.ask.request, grounds };
    let done = exec.certify(request).await?;
    let (certificate, authority) = (done.certificate, done.authority);
    Ok(Credential { certificate, authority, expires_ms: done.expires.0 })
}

fn record(granted: &Granted, what: Access) -> AccessRecord {
    AccessRecord {
        admin: granted.admin().clone(),
        key: granted.key(),
        cluster: granted.cluster().clone(),
        grant: granted.digest(),
        what,
    }
}

/// Bytes up and down.
#[derive(Default)]
struct Moved {
    up: AtomicU64,
    down: AtomicU64,
}

async fn open<S>(
    node: &Arc<Node>,
    granted: Granted,
    mut stream: NoiseStream<S>,
) -> Result<(), qb_link::LinkError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let cluster = granted.cluster().clone();
    let Some(target) = target(&node.site(), &cluster, node.id()) else {
        let text = format!("this node serves {cluster} no longer: qb cluster show {cluster}");
        return refuse(node, &cluster, stream, Turned { code: "not_here", text }).await;
    };
    let Some(_inside) = node.tunnels.enter(granted.admin()) else {
        let text = format!("{} has {TUNNELS_ADMIN} tunnels open here: close one", granted.admin());
        return refuse(node, &cluster, stream, Turned { code: "busy", text }).await;
    };
    answer(&mut stream, &TunnelAnswer::Open).await?;
    let opened = node.site_now();
    super::said::note(node, record(&granted, Access::Opened { at: opened }));
    let moved = Arc::new(Moved::default());
    let cut = tokio::select! {
        () = serve_streams(stream, target, &moved) => false,
        () = falls(node, &granted) => true,
        () = node.cancel.cancelled() => false,
    };
    let (up, down) = (moved.up.load(Ordering::Relaxed), moved.down.load(Ordering::Relaxed));
    let closed = Access::Closed { opened, closed: node.site_now(), up, down, cut };
    super::said::note(node, record(&granted, closed));
    Ok(())
}

/// Ready when the tunnel may not stay open: looked at with every change of the state, and each minute.
async fn falls(node: &Node, granted: &Granted) {
    let mut state = node.state.clone();
    loop {
        let now = node.site_now();
        let stands = {
            let site = state.borrow_and_update();
            let ends = super::ends(&site, granted.cluster(), node.id());
            granted.still_stands(site.trust(), now, ends.first() == Some(&node.id()))
        };
        if !stands {
            return;
        }
        tokio::select! {
            changed = state.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// Every stream that the other end opens goes to the target. Dropped, it closes them all.
async fn serve_streams<S>(stream: NoiseStream<S>, target: SocketAddr, moved: &Arc<Moved>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // The other end opens all streams; the handle keeps the connection open.
    let (_mux, mut incoming, driver) = streams(stream, MuxEnd::Relay);
    let mut driver = std::pin::pin!(driver);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut driver => return,
            came = incoming.recv() => match came {
                Some(stream) => {
                    let moved = Arc::clone(moved);
                    connections.spawn(async move {
                        if let Err(error) = connect(stream, target, &moved).await {
                            tracing::debug!(%target, %error, "a connection of a tunnel ended");
                        }
                    });
                }
                None => return,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connect(stream: Stream, target: SocketAddr, moved: &Moved) -> io::Result<()> {
    let connecting = tokio::time::timeout(CONNECT, TcpStream::connect(target)).await;
    let server = connecting.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    server.set_nodelay(true)?;
    let (mut from_client, mut to_client) = tokio::io::split(stream);
    let (mut from_server, mut to_server) = server.into_split();
    tokio::try_join!(
        copy(&mut from_client, &mut to_server, &moved.up),
        copy(&mut from_server, &mut to_client, &moved.down)
    )?;
    Ok(())
}

/// Moves bytes until the end, which it hands on, and counts them as they go.
async fn copy(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    count: &AtomicU64,
) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let read = from.read(&mut piece).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&piece[..read]).await?;
        to.flush().await?;
        count.fetch_add(read as u64, Ordering::Relaxed);
    }
}
