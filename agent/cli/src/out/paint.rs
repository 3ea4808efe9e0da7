//! Colours and marks: 16 ANSI colours, only on the state word and its mark.

/// Who acts next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Nobody: it is well.
    Good,
    /// qb is at it.
    Busy,
    /// A person.
    You,
    /// Broken now.
    Broken,
    /// Not known, or over.
    Unknown,
    /// A rehearsal: not Kubernetes.
    Rehearsal,
}

/// How marks and colours are shown on one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Paint {
    /// Colours are on.
    pub colour: bool,
    /// UTF-8 marks; else ASCII.
    pub unicode: bool,
}

impl Paint {
    /// Plain UTF-8 without colours.
    pub const PLAIN: Self = Self { colour: false, unicode: true };

    /// From the environment: `NO_COLOR` and `TERM=dumb` end colours, `CLICOLOR_FORCE=1` forces
    /// them, else they need a terminal. Marks need a UTF-8 locale; a pipe takes UTF-8.
    pub fn detect(tty: bool, env: &dyn Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| env(name).filter(|v| !v.is_empty());
        let dumb = set("TERM").is_some_and(|t| t == "dumb");
        let never = set("NO_COLOR").is_some() || dumb;
        let forced = set("CLICOLOR_FORCE").is_some_and(|v| v != "0");
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|name| set(name));
        let utf8 = locale.is_none_or(|l| {
            let l = l.to_ascii_lowercase();
            l.contains("utf-8") || l.contains("utf8")
        });
        Self { colour: forced || (tty && !never), unicode: utf8 && !dumb }
    }

    /// The mark of a tone.
    pub fn mark(&self, tone: Tone) -> &'static str {
        match (tone, self.unicode) {
            (Tone::Good, true) => "✓",
            (Tone::Busy, true) => "◌",
            (Tone::You | Tone::Rehearsal, true) => "◆",
            (Tone::Broken, true) => "✗",
            (Tone::Unknown, true) => "○",
            (Tone::Good, false) => "ok",
            (Tone::Busy, false) => "..",
            (Tone::You | Tone::Rehearsal, false) => "!!",
            (Tone::Broken, false) => "xx",
            (Tone::Unknown, false) => "--",
        }
    }

    /// What stands for the rest of a cut text.
    pub fn ellipsis(&self) -> &'static str {
        if self.unicode { "…" } else { "..." }
    }

    /// The text in the colour of a tone.
    pub fn tone(&self, tone: Tone, text: &str) -> String {
        let code = match tone {
            Tone::Good => "36",
            Tone::Busy => "34",
            Tone::You => "33",
            Tone::Broken => "31",
            Tone::Unknown => "90",
            Tone::Rehearsal => "35",
        };
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// The mark in its colour.
    pub fn marked(&self, tone: Tone) -> String {
        self.tone(tone, self.mark(tone))
    }

    /// A bar of `width` cells.
    pub fn bar(&self, done: u64, of: u64, width: usize) -> String {
        let full =
            (done.min(of) * width as u64).checked_div(of).and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
        let (on, off) = if self.unicode { ("█", "░") } else { ("#", ".") };
        format!("{}{}", on.repeat(full), off.repeat(width - full))
    }
}
