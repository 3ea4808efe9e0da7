//! S71 at the level of the function: what the executor takes for an order, and what not.

use qb_model::assignment::{Assignment, AssignmentError, Citation, Floor, Grounds, Stage, verify};
use qb_model::ids::{Digest, Generation, Millis};

use crate::support::site::{Site, attach_auto, attach_explicit, attach_named, create, delete, detach};
use crate::support::{OLGA, OPAL, VERA, charter, name, node, sign};

/// What a node hands to its executor, and what the executor remembers.
fn handed(site: &Site, seed: u8) -> (Assignment, Grounds, Floor) {
    let order = site.order_of(seed);
    let of = |cites: &Citation| {
        let live = &site.state.intents()[&cites.digest];
        (live.envelope.clone(), live.at)
    };
    let grounds = Grounds {
        charter: charter().envelope().to_vec(),
        trust_log: site.state.trust().log().to_vec(),
        order: of(&order.cites),
        create: of(&order.created_by),
    };
    let floor = Floor {
        site: site.id(),
        node: node(seed),
        generation: order.generation,
        trust_head: site.state.trust().head(),
    };
    (order, grounds, floor)
}

/// 102 (control plane) and 103 (worker), both with their first order.
fn ordered(explicit: bool) -> Site {
    let mut site = Site::with_pool(4);
    site.must("opal", create("blue"), &[OPAL]);
    let action =
        if explicit { attach_explicit("blue", &[102], &[103]) } else { attach_named("blue", &[102, 103]) };
    site.must("opal", action, &[OPAL]);
    while site.busy().is_empty() {
        site.lead(&[]);
    }
    site
}

#[test]
fn what_the_state_implies_stands_at_every_stage() {
    for action in
        [attach_auto("blue", 3), attach_named("blue", &[102, 103]), attach_explicit("blue", &[102], &[103])]
    {
        let mut site = Site::with_pool(4);
        site.must("opal", create("blue"), &[OPAL]);
        site.must("opal", action, &[OPAL]);
        let mut stages = std::collections::BTreeSet::new();
        for round in 0..12 {
            if round == 6 {
                site.must("olga", delete("blue"), &[OLGA]);
            }
            // Whoever is taken out by others gets its order in the round after.
            while site.lead(&[]) > 0 && site.busy().is_empty() {}
            for seed in site.busy() {
                let (order, grounds, floor) = handed(&site, seed);
                stages.insert(order.stage);
                let (stands, head) = verify(order.clone(), &grounds, &floor).unwrap();
                assert_eq!((stands.assignment(), head), (&order, floor.trust_head));
                site.done(seed);
            }
        }
        assert_eq!(stages.len(), 4, "{stages:?}");
    }
}

type Change<'a> = &'a dyn Fn(&mut Assignment, &mut Grounds, &mut Floor);

fn refused(site: &Site, seed: u8, change: Change<'_>) -> AssignmentError {
    let (mut order, mut grounds, mut floor) = handed(site, seed);
    assert!(verify(order.clone(), &grounds, &floor).is_ok());
    change(&mut order, &mut grounds, &mut floor);
    verify(order, &grounds, &floor).unwrap_err()
}

#[test]
fn s71_who_and_when() {
    let site = ordered(true);
    assert_eq!(refused(&site, 102, &|_, _, f| f.node = node(103)), AssignmentError::NotForMe);
    assert_eq!(refused(&site, 102, &|a, _, _| a.node = node(103)), AssignmentError::NotForMe);
    let elsewhere = qb_model::ids::SiteId(Digest([1; 32]));
    assert_eq!(refused(&site, 102, &|_, _, f| f.site = elsewhere), AssignmentError::NotForMe);
    let (got, floor) = (Generation(1), Generation(2));
    let stale = AssignmentError::Stale { got, floor };
    assert_eq!(refused(&site, 102, &|_, _, f| f.generation = Generation(2)), stale);
    // The same again is carried on with.
    let (order, grounds, mut floor) = handed(&site, 102);
    floor.generation = Generation(0);
    assert!(verify(order, &grounds, &floor).is_ok());
}

#[test]
fn s71_the_trust_log() {
    let site = ordered(true);
    let rows: [Change<'_>; 5] = [
        &|_, g, _| drop(g.trust_log.pop()),
        &|_, g, _| g.trust_log.clear(),
        &|_, g, _| drop(g.trust_log.remove(0)),
        &|_, g, _| g.charter.truncate(40),
        &|_, g, _| g.trust_log[0].log_time = Millis(1),
    ];
    for (at, row) in rows.into_iter().enumerate() {
        let error = refused(&site, 102, row);
        assert!(matches!(error, AssignmentError::Trust(_)), "{at}: {error:?}");
    }
    // A longer one than that remembered is fine.
    let (order, grounds, mut floor) = handed(&site, 102);
    floor.trust_head = site.id().0;
    assert!(verify(order, &grounds, &floor).is_ok());
}

#[test]
fn s71_the_envelopes() {
    let mut site = ordered(true);
    let another = site.intent("opal", attach_explicit("blue", &[102], &[103]));
    let by = |by: &str, seeds: &[u8], site: &Site| {
        let mut intent = another.clone();
        intent.by = name(by);
        (sign(&intent, seeds).to_bytes(), site.now, intent.digest())
    };
    let swap = |(envelope, at, digest): (Vec<u8>, Millis, Digest)| {
        refused(&site, 102, &move |a, g, _| {
            a.cites.digest = digest;
            g.order = (envelope.clone(), at);
        })
    };
    for (who, seeds) in [("opal", &[99][..]), ("vera", &[VERA]), ("opal", &[VERA]), ("nina", &[OPAL])] {
        let error = swap(by(who, seeds, &site));
        assert!(matches!(error, AssignmentError::Intent { what: "ordering", .. }), "{who}: {error:?}");
    }
    let rows: [Change<'_>; 7] = [
        &|_, g, _| g.order.0.clear(),
        &|_, g, _| g.create.0.clear(),
        &|_, g, _| g.order = g.create.clone(),
        &|_, g, _| g.order.0[60] ^= 1,
        &|a, _, _| a.cites.digest = Digest([1; 32]),
        &|a, _, _| a.created_by.digest = Digest([1; 32]),
        // Before opal was an admin.
        &|a, _, _| a.cites.index = 2,
    ];
    for (at, row) in rows.into_iter().enumerate() {
        let error = refused(&site, 102, row);
        assert!(matches!(error, AssignmentError::Intent { .. }), "{at}: {error:?}");
    }
    // Long after it expired it would not have been accepted.
    let late = refused(&site, 102, &|_, g, _| g.order.1 = g.order.1.plus(25 * crate::support::HOUR));
    assert!(matches!(late, AssignmentError::Intent { .. }));
}

#[test]
fn s71_nothing_but_what_was_signed() {
    let site = ordered(true);
    let rows: [Change<'_>; 9] = [
        &|a, _, _| a.bundle = Digest([1; 32]),
        &|a, _, _| a.driver = name("rehearsal"),
        &|a, _, _| a.version = "1.36.3".parse().unwrap(),
        &|a, _, _| a.cluster = name("green"),
        &|a, _, _| a.stage = Stage::Leave,
        &|a, _, _| a.members.clear(),
        &|a, _, _| a.role = qb_model::action::NodeRole::Worker,
        &|a, _, _| {
            a.role = qb_model::action::NodeRole::Worker;
            a.members.iter_mut().for_each(|m| m.role = a.role);
        },
        // The attach names 102 and 103.
        &|a, _, f| {
            a.node = node(104);
            f.node = node(104);
            a.members.iter_mut().for_each(|m| m.node = node(104));
        },
    ];
    for (at, row) in rows.into_iter().enumerate() {
        let error = refused(&site, 102, row);
        assert!(matches!(error, AssignmentError::NotImplied(_)), "{at}: {error:?}");
    }
    let named = ordered(false);
    let error = refused(&named, 102, rows_last());
    assert!(matches!(error, AssignmentError::NotImplied(_)), "{error:?}");
}

fn rows_last() -> Change<'static> {
    &|a, _, f| {
        a.node = node(104);
        f.node = node(104);
        a.members.iter_mut().for_each(|m| m.node = node(104));
    }
}

#[test]
fn s71_leaving_needs_the_nodes_name() {
    let mut site = Site::with_blue(4, &[102], &[103, 104]);
    site.must("opal", detach("blue", &[103]), &[OPAL]);
    site.lead(&[]);
    site.lead(&[]);
    let not_named: Change<'_> = &|a, _, f| {
        a.members.iter_mut().find(|m| m.node == node(103)).unwrap().node = node(104);
        a.node = node(104);
        f.node = node(104);
    };
    assert!(matches!(refused(&site, 103, not_named), AssignmentError::NotImplied(_)));
    let stay: Change<'_> = &|a, _, _| a.stage = Stage::Join;
    assert!(matches!(refused(&site, 103, stay), AssignmentError::NotImplied(_)));
}
