//! What is printed: data on stdout, everything else on stderr.

pub mod marks;
pub mod paint;
pub mod plan;
pub mod progress;
pub mod redraw;
pub mod rows;
pub mod table;
pub mod text;
pub mod waiting;

use std::io::{IsTerminal as _, Write as _};

use serde::Serialize;

use crate::args::{Format, Globals, Output};
use crate::error::{CliError, Exit};
use paint::Paint;
use table::Table;
use text::Clock;

/// The two streams and how they are written to.
#[derive(Debug, Clone)]
pub struct Out {
    /// How results are printed.
    pub format: Format,
    /// Colours and marks of stdout.
    pub paint: Paint,
    /// Colours and marks of stderr.
    pub err: Paint,
    /// Columns of the terminal; none when piped.
    pub width: Option<usize>,
    /// Whether stderr is a terminal.
    pub live: bool,
    /// No progress, no hints.
    pub quiet: bool,
    /// Say doors and requests.
    pub verbose: bool,
    /// Tables with heads.
    pub heads: bool,
    /// Times in UTC.
    pub utc: bool,
}

/// A document as YAML: the same fields in the same order as in JSON.
///
/// # Errors
/// It cannot be written, which no document of the API comes to.
pub fn yaml<T: Serialize + ?Sized>(document: &T) -> Result<String, CliError> {
    serde_saphyr::to_string(&document).map_err(|e| CliError::failed(format!("Cannot write YAML: {e}.")))
}

impl Out {
    /// From flags, environment and streams.
    pub fn new(globals: &Globals, env: &dyn Fn(&str) -> Option<String>) -> Self {
        let (tty, live) = (std::io::stdout().is_terminal(), std::io::stderr().is_terminal());
        let format = match &globals.output {
            Some(Output::Format(format)) => *format,
            _ => Format::Table,
        };
        let columns = || usize::from(console::Term::stdout().size().1).max(20);
        Self {
            format,
            paint: Paint::detect(tty, env),
            err: Paint::detect(live, env),
            width: tty.then(columns),
            live,
            quiet: globals.quiet,
            verbose: globals.verbose,
            heads: !globals.no_headers,
            utc: globals.utc,
        }
    }

    /// Whether documents were asked for: `-o json` or `-o yaml`.
    pub fn documents(&self) -> bool {
        matches!(self.format, Format::Json | Format::Yaml)
    }

    /// The clock that times are shown by.
    pub fn clock(&self) -> Clock {
        Clock::system(self.utc)
    }

    /// Prints to stdout.
    ///
    /// # Errors
    /// The stream is closed.
    pub fn print(&self, text: &str) -> Result<(), CliError> {
        let mut out = std::io::stdout().lock();
        let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
        let wrote = write!(out, "{text}{end}").and_then(|()| out.flush());
        wrote.map_err(|e| {
            // A reader that has enough, `head` for instance, is no failure.
            let gone = e.kind() == std::io::ErrorKind::BrokenPipe;
            let text = if gone { String::new() } else { format!("Cannot write to stdout: {e}.") };
            CliError { exit: if gone { Exit::Done } else { Exit::Failed }, text, remedy: None, problem: None }
        })
    }

    /// Prints a document, as YAML if that was asked for, else as JSON.
    ///
    /// # Errors
    /// The stream is closed.
    pub fn document<T: Serialize + ?Sized>(&self, document: &T) -> Result<(), CliError> {
        if self.format == Format::Yaml {
            return self.print(&yaml(document)?);
        }
        let text = serde_json::to_string_pretty(document);
        self.print(&text.map_err(|e| CliError::failed(format!("Cannot write JSON: {e}.")))?)
    }

    /// Prints one of many documents: a line of JSON, or a document of a YAML stream.
    ///
    /// # Errors
    /// The stream is closed.
    pub fn line<T: Serialize + ?Sized>(&self, document: &T) -> Result<(), CliError> {
        if self.format == Format::Yaml {
            return self.print(&format!("---\n{}", yaml(document)?));
        }
        let text = serde_json::to_string(document);
        self.print(&text.map_err(|e| CliError::failed(format!("Cannot write JSON: {e}.")))?)
    }

    /// A table's text as stdout takes it.
    pub fn render(&self, table: &Table) -> String {
        table.render(&self.paint, self.heads, self.width)
    }

    /// A hint on stderr, not with `-q` and not with JSON.
    pub fn hint(&self, text: &str) {
        if !self.quiet && !self.documents() {
            self.say(text);
        }
    }

    /// A line on stderr in any case.
    pub fn say(&self, text: &str) {
        // Nothing is left to tell anybody if stderr is closed.
        let _ = writeln!(std::io::stderr(), "{text}");
    }

    /// A line on stderr with `-v`. Never given anything secret.
    pub fn trace(&self, text: &str) {
        if self.verbose {
            self.say(&text::clean(text));
        }
    }
}
