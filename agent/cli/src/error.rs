//! The one error of the CLI: what happened, what to do, and the exit code that scripts read.

use qb_portal::view::Problem;

/// How a run of `qb` ended. The numbers are a contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// It was tried and failed.
    Failed,
    /// The command line or the configuration is wrong; nothing was sent.
    Usage,
    /// The site refused, or there is no right key here.
    Refused,
    /// No door answers.
    Unreachable,
    /// Accepted, and still going when the time to wait was over.
    StillGoing,
    /// Preflight findings block it.
    Findings,
    /// Accepted, and waits for more signatures.
    Signatures,
    /// Interrupted by Ctrl-C; what was accepted goes on.
    Interrupted,
    /// As the program ended that was run: `qb kubectl`.
    Program(u8),
}

impl Exit {
    /// The process's exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::Unreachable => 4,
            Self::StillGoing => 5,
            Self::Findings => 6,
            Self::Signatures => 7,
            Self::Interrupted => 130,
            Self::Program(code) => code,
        }
    }
}

/// An error: at most three lines on stderr. Display is the first of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct CliError {
    /// The exit code.
    pub exit: Exit,
    /// What and why, one sentence.
    pub text: String,
    /// What to do: a command or a sentence.
    pub remedy: Option<String>,
    /// The API's own document, which `-o json` shows.
    pub problem: Option<Box<Problem>>,
}

impl CliError {
    fn new(exit: Exit, text: impl Into<String>) -> Self {
        Self { exit, text: text.into(), remedy: None, problem: None }
    }

    /// It was tried and failed.
    pub fn failed(text: impl Into<String>) -> Self {
        Self::new(Exit::Failed, text)
    }

    /// Wrong use.
    pub fn usage(text: impl Into<String>) -> Self {
        Self::new(Exit::Usage, text)
    }

    /// Refused by the site.
    pub fn refused(text: impl Into<String>) -> Self {
        Self::new(Exit::Refused, text)
    }

    /// No door answers.
    pub fn unreachable(text: impl Into<String>) -> Self {
        Self::new(Exit::Unreachable, text)
    }

    /// Still going.
    pub fn still_going(text: impl Into<String>) -> Self {
        Self::new(Exit::StillGoing, text)
    }

    /// Findings block.
    pub fn findings(text: impl Into<String>) -> Self {
        Self::new(Exit::Findings, text)
    }

    /// Waits for signatures.
    pub fn signatures(text: impl Into<String>) -> Self {
        Self::new(Exit::Signatures, text)
    }

    /// Interrupted.
    pub fn interrupted(text: impl Into<String>) -> Self {
        Self::new(Exit::Interrupted, text)
    }

    /// No key for a site on this computer.
    pub fn no_key(site: &str) -> Self {
        Self::refused(format!("No key for {site} on this computer."))
            .remedy("qb key new NAME, then on a device that has one: qb admin add-key ADMIN PUBLIC-KEY")
    }

    /// A file that could not be read or written.
    pub fn file(doing: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::failed(format!("Cannot {doing} {}: {error}.", path.display()))
    }

    /// The same with what to do.
    #[must_use]
    pub fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    /// What a door answered instead of what was asked for.
    pub fn from_problem(problem: Problem) -> Self {
        let (exit, text) = match problem.status {
            401 | 403 => (Exit::Refused, format!("Refused: {}", sentence(&problem.detail))),
            409 | 422 => (Exit::Refused, format!("Refused: {}", sentence(&problem.detail))),
            502..=504 => (Exit::Unreachable, sentence(&problem.detail)),
            400 => (Exit::Usage, sentence(&problem.detail)),
            _ if problem.detail.is_empty() => (Exit::Failed, sentence(&problem.title)),
            _ => (Exit::Failed, sentence(&problem.detail)),
        };
        let remedy = problem.remedy.clone();
        Self { exit, text, remedy, problem: Some(Box::new(problem)) }
    }

    /// The lines for stderr, three at most. Everything from outside is made harmless.
    pub fn lines(&self) -> Vec<String> {
        let mut lines = vec![crate::out::text::clean(&self.text)];
        if let Some(remedy) = &self.remedy {
            lines.extend(remedy.lines().take(2).map(|line| format!("  {}", crate::out::text::clean(line))));
        }
        lines
    }
}

/// A text that ends as a sentence does.
pub fn sentence(text: &str) -> String {
    let text = text.trim();
    if text.is_empty() || text.ends_with(['.', '?', '!', ':']) { text.to_owned() } else { format!("{text}.") }
}

impl From<qb_model::IdError> for CliError {
    fn from(error: qb_model::IdError) -> Self {
        Self::usage(sentence(&error.to_string()))
    }
}
