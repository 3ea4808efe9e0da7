//! The man pages, made from the grammar: `qb.1`, and one page for each verb.

use clap::Command;
use clap_mangen::Man;

use crate::args::help;

/// A page: its file's name and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// `qb-node-list.1`.
    pub name: String,
    /// The page as roff.
    pub text: Vec<u8>,
}

/// Every page, that of `qb` itself last.
///
/// # Errors
/// None in practice: pages are rendered into memory.
pub fn pages() -> std::io::Result<Vec<Page>> {
    // Short help leaves the flags on everything out; the page of `qb` is where they are explained.
    let mut root = help::command().mut_args(|arg| arg.hide_short_help(false));
    root.build();
    let mut pages = Vec::new();
    gather(&root, true, &mut pages)?;
    Ok(pages)
}

fn gather(command: &Command, root: bool, pages: &mut Vec<Page>) -> std::io::Result<()> {
    for below in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        gather(below, false, pages)?;
    }
    pages.push(page(command.clone(), root)?);
    Ok(())
}

fn page(command: Command, root: bool) -> std::io::Result<Page> {
    let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let command = if root {
        command
    } else {
        command.mut_args(|arg| if arg.is_global_set() { arg.hide(true) } else { arg })
    };
    let (subcommands, arguments) =
        (command.has_subcommands(), command.get_arguments().any(|arg| !arg.is_hide_set()));
    let man = Man::new(command).source(concat!("qb ", env!("CARGO_PKG_VERSION"))).manual("qb");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    section(&mut text, "EXAMPLES", examples.strip_prefix("Examples:\n").unwrap_or(&examples));
    if arguments {
        man.render_options_section(&mut text)?;
    }
    if subcommands {
        man.render_subcommands_section(&mut text)?;
    }
    if root {
        section(&mut text, "EXIT STATUS", help::EXITS.strip_prefix("Exit codes:\n").unwrap_or(help::EXITS));
    } else {
        section(&mut text, "SEE ALSO", "qb(1) explains the flags on everything and the exit codes.");
    }
    Ok(Page { name: man.get_filename(), text })
}

/// A section whose lines stay as they are.
fn section(page: &mut Vec<u8>, title: &str, text: &str) {
    if text.is_empty() {
        return;
    }
    page.extend_from_slice(format!(".SH \"{title}\"\n.nf\n").as_bytes());
    for line in text.lines() {
        // A line that begins with a dot or a quote would be a request; a bare minus prints as a hyphen.
        let line = line.replace('\\', "\\e").replace('-', "\\-");
        let guard = if line.starts_with(['.', '\'']) { "\\&" } else { "" };
        page.extend_from_slice(format!("{guard}{line}\n").as_bytes());
    }
    page.extend_from_slice(b".fi\n");
}
