//! Text from outside made harmless, numbers and times as people read them.

use jiff::{Timestamp, tz::TimeZone};
use qb_model::{Digest, Millis};

/// Longest text from outside that is shown, in characters: no field of the API is longer.
const MAX_CHARS: usize = 4096;

/// Whether a character could move the cursor, or turn the reading direction.
fn hostile(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// The text with control and bidirectional characters shown as escapes, and bounded.
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars().take(MAX_CHARS) {
        if hostile(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// A number with thousands separated by commas.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, c) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// `1 node`, `3 nodes`.
pub fn plural(value: usize, noun: &str) -> String {
    let s = if value == 1 { "" } else { "s" };
    format!("{} {noun}{s}", count(value as u64))
}

/// At most three names, then "and 9 more".
pub fn names<T: AsRef<str>>(all: &[T]) -> String {
    let shown: Vec<&str> = all.iter().take(3).map(AsRef::as_ref).collect();
    match all.len() {
        0..=3 => shown.join(", "),
        n => format!("{} and {} more", shown.join(", "), n - 3),
    }
}

/// Bytes in binary units: `128 GiB`.
pub fn bytes(value: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut scaled = value as f64;
    while scaled >= 1023.5 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    if unit > 0 && scaled < 9.95 {
        format!("{scaled:.1} {}", UNITS[unit])
    } else {
        format!("{scaled:.0} {}", UNITS[unit])
    }
}

/// A share in per cent.
pub fn percent(part: u64, whole: u64) -> String {
    part.saturating_mul(100).checked_div(whole).map(|n| format!("{n} %")).unwrap_or_default()
}

/// An age in one unit: `0.3 s`, `41 s`, `2 min`, `3 h`, `6 d`.
pub fn age(ms: u64) -> String {
    match ms {
        0..9_950 => format!("{:.1} s", ms as f64 / 1000.0),
        9_950..60_000 => format!("{} s", ms / 1000),
        60_000..3_600_000 => format!("{} min", ms / 60_000),
        3_600_000..172_800_000 => format!("{} h", ms / 3_600_000),
        _ => format!("{} d", ms / 86_400_000),
    }
}

/// A duration in two units where one would be coarse: `2 min 10 s`.
pub fn span(ms: u64) -> String {
    match ms {
        60_000..3_600_000 if !(ms / 1000).is_multiple_of(60) => {
            format!("{} min {} s", ms / 60_000, ms / 1000 % 60)
        }
        3_600_000..86_400_000 if !(ms / 60_000).is_multiple_of(60) => {
            format!("{} h {} min", ms / 3_600_000, ms / 60_000 % 60)
        }
        _ => age(ms),
    }
}

/// A hash as people quote it: two groups of four hexadecimal digits.
pub fn short_hash(bytes: &[u8; 32]) -> String {
    format!("{:02x}{:02x} {:02x}{:02x}", bytes[0], bytes[1], bytes[2], bytes[3])
}

/// The same without the space, as a command takes it.
pub fn short_hash_arg(bytes: &[u8; 32]) -> String {
    short_hash(bytes).replace(' ', "")
}

/// Whether a text is how a digest begins: as base64url, or as the hexadecimal groups that tables show.
pub fn begins(digest: &Digest, text: &str) -> bool {
    let groups = text.replace(' ', "").to_ascii_lowercase();
    let hex: String = digest.0.iter().map(|byte| format!("{byte:02x}")).collect();
    digest.to_string().starts_with(text) || (groups.len() >= 4 && hex.starts_with(&groups))
}

/// What shows times: now and the zone.
#[derive(Debug, Clone)]
pub struct Clock {
    /// Now.
    pub now: Millis,
    /// The zone that times are shown in.
    pub zone: TimeZone,
}

impl Clock {
    /// The computer's clock, in its zone or in UTC.
    pub fn system(utc: bool) -> Self {
        let zone = if utc { TimeZone::UTC } else { TimeZone::system() };
        Self { now: now(), zone }
    }

    /// A moment: clock today, `yesterday 17:20`, then `3 Mar 2026 17:20`.
    pub fn moment(&self, at: Millis) -> String {
        let (Some(then), Some(now)) = (self.zoned(at), self.zoned(self.now)) else { return String::new() };
        if then.date() == now.date() {
            return then.strftime("%H:%M:%S").to_string();
        }
        if now.date().yesterday().is_ok_and(|day| day == then.date()) {
            return then.strftime("yesterday %H:%M").to_string();
        }
        then.strftime("%-d %b %Y %H:%M").to_string()
    }

    /// Clock only: `10:41:07`.
    pub fn time(&self, at: Millis) -> String {
        self.zoned(at).map(|z| z.strftime("%H:%M:%S").to_string()).unwrap_or_default()
    }

    /// The age of a moment.
    pub fn ago(&self, at: Millis) -> String {
        age(self.now.since(at))
    }

    fn zoned(&self, at: Millis) -> Option<jiff::Zoned> {
        let ms = i64::try_from(at.0).ok()?;
        Some(Timestamp::from_millisecond(ms).ok()?.to_zoned(self.zone.clone()))
    }
}

/// The computer's clock.
pub fn now() -> Millis {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A text as one word of a shell: quoted where it needs to be.
pub fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}
