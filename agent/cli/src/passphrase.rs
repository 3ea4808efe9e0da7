//! Where passphrases come from: a file named by `QB_PASSPHRASE_FILE`, else the terminal. Never an
//! argument, never a variable's value.

use std::io::IsTerminal as _;
use std::path::Path;

use zeroize::Zeroizing;

use crate::error::CliError;
use crate::files;

/// Longest passphrase in bytes.
const MAX: u64 = 1024;

/// Asks for passphrases.
#[derive(Debug, Clone)]
pub struct Passphrases {
    /// `QB_PASSPHRASE_FILE`.
    pub file: Option<String>,
    /// Never ask on the terminal.
    pub no_input: bool,
}

impl Passphrases {
    fn in_file(&self) -> Option<Result<Zeroizing<String>, CliError>> {
        let path = self.file.as_ref().filter(|f| !f.is_empty())?;
        let read = files::read_private(Path::new(path), MAX).and_then(|bytes| {
            let text = String::from_utf8(bytes)
                .map_err(|_| CliError::usage("The passphrase's file is not text."))?;
            let text = Zeroizing::new(text);
            Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
        });
        Some(read)
    }

    fn terminal(&self) -> bool {
        !self.no_input && std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
    }

    fn ask(prompt: &str) -> Result<Zeroizing<String>, CliError> {
        let term = console::Term::stderr();
        let fail = |e: std::io::Error| CliError::failed(format!("Cannot read from the terminal: {e}."));
        term.write_str(prompt).map_err(fail)?;
        term.read_secure_line().map(Zeroizing::new).map_err(fail)
    }

    /// The passphrase of an existing key.
    ///
    /// # Errors
    /// There is no file and no terminal.
    pub fn of_key(&self, key: &str) -> Result<Zeroizing<String>, CliError> {
        if let Some(read) = self.in_file() {
            return read;
        }
        if !self.terminal() {
            return Err(CliError::usage(format!(
                "The key {key} has a passphrase and there is no terminal to ask on."
            ))
            .remedy("QB_PASSPHRASE_FILE=/path/of/a/0600/file"));
        }
        Self::ask(&format!("Passphrase of key {key}: "))
    }

    /// The passphrase for a new key; none keeps it plain.
    ///
    /// # Errors
    /// There is no file and no terminal, or the two entries differ.
    pub fn for_new(&self, none: bool) -> Result<Option<Zeroizing<String>>, CliError> {
        if none {
            return Ok(None);
        }
        let passphrase = match self.in_file() {
            Some(read) => read?,
            None if self.terminal() => {
                let first = Self::ask("Passphrase for the new keys (empty: none): ")?;
                if !first.is_empty() && *first != *Self::ask("Once more: ")? {
                    return Err(CliError::usage("The two passphrases differ; nothing was made."));
                }
                first
            }
            None => {
                return Err(CliError::usage(
                    "A new key needs a passphrase and there is no terminal to ask on.",
                )
                .remedy("QB_PASSPHRASE_FILE=/path/of/a/0600/file, or --no-passphrase for demos and tests"));
            }
        };
        Ok(Some(passphrase).filter(|p| !p.is_empty()))
    }
}
