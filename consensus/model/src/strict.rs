//! Strict JSON (security rules 2.3): what every implementation reads the same way, and nothing else.
//!
//! Two layers. [`check`] walks the bytes once and refuses duplicate members, depth, floats, large
//! integers and unsafe characters. [`parse`] then reads the type and compares its own encoding with
//! the input as a tree, so that nothing that serde is lenient about (a list for a struct, a missing
//! nullable member, `{"owner": null}` for `"owner"`) gets through.
//!
//! Rule for changing this file: it is consensus-critical. A change that alters one verdict needs a
//! new feature level.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{self, DeserializeOwned, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::limits::{JSON_DEPTH, JSON_INTEGER, JSON_MEMBERS};

/// Why a JSON text is refused. The message holds nothing of the text but names of members.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StrictError {
    /// Larger than its bound.
    #[error("text of {len} bytes is over its bound of {max}: send less in one piece")]
    TooLarge {
        /// Bytes received.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Not UTF-8, or with a byte order mark, or not one object from the first byte to the last.
    #[error("text is not one JSON object in UTF-8 from its first byte to its last: {0}")]
    Frame(&'static str),
    /// A rule of the strict reading is broken.
    #[error("json is refused: {0}")]
    Json(String),
    /// Valid JSON that is not the form that this type has.
    #[error("json is not in the exact form of {0}: send every member once, with its own kind of value")]
    Form(&'static str),
}

/// Bounds and allowances of one format.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// Bytes at most.
    pub max_bytes: usize,
    /// Whether `null` may stand anywhere; where exactly, the type decides.
    pub null: bool,
}

/// Walks the text and applies every rule that needs no type.
///
/// # Errors
/// The first rule that is broken, in order of the bytes; sizes first.
pub fn check(bytes: &[u8], rules: Rules) -> Result<(), StrictError> {
    if bytes.len() > rules.max_bytes {
        return Err(StrictError::TooLarge { len: bytes.len(), max: rules.max_bytes });
    }
    if bytes.starts_with(&[0xef, 0xbb, 0xbf]) {
        return Err(StrictError::Frame("it begins with a byte order mark"));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| StrictError::Frame("it is not UTF-8"))?;
    if !text.starts_with('{') {
        return Err(StrictError::Frame("its first byte is not an opening brace"));
    }
    if !text.ends_with('}') {
        return Err(StrictError::Frame("its last byte is not a closing brace"));
    }
    let mut budget = JSON_MEMBERS;
    let mut reader = serde_json::Deserializer::from_str(text);
    let walk = Walk { depth: 0, budget: &mut budget, null: rules.null };
    walk.deserialize(&mut reader).and_then(|()| reader.end()).map_err(|e| StrictError::Json(e.to_string()))
}

/// Reads a value of an exact form.
///
/// # Errors
/// A broken rule, or a text that is not exactly the encoding of a `T` (white space, order of members
/// and escapes aside).
pub fn parse<T: DeserializeOwned + Serialize>(
    bytes: &[u8],
    rules: Rules,
    form: &'static str,
) -> Result<T, StrictError> {
    check(bytes, rules)?;
    let json = |e: serde_json::Error| StrictError::Json(e.to_string());
    let value: T = serde_json::from_slice(bytes).map_err(json)?;
    let received: serde_json::Value = serde_json::from_slice(bytes).map_err(json)?;
    let expected = serde_json::to_value(&value).map_err(json)?;
    if received == expected { Ok(value) } else { Err(StrictError::Form(form)) }
}

/// Reads a member that must be there and may be null. (serde takes a missing `Option` for null.)
///
/// # Errors
/// The value is neither null nor a `T`.
pub fn required_nullable<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Option::deserialize(deserializer)
}

/// Whether a text holds only characters that cannot hide or reorder what people read.
pub fn is_plain_text(text: &str) -> bool {
    !text.chars().any(|c| {
        matches!(c,
            '\u{0}'..='\u{1f}' | '\u{7f}'
            | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    })
}

/// Visits any JSON value and keeps nothing of it.
struct Walk<'a> {
    depth: usize,
    budget: &'a mut usize,
    null: bool,
}

impl Walk<'_> {
    fn deeper(&mut self) -> Walk<'_> {
        Walk { depth: self.depth, budget: &mut *self.budget, null: self.null }
    }

    fn enter<E: de::Error>(&mut self) -> Result<(), E> {
        self.depth += 1;
        if self.depth > JSON_DEPTH {
            return Err(E::custom(format_args!("nesting is deeper than {JSON_DEPTH}")));
        }
        Ok(())
    }

    fn spend<E: de::Error>(&mut self) -> Result<(), E> {
        *self.budget = self
            .budget
            .checked_sub(1)
            .ok_or_else(|| E::custom(format_args!("more than {JSON_MEMBERS} members")))?;
        Ok(())
    }
}

impl<'de> DeserializeSeed<'de> for Walk<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object, a list, a string, a boolean or an integer from 0 to 2^53-1")
    }

    fn visit_bool<E: de::Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<(), E> {
        if value <= JSON_INTEGER { Ok(()) } else { Err(E::custom("an integer is above 2^53-1")) }
    }

    fn visit_i64<E: de::Error>(self, _: i64) -> Result<(), E> {
        Err(E::custom("a number is negative"))
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<(), E> {
        Err(E::custom("a number has a fraction, an exponent or a minus, or is above 2^53-1"))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<(), E> {
        if is_plain_text(text) {
            Ok(())
        } else {
            Err(E::custom("a string holds a control character or a bidirectional control"))
        }
    }

    fn visit_unit<E: de::Error>(self) -> Result<(), E> {
        if self.null { Ok(()) } else { Err(E::custom("null stands where no null may stand")) }
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut list: A) -> Result<(), A::Error> {
        self.enter()?;
        while list.next_element_seed(self.deeper())?.is_some() {
            self.spend()?;
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        self.enter()?;
        let mut seen = BTreeSet::new();
        while let Some(name) = map.next_key::<String>()? {
            self.spend()?;
            self.deeper().visit_str(&name)?;
            map.next_value_seed(self.deeper())?;
            if let Some(twice) = seen.replace(name) {
                return Err(de::Error::custom(format_args!("member {twice:?} stands twice")));
            }
        }
        Ok(())
    }
}
