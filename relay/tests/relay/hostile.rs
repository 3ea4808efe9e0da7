//! Bytes that nobody should send.

use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use qb_link::dial::{DialConfig, OuterTls, dial};
use qb_link::noise::StaticKey;
use qb_link::{AgentEnd, MuxEnd, handshake, mux, push};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{client_async, tungstenite};

use crate::agent::FakeAgent;
use crate::client::Client;
use crate::site::{FakeSite, OLGA, key};
use crate::world::World;

async fn raw(world: &World) -> tokio_tungstenite::WebSocketStream<tokio::net::TcpStream> {
    let tcp = tokio::net::TcpStream::connect(&world.authority).await.unwrap();
    let (socket, _) = client_async(format!("ws://{}/v1/link", world.authority), tcp).await.unwrap();
    socket
}

async fn ends(mut socket: tokio_tungstenite::WebSocketStream<tokio::net::TcpStream>) {
    let ended = async { while let Some(Ok(_)) = socket.next().await {} };
    tokio::time::timeout(Duration::from_secs(5), ended).await.expect("the relay ends it");
}

#[tokio::test]
async fn t50_huge_and_wrong_messages_end_the_connection_only() {
    let world = World::new().await;
    let site = world.site(1, "plant", "acme").await;
    let messages = [
        Message::Binary(vec![0; 17 * 1024].into()),
        Message::Binary(vec![0xff; 1024].into()),
        Message::Text("hello".into()),
        Message::Binary(vec![0, 5, 1, 2, 3, 4, 5].into()),
    ];
    for message in messages {
        let mut socket = raw(&world).await;
        socket.send(message).await.unwrap();
        ends(socket).await;
    }
    let _agent = FakeAgent::start(&site, 101, &world.url).up().await;
    let olga = Client::log_in(&world, 1, OLGA).await;
    assert_eq!(olga.get("/v1/sites").await.status, 200);
}

/// A link whose push stream the test writes itself.
async fn by_hand(world: &World, site: &FakeSite, number: u8, bytes: &[u8]) -> String {
    let config = DialConfig { url: world.url.clone(), proxy: None, outer: OuterTls::Any };
    let (io, target) = dial(&config).await.unwrap();
    let (signer, noise) = (key(site.base, number), StaticKey::generate().unwrap());
    let end = AgentEnd {
        signer: &signer,
        noise: &noise,
        site: site.id(),
        incarnation: 9,
        epoch: 1,
        host: &target.authority,
        relay: world.key,
        versions: &[1],
    };
    let (stream, _) = handshake::connect(io, &end).await.unwrap();
    let (mux, _incoming, driver) = mux::streams(stream, MuxEnd::Agent);
    let driver = tokio::spawn(driver);
    let mut stream = mux.open().await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream.flush().await.unwrap();
    let read = async {
        while let Ok(Some(told)) = push::read::<_, push::Told>(&mut stream).await {
            if let push::Told::Bye { code, .. } = told {
                return code;
            }
        }
        "closed".to_owned()
    };
    let code = tokio::time::timeout(Duration::from_secs(5), read).await.expect("the relay says bye");
    drop(mux);
    drop(driver);
    code
}

#[tokio::test]
async fn t51_a_push_that_lies_about_its_length_or_content_ends_the_link() {
    let world = World::new().await;
    let site = world.site(1, "plant", "acme").await;
    assert_eq!(by_hand(&world, &site, 101, &u32::MAX.to_be_bytes()).await, "broken");
    assert_eq!(by_hand(&world, &site, 101, &[0, 0, 0, 2, 99, 99]).await, "broken");
    // A node that is on no roster may not speak as one.
    let changed = postcard::to_stdvec(&push::Push::Changed).unwrap();
    let mut message = (changed.len() as u32).to_be_bytes().to_vec();
    message.extend(changed);
    assert_eq!(by_hand(&world, &site, 150, &message).await, "unproven");
    // A knock that was made for another connection: anybody may have recorded it.
    let door = FakeAgent::start(&site, 150, "http://127.0.0.1:1").door.clone();
    let knock = qb_link::Source::knock(&*door, world.key, qb_model::Nonce([1; 32])).unwrap();
    let mut bytes = Vec::new();
    push::write(&mut bytes, &push::Push::Knock(knock)).await.unwrap();
    assert_eq!(by_hand(&world, &site, 150, &bytes).await, "knock");
    // Trust entries that nobody signed.
    let forged = qb_model::trust::TrustEntry {
        parent: site.lock().trust().head(),
        digest: qb_model::Digest([1; 32]),
        index: 900,
        log_time: qb_model::Millis(1),
        envelope: vec![1; 100],
    };
    let mut bytes = Vec::new();
    push::write(&mut bytes, &push::Push::Trust { entries: vec![forged], more: false }).await.unwrap();
    assert_eq!(by_hand(&world, &site, 150, &bytes).await, "not_believed");
}

#[tokio::test]
async fn t52_a_page_of_a_browser_gets_no_link() {
    let world = World::new().await;
    let tcp = tokio::net::TcpStream::connect(&world.authority).await.unwrap();
    use tungstenite::client::IntoClientRequest as _;
    let mut request = format!("ws://{}/v1/link", world.authority).into_client_request().unwrap();
    request.headers_mut().insert("origin", "https://evil.test".parse().unwrap());
    assert!(client_async(request, tcp).await.is_err());
    // A host that this relay is not.
    let mut tcp = tokio::net::TcpStream::connect(&world.authority).await.unwrap();
    tcp.write_all(b"GET /v1/sites HTTP/1.1\r\nhost: evil.test\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    tcp.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 421"), "{text}");
}

#[tokio::test]
async fn t53_an_oversized_body_is_refused() {
    let world = World::new().await;
    let site = world.site(1, "plant", "acme").await;
    let olga = Client::log_in(&world, 1, OLGA).await;
    let got = olga.post("/v1/sites/plant/intents", vec![b'x'; 97 * 1024]).await;
    assert_eq!(got.status, 413);
    let stranger = Client::stranger(&world.authority);
    let got = stranger.post("/v1/register", vec![b'['; 2 * 1024 * 1024]).await;
    assert_eq!(got.status, 400);
    assert!(site.lock().founded());
}
