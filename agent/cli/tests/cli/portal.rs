//! `qb portal`: who gets in, what is signed, and that the key stays where it is.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt as _;
use qb_cli::args::help::parse;
use qb_cli::ctx::Ctx;
use qb_cli::portal::{AskFn, Portal};
use qb_model::action::Action;
use qb_model::document::{Document as _, Login};
use qb_model::dsse::{SecretKey, Signer as _};
use qb_model::envelope::Envelope;
use qb_model::intent::{Anchor, Intent};
use qb_model::{Digest, Millis, Nonce, SiteId};
use qb_portal::view::IntentView;
use serde_json::{Value, json};
use tower::Service as _;

use crate::door::Lab;

const HOST: &str = "127.0.0.1:40123";
const ORIGIN: &str = "http://127.0.0.1:40123";

struct Web {
    lab: Lab,
    portal: Arc<Portal>,
    router: axum::Router,
    runtime: tokio::runtime::Runtime,
    asked: Arc<Mutex<Vec<String>>>,
    answers: Mutex<Vec<String>>,
}

impl Web {
    /// A portal whose person always answers this.
    fn new(agrees: bool) -> Self {
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = Arc::clone(&asked);
        let ask: Box<AskFn> = Box::new(move |question| {
            kept.lock().unwrap().push(question.to_owned());
            Ok(agrees)
        });
        let lab = Lab::new(2);
        let config = lab.folder.path().join("config/config.toml");
        let cli = parse(["qb", "--config", config.to_str().unwrap(), "portal"]).unwrap();
        let ctx = Ctx::new(cli.globals, &|_| None).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let portal = runtime.block_on(Portal::new(&ctx, ask)).unwrap();
        let router = portal.router(HOST);
        Self { lab, portal, router, runtime, asked, answers: Mutex::default() }
    }

    fn call(&self, request: Request<Body>) -> (StatusCode, String) {
        let mut router = self.router.clone();
        self.runtime.block_on(async {
            let response = router.call(request).await.unwrap();
            let status = response.status();
            let body = response.into_body().collect().await.unwrap().to_bytes();
            let text = String::from_utf8_lossy(&body).into_owned();
            self.answers.lock().unwrap().push(text.clone());
            (status, text)
        })
    }

    /// With the token, as the page asks.
    fn ask(&self, method: Method, path: &str, body: impl Into<Body>) -> (StatusCode, String) {
        let request = self.request(method, path).header("authorization", self.bearer());
        self.call(request.header("content-type", "application/json").body(body.into()).unwrap())
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.portal.token())
    }

    fn request(&self, method: Method, path: &str) -> axum::http::request::Builder {
        Request::builder().method(method).uri(path).header("host", HOST).header("origin", ORIGIN)
    }

    fn site(&self) -> SiteId {
        self.lab.site.charter.site_id()
    }

    fn intent(&self) -> Intent {
        let now = qb_cli::out::text::now();
        let first = crate::made::waiting_node(1);
        let node =
            qb_model::action::AuthorizedNode { node: first.id, host: first.name, knock: Digest([1; 32]) };
        Intent {
            v: 1,
            site: self.site(),
            id: "01JD0000000000000000000001".parse().unwrap(),
            by: "mira".parse().unwrap(),
            issued_ms: now,
            expires_ms: now.plus(600_000),
            anchor: Anchor::founding(self.site()),
            after: None,
            expect: vec![],
            action: Action::SiteFound { nodes: vec![node] },
            note: None,
        }
    }

    fn sign(&self, site: SiteId, payload: &[u8]) -> (StatusCode, String) {
        let form = json!({"v": 1, "site": site, "payload": STANDARD.encode(payload)});
        self.ask(Method::POST, "/v1/sign", form.to_string())
    }
}

fn code(text: &str) -> String {
    let value: Value = serde_json::from_str(text).unwrap();
    value["type"].as_str().unwrap_or_default().to_owned()
}

/// S56: any user of this computer can connect; nothing is answered without the token.
#[test]
fn s56_without_the_token_not_even_a_read() {
    let web = Web::new(true);
    let site = web.site();
    let paths = [
        (Method::GET, "/v1/portal".to_owned()),
        (Method::GET, "/v1/sites".to_owned()),
        (Method::GET, format!("/v1/sites/{site}/nodes")),
        (Method::GET, format!("/v1/sites/{site}/events")),
        (Method::GET, "/v1/openapi.json".to_owned()),
        (Method::GET, format!("/enroll/{site}")),
        (Method::POST, "/v1/sign".to_owned()),
        (Method::POST, format!("/v1/sites/{site}/intents")),
        (Method::DELETE, "/v1/sites".to_owned()),
    ];
    let token = web.portal.token().to_owned();
    assert_eq!(token.len(), 43, "32 bytes");
    let other: String = token.chars().rev().collect();
    let wrong = ["", "Bearer ", "Bearer x", &token, &format!("Bearer {other}"), &format!("Bearer {token}x")]
        .map(str::to_owned);
    for (method, path) in paths {
        for header in &wrong {
            let mut request = web.request(method.clone(), &path).header("content-type", "application/json");
            if !header.is_empty() {
                request = request.header("authorization", header);
            }
            let (status, text) = web.call(request.body(Body::from("{}")).unwrap());
            assert_eq!(
                (status, code(&text).as_str()),
                (StatusCode::UNAUTHORIZED, "unauthorized"),
                "{path} {header}"
            );
        }
        let twice = web.request(method.clone(), &path).header("authorization", web.bearer());
        let twice = twice.header("authorization", web.bearer()).body(Body::empty()).unwrap();
        assert_eq!(web.call(twice).0, StatusCode::UNAUTHORIZED, "{path}");
        let query = web.request(method, &format!("{path}?token={token}")).body(Body::empty()).unwrap();
        assert_eq!(web.call(query).0, StatusCode::UNAUTHORIZED, "{path}");
    }
    assert!(web.asked.lock().unwrap().is_empty());
    // Pages hold nothing of the site.
    let page = web.call(web.request(Method::GET, "/").body(Body::empty()).unwrap());
    assert_ne!(page.0, StatusCode::UNAUTHORIZED);
    assert!(Web::new(true).portal.token() != token, "another one each time");
}

/// A host, further headers, and the status that they get.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], StatusCode);

/// S54: other hosts, other origins, other types.
#[test]
fn s54_other_hosts_origins_and_types_get_nothing() {
    let web = Web::new(true);
    let builder =
        |path: &str| Request::builder().method(Method::POST).uri(path).header("authorization", web.bearer());
    let json = "application/json";
    for path in ["/v1/sign".to_owned(), format!("/v1/sites/{}/intents", web.site())] {
        let cases: [Case<'_>; 8] = [
            ("evil.test", &[("origin", ORIGIN), ("content-type", json)], StatusCode::MISDIRECTED_REQUEST),
            ("localhost:40123", &[("content-type", json)], StatusCode::MISDIRECTED_REQUEST),
            ("127.0.0.1:40124", &[("content-type", json)], StatusCode::MISDIRECTED_REQUEST),
            (HOST, &[("origin", "http://evil.test"), ("content-type", json)], StatusCode::FORBIDDEN),
            (HOST, &[("origin", "null"), ("content-type", json)], StatusCode::FORBIDDEN),
            (HOST, &[("sec-fetch-site", "cross-site"), ("content-type", json)], StatusCode::FORBIDDEN),
            (HOST, &[("origin", ORIGIN), ("content-type", "text/plain")], StatusCode::UNSUPPORTED_MEDIA_TYPE),
            (
                HOST,
                &[("content-type", "application/x-www-form-urlencoded")],
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
            ),
        ];
        for (host, headers, wanted) in cases {
            let request =
                headers.iter().fold(builder(&path).header("host", host), |r, (k, v)| r.header(*k, *v));
            let (status, text) = web.call(request.body(Body::from("{}")).unwrap());
            assert_eq!(status, wanted, "{path} {host} {headers:?}: {text}");
        }
    }
    assert!(web.asked.lock().unwrap().is_empty() && web.lab.sent().is_empty());
}

#[test]
fn the_page_learns_where_it_is_and_reads_through() {
    let web = Web::new(true);
    let (status, text) = web.ask(Method::GET, "/v1/portal", Body::empty());
    let about: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (status, &about["mode"], &about["signer"]["admin"]),
        (StatusCode::OK, &json!("cli"), &json!("mira"))
    );
    assert_eq!((&about["signer"]["class"], &about["site"]["name"]), (&json!("cli"), &json!("lyon")));
    let (status, text) = web.ask(Method::GET, &format!("/v1/sites/{}/nodes", web.site()), Body::empty());
    let nodes: Vec<Value> = serde_json::from_str(&text).unwrap();
    assert_eq!((status, nodes.len()), (StatusCode::OK, 2));
    // A door's refusal is passed on as it is.
    let (status, text) =
        web.ask(Method::GET, &format!("/v1/sites/{}/clusters/none", web.site()), Body::empty());
    assert_eq!((status, code(&text).as_str()), (StatusCode::NOT_FOUND, "not_found"));
    let events = web.request(Method::GET, &format!("/v1/sites/{}/events", web.site()));
    let events = events.header("authorization", web.bearer()).header("accept", "text/event-stream");
    let (status, text) = web.call(events.body(Body::empty()).unwrap());
    assert!(status.is_success() && text.contains("event 2"), "{text}");
    let (status, _) = web.ask(Method::GET, "/v1/login", Body::empty());
    assert_eq!(status, StatusCode::NOT_FOUND, "nobody logs in here");
    let long = vec![b'x'; qb_portal::limits::PLAN_BYTES + 1];
    let (status, _) = web.ask(Method::POST, &format!("/v1/sites/{}/plan", web.site()), long);
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[test]
fn what_is_signed_is_shown_from_its_bytes_and_only_if_somebody_agrees() {
    let no = Web::new(false);
    let payload = no.intent().to_payload();
    let (status, text) = no.sign(no.site(), &payload);
    assert_eq!((status, code(&text).as_str()), (StatusCode::FORBIDDEN, "declined"));
    assert!(!text.contains("signatures"), "{text}");

    let web = Web::new(true);
    let payload = web.intent().to_payload();
    let (status, text) = web.sign(web.site(), &payload);
    assert_eq!(status, StatusCode::OK, "{text}");
    let envelope = Envelope::parse(text.as_bytes()).unwrap();
    assert_eq!(envelope.payload(), payload, "the very bytes");
    let asked = web.asked.lock().unwrap().clone();
    assert_eq!(asked.len(), 1);
    let print = qb_model::words::fingerprint(&crate::made::waiting_node(1).id.0);
    for said in ["site.found", "01JD0000000000000000000001", "Sign as Mira Okafor (owner, ", " on lyon"] {
        assert!(asked[0].contains(said), "{said}: {}", asked[0]);
    }
    assert!(asked[0].contains("found the site on") && !print.is_empty(), "{}", asked[0]);
    let (status, text) = web.ask(Method::POST, &format!("/v1/sites/{}/intents", web.site()), text);
    assert_eq!(status, StatusCode::OK, "{text}");
    assert_eq!(serde_json::from_str::<IntentView>(&text).unwrap().digest, envelope.digest());
    assert_eq!(web.lab.sent(), ["site.found"]);
}

#[test]
fn nothing_but_an_intent_of_this_signer_for_this_site_is_signed() {
    let web = Web::new(true);
    let mut other_site = web.intent();
    other_site.site = SiteId(Digest([9; 32]));
    let mut other_admin = web.intent();
    other_admin.by = "ana".parse().unwrap();
    let login = Login {
        origin: ORIGIN.into(),
        server_key: SecretKey::from_bytes(&[3; 32]).public_key(),
        nonce: Nonce([1; 32]),
        issued_ms: Millis(1),
        expires_ms: Millis(2),
        session_key: SecretKey::from_bytes(&[4; 32]).public_key(),
    };
    let login = login.sign(&[&SecretKey::from_bytes(&[5; 32])]).payload().to_vec();
    let charter = Envelope::parse(web.lab.site.charter.envelope()).unwrap().payload().to_vec();
    let mut trailing = web.intent().to_payload();
    trailing.extend_from_slice(b"{}");
    for payload in
        [other_site.to_payload(), other_admin.to_payload(), login, charter, trailing, b"{}".to_vec()]
    {
        let (status, text) = web.sign(web.site(), &payload);
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{text}");
    }
    let (status, _) = web.sign(SiteId(Digest([9; 32])), &web.intent().to_payload());
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    for form in ["", "{}", "[]", r#"{"v":1,"site":"x","payload":"e30="}"#] {
        let (status, text) = web.ask(Method::POST, "/v1/sign", form);
        assert_eq!(status, StatusCode::BAD_REQUEST, "{form}: {text}");
    }
    assert!(web.asked.lock().unwrap().is_empty(), "nobody is bothered");
}

#[test]
fn the_key_never_shows() {
    let web = Web::new(true);
    web.ask(Method::GET, "/v1/portal", Body::empty());
    web.sign(web.site(), &web.intent().to_payload());
    web.sign(web.site(), b"{}");
    web.ask(Method::GET, "/v1/nothing", Body::empty());
    let file = std::fs::read_to_string(web.lab.folder.path().join("config/keys/lyon.key")).unwrap();
    let file: Value = serde_json::from_str(&file).unwrap();
    let secret = find_secret(&file).expect("the file of a key without passphrase holds it");
    let everything =
        [web.answers.lock().unwrap().join("\n"), web.asked.lock().unwrap().join("\n")].join("\n");
    assert!(everything.len() > 1_000 && !everything.contains(&secret), "{secret}");
}

/// The text of 32 bytes that is in the file besides the public key.
fn find_secret(value: &Value) -> Option<String> {
    match value {
        Value::Object(all) => all.iter().filter(|(k, _)| *k != "public").find_map(|(_, v)| find_secret(v)),
        Value::String(text) if (43..=44).contains(&text.len()) => Some(text.clone()),
        _ => None,
    }
}

#[test]
fn the_program_prints_one_address_and_answers_there() {
    let lab = Lab::new(1);
    let mut command = Command::new(env!("CARGO_BIN_EXE_qb"));
    command.env_clear().env("QB_CONFIG", lab.folder.path().join("config/config.toml"));
    command
        .args(["portal", "--no-browser"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let (at, token) = line.trim().strip_prefix("http://").unwrap().split_once("/#token=").unwrap();
    assert!(at.starts_with("127.0.0.1:") && token.len() == 43, "{line}");
    let get = |header: &str| {
        let mut stream = std::net::TcpStream::connect(at).unwrap();
        stream.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
        write!(stream, "GET /v1/portal HTTP/1.1\r\nhost: {at}\r\n{header}connection: close\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        text
    };
    let (without, with) = (get(""), get(&format!("authorization: Bearer {token}\r\n")));
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(without.starts_with("HTTP/1.1 401 "), "{without}");
    assert!(with.starts_with("HTTP/1.1 200 ") && with.contains("\"mode\":\"cli\""), "{with}");
}
