//! Callers that break the protocol: each ends its own connection, the others are answered.

use std::time::Duration;

use qb_exec::limits::{CONNECTIONS, GREETING_BYTES, REQUEST_BYTES};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::program::Program;
use crate::signed::Signed;

/// Greeting as it is on the wire: magic, two numbers, a text.
fn greeting(magic: &[u8; 4], oldest: u8, newest: u8) -> Vec<u8> {
    let mut body = magic.to_vec();
    body.extend([oldest, newest, 5]);
    body.extend(b"0.1.0");
    frame(&body)
}

fn frame(body: &[u8]) -> Vec<u8> {
    let mut out = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    out.extend(body);
    out
}

async fn connect(program: &Program) -> UnixStream {
    UnixStream::connect(program.remote.socket()).await.unwrap()
}

/// Sends bytes and reads until the connection ends. The bytes that came.
async fn said(program: &Program, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(program).await;
    // It may be closed before all was written.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await;
    let _ = ended.expect("the connection is ended");
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_breaks_the_protocol_ends_only_his_own_connection() {
    let site = Signed::new(96, 1);
    let temp = tempfile::tempdir().unwrap();
    let program = Program::start(temp.path(), &site).await;
    let own = greeting(b"qbx1", 1, 1);
    let about = said(&program, &[own.clone(), frame(&[0])].concat()).await;
    assert!(about.starts_with(&own), "{about:?}");
    assert!(about.len() > own.len() + 40, "the same bytes by hand are answered: {about:?}");
    let too_large = |most: usize| u32::try_from(most + 1).unwrap().to_be_bytes().to_vec();
    let cases: [(&str, Vec<u8>); 8] = [
        ("an oversized greeting", too_large(GREETING_BYTES)),
        ("an oversized request", [own.clone(), too_large(REQUEST_BYTES)].concat()),
        ("the largest length there is", [own.clone(), vec![0xff; 4]].concat()),
        ("another protocol", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("another magic", greeting(b"qbx9", 1, 1)),
        ("no version in common", greeting(b"qbx1", 2, 9)),
        ("a request of no kind", [own.clone(), frame(&[77])].concat()),
        ("bytes behind a request", [own.clone(), frame(&[0, 0])].concat()),
    ];
    for (what, bytes) in cases {
        let answer = said(&program, &bytes).await;
        assert!(answer.is_empty() || answer == own, "{what}: {answer:?}");
        program.remote.about().await.unwrap_or_else(|e| panic!("after {what}: {e}"));
    }
    // Half-open ones, as many as there may be: they end by themselves, and the next one is answered.
    let mut idle = Vec::new();
    for n in 0..CONNECTIONS {
        let mut stream = connect(&program).await;
        stream.write_all(&own[..n % 4]).await.unwrap();
        idle.push(stream);
    }
    let about = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            if let Ok(about) = program.remote.about().await {
                return about;
            }
        }
    });
    assert_eq!(about.await.expect("it is answered").site, Ok(site.id()));
    assert!(program.clusters().is_empty());
}

/// An executor in the wrong hands: the agent's side ends in time with an error.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_breaks_the_protocol_is_an_error() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("s");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let own = greeting(b"qbx1", 1, 1);
    let answers: [Vec<u8>; 5] = [
        vec![],
        vec![0xff; 4],
        greeting(b"qbx1", 7, 9),
        [own.clone(), vec![0xff; 4]].concat(),
        [own.clone(), frame(&[77])].concat(),
    ];
    let count = answers.len();
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.write_all(&answer).await;
            let _ = stream.shutdown().await;
        }
    });
    let remote = qb_exec::RemoteExec::new(path);
    for _ in 0..count {
        assert!(remote.about().await.is_err());
    }
}
