//! The upgrade of a connection to an admin's tunnel to a cluster. What goes through it is between `qb`
//! and an agent: this door moves bytes, or hands them to who does.

use std::io;

use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::error::code;
use crate::extract::Here;
use crate::guard::Caller;
use crate::site::Answer;
use crate::view::Problem;

/// What the upgrade is called in HTTP.
pub const UPGRADE: &str = "qb-tunnel";

/// A stream of bytes, whatever carries it.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// The connection, once the answer to its request is out.
pub type Upgrading = BoxFuture<'static, io::Result<Box<dyn Duplex>>>;

/// Opens a tunnel to a cluster's API server: HTTP/1.1, `Upgrade: qb-tunnel`. What follows is Noise
/// between `qb` and an agent, which asks for a grant that an admin signed.
#[utoipa::path(get, path = "/v1/sites/{site}/clusters/{name}/tunnel", tag = "cluster",
    params(
        ("name" = String, Path, description = "The cluster's name."),
        ("Upgrade" = String, Header, description = "`qb-tunnel`.")),
    responses((status = 101, description = "The connection is the tunnel from here on.")))]
pub(crate) async fn tunnel(here: Here, mut request: Request) -> Answer<Response> {
    let cluster = here.name("name")?;
    asked(request.headers())?;
    let upgrading = hyper::upgrade::on(&mut request);
    let carried: Upgrading = Box::pin(async move {
        let io = upgrading.await.map_err(io::Error::other)?;
        Ok(Box::new(TokioIo::new(io)) as Box<dyn Duplex>)
    });
    let login = match &here.caller {
        Caller::Local => None,
        Caller::Session(_, login) => Some(login.clone()),
    };
    here.site.tunnel(&cluster, login, carried).await?;
    let headers = [(header::CONNECTION, "upgrade"), (header::UPGRADE, UPGRADE)];
    Ok((StatusCode::SWITCHING_PROTOCOLS, headers).into_response())
}

/// A page has an origin; `qb` has none, and asks for the upgrade.
fn asked(headers: &HeaderMap) -> Answer<()> {
    let has = |name: header::HeaderName, word: &str| {
        let value = headers.get(&name).and_then(|v| v.to_str().ok()).unwrap_or_default();
        value.split(',').any(|part| part.trim().eq_ignore_ascii_case(word))
    };
    let plain = !headers.contains_key(header::ORIGIN);
    if plain && has(header::CONNECTION, "upgrade") && has(header::UPGRADE, UPGRADE) {
        return Ok(());
    }
    let detail = "This path is for tunnels of `qb`: an HTTP/1.1 upgrade to qb-tunnel, from no page.";
    let remedy = "qb kubectl CLUSTER -- get nodes";
    Err(Problem::new(code::NOT_A_TUNNEL, StatusCode::UPGRADE_REQUIRED, "Not a tunnel", detail, remedy))
}
