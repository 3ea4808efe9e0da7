//! S41: a node speaks for itself, of its current order, once. And the offers of secrets.

use qb_model::assignment::{NodeResult, Stage};
use qb_model::command::Command;
use qb_model::ids::{Digest, Millis, SiteId};
use qb_model::state::Applied;
use qb_model::statement::{NodeCommand, Statement as _};

use crate::support::site::{Site, attach_explicit, create, detach, done, hello, node_command};
use crate::support::{MINUTE, OPAL, key, node};

fn signed(command: &NodeCommand, by: u8) -> Command {
    Command::Node(command.sign(&key(by)).to_bytes())
}

/// 102 (control plane) and 103 (worker) have their order to prepare.
fn preparing() -> Site {
    let mut site = Site::with_pool(4);
    site.must("opal", create("blue"), &[OPAL]);
    site.must("opal", attach_explicit("blue", &[102], &[103]), &[OPAL]);
    site.lead(&[]);
    site.lead(&[]);
    assert_eq!(site.busy(), [102, 103]);
    site
}

#[test]
fn s41_only_for_itself_and_only_of_the_current_order() {
    let mut site = preparing();
    let mine = site.order_of(102);
    let other = site.order_of(103);
    let at = (1, 50);
    let id = site.id();
    let good = node_command(id, 102, at, Some(&mine), &done(102));
    let with = |change: &dyn Fn(&mut NodeCommand)| {
        let mut command = good.clone();
        change(&mut command);
        signed(&command, 102)
    };
    site.ignored(signed(&good, 103));
    site.ignored(Command::Node(b"no command".to_vec()));
    site.ignored(with(&|c| c.node = node(103)));
    site.ignored(with(&|c| c.assignment = other.digest()));
    site.ignored(with(&|c| c.assignment = Digest([0; 32])));
    site.ignored(with(&|c| c.stage = Stage::Initialize as u8));
    site.ignored(with(&|c| c.stage = Stage::Leave as u8));
    site.ignored(with(&|c| c.epoch = 1));
    site.ignored(with(&|c| c.site = SiteId(Digest([1; 32]))));
    site.ignored(with(&|c| c.result = vec![9, 9]));
    site.ignored(with(&|c| c.v = 2));
    let public = NodeResult::Done { public: vec![0; 16 * 1024 + 1] };
    site.ignored(with(&|c| c.result = postcard::to_stdvec(&public).unwrap()));
    // 104 is in the pool and has no order.
    site.ignored(signed(&node_command(id, 104, at, None, &done(104)), 104));
    assert_eq!(site.propose(signed(&good, 102)), Applied::Done);
    assert_eq!(site.record(102).said, at);
}

#[test]
fn s41_sequence_and_incarnation_only_rise() {
    let mut site = preparing();
    let order = site.order_of(102);
    let id = site.id();
    let at = |place: (u64, u64)| signed(&node_command(id, 102, place, Some(&order), &done(102)), 102);
    let said = site.record(102).said;
    assert_eq!(said, (1, 1));
    site.ignored(at((1, 1)));
    site.ignored(at((0, 99)));
    site.ignored(at((1 + 1_000_001, 1)));
    site.ignored(at((u64::MAX, 1)));
    assert_eq!(site.propose(at((3, 1))), Applied::Done);
    site.ignored(at((3, 1)));
    site.ignored(at((2, 99)));
    // The same again with a new number: the stage is done.
    site.ignored(at((3, 2)));
}

#[test]
fn s41_an_older_order_is_answered_in_vain() {
    let mut site = preparing();
    let old = site.order_of(102);
    site.done(102);
    site.done(103);
    site.lead(&[]);
    assert_eq!(site.order_of(102).stage, Stage::Initialize);
    let id = site.id();
    site.ignored(signed(&node_command(id, 102, (1, 90), Some(&old), &done(102)), 102));
    // On its way out, the order to initialize is over too.
    let old = site.order_of(102);
    site.must("opal", detach("blue", &[102, 103]), &[OPAL]);
    site.ignored(signed(&node_command(id, 102, (1, 91), Some(&old), &done(102)), 102));
    site.settle();
    assert!(site.in_pool(102) && site.in_pool(103));
}

#[test]
fn hello_says_where_and_with_which_key() {
    let mut site = Site::with_pool(2);
    let id = site.id();
    let with = |seq: u64, address: &str, of: u8| {
        let NodeResult::Hello { seal_key, .. } = hello(id, of, seq) else { panic!() };
        NodeResult::Hello { seal_key, address: address.into() }
    };
    let say = |place: u64, result: &NodeResult| signed(&node_command(id, 102, (2, place), None, result), 102);
    site.ignored(say(1, &with(2, "10.0.0.102:7000", 102)));
    site.ignored(say(1, &with(2, "host-102", 102)));
    site.ignored(say(1, &with(2, "10.0.0.102", 103)));
    site.ignored(say(1, &with(0, "10.0.0.102", 102)));
    assert_eq!(site.propose(say(1, &with(2, "2001:DB8::1", 102))), Applied::Done);
    assert_eq!(site.record(102).address.as_deref(), Some("2001:db8::1"));
    assert_eq!(site.record(102).seal.unwrap().1, 2);
    site.ignored(say(2, &with(1, "10.0.0.102", 102)));
}

/// 102 initialized; 103 and 104 have their order to join.
fn joining() -> Site {
    let mut site = Site::with_pool(6);
    site.must("opal", create("blue"), &[OPAL]);
    site.must("opal", attach_explicit("blue", &[102], &[103, 104]), &[OPAL]);
    site.lead(&[]);
    for _ in 0..2 {
        site.lead(&[]);
        for seed in site.busy() {
            site.done(seed);
        }
    }
    site.lead(&[]);
    assert_eq!(site.busy(), [103, 104]);
    site
}

fn offer(to: u8, purpose: &str, expires_ms: Millis) -> NodeResult {
    let ciphertext = Digest([to; 32]);
    NodeResult::SecretOffered { to: node(to), purpose: purpose.into(), ciphertext, expires_ms }
}

#[test]
fn secrets_go_from_a_control_plane_to_one_that_joins() {
    let mut site = joining();
    let id = site.id();
    let soon = site.now.plus(15 * MINUTE);
    let from = |n: u8, result: &NodeResult| signed(&node_command(id, n, (1, 80), None, result), n);
    site.ignored(from(102, &offer(103, "admin", soon)));
    site.ignored(from(102, &offer(103, "join", site.now.plus(30 * MINUTE))));
    site.ignored(from(102, &offer(105, "join", soon)));
    site.ignored(from(102, &offer(120, "join", soon)));
    site.ignored(from(102, &offer(102, "join", soon)));
    site.ignored(from(103, &offer(104, "join", soon)));
    site.ignored(from(105, &offer(104, "join", soon)));
    assert_eq!(site.propose(from(102, &offer(103, "join", soon))), Applied::Done);
    assert_eq!(site.blue().offers[&node(103)].from, node(102));
    // Who has joined needs none, and what was offered is gone.
    site.done(103);
    assert!(site.blue().offers.is_empty());
    let late = node_command(id, 102, (1, 81), None, &offer(103, "join", soon));
    site.ignored(signed(&late, 102));
    assert_eq!(site.say(104, Some(&site.order_of(104)), &done(104)), Applied::Done);
    assert_eq!(site.blue().phase.word(), "ready");
}

#[test]
fn offers_end_with_either_side() {
    for gone in [102, 103] {
        let mut site = joining();
        let soon = site.now.plus(15 * MINUTE);
        let command = node_command(site.id(), 102, (1, 80), None, &offer(103, "join", soon));
        assert_eq!(site.propose(signed(&command, 102)), Applied::Done);
        site.must("opal", crate::support::site::revoke(gone), &[OPAL]);
        assert!(site.blue().offers.is_empty(), "{gone}");
    }
}
