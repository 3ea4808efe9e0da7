#![allow(clippy::unwrap_used)]

use super::*;

const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 61, 1));
const AWAY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 61, 2));

fn ports() -> Vec<Port> {
    let port = |proto, port| Port { proto, port, service: "node service".to_owned() };
    vec![port(Proto::Tcp, 20_250), port(Proto::Udp, 18_472)]
}

fn target(proto: Proto, port: u16) -> ProbeTarget {
    ProbeTarget {
        from: AWAY,
        to: SocketAddr::new(HOME, port),
        proto,
        expect: NodeId([1; 32]),
        serving: false,
        limit: Duration::from_secs(2),
    }
}

#[test]
fn the_codec_takes_its_own_bytes_only() {
    let (nonce, node) = ([7; NONCE], NodeId([9; 32]));
    let (request, answer) = (encode_request(&nonce), encode_answer(&nonce, &node));
    assert_eq!(decode_request(&request), Some(nonce));
    assert_eq!(decode_answer(&answer), Some((nonce, node)));
    assert_eq!(decode_request(&request[1..]), None);
    assert_eq!(decode_request(&answer), None);
    assert_eq!(decode_answer(&answer[..ANSWER_BYTES - 1]), None);
    assert_eq!(decode_answer(&request), None);
}

#[tokio::test]
async fn responders_answer_hold_their_ports_and_let_go() {
    let (open, busy) = Responders::open(HOME, &ports(), NodeId([1; 32])).await;
    assert!(busy.is_empty(), "{busy:?}");
    for (proto, port) in [(Proto::Tcp, 20_250), (Proto::Udp, 18_472)] {
        assert!(matches!(probe(target(proto, port)).await, ProbeResult::Ok { .. }), "{proto:?}");
        let other = ProbeTarget { expect: NodeId([2; 32]), ..target(proto, port) };
        assert_eq!(probe(other).await, ProbeResult::WrongAnswer);
    }
    let (_none, busy) = Responders::open(HOME, &ports(), NodeId([1; 32])).await;
    assert_eq!(busy.len(), 2);
    drop(open);
    // Sockets close when their aborted tasks are dropped, which is soon but not at once.
    for (proto, port) in [(Proto::Tcp, 20_250), (Proto::Udp, 18_472)] {
        let closed = async {
            while probe(target(proto, port)).await != ProbeResult::Refused {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(10), closed).await.unwrap();
    }
}

#[tokio::test]
async fn silence_is_dropped_and_another_protocol_is_a_wrong_answer() {
    let _silent = UdpSocket::bind(SocketAddr::new(HOME, 18_473)).await.unwrap();
    let quick = ProbeTarget { limit: Duration::from_millis(50), ..target(Proto::Udp, 18_473) };
    assert_eq!(probe(quick).await, ProbeResult::Dropped);
    let listener = bind_tcp(SocketAddr::new(HOME, 20_251)).unwrap();
    let closes = tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    assert_eq!(probe(target(Proto::Tcp, 20_251)).await, ProbeResult::WrongAnswer);
    let serving = ProbeTarget { serving: true, ..target(Proto::Tcp, 20_251) };
    assert!(matches!(probe(serving).await, ProbeResult::Ok { .. }));
    closes.abort();
}
