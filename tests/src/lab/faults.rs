//! What is wrong with the segment: cuts, losses and pulled cables, and the filter that makes it so.
//! Pure; `net.rs` puts it into force.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::place::MACHINE;

/// The bridge.
pub(super) const BRIDGE: &str = "lab0";

/// A direction between two places: hosts, or this machine.
pub type Way = (u8, u8);

/// Everything that is wrong at a time.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Faults {
    /// Directions in which nothing passes.
    pub cut: BTreeSet<Way>,
    /// Directions in which frames are lost: how many of a thousand.
    pub loss: Vec<Loss>,
    /// Hosts whose cable is pulled.
    pub unplugged: BTreeSet<u8>,
}

/// A lossy direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Loss {
    /// Whose frames.
    pub from: u8,
    /// To whom.
    pub to: u8,
    /// How many of a thousand.
    pub permille: u16,
}

impl Faults {
    /// Nothing passes from one to the other, nor back unless `one_way`.
    pub fn cut(&mut self, from: u8, to: u8, one_way: bool) {
        self.cut.extend(ways(from, to, one_way));
    }

    /// So many of a thousand frames are lost from one to the other, and back unless `one_way`; 0 heals.
    pub fn lose(&mut self, from: u8, to: u8, permille: u16, one_way: bool) {
        let losses = self.loss.iter().map(|l| ((l.from, l.to), l.permille));
        let mut all: BTreeMap<Way, u16> = losses.collect();
        all.extend(ways(from, to, one_way).map(|way| (way, permille.min(1000))));
        all.retain(|_, permille| *permille > 0);
        self.loss = all.into_iter().map(|((from, to), permille)| Loss { from, to, permille }).collect();
    }

    /// Two places are joined as if nothing had been; pulled cables stay so.
    pub fn heal(&mut self, one: u8, other: u8) {
        self.lose(one, other, 0, false);
        for way in ways(one, other, false) {
            self.cut.remove(&way);
        }
    }

    /// A host's cable is pulled, or plugged in again.
    pub fn unplug(&mut self, host: u8, pulled: bool) {
        if pulled {
            self.unplugged.insert(host);
        } else {
            self.unplugged.remove(&host);
        }
    }

    /// The filter, as one transaction that replaces the one before. Frames are judged one by one, so a
    /// connection that stands is cut like a new one.
    pub fn filter(&self) -> String {
        let mut chains: [Vec<String>; 3] = Default::default();
        for &way in &self.cut {
            let (chain, matches) = hook(way);
            chains[chain].push(format!("{matches} counter drop"));
        }
        for loss in &self.loss {
            let (chain, matches) = hook((loss.from, loss.to));
            chains[chain].push(format!("{matches} numgen random mod 1000 < {} counter drop", loss.permille));
        }
        let mut text = "table bridge lab\ndelete table bridge lab\ntable bridge lab {\n".to_owned();
        for (name, rules) in ["forward", "input", "output"].iter().zip(chains) {
            // Writing to a String cannot fail.
            let _ =
                writeln!(text, "  chain {name} {{\n    type filter hook {name} priority 0; policy accept;");
            for rule in rules {
                let _ = writeln!(text, "    {rule}");
            }
            text.push_str("  }\n");
        }
        text.push_str("}\n");
        text
    }
}

/// A host's port on the bridge.
pub(super) fn port(host: u8) -> String {
    format!("h{host}")
}

fn ways(from: u8, to: u8, one_way: bool) -> impl Iterator<Item = Way> {
    [(from, to), (to, from)].into_iter().take(if one_way { 1 } else { 2 })
}

/// The chain that sees frames of a direction, and how it knows them. What goes to or comes from this
/// machine is not forwarded between ports.
fn hook((from, to): Way) -> (usize, String) {
    match (from, to) {
        (from, MACHINE) => (1, format!("iifname \"{}\"", port(from))),
        (MACHINE, to) => (2, format!("oifname \"{}\"", port(to))),
        (from, to) => (0, format!("iifname \"{}\" oifname \"{}\"", port(from), port(to))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_for_every_fault() {
        let mut faults = Faults::default();
        faults.cut(1, 2, false);
        faults.cut(3, 1, true);
        faults.cut(1, MACHINE, false);
        faults.lose(2, 3, 200, true);
        let want = r#"table bridge lab
delete table bridge lab
table bridge lab {
  chain forward {
    type filter hook forward priority 0; policy accept;
    iifname "h1" oifname "h2" counter drop
    iifname "h2" oifname "h1" counter drop
    iifname "h3" oifname "h1" counter drop
    iifname "h2" oifname "h3" numgen random mod 1000 < 200 counter drop
  }
  chain input {
    type filter hook input priority 0; policy accept;
    iifname "h1" counter drop
  }
  chain output {
    type filter hook output priority 0; policy accept;
    oifname "h1" counter drop
  }
}
"#;
        assert_eq!(faults.filter(), want);
    }

    #[test]
    fn what_is_healed_is_gone() {
        let mut faults = Faults::default();
        faults.cut(1, 2, true);
        faults.cut(1, 3, false);
        faults.lose(1, 2, 500, false);
        faults.lose(1, 2, 100, true);
        assert_eq!(faults.loss.len(), 2, "one figure for each direction");
        assert_eq!(faults.loss[0], Loss { from: 1, to: 2, permille: 100 });
        faults.heal(2, 1);
        assert_eq!(faults.loss, []);
        assert_eq!(faults.cut, BTreeSet::from([(1, 3), (3, 1)]));
    }
}
