//! Machines that a relay shows: it could put its own key in the place of a machine's. So each is let
//! in by what its own console shows, which whoever authorizes has seen (security rules 1 and 4).

use qb_model::words;
use qb_portal::view::NodeView;

use crate::agree;
use crate::ctx::Session;
use crate::error::CliError;

/// Words that are typed: the last ones of six.
const TYPED: usize = 2;

/// The nodes that were not named by their key: a name or a shortened fingerprint is the relay's word.
pub fn unproven<'a>(chosen: &[&'a NodeView], named: &[String]) -> Vec<&'a NodeView> {
    let by_key = |node: &&NodeView| {
        let (id, print) = (node.id.to_string(), words::fingerprint(&node.id.0));
        named.iter().any(|name| *name == id || *name == print)
    };
    chosen.iter().copied().filter(|node| !by_key(node)).collect()
}

/// Whether a person typed the last words of a node's key.
pub fn fits(typed: &str, node: &NodeView) -> bool {
    let six = words::words(&node.id.0);
    let last: Vec<&str> = six[six.len() - TYPED..].to_vec();
    typed.split_whitespace().map(str::to_lowercase).eq(last.iter().map(|w| (*w).to_owned()))
}

/// Has every machine that is not named by its key compared with its console.
///
/// # Errors
/// There is nobody to ask, or what was typed is not of the key that the relay shows.
pub fn by_console(session: &Session<'_>, chosen: &[&NodeView], named: &[String]) -> Result<(), CliError> {
    let open = unproven(chosen, named);
    let Some(first) = open.first() else { return Ok(()) };
    if !session.ctx.can_ask() {
        let text = "Through a relay a machine is let in by its key: the relay could show another one's. Nothing was sent.";
        let print = words::fingerprint(&first.id.0);
        return Err(CliError::refused(text).remedy(format!(
            "compare with the machine's console, then name it by its fingerprint: qb node authorize {print}"
        )));
    }
    for node in open {
        let prompt = format!("The last two words that {} shows on its console (qb-agent id): ", node.name);
        if !fits(&agree::read_line(&prompt)?, node) {
            let text = format!(
                "Those are not the last words of the key that the relay shows for {}. Nothing was sent.",
                node.name
            );
            return Err(CliError::refused(text)
                .remedy("read them again with `qb-agent id`; if they differ, somebody stands in between"));
        }
    }
    Ok(())
}
