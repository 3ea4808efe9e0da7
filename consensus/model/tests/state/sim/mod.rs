//! A seeded simulation: replicas that lag and are restored, a leader whose proposals are dropped,
//! doubled and delayed, nodes that crash and repeat, admins who change their minds. Then everything
//! heals, and what is open must end or wait for a person.
//!
//! `QB_SIM_SEEDS=n` runs n seeds, `QB_SIM_SEED=n` that one.

mod admins;
mod invariants;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use world::World;

/// Steps with faults, of each seed.
const STEPS: usize = 130;
/// Seeds of a run that is not told otherwise: about 0.1 s of processor each.
const SEEDS: u64 = 80;

/// xorshift64*: the same numbers everywhere.
pub(super) struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Self((seed + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap() % bound.max(1)
    }

    pub(super) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(super) fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        from.get(self.below(from.len())).cloned()
    }
}

fn run(seed: u64) {
    let mut world = World::founded(Random::new(seed));
    for _ in 0..STEPS {
        world.step();
    }
    world.heal();
    invariants::audit_verifies(&world);
    invariants::snapshot_installs(&world);
    invariants::open_work_waits_for_a_person(&world);
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn every_seed_holds_and_heals() {
    if let Some(seed) = number("QB_SIM_SEED") {
        return run(seed);
    }
    let seeds = number("QB_SIM_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return;
            }
            let held = catch_unwind(AssertUnwindSafe(|| run(seed))).is_ok();
            assert!(held, "seed {seed} fails: QB_SIM_SEED={seed} cargo test -p qb-model every_seed");
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
}
