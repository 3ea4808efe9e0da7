//! Agreeing to a change: the signing sentence, and y/N or a name that is typed.

use qb_portal::view::AdminView;

use crate::ctx::Session;
use crate::error::CliError;
use crate::out::text::clean;
use crate::sentence;

/// How a person agrees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// y/N, or `--yes`.
    YesNo,
    /// Typing this name, or `--confirm NAME`; `--yes` is not enough.
    Type(String),
    /// Agreed before, together with another change.
    Agreed,
}

/// Who signs.
#[derive(Debug, Clone)]
pub struct Author {
    /// The admin.
    pub admin: AdminView,
    /// The short fingerprint of the key.
    pub key: String,
}

impl Session<'_> {
    /// Asks the person to agree, with the signing sentence.
    ///
    /// # Errors
    /// They do not, or there is nobody to ask.
    pub fn agree(&self, author: &Author, what: &str, ask: &Ask) -> Result<(), CliError> {
        let globals = &self.ctx.globals;
        let who =
            format!("{} ({}, {})", clean(&author.admin.name), sentence::role(author.admin.role), author.key);
        let line = format!("Sign as {who}: {what} on {}", self.here.name);
        let nobody = |flag: &str| {
            CliError::usage(format!("Nothing was sent: there is no terminal to ask on. {line}"))
                .remedy(flag.to_owned())
        };
        match ask {
            Ask::Agreed => Ok(()),
            Ask::YesNo if globals.yes => {
                self.ctx.out.hint(&line);
                Ok(())
            }
            Ask::YesNo if !self.ctx.can_ask() => Err(nobody("--yes signs without asking")),
            Ask::YesNo => {
                if agreed(&line)? {
                    Ok(())
                } else {
                    Err(CliError::failed("Not signed. Nothing was sent."))
                }
            }
            Ask::Type(name) => {
                let typed = match &globals.confirm {
                    Some(typed) => typed.clone(),
                    None if !self.ctx.can_ask() => return Err(nobody(&format!("--confirm {name}"))),
                    None => read_line(&format!("{line}.\nThere is no way back. Type {name} to sign: "))?,
                };
                if typed.trim() == name {
                    return Ok(());
                }
                Err(CliError::usage(format!("That is not {name}. Nothing was sent.")))
            }
        }
    }
}

/// Asks y/N on the terminal, which must be there.
///
/// # Errors
/// It cannot be read.
pub fn agreed(line: &str) -> Result<bool, CliError> {
    let answer = read_line(&format!("{line}? [y/N] "))?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

/// Asks for a line on the terminal, which must be there.
///
/// # Errors
/// It cannot be read.
pub fn read_line(prompt: &str) -> Result<String, CliError> {
    let term = console::Term::stderr();
    let read = term.write_str(prompt).and_then(|()| term.read_line());
    read.map_err(|e| CliError::failed(format!("Cannot read from the terminal: {e}.")))
}
