//! What is carried from one judgement to the next, and from one leader to the next.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use super::rules::{Reading, Trouble};
use super::{About, Alert, Key, MAX_FIRING, MAX_RESOLVED, RESOLVED_MS, Rule, Severity, Verdict};
use crate::ids::Millis;

/// An alert that fires, and since when readings are well again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Firing {
    alert: Alert,
    well: Option<Millis>,
}

/// Trouble that is too young for an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Brewing {
    since: Millis,
    well: Option<Millis>,
}

/// The alerts of a site as their leader has them. Every other node keeps a copy: it tells news from
/// what is known, and if it comes to lead, `since` and what resolved lately go on.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    firing: BTreeMap<Key, Firing>,
    resolved: VecDeque<Alert>,
    /// Only of use to who judges; a new leader begins with none.
    #[serde(skip)]
    brewing: BTreeMap<Key, Brewing>,
}

/// Tells a list of alerts from the next one: the leader's term, and how often it had news.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mark {
    /// The Raft term.
    pub term: u64,
    /// Rises with every list that has news.
    pub count: u64,
}

/// Something to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It began to fire.
    Fired(Alert),
    /// It became critical.
    Worsened(Alert),
    /// It is over.
    Resolved(Alert),
}

impl News {
    /// The alert.
    pub fn alert(&self) -> &Alert {
        match self {
            Self::Fired(alert) | Self::Worsened(alert) | Self::Resolved(alert) => alert,
        }
    }

    /// The sentence after the subject.
    pub fn text(&self) -> String {
        match self {
            Self::Fired(a) => format!("{} ({} {})", a.text, a.severity.word(), a.rule.word()),
            Self::Worsened(a) => format!("{} (now {} {})", a.text, a.severity.word(), a.rule.word()),
            Self::Resolved(a) => {
                let took = a.resolved.unwrap_or(a.since).since(a.since);
                format!("is well again: {} is over after {}", a.rule.word(), span(took))
            }
        }
    }
}

/// A time as people say it: `41 s`, `7 min`, `9 h`, `3 d`.
pub(super) fn span(ms: u64) -> String {
    match ms / 1_000 {
        s @ 0..120 => format!("{s} s"),
        s @ 120..7_200 => format!("{} min", s / 60),
        s @ 7_200..172_800 => format!("{} h", s / 3_600),
        s => format!("{} d", s / 86_400),
    }
}

/// Since when it is well, if it was well before `now`: a clock that was set back begins anew.
fn well_since(held: Option<Millis>, now: Millis) -> Millis {
    held.filter(|at| *at <= now).unwrap_or(now)
}

/// Worst first, then oldest; the key for one order of equals.
fn rank(alert: &Alert) -> (std::cmp::Reverse<Severity>, Millis, Key) {
    (std::cmp::Reverse(alert.severity), alert.since, alert.key())
}

impl Kept {
    /// How bad it is by now, if that fires.
    pub(super) fn severity(&self, key: &Key) -> Option<Severity> {
        self.firing.get(key).map(|f| f.alert.severity)
    }

    /// Whether that fires.
    pub fn fires(&self, key: &Key) -> bool {
        self.firing.contains_key(key)
    }

    /// Takes the readings of one judgement in.
    pub(super) fn next(&self, readings: BTreeMap<Key, (String, Reading)>, now: Millis) -> Verdict {
        let mut verdict = Verdict { kept: self.clone(), ..Verdict::default() };
        // What is watched no more, as a node that left, is over.
        let gone: Vec<Key> = self.firing.keys().filter(|key| !readings.contains_key(*key)).cloned().collect();
        for key in &gone {
            verdict.end(key, now);
        }
        verdict.kept.brewing.retain(|key, _| readings.contains_key(key));
        for (key, (subject, reading)) in readings {
            if verdict.kept.firing.contains_key(&key) {
                verdict.go_on(&key, reading, now);
            } else {
                verdict.begin(key, subject, reading, now);
            }
        }
        let fired = |a: &Alert| verdict.fired.iter().any(|f| f.rule == a.rule && f.about == a.about);
        let mut ongoing: Vec<Alert> =
            verdict.kept.firing.values().map(|f| f.alert.clone()).filter(|a| !fired(a)).collect();
        ongoing.sort_by_cached_key(rank);
        verdict.ongoing = ongoing;
        verdict.kept.forget(now);
        verdict
    }

    fn forget(&mut self, now: Millis) {
        self.resolved.retain(|a| a.resolved.is_some_and(|at| now.since(at) < RESOLVED_MS));
        let over = self.resolved.len().saturating_sub(MAX_RESOLVED);
        self.resolved.drain(..over);
    }

    /// What people are shown: what fires, worst first, then oldest; then what resolved, the latest
    /// first. What follows from a silent host is folded beneath it.
    pub fn list(&self) -> Vec<Alert> {
        let mut follow = BTreeMap::<&About, usize>::new();
        let silent = |about: &About| self.firing.contains_key(&(Rule::NodeSilent, about.clone()));
        let mut firing = Vec::new();
        for ((rule, about), held) in &self.firing {
            if *rule != Rule::NodeSilent && silent(about) {
                *follow.entry(about).or_default() += 1;
            } else {
                firing.push(held.alert.clone());
            }
        }
        for alert in firing.iter_mut().filter(|a| a.rule == Rule::NodeSilent) {
            if let Some(count) = follow.get(&alert.about) {
                alert.text.push_str(&format!("; {count} more beneath it"));
            }
        }
        firing.sort_by_cached_key(rank);
        firing.into_iter().chain(self.resolved.iter().rev().cloned()).collect()
    }

    /// What a later list has that this one has not.
    pub fn news_in(&self, later: &Self, now: Millis) -> Vec<News> {
        let mut news = Vec::new();
        for (key, held) in self.firing.iter().filter(|(key, _)| !later.firing.contains_key(*key)) {
            let told = later.resolved.iter().rev().find(|a| a.key() == *key).cloned();
            let over = Alert { resolved: Some(now), ..held.alert.clone() };
            news.push(News::Resolved(told.unwrap_or(over)));
        }
        for (key, held) in &later.firing {
            match self.severity(key) {
                None => news.push(News::Fired(held.alert.clone())),
                Some(before) if before < held.alert.severity => {
                    news.push(News::Worsened(held.alert.clone()));
                }
                Some(_) => {}
            }
        }
        news
    }

    /// Brings a list that another node sent into its bounds, with `clean` on every text in it.
    pub fn bound(&mut self, clean: impl Fn(&str) -> String) {
        while self.firing.len() > MAX_FIRING {
            self.firing.pop_last();
        }
        self.resolved.truncate(MAX_RESOLVED);
        let firing = self.firing.values_mut().map(|f| &mut f.alert);
        for alert in firing.chain(&mut self.resolved) {
            alert.text = clean(&alert.text);
            alert.subject = clean(&alert.subject);
        }
    }
}

impl Verdict {
    fn go_on(&mut self, key: &Key, reading: Reading, now: Millis) {
        let Some(held) = self.kept.firing.get_mut(key) else { return };
        match reading {
            Reading::Bad(trouble) => {
                let worse = trouble.severity > held.alert.severity;
                held.well = None;
                (held.alert.severity, held.alert.text) = (trouble.severity, trouble.text);
                if worse {
                    self.worsened.push(held.alert.clone());
                }
            }
            Reading::Unsure => held.well = None,
            Reading::Well => {
                let since = well_since(held.well, now);
                held.well = Some(since);
                if now.since(since) >= key.0.clear_ms() {
                    self.end(key, now);
                }
            }
        }
    }

    fn begin(&mut self, key: Key, subject: String, reading: Reading, now: Millis) {
        let brewing = self.kept.brewing.get(&key).copied();
        match reading {
            Reading::Bad(trouble) => {
                let since = brewing.map_or(now, |b| b.since.min(now));
                if now.since(since) < key.0.hold_ms() || self.kept.firing.len() >= MAX_FIRING {
                    self.kept.brewing.insert(key, Brewing { since, well: None });
                } else {
                    self.fire(key, subject, trouble, since);
                }
            }
            Reading::Unsure => {
                if let Some(held) = self.kept.brewing.get_mut(&key) {
                    held.well = None;
                }
            }
            Reading::Well => {
                let Some(held) = self.kept.brewing.get_mut(&key) else { return };
                let since = well_since(held.well, now);
                held.well = Some(since);
                if now.since(since) >= key.0.clear_ms() {
                    self.kept.brewing.remove(&key);
                }
            }
        }
    }

    fn fire(&mut self, key: Key, subject: String, trouble: Trouble, since: Millis) {
        self.kept.brewing.remove(&key);
        let Trouble { severity, text, since: began } = trouble;
        let (rule, about) = key.clone();
        let since = since.min(began);
        let alert = Alert { rule, about, subject, severity, text, since, resolved: None };
        self.fired.push(alert.clone());
        self.kept.firing.insert(key, Firing { alert, well: None });
    }

    fn end(&mut self, key: &Key, now: Millis) {
        let Some(held) = self.kept.firing.remove(key) else { return };
        let over = Alert { resolved: Some(now), ..held.alert };
        self.kept.resolved.push_back(over.clone());
        self.resolved.push(over);
    }
}
