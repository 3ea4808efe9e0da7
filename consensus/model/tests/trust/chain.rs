//! The audit chain: what it proves, and that every tampering breaks it.

use qb_model::action::Role;
use qb_model::audit::ChainFault;
use qb_model::chain::{AuditKind, AuditRecord, verify_chain};
use qb_model::ids::{Digest, Generation, SiteId};
use qb_model::outcome::Outcome;
use qb_model::statement::{NodeCommand, Statement};

use crate::support::{
    HOUR, NOW, OLGA, OPAL, OTTO, VERA, World, add, key, label, new_key, node, policy, remove,
};

fn command(world: &World, from: u8) -> NodeCommand {
    NodeCommand {
        v: 1,
        site: world.site(),
        epoch: 0,
        node: node(from),
        incarnation: 1,
        sequence: 1,
        assignment: Digest([4; 32]),
        stage: 2,
        result: vec![1, 2, 3],
    }
}

/// A chain with a record of every kind.
fn busy() -> World {
    let mut world = World::staffed();
    world.must("opal", label(), &[OPAL]);
    world.must_not("vera", label(), &[VERA], "role");
    world.must("olga", policy(|p| p.owners_needed = 2), &[OLGA, OTTO]);
    let removal = world.intent("olga", remove("vera"));
    world.send(&removal, &[OLGA]);
    world.tick(NOW + HOUR);
    world.send(&removal, &[OTTO]);
    let signed = command(&world, 101).sign(&key(101));
    let digest = signed.digest(qb_model::dsse::Purpose::Command);
    world.chain(AuditKind::NodeCommand, digest, None, signed.to_bytes());
    world
}

/// The records again, with heads that follow, after a change.
fn rechained(world: &World, records: &[AuditRecord]) -> Vec<AuditRecord> {
    let mut head = qb_model::chain::Head::beginning(world.site());
    records
        .iter()
        .map(|r| {
            let body = r.body.clone();
            let next = AuditRecord::after(&head, r.log_time, r.kind, r.digest, r.outcome.clone(), body);
            head = next.head();
            next
        })
        .collect()
}

#[test]
fn a_whole_chain_proves_itself() {
    let world = busy();
    let proof = verify_chain(world.site(), &world.charter, &world.records).unwrap();
    assert_eq!(proof.head, world.head);
    assert_eq!(proof.trust_head, world.trust.head());
    assert_eq!((proof.rejected, proof.pending, proof.commands, proof.ticks), (1, 1, 1, 2));
}

#[test]
fn every_tampering_breaks_it() {
    let world = busy();
    let check = |records: &[AuditRecord]| verify_chain(world.site(), &world.charter, records);
    for at in 0..world.records.len() {
        let mut dropped = world.records.clone();
        dropped.remove(at);
        let whole = check(&dropped);
        assert!(whole.is_err() || whole.unwrap().head != world.head, "drop {at}");
        let mut late = world.records.clone();
        late[at].log_time = late[at].log_time.plus(1);
        assert!(check(&late).is_err(), "time {at}");
        let mut other = world.records.clone();
        other[at].digest = Digest([1; 32]);
        assert!(check(&other).is_err(), "digest {at}");
        // With heads that follow, the digest still is not that of the body.
        assert!(check(&rechained(&world, &other)).is_err(), "digest, rechained {at}");
        let mut twice = world.records.clone();
        twice.insert(at, twice[at].clone());
        assert!(check(&twice).is_err(), "twice {at}");
    }
    assert!(verify_chain(SiteId(Digest([0; 32])), &world.charter, &[]).is_err());
}

#[test]
fn who_rewrites_the_chain_lacks_the_signatures() {
    let world = busy();
    let fault = |records: &[AuditRecord]| {
        let records = rechained(&world, records);
        verify_chain(world.site(), &world.charter, &records).map(|_| ()).map_err(|b| b.why)
    };
    let rejected =
        world.records.iter().position(|r| matches!(r.outcome, Some(Outcome::Rejected(_)))).unwrap();
    let mut turned = world.records.clone();
    turned[rejected].outcome = Some(Outcome::Accepted { generation: Generation(1) });
    assert!(matches!(fault(&turned), Err(ChainFault::NotAuthorized(_))));
    // Leaving out the entry that made an admin makes that admin's intents unsigned.
    let made =
        world.records.iter().position(|r| String::from_utf8_lossy(&r.body).contains("signatures")).unwrap();
    let mut cut = world.records.clone();
    cut.remove(made + 2);
    assert!(fault(&cut).is_err());
    // A node that nobody authorized.
    let mut foreign = world.records.clone();
    let signed = command(&world, 102).sign(&key(102));
    let last = foreign.last_mut().unwrap();
    last.digest = signed.digest(qb_model::dsse::Purpose::Command);
    last.body = signed.to_bytes();
    assert_eq!(fault(&foreign), Err(ChainFault::NotAMember(node(102))));
    // An approval of nothing.
    let mut odd = world.records.clone();
    odd[0].kind = AuditKind::Approval;
    assert_eq!(fault(&odd), Err(ChainFault::NotPending));
    // The same intent accepted twice.
    let mut replayed = world.records.clone();
    replayed.push(replayed[0].clone());
    replayed.last_mut().unwrap().log_time = world.log_time;
    let error = fault(&replayed);
    assert!(error.is_err(), "{error:?}");
}

#[test]
fn admins_of_the_time_count_not_those_of_now() {
    let mut world = World::staffed();
    world.must("opal", label(), &[OPAL]);
    world.must("olga", remove("opal"), &[OLGA]);
    let again = add("opal", Role::Viewer, vec![new_key(180, qb_model::action::KeyClass::Cli)]);
    world.must("olga", again, &[OLGA]);
    verify_chain(world.site(), &world.charter, &world.records).unwrap();
}
