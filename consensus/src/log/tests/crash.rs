//! Crashes at every operation: what was acknowledged is there, the vote is not lower, and what is
//! there beyond is a prefix of what was asked for.

use std::sync::Arc;

use proptest::prelude::*;

use super::super::disk::Disk;
use super::super::writer::{Change, Writer};
use super::faulty::FaultyDisk;
use super::{Content, STORE, entry, open, vote, write};

#[derive(Debug, Clone)]
enum Step {
    Append { count: u64, size: usize },
    Vote,
    Truncate { back: u64 },
    Purge { ahead: u64 },
    Committed,
}

fn steps() -> impl Strategy<Value = Vec<Vec<Step>>> {
    let step = prop_oneof![
        4 => (1..4u64, prop_oneof![3 => 0..600usize, 1 => 0..200_000usize])
            .prop_map(|(count, size)| Step::Append { count, size }),
        1 => Just(Step::Vote),
        1 => (0..3u64).prop_map(|back| Step::Truncate { back }),
        1 => (1..6u64).prop_map(|ahead| Step::Purge { ahead }),
        1 => Just(Step::Committed),
    ];
    prop::collection::vec(prop::collection::vec(step, 1..5), 1..24)
}

/// The log as it should be, one record at a time.
#[derive(Clone, Default)]
struct Model {
    content: Content,
    term: u64,
}

impl Model {
    fn last(&self) -> Option<crate::wire::LogPos> {
        self.content.entries.last().map(|e| e.at).or(self.content.purged)
    }

    /// Turns a step into a change; pushes what the log may hold after each record of it.
    fn step(&mut self, step: &Step, states: &mut Vec<Content>) -> Option<Change> {
        self.term += 1;
        let next = self.last().map_or(0, |at| at.index + 1);
        let change = match *step {
            Step::Append { count, size } => {
                let entries: Vec<_> =
                    (next..next + count).map(|index| entry(self.term, index, size)).collect();
                for entry in &entries {
                    self.content.entries.push(entry.clone());
                    states.push(self.content.clone());
                }
                Change::Append(entries)
            }
            Step::Vote => {
                self.content.vote = Some(vote(self.term));
                Change::Vote(vote(self.term))
            }
            Step::Truncate { back } => {
                let first = self.content.entries.first()?.at.index;
                let from = next.saturating_sub(back).max(first);
                self.content.entries.retain(|e| e.at.index < from);
                Change::Truncate { from }
            }
            Step::Purge { ahead } => {
                let upto = self.content.entries.iter().take(ahead as usize).last()?.at;
                self.content.entries.retain(|e| e.at.index > upto.index);
                self.content.purged = Some(upto);
                Change::Purge { upto }
            }
            Step::Committed => Change::Committed(self.last()?),
        };
        states.push(self.content.clone());
        Some(change)
    }
}

/// Runs batches until a fault; returns what the log may hold after a crash.
fn run(writer: &mut Writer, model: &mut Model, batches: &[Vec<Step>]) -> Vec<Content> {
    for batch in batches {
        let mut states = vec![model.content.clone()];
        let mut next = model.clone();
        let changes = batch.iter().filter_map(|step| next.step(step, &mut states)).collect();
        if write(writer, changes).is_err() {
            return states;
        }
        *model = next;
    }
    vec![model.content.clone()]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn acknowledged_survives(
        batches in steps(),
        fail_at in 1..70u64,
        short in 0..4u64,
        kept in prop::collection::vec(any::<bool>(), 1..40),
    ) {
        let mut disk = FaultyDisk::default();
        Writer::create(&disk, STORE).expect("create");
        let mut model = Model::default();
        let mut keep = kept.into_iter().cycle();
        // Three lives: each ends by a fault or a crash at the end, the last without.
        for life in 0..3 {
            let living = Arc::new(disk);
            let as_disk: Arc<dyn Disk> = living.clone();
            let (mut writer, content) = open(&as_disk).expect("a crash is never rot");
            prop_assert_eq!(&content, &model.content);
            living.shorten_every(short);
            if life < 2 {
                living.fail_at(fail_at);
            }
            let allowed = run(&mut writer, &mut model, &batches);
            disk = living.crash(|| keep.next().unwrap_or(false));
            let after: Arc<dyn Disk> = Arc::new(disk.crash(|| true));
            let (_, content) = open(&after).expect("a crash is never rot");
            prop_assert!(allowed.contains(&content), "acknowledged work is gone");
            model.content = content;
        }
    }
}

#[test]
fn a_failed_write_is_final() {
    let disk = Arc::new(FaultyDisk::default());
    Writer::create(&*disk, STORE).expect("create");
    let as_disk: Arc<dyn Disk> = disk.clone();
    let log = super::super::store::LogStore::open(as_disk, STORE).expect("open");
    disk.fail_at(1);
    let runtime = tokio::runtime::Runtime::new().expect("runtime");
    runtime.block_on(async {
        use openraft::storage::RaftLogStorage;
        let mut store = log.clone();
        let first = crate::types::vote_from_wire(&vote(1));
        assert!(store.save_vote(&first).await.is_err());
        assert!(log.failed().await.to_string().contains("EIO"));
        // The disk would say yes now: the kernel forgot what it could not write.
        disk.fail_at(0);
        assert!(store.save_vote(&first).await.is_err());
        assert!(log.wait_durable(0).await.is_err());
        log.close().await;
    });
    let (_, content) = open(&(disk as Arc<dyn Disk>)).expect("open");
    assert_eq!(content.vote, None);
}
