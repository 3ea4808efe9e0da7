//! `--where` and `--sort` of lists: terms and words, the same grammar as the portal's filter line.
//!
//! `state:waiting zone:rack-1 disk>80 silent>1m debian`: every term must fit; `a:b,c` is b or c; a
//! word without an operator is looked for in every text of a row.

use std::cmp::Ordering;

use qb_model::action::NodeRole;
use qb_portal::view::{ClusterView, NodeView};

use super::marks;
use super::text::{clean, now};
use crate::args::duration;
use crate::args::rest::RowArgs;
use crate::config::nearest;
use crate::error::CliError;

/// What a field of a row holds.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Names: one of them is the one that is asked for.
    Names(Vec<String>),
    /// A text that contains what is asked for.
    Text(String),
    /// A number, or for times milliseconds; none if it is not known.
    Number(Option<f64>),
}

/// What a field's values are written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Words.
    Words,
    /// A number.
    Number,
    /// A time as 90s or 10m.
    Time,
}

/// A field that terms and orders name.
#[derive(Debug)]
pub struct Field<T> {
    /// Its name: the column's head in lower case.
    pub name: &'static str,
    /// How its values are written.
    pub kind: Kind,
    /// Its value in a row.
    pub get: fn(&T) -> Value,
}

fn names(all: impl IntoIterator<Item = String>) -> Value {
    Value::Names(all.into_iter().collect())
}

fn fact(node: &NodeView, get: fn(&qb_model::facts::Facts) -> String) -> String {
    node.facts.as_ref().map(get).unwrap_or_default()
}

fn cents(node: &NodeView, get: fn(&NodeView, &qb_model::facts::Facts) -> Option<(f64, f64)>) -> Value {
    let pair = node.facts.as_ref().and_then(|f| get(node, f));
    Value::Number(pair.filter(|(_, of)| *of > 0.0).map(|(part, of)| part / of * 100.0))
}

#[allow(clippy::cast_precision_loss, reason = "shown as whole numbers")]
fn float(number: u64) -> f64 {
    number as f64
}

fn since(at: qb_model::Millis) -> Value {
    Value::Number(Some(float(now().since(at))))
}

fn of_role(node: &NodeView) -> Vec<String> {
    let role = node.role.map(|r| match r {
        NodeRole::ControlPlane => "control-plane".to_owned(),
        NodeRole::Worker => "worker".to_owned(),
    });
    node.roles.iter().cloned().chain(role).collect()
}

/// The fields of a node.
pub const NODES: &[Field<NodeView>] = &[
    Field { name: "name", kind: Kind::Words, get: |n| names([n.name.to_string()]) },
    Field { name: "state", kind: Kind::Words, get: |n| names([marks::node(n).1.to_owned()]) },
    Field { name: "cluster", kind: Kind::Words, get: |n| names(n.cluster.iter().map(ToString::to_string)) },
    Field { name: "role", kind: Kind::Words, get: |n| names(of_role(n)) },
    Field { name: "zone", kind: Kind::Words, get: |n| names([fact(n, |f| f.zone.clone())]) },
    Field { name: "label", kind: Kind::Words, get: |n| names(n.labels.iter().cloned()) },
    Field { name: "os", kind: Kind::Words, get: |n| Value::Text(fact(n, |f| f.os.clone())) },
    Field { name: "kernel", kind: Kind::Words, get: |n| Value::Text(fact(n, |f| f.kernel.clone())) },
    Field { name: "agent", kind: Kind::Words, get: |n| Value::Text(fact(n, |f| f.agent.clone())) },
    Field { name: "address", kind: Kind::Words, get: |n| Value::Text(fact(n, |f| f.addresses.join(" "))) },
    Field { name: "fingerprint", kind: Kind::Words, get: |n| Value::Text(n.fingerprint.clone()) },
    Field {
        name: "why",
        kind: Kind::Words,
        get: |n| Value::Text(n.waiting_on.as_ref().map(|w| w.text.clone()).unwrap_or_default()),
    },
    Field {
        name: "cores",
        kind: Kind::Number,
        get: |n| Value::Number(n.facts.as_ref().map(|f| f.cores.into())),
    },
    Field {
        name: "cpu",
        kind: Kind::Number,
        get: |n| cents(n, |n, f| Some((n.load_milli?.into(), f64::from(f.cores) * 1000.0))),
    },
    Field {
        name: "mem",
        kind: Kind::Number,
        get: |n| cents(n, |n, f| Some((float(n.memory_used_bytes?), float(f.memory_bytes)))),
    },
    Field {
        name: "disk",
        kind: Kind::Number,
        get: |n| {
            cents(n, |_, f| {
                Some((float(f.disk_bytes.saturating_sub(f.disk_free_bytes)), float(f.disk_bytes)))
            })
        },
    },
    Field { name: "silent", kind: Kind::Time, get: |n| Value::Number(n.report_age_ms.map(float)) },
    Field { name: "since", kind: Kind::Time, get: |n| since(n.since) },
];

fn members(cluster: &ClusterView, role: NodeRole) -> Value {
    Value::Number(Some(float(cluster.members.iter().filter(|m| m.role == role).count() as u64)))
}

/// The fields of a cluster.
pub const CLUSTERS: &[Field<ClusterView>] = &[
    Field { name: "name", kind: Kind::Words, get: |c| names([c.name.to_string()]) },
    Field { name: "state", kind: Kind::Words, get: |c| names([marks::cluster(c).1.to_owned()]) },
    Field { name: "driver", kind: Kind::Words, get: |c| names([c.driver.to_string()]) },
    Field { name: "version", kind: Kind::Words, get: |c| Value::Text(c.version.to_string()) },
    Field { name: "node", kind: Kind::Words, get: |c| names(c.members.iter().map(|m| m.host.to_string())) },
    Field {
        name: "why",
        kind: Kind::Words,
        get: |c| Value::Text(c.waiting_on.as_ref().map(|w| w.text.clone()).unwrap_or_default()),
    },
    Field { name: "control", kind: Kind::Number, get: |c| members(c, NodeRole::ControlPlane) },
    Field { name: "workers", kind: Kind::Number, get: |c| members(c, NodeRole::Worker) },
    Field { name: "since", kind: Kind::Time, get: |c| since(c.since) },
];

enum Test {
    /// One of these words.
    Is(Vec<String>),
    /// Compares that way.
    Compares(fn(Ordering) -> bool, f64),
}

enum Term<T: 'static> {
    Word(String),
    Field(&'static Field<T>, Test),
}

/// Rows that are wanted, and their order.
pub struct Wanted<T: 'static> {
    fields: &'static [Field<T>],
    terms: Vec<Term<T>>,
    sort: Option<(&'static Field<T>, bool)>,
}

fn field<T>(
    fields: &'static [Field<T>],
    name: &str,
    flag: &str,
    shown: &str,
) -> Result<&'static Field<T>, CliError> {
    fields.iter().find(|f| f.name == name.to_ascii_lowercase()).ok_or_else(|| {
        let known: Vec<&str> = fields.iter().map(|f| f.name).collect();
        let near = nearest(name, &known).map(|n| format!("; the nearest is {n}")).unwrap_or_default();
        CliError::usage(format!("{flag} {}: there is no {}{near}.", clean(shown), clean(name)))
            .remedy(format!("known: {}", known.join(", ")))
    })
}

type Operator = (&'static str, Option<fn(Ordering) -> bool>);

/// Longer operators first.
const OPERATORS: [Operator; 6] = [
    (">=", Some(Ordering::is_ge)),
    ("<=", Some(Ordering::is_le)),
    (">", Some(Ordering::is_gt)),
    ("<", Some(Ordering::is_lt)),
    (":", None),
    ("=", None),
];

fn term<T>(fields: &'static [Field<T>], text: &str) -> Result<Term<T>, CliError> {
    let at = text.find([':', '=', '<', '>']);
    let Some((at, (sign, compare))) =
        at.and_then(|at| Some((at, OPERATORS.into_iter().find(|(sign, _)| text[at..].starts_with(sign))?)))
    else {
        return Ok(Term::Word(text.to_lowercase()));
    };
    let field = field(fields, &text[..at], "--where", text)?;
    let value = &text[at + sign.len()..];
    let wrong = |rule: &str| {
        CliError::usage(format!("--where {}: {} takes {rule}.", clean(text), field.name))
            .remedy("as in --where 'state:pool disk>80 silent>1m'")
    };
    let number = match field.kind {
        Kind::Words if compare.is_some() => return Err(wrong(": and a word")),
        Kind::Words if value.is_empty() => return Err(wrong("a word")),
        Kind::Words => {
            let all = value.split(',').map(str::to_lowercase).collect();
            return Ok(Term::Field(field, Test::Is(all)));
        }
        Kind::Number => value.trim_end_matches('%').parse::<f64>().ok().filter(|n| n.is_finite()),
        Kind::Time => duration(value).ok().map(|d| float(u64::try_from(d.as_millis()).unwrap_or(u64::MAX))),
    };
    let rule = if field.kind == Kind::Time { "a time as 90s, 10m or 2h" } else { "a number" };
    let number = number.ok_or_else(|| wrong(rule))?;
    Ok(Term::Field(field, Test::Compares(compare.unwrap_or(Ordering::is_eq), number)))
}

fn fits(value: &Value, test: &Test) -> bool {
    match (value, test) {
        (Value::Names(all), Test::Is(wanted)) => all.iter().any(|name| wanted.contains(&name.to_lowercase())),
        (Value::Text(text), Test::Is(wanted)) => wanted.iter().any(|w| text.to_lowercase().contains(w)),
        (Value::Number(Some(have)), Test::Compares(how, limit)) => have.partial_cmp(limit).is_some_and(how),
        _ => false,
    }
}

fn order(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        // What is not known comes last.
        (Value::Number(Some(a)), Value::Number(Some(b))) => a.total_cmp(b),
        (Value::Number(a), Value::Number(b)) => b.is_some().cmp(&a.is_some()),
        (Value::Names(a), Value::Names(b)) => a.cmp(b),
        (Value::Text(a), Value::Text(b)) => a.cmp(b),
        _ => Ordering::Equal,
    }
}

impl<T> Wanted<T> {
    /// Reads `--where` and `--sort`.
    ///
    /// # Errors
    /// Names the term and the known ones.
    pub fn read(args: &RowArgs, fields: &'static [Field<T>]) -> Result<Self, CliError> {
        let words = args.filter.as_deref().unwrap_or_default().split_whitespace();
        let terms = words.map(|text| term(fields, text)).collect::<Result<_, _>>()?;
        let sort = args.sort.as_deref().map(|text| {
            let (name, back) = text.strip_prefix('-').map_or((text, false), |name| (name, true));
            field(fields, name, "--sort", text).map(|f| (f, back))
        });
        Ok(Self { fields, terms, sort: sort.transpose()? })
    }

    fn keeps(&self, row: &T) -> bool {
        self.terms.iter().all(|term| match term {
            Term::Field(field, test) => fits(&(field.get)(row), test),
            Term::Word(word) => self.fields.iter().any(|field| match (field.get)(row) {
                Value::Names(all) => all.iter().any(|name| name.to_lowercase().contains(word)),
                Value::Text(text) => text.to_lowercase().contains(word),
                Value::Number(_) => false,
            }),
        })
    }

    /// Leaves out the rows that are not wanted, and puts the others in order.
    pub fn apply(&self, rows: &mut Vec<T>) {
        rows.retain(|row| self.keeps(row));
        if let Some((field, back)) = self.sort {
            rows.sort_by(|a, b| {
                let order = order(&(field.get)(a), &(field.get)(b));
                if back { order.reverse() } else { order }
            });
        }
    }
}

/// The line below a list that leaves rows out.
pub fn left_out(shown: usize, all: usize, noun: &str) -> Option<String> {
    (shown < all).then(|| format!("{shown} of {}.", super::text::plural(all, noun)))
}
