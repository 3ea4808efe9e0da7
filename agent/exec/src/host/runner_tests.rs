#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex as StdMutex};

use tokio::sync::Notify;

use super::super::leaver::Leaver;
use super::super::order::{HostFailure, Work};
use super::*;

/// An init system whose helpers end when they are told to.
#[derive(Default)]
struct Fake {
    /// What was asked, in order.
    asked: StdMutex<Vec<String>>,
    /// The helper that runs, by its mark.
    runs: StdMutex<Option<Option<Digest>>>,
    /// What a helper leaves when it ends.
    leaves: StdMutex<Option<Result<Reported, HostFailure>>>,
    word: StdMutex<&'static str>,
    end: Notify,
    began: Notify,
    folder: StdMutex<PathBuf>,
}

impl Fake {
    fn note(&self, what: &str) {
        self.asked.lock().unwrap().push(what.to_owned());
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }

    /// A helper comes to its end, and leaves its result as the real one does.
    async fn live(&self, mark: Option<Digest>) -> String {
        self.began.notify_one();
        self.end.notified().await;
        let leaves = self.leaves.lock().unwrap().clone();
        if let (Some(mark), Some(ended)) = (mark, leaves) {
            let bytes = serde_json::to_vec(&HostResult { mark, ended }).unwrap();
            std::fs::write(self.folder.lock().unwrap().join("release.result"), bytes).unwrap();
        }
        *self.runs.lock().unwrap() = None;
        self.word.lock().unwrap().to_string()
    }
}

impl Helpers for Fake {
    fn running<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<Option<Digest>>, StepError>> {
        Box::pin(async { Ok(*self.runs.lock().unwrap()) })
    }

    fn run<'a>(&'a self, unit: &'a HelperUnit) -> BoxFuture<'a, Result<String, StepError>> {
        self.note("run");
        assert!(unit.file.ends_with("host/release.json") && unit.file.is_file());
        *self.runs.lock().unwrap() = Some(Some(unit.mark));
        Box::pin(async { Ok(self.live(Some(unit.mark)).await) })
    }

    fn ended<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(), StepError>> {
        self.note("await");
        let mark = self.runs.lock().unwrap().flatten();
        Box::pin(async move {
            self.live(mark).await;
            Ok(())
        })
    }

    fn stop<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(), StepError>> {
        self.note("stop");
        *self.runs.lock().unwrap() = None;
        Box::pin(async { Ok(()) })
    }
}

fn task(name: &str) -> Task<'static> {
    let leaver = Leaver {
        name: name.parse().unwrap(),
        address: "127.0.0.9".into(),
        role: qb_model::action::NodeRole::Worker,
        version: "1.20.2".parse().unwrap(),
    };
    let order = HostOrder::new("clus100".parse().unwrap(), Work::Release(leaver));
    Task { lane: Lane::Release, title: "take a node out", order, limit: Duration::from_secs(60) }
}

fn open() -> (tempfile::TempDir, Arc<Runner>, Arc<Fake>) {
    let temp = tempfile::tempdir().unwrap();
    let runner = Runner::open(&Dir::create(temp.path()).unwrap()).unwrap();
    let fake = Fake::default();
    *fake.folder.lock().unwrap() = temp.path().join("host");
    *fake.leaves.lock().unwrap() = Some(Ok(Reported::Done));
    *fake.word.lock().unwrap() = "done";
    (temp, Arc::new(runner), Arc::new(fake))
}

async fn run(runner: &Runner, fake: &Fake, name: &str) -> Result<Reported, StepError> {
    runner.run(fake, task(name), &CancellationToken::new(), |_| ()).await
}

#[tokio::test]
async fn a_helper_runs_to_its_end_and_its_result_counts() {
    let (temp, runner, fake) = open();
    fake.end.notify_one();
    assert_eq!(run(&runner, &fake, "w1").await, Ok(Reported::Done));
    assert_eq!(fake.asked(), ["run"]);
    let failure = HostFailure { text: "no".into(), remedy: "do".into() };
    *fake.leaves.lock().unwrap() = Some(Err(failure));
    fake.end.notify_one();
    assert_eq!(run(&runner, &fake, "w1").await, Err(StepError::new("no", "do")));
    // One that was killed leaves nothing; what is there of the one before does not count.
    *fake.leaves.lock().unwrap() = None;
    for (word, text) in [("failed", "left no result"), ("timeout", "more than 60 s")] {
        *fake.word.lock().unwrap() = word;
        fake.end.notify_one();
        let error = run(&runner, &fake, "w1").await.unwrap_err();
        assert!(error.text.contains(text), "{error:?}");
    }
    use std::os::unix::fs::PermissionsExt as _;
    let mode = |name: &str| std::fs::metadata(temp.path().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("host"), mode("host/release.json")), (0o700, 0o600));
}

#[tokio::test]
async fn a_helper_that_was_given_up_is_taken_up_by_the_same_work() {
    let (_temp, runner, fake) = open();
    let cancel = CancellationToken::new();
    let (given_up, seen) = (cancel.clone(), Arc::clone(&fake));
    tokio::spawn(async move {
        seen.began.notified().await;
        given_up.cancel();
    });
    let stopped = runner.run(&*fake, task("w1"), &cancel, |_| ()).await;
    assert_eq!(stopped, Err(StepError::cancelled()));
    fake.end.notify_one();
    assert_eq!(run(&runner, &fake, "w1").await, Ok(Reported::Done));
    assert_eq!(fake.asked(), ["run", "await"]);
}

#[tokio::test]
async fn other_work_ends_a_helper_first() {
    let (_temp, runner, fake) = open();
    for mark in [None, Some(Digest([7; 32]))] {
        *fake.runs.lock().unwrap() = Some(mark);
        fake.end.notify_one();
        assert_eq!(run(&runner, &fake, "w2").await, Ok(Reported::Done));
        assert_eq!(fake.asked(), ["stop", "run"]);
    }
}

#[tokio::test]
async fn what_is_told_is_shown() {
    let (temp, runner, fake) = open();
    let shown = Arc::new(StdMutex::new(Vec::new()));
    let (at, seen, lines) = (temp.path().join("host/release.told"), Arc::clone(&fake), Arc::clone(&shown));
    tokio::spawn(async move {
        seen.began.notified().await;
        tell::Tell::into(at).tell("draining w1\u{7}");
        while !lines.lock().unwrap().iter().any(|line| line == "draining w1") {
            tokio::task::yield_now().await;
        }
        seen.end.notify_one();
    });
    let tell = |line: &str| shown.lock().unwrap().push(line.to_owned());
    runner.run(&*fake, task("w1"), &CancellationToken::new(), tell).await.unwrap();
}
