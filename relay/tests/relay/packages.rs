//! Packages of sites as a relay hands them out, over real HTTP (S32, and S72 for these routes).

use std::path::Path;
use std::time::Instant;

use axum::http::Method;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use qb_model::charter::Charter;
use qb_model::enrolment::Enrolment;
use qb_model::{Digest, SiteId};
use qb_package::{Arch, FileEntry, Format, PackageSpec, Vendor, digest, extract_site_file, verify};
use qb_portal::view::PackagesView;

use crate::agent::FakeAgent;
use crate::client::{Client, eventually};
use crate::site::{OLGA, VERA, seed};
use crate::world::World;

const FORMATS: [(Format, &str); 2] = [(Format::Deb, "qb-agent.deb"), (Format::Rpm, "qb-agent.rpm")];

/// A vendor's package with as much in it as a test needs.
fn spec(version: &str) -> PackageSpec {
    let noise = (0..300_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect::<Vec<u8>>();
    PackageSpec {
        name: "qb-agent".into(),
        version: version.into(),
        release: "1".into(),
        arch: Arch::X86_64,
        summary: "agent of qb".into(),
        description: "For tests.".into(),
        license: "Apache-2.0".into(),
        maintainer: "Nobody <nobody@example.invalid>".into(),
        url: None,
        deb: Default::default(),
        rpm: Default::default(),
        files: vec![
            FileEntry::file("/usr/bin/qb-agent", 0o755, noise),
            FileEntry::dir("/usr/share/qb", 0o755),
        ],
        source_date: 1_700_000_000,
    }
}

fn file_name(format: Format, version: &str) -> String {
    match format {
        Format::Deb => format!("qb-agent_{version}-1_amd64.deb"),
        Format::Rpm => format!("qb-agent-{version}-1.x86_64.rpm"),
    }
}

/// Puts the vendor's packages where the relay looks, and starts it again.
async fn stocked(version: &str) -> World {
    let mut world = World::new().await;
    stock(world.dir(), version);
    world.restart().await;
    world
}

fn stock(dir: &Path, version: &str) {
    let dir = dir.join("packages");
    std::fs::create_dir_all(&dir).unwrap();
    for (format, _) in FORMATS {
        std::fs::write(dir.join(file_name(format, version)), spec(version).build(format).unwrap()).unwrap();
    }
}

fn vendor(format: Format) -> Vendor {
    Vendor::open(Bytes::from(spec("0.1.0").build(format).unwrap())).unwrap()
}

/// The site's enrolment file once both members are in it.
async fn with_seeds(olga: &Client) -> Bytes {
    eventually("both members are in the enrolment file", || async {
        olga.get("/v1/sites/plant/nodes").await;
        let file = olga.get("/enroll/plant").await.body;
        (Enrolment::parse(&file).unwrap().seeds.len() == 2).then_some(file)
    })
    .await
}

#[tokio::test]
async fn t80_a_site_s_package_is_the_vendor_s_and_its_enrolment_file() {
    let world = stocked("0.1.0").await;
    let plant = world.site(1, "plant", "acme").await;
    let _agent = FakeAgent::start(&plant, 101, &world.url).up().await;
    let olga = Client::log_in(&world, 1, OLGA).await;
    let file = with_seeds(&olga).await;
    let enrolment = Enrolment::parse(&file).unwrap();
    assert!(enrolment.seeds.iter().all(|seed| seed.port() == 7444), "{:?}", enrolment.seeds);
    let view: PackagesView = olga.get("/v1/sites/plant/packages").await.read();
    assert_eq!((view.packages.len(), view.url.as_deref()), (2, Some(world.url.as_str())));
    let stranger = Client::stranger(&world.authority);
    let mut sums = String::new();
    for ((format, route), shown) in FORMATS.into_iter().zip(&view.packages) {
        assert_eq!(shown.path, format!("/packages/{}/{route}", plant.id()));
        let got = stranger.get(&shown.path).await;
        assert_eq!(got.status, 200, "{}", got.text());
        let vendor = vendor(format);
        assert_eq!(verify(&got.body, &vendor).unwrap().site_file, file, "{route}");
        assert_eq!(got.body, vendor.with_site(&file).unwrap().to_vec(), "made anywhere, it is the same");
        assert_eq!((shown.sha256.as_str(), shown.size), (digest(&got.body).as_str(), got.body.len() as u64));
        assert_eq!(got.header("content-length"), got.body.len().to_string());
        assert_eq!(got.header("etag"), format!("\"{}\"", shown.sha256));
        let name = match format {
            Format::Deb => "qb-agent_0.1.0-1_plant_amd64.deb",
            Format::Rpm => "qb-agent-0.1.0-1.plant.x86_64.rpm",
        };
        assert_eq!(got.header("content-disposition"), format!("attachment; filename=\"{name}\""));
        assert_eq!(stranger.get(&shown.path).await.body, got.body, "and the same again");
        sums.push_str(&format!("{}  {name}\n", shown.sha256));
        assert!(view.line.as_ref().unwrap().contains(&shown.sha256));
        let own = stranger.get(format!("/packages/{route}")).await;
        assert_eq!(own.body, *vendor.bytes(), "the vendor's own");
        assert_eq!(
            own.header("content-disposition"),
            format!("attachment; filename=\"{}\"", vendor.file_name())
        );
        if format == Format::Deb {
            dpkg_reads(&got.body, &file);
        }
    }
    let listed = stranger.get(format!("/packages/{}/SHA256SUMS", plant.id())).await;
    assert_eq!(listed.text(), sums);
}

/// Debian's own program takes the package apart and finds the file.
fn dpkg_reads(package: &[u8], file: &[u8]) {
    let dir = tempfile::tempdir().unwrap();
    let (path, root) = (dir.path().join("x.deb"), dir.path().join("root"));
    std::fs::write(&path, package).unwrap();
    let mut dpkg = std::process::Command::new("dpkg-deb");
    let ran = dpkg.arg("-x").args([&path, &root]).output().expect("dpkg-deb is missing: .ci/setup package");
    assert!(ran.status.success(), "{ran:?}");
    assert_eq!(std::fs::read(root.join("usr/share/qb/site.enroll.json")).unwrap(), file);
}

#[tokio::test]
async fn t81_a_package_follows_the_site_and_its_digest_with_it() {
    let world = stocked("0.1.0").await;
    let plant = world.site(1, "plant", "acme").await;
    let path = format!("/packages/{}/qb-agent.deb", plant.id());
    let stranger = Client::stranger(&world.authority);
    let empty = stranger.get(&path).await.body;
    let seeds = |package: &[u8]| Enrolment::parse(&extract_site_file(package).unwrap()).unwrap().seeds;
    assert!(seeds(&empty).is_empty());
    let _agent = FakeAgent::start(&plant, 101, &world.url).up().await;
    with_seeds(&Client::log_in(&world, 1, OLGA).await).await;
    let two = stranger.get(&path).await.body;
    assert_eq!(seeds(&two).len(), 2);
    assert_ne!(stranger.get(&path).await.header("etag"), format!("\"{}\"", digest(&empty)), "hashed anew");
    assert_eq!(stranger.get(&path).await.header("etag"), format!("\"{}\"", digest(&two)));
}

/// S32: nothing of a login, a header or a query gets into a package, and nothing in it is a secret: its
/// file has four members, which are all accounted for.
#[tokio::test]
async fn t82_no_input_but_the_id_and_no_token_in_any_package() {
    let world = stocked("0.1.0").await;
    let plant = world.site(1, "plant", "acme").await;
    let _agent = FakeAgent::start(&plant, 101, &world.url).up().await;
    let olga = Client::log_in(&world, 1, OLGA).await;
    let id = plant.id();
    with_seeds(&olga).await;
    let token = "t0ken-abcdef.0123456789abcdef";
    // Of admins and nodes, and the relay's own.
    let mut secrets: Vec<Vec<u8>> = [OLGA, VERA, 101, 102].map(|number| seed(1, number).to_vec()).to_vec();
    secrets.push(std::fs::read(world.dir().join("relay.key")).unwrap());
    for (format, route) in FORMATS {
        let plain = olga.get(format!("/packages/{id}/{route}")).await.body;
        for query in ["token", "join_token", "join-token", "file", "seed", "name", "key", "v"] {
            let asked = olga.get(format!("/packages/{id}/{route}?{query}={token}")).await;
            assert_eq!(asked.body, plain, "{query}");
        }
        for method in [Method::POST, Method::PUT, Method::PATCH] {
            let got = olga.ask(method, &format!("/packages/{id}/{route}"), Bytes::from(token)).await;
            assert_eq!(got.status, 405, "{}", got.text());
        }
        let file = verify(&plain, &vendor(format)).unwrap().site_file;
        let members: serde_json::Value = serde_json::from_slice(&file).unwrap();
        let names: Vec<&String> = members.as_object().unwrap().keys().collect();
        assert_eq!(names, ["charter", "relays", "seeds", "v"]);
        for relay in members["relays"].as_array().unwrap() {
            let names: Vec<&String> = relay.as_object().unwrap().keys().collect();
            assert_eq!(names, ["key", "url"]);
            assert_eq!(relay["key"], world.key.to_string(), "a public key");
        }
        for seed in members["seeds"].as_array().unwrap() {
            assert!(seed.as_str().unwrap().parse::<std::net::SocketAddr>().is_ok(), "{seed}");
        }
        let charter = Charter::verify(members["charter"].to_string().as_bytes()).unwrap();
        assert_eq!(charter.site_id(), id);
        let text = String::from_utf8(file).unwrap().to_lowercase();
        for word in ["token", "secret", "private", "password", "bearer", "session", "begin"] {
            assert!(!text.contains(word), "{word}");
        }
        assert!(!holds(&plain, olga.token().as_bytes()) && !holds(&plain, token.as_bytes()));
        for secret in &secrets {
            assert!(!holds(&plain, secret), "a secret key is in the package");
            let text = URL_SAFE_NO_PAD.encode(secret);
            assert!(!holds(&plain, text.as_bytes()), "a secret key is in the package");
        }
    }
}

fn holds(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// S72: whoever does not know an id learns nothing by asking.
#[tokio::test]
async fn t83_unknown_ids_are_answered_as_random_ones() {
    let world = stocked("0.1.0").await;
    let plant = world.site(1, "plant", "acme").await;
    let gone = world.site(2, "gone", "bolt").await;
    let _agent = FakeAgent::start(&gone, 101, &world.url).up().await;
    gone.must(qb_model::action::Action::RelayRemove { key: world.key });
    let stranger = Client::stranger(&world.authority);
    for route in ["qb-agent.deb", "qb-agent.rpm", "SHA256SUMS"] {
        let none = stranger.get(format!("/packages/{}/{route}", SiteId(Digest([77; 32])))).await;
        assert_eq!((none.status.as_u16(), none.code().as_str()), (404, "not_found"), "{}", none.text());
        assert!(none.json()["remedy"].as_str().unwrap().contains("qb package line"));
        let id = plant.id().to_string();
        let upper = id.to_uppercase();
        for other in ["plant", "x", &id[..id.len() - 1], &upper, "..%2f..", "%00"] {
            let got = stranger.get(format!("/packages/{other}/{route}")).await;
            assert_eq!((got.status, got.body), (none.status, none.body.clone()), "{other}");
        }
        let path = format!("/packages/{}/{route}", gone.id());
        eventually("a site that left the relay is as unknown", || async {
            let got = stranger.get(&path).await;
            (got.status == none.status && got.body == none.body).then_some(())
        })
        .await;
    }
    // Nor does the view of another's.
    let vera = Client::log_in(&world, 1, VERA).await;
    assert_eq!(vera.get("/v1/sites/plant/packages").await.status, 200);
    assert_eq!(vera.get("/v1/sites/gone/packages").await.status, 404);
}

#[tokio::test]
async fn t84_without_packages_the_relay_serves_and_says_so() {
    let mut world = World::new().await;
    let plant = world.site(1, "plant", "acme").await;
    let stranger = Client::stranger(&world.authority);
    let random = SiteId(Digest([77; 32])).to_string();
    let missing = async |routes: &[&str]| {
        for route in routes {
            let paths = [plant.id().to_string(), random.clone()].map(|id| format!("/packages/{id}/{route}"));
            for path in paths.into_iter().chain([format!("/packages/{route}")]) {
                let got = stranger.get(&path).await;
                assert_eq!(got.status, 404, "{path}");
                assert!(got.json()["remedy"].as_str().unwrap().contains("qb package build"), "{path}");
            }
        }
    };
    missing(&["qb-agent.deb", "qb-agent.rpm", "qb-agent.arm64.deb"]).await;
    let view: PackagesView =
        Client::log_in(&world, 1, OLGA).await.get("/v1/sites/plant/packages").await.read();
    assert_eq!((view.packages.len(), view.url, view.line), (0, None, None));
    // One damaged, one that is some site's, one of another version, two of a kind.
    let (dir, good) = (world.dir().join("packages"), spec("0.1.0"));
    let [deb, rpm] = [Format::Deb, Format::Rpm].map(|format| good.build(format).unwrap());
    let path = |format| dir.join(file_name(format, "0.1.0"));
    let mut torn = deb.clone();
    let middle = torn.len() / 2;
    torn[middle] ^= 1;
    let sites = vendor(Format::Deb).with_site(b"x").unwrap().to_vec();
    stock(world.dir(), "0.1.0");
    for bad in [torn, sites, rpm, deb[..deb.len() - 7].to_vec(), Vec::new()] {
        std::fs::write(path(Format::Deb), bad).unwrap();
        world.restart().await;
        missing(&["qb-agent.deb"]).await;
        assert_eq!(stranger.get("/packages/qb-agent.rpm").await.status, 200);
    }
    std::fs::write(path(Format::Deb), &deb).unwrap();
    std::fs::write(dir.join(file_name(Format::Deb, "0.2.0")), spec("0.2.0").build(Format::Deb).unwrap())
        .unwrap();
    world.restart().await;
    missing(&["qb-agent.deb"]).await;
    std::fs::remove_file(path(Format::Deb)).unwrap();
    world.restart().await;
    assert_eq!(stranger.get("/packages/qb-agent.deb").await.status, 200);
    missing(&["qb-agent.rpm"]).await;
}

#[tokio::test]
async fn t85_an_address_begins_so_many_downloads_and_no_more() {
    let world = stocked("0.1.0").await;
    let plant = world.site(1, "plant", "acme").await;
    let path = format!("/packages/{}/SHA256SUMS", plant.id());
    let stranger = Client::stranger(&world.authority);
    let begun = Instant::now();
    let (mut taken, mut refused) = (0_u32, None);
    while refused.is_none() && taken < 4 * qb_relay::limits::DOWNLOADS {
        let got = stranger.get(&path).await;
        match got.status.as_u16() {
            200 => taken += 1,
            status => refused = Some((status, got)),
        }
    }
    let (status, got) = refused.expect("somebody is refused");
    assert_eq!(status, 429, "{}", got.text());
    assert!(!got.header("retry-after").is_empty());
    let earned = begun.elapsed().as_millis() / qb_relay::limits::DOWNLOAD_EVERY.as_millis() + 1;
    assert!(taken >= qb_relay::limits::DOWNLOADS, "{taken}");
    assert!(u128::from(taken - qb_relay::limits::DOWNLOADS) <= earned, "{taken} in {:?}", begun.elapsed());
    assert_eq!(stranger.get("/healthz").await.status, 200, "the rest is served");
}
