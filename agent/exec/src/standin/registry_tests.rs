#![allow(clippy::unwrap_used)]

use super::*;

fn offer(dir: &Dir, node: NodeId, credential: &str, expires_ms: Millis) {
    let offer = Offer { v: 1, node, credential: credential_digest(credential), expires_ms };
    dir.make_dirs(&"offers".parse().unwrap()).unwrap();
    dir.write(&offer_path(node).unwrap(), &serde_json::to_vec(&offer).unwrap(), 0o600).unwrap();
}

fn join(node: NodeId, bootstrap: &str, credential: &str) -> JoinRequest {
    JoinRequest {
        node,
        host: "lyon-r1-02".to_owned(),
        role: NodeRole::Worker,
        bootstrap: bootstrap.to_owned(),
        credential: credential.to_owned(),
    }
}

#[test]
fn a_credential_lets_its_node_in_once_and_survives_a_restart() {
    let temp = tempfile::tempdir().unwrap();
    let open = || Registry::open(Dir::open(temp.path()).unwrap()).unwrap();
    let (node, other) = (NodeId([2; 32]), NodeId([3; 32]));
    let later = clock::now().plus(60_000);
    let mut registry = open();
    assert_eq!(registry.join(&join(node, "boot", "own")), Err(RegistryError::Credential));
    offer(&registry.dir, node, "boot", later);
    assert_eq!(registry.join(&join(node, "wrong", "own")), Err(RegistryError::Credential));
    assert_eq!(registry.join(&join(other, "boot", "own")), Err(RegistryError::Credential));
    assert_eq!(registry.join(&join(node, "boot", "own")), Ok(()));
    assert_eq!(registry.dir.read(&offer_path(node).unwrap(), 1000).unwrap(), None);
    // The same again, as after a lost answer; another credential of its own is another node.
    assert_eq!(registry.join(&join(node, "boot", "own")), Ok(()));
    assert_eq!(registry.join(&join(node, "boot", "new")), Err(RegistryError::Credential));
    let say = |credential: &str| NodeRequest { node, credential: credential.to_owned() };
    let mut registry = open();
    assert!(!registry.nodes()[0].ready);
    assert_eq!(registry.heartbeat(&say("boot")), Err(RegistryError::Unknown));
    assert_eq!(registry.heartbeat(&say("own")), Ok(()));
    assert!(registry.nodes()[0].ready);
    assert_eq!(registry.leave(&say("wrong")), Err(RegistryError::Unknown));
    assert_eq!(registry.leave(&say("own")), Ok(()));
    assert_eq!(open().nodes(), []);
}

#[test]
fn an_offer_ends() {
    let temp = tempfile::tempdir().unwrap();
    let mut registry = Registry::open(Dir::open(temp.path()).unwrap()).unwrap();
    let node = NodeId([2; 32]);
    offer(&registry.dir, node, "boot", clock::now());
    assert_eq!(registry.join(&join(node, "boot", "own")), Err(RegistryError::Expired));
}
