//! Packages of agents: the vendor's, kept since the start, and those of sites, made while they are
//! downloaded.
//!
//! ```text
//!  directory ── Vendor::open, once ──┬──> GET /packages/qb-agent.deb          the vendor's own bytes
//!  enrolment file of the site ───────┴──> GET /packages/{site}/qb-agent.deb   head, vendor's files, tail
//! ```
//!
//! Nothing but a site's id goes in: the file that is put in is the one of `/enroll/{site}`, and it holds
//! charter, relays and addresses. So no package of a relay can hold a token or a key that lets anybody
//! in. Whoever knows the id may have them, without a session: a machine that installs has none.

mod rate;
mod shelf;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Extension, Path, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use qb_model::SiteId;
use qb_model::words::words;
use qb_package::{SitePackage, digest};
use qb_portal::install::{self, Line};
use qb_portal::view::{PackageView, PackagesView, Problem};
use qb_portal::{Answer, Peer, paths};
use tokio::sync::Semaphore;

use crate::door::enrolment;
use crate::limits::{HASHING, PACKAGE_CHUNK};
use crate::relay::Relay;
use crate::site::LiveSite;
use rate::Rate;
use shelf::{KINDS, Kept, Kind};

pub(crate) use shelf::Shelf;

/// What of packages lives as long as the relay.
pub(crate) struct Packages {
    shelf: Shelf,
    rate: Rate,
    hashing: Semaphore,
    /// SHA-256 of a site's package in hex, with that of the enrolment file it is made with.
    digests: Mutex<Digests>,
}

/// By site and number of the kind: that of the enrolment file, and that of the package.
type Digests = BTreeMap<(SiteId, usize), (String, Arc<str>)>;

/// A package that is ready to be sent.
struct Ready {
    chunks: Vec<Bytes>,
    size: usize,
    name: String,
    sha256: Arc<str>,
}

impl Packages {
    pub(crate) fn new(shelf: Shelf) -> Self {
        let (rate, hashing) = (Rate::default(), Semaphore::new(HASHING));
        Self { shelf, rate, hashing, digests: Mutex::default() }
    }

    /// What the door shows of them.
    pub(crate) async fn view(&self, site: &LiveSite, relay: &str) -> Answer<PackagesView> {
        let file = enrolment(site)?;
        let id = site.id().to_string();
        let mut packages = Vec::new();
        for (at, kind, kept) in self.shelf.all() {
            let (package, sha256) = self.of_site(site, (at, kept), &file).await?;
            packages.push(PackageView {
                format: kind.format().to_owned(),
                arch: kind.arch().to_owned(),
                version: kept.vendor.version().to_owned(),
                path: paths::package(&id, kind.route),
                file: file_name(kind, kept, site),
                size: package.len() as u64,
                sha256: sha256.to_string(),
            });
        }
        let of = |route: &str| {
            let path = paths::package(&id, route);
            packages.iter().find(|p| p.path == path).map(|p| p.sha256.as_str())
        };
        let line = match (of(KINDS[0].route), of(KINDS[1].route)) {
            (Some(deb), Some(rpm)) => {
                let words = words(&site.id().0.0).join(" ");
                let line = Line { relay, site: &id, words: &words, deb, rpm, cacert: None };
                install::line(&line).ok()
            }
            _ => None,
        };
        let url = (!packages.is_empty()).then(|| relay.to_owned());
        Ok(PackagesView { v: 1, url, packages, line })
    }

    /// A site's package, and its digest: computed once for each enrolment file.
    async fn of_site(
        &self,
        site: &LiveSite,
        (at, kept): (usize, &Arc<Kept>),
        file: &str,
    ) -> Answer<(SitePackage, Arc<str>)> {
        let failed = || Problem::internal("Making the package");
        let package = kept.vendor.with_site(file.as_bytes()).map_err(|_| failed())?;
        let key = (site.id(), at);
        let made_with = digest(file.as_bytes());
        if let Some((with, sha256)) = self.digests().get(&key)
            && *with == made_with
        {
            return Ok((package, Arc::clone(sha256)));
        }
        // Never closed; without a turn it is a fault of this program.
        let turn = self.hashing.acquire().await.map_err(|_| failed())?;
        let hashed = package.clone();
        let sha256 = tokio::task::spawn_blocking(move || hashed.digest()).await.map_err(|_| failed())?;
        drop(turn);
        let sha256: Arc<str> = sha256.into();
        self.digests().insert(key, (made_with, Arc::clone(&sha256)));
        Ok((package, sha256))
    }

    fn digests(&self) -> MutexGuard<'_, Digests> {
        // Whole after every statement, so a panic elsewhere does not spoil it.
        self.digests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn file_name(kind: &Kind, kept: &Kept, site: &LiveSite) -> String {
    install::file_name(kind.format(), kept.vendor.version(), &site.name, kind.arch())
}

/// The routes. None needs a session, and none takes anything but an id.
pub(crate) fn routes() -> Router<Arc<Relay>> {
    let mut router = Router::new().route("/packages/{site}/SHA256SUMS", get(sums));
    for (at, kind) in KINDS.iter().enumerate() {
        let vendors = move |relay: State<Arc<Relay>>, peer| async move { vendors(&relay.0, at, peer) };
        let sites = move |relay: State<Arc<Relay>>, peer, Path(site): Path<String>| async move {
            sites(&relay.0, at, peer, &site).await
        };
        router = router
            .route(&paths::vendor_package(kind.route), get(vendors))
            .route(&format!("/packages/{{site}}/{}", kind.route), get(sites));
    }
    router
}

/// One download more of whoever asks.
fn admitted(relay: &Relay, peer: Option<Extension<Peer>>) -> Answer<()> {
    let from = peer.and_then(|Extension(Peer(from))| from);
    relay.packages.rate.admit(from, Instant::now()).map_err(|wait| {
        let (status, title) = (StatusCode::TOO_MANY_REQUESTS, "Too many downloads");
        let remedy = format!("try again in {} s", wait.as_secs() + 1);
        Problem::new("busy", status, title, "This address began very many downloads.", remedy)
    })
}

fn vendors(relay: &Relay, at: usize, peer: Option<Extension<Peer>>) -> Answer<Response> {
    admitted(relay, peer)?;
    let kept = relay.packages.shelf.get(at).ok_or_else(no_package)?;
    let bytes = kept.vendor.bytes();
    Ok(sent(Ready {
        size: bytes.len(),
        chunks: vec![bytes.clone()],
        name: kept.vendor.file_name(),
        sha256: Arc::clone(&kept.sha256),
    }))
}

async fn sites(relay: &Relay, at: usize, peer: Option<Extension<Peer>>, site: &str) -> Answer<Response> {
    admitted(relay, peer)?;
    let kept = relay.packages.shelf.get(at).ok_or_else(no_package)?;
    let site = known(relay, site)?;
    let (package, sha256) = relay.packages.of_site(&site, (at, kept), &enrolment(&site)?).await?;
    let name = file_name(&KINDS[at], kept, &site);
    Ok(sent(Ready { size: package.len(), chunks: package.chunks().into(), name, sha256 }))
}

async fn sums(
    State(relay): State<Arc<Relay>>,
    peer: Option<Extension<Peer>>,
    Path(site): Path<String>,
) -> Answer<([(HeaderName, &'static str); 1], String)> {
    admitted(&relay, peer)?;
    relay.packages.shelf.all().next().ok_or_else(no_package)?;
    let site = known(&relay, &site)?;
    let view = relay.packages.view(&site, &relay.config.url).await?;
    let line = |p: &PackageView| format!("{}  {}\n", p.sha256, p.file);
    let text = view.packages.iter().map(line).collect();
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text))
}

/// The site of an id, if its owners still trust this relay. What is no id, nobody's and a site that went
/// are answered alike.
fn known(relay: &Relay, text: &str) -> Answer<Arc<LiveSite>> {
    let site = text.parse().ok().and_then(|id| relay.site(&id)).filter(|site| site.is_served());
    site.ok_or_else(|| {
        not_found(
            "There is no package for a site of that id here.",
            "take the address from the page Add machines of the portal, or from: qb package line",
        )
    })
}

fn no_package() -> Problem {
    not_found(
        "This relay hands out no such package.",
        "make it on your computer with `qb package build`; whoever runs the relay finds why in its journal",
    )
}

fn not_found(detail: &str, remedy: &str) -> Problem {
    Problem::new("not_found", StatusCode::NOT_FOUND, "Not found", detail, remedy)
}

/// The answer. A connection copies what it is given at once, so it is given little at a time.
fn sent(ready: Ready) -> Response {
    let Ready { chunks, size, name, sha256 } = ready;
    let pieces = chunks.into_iter().flat_map(|chunk| {
        let ends = (0..chunk.len()).step_by(PACKAGE_CHUNK);
        ends.map(move |from| chunk.slice(from..chunk.len().min(from + PACKAGE_CHUNK)))
    });
    let body = Body::from_stream(futures::stream::iter(pieces.map(Ok::<_, std::convert::Infallible>)));
    let headers: [(HeaderName, String); 4] = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_LENGTH, size.to_string()),
        // Names, versions and ids are plain: nothing in them ends the quotes.
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
        (header::ETAG, format!("\"{sha256}\"")),
    ];
    (headers, body).into_response()
}
