//! Every command that the product prints exists: each `qb ...` in a text of the source is read with
//! the grammar. Placeholders get values of their kind.

use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use qb_cli::args::help::{command, parse};
use qb_model::dsse::{SecretKey, Signer as _};

/// Words after `qb` that are no nouns: sentences about the program.
const PROSE: [&str; 5] = ["cannot", "does", "signs", "is", "older"];
/// Commands that other parts of the product name before they exist here.
const LATER: [&str; 1] = ["qb support bundle"];

fn sources(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let skip =
            ["target", "tests", "tests.rs", "node_modules", "dist", "benches"].contains(&name.as_str());
        if skip || name.starts_with('.') {
            continue;
        }
        if path.is_dir() {
            sources(&path, out);
        } else if name.ends_with(".rs") {
            out.push(path);
        }
    }
}

/// The texts of a source: its string literals, comments left out.
fn literals(source: &str) -> Vec<String> {
    let code = source.split("#[cfg(test)]").next().unwrap_or_default();
    let lines: String =
        code.lines().filter(|l| !l.trim_start().starts_with("//")).fold(String::new(), |a, l| a + l + "\n");
    let mut out = Vec::new();
    let (mut text, mut inside, mut escaped) = (String::new(), false, false);
    for c in lines.chars() {
        match (inside, c) {
            (true, 'n') if escaped => text.push('\n'),
            (true, _) if escaped => text.push(c),
            (true, '\\') => {
                escaped = true;
                continue;
            }
            (true, '"') => {
                out.push(std::mem::take(&mut text));
                inside = false;
            }
            (true, _) => text.push(c),
            (false, '"') => inside = true,
            (false, _) => {}
        }
        escaped = false;
    }
    out
}

/// The commands in a text: from `qb ` to what ends a command.
fn commands(text: &str) -> Vec<String> {
    const ENDS: &[&str] = &[
        "`",
        "\n",
        ", ",
        "; ",
        ": ",
        " (",
        ". ",
        " or ",
        " and ",
        " then ",
        " does it",
        "  ",
        " here",
        " shows",
        " <",
        " >",
        " founds",
        " the site's",
        " with its",
    ];
    let mut out = Vec::new();
    for (at, _) in text.match_indices("qb ") {
        let begins = at == 0 || text[..at].ends_with([' ', '`', '(', '\n', ':']);
        let rest = &text[at + 3..];
        let word: String = rest.chars().take_while(char::is_ascii_lowercase).collect();
        if !begins || word.is_empty() || PROSE.contains(&word.as_str()) {
            continue;
        }
        let end = ENDS.iter().filter_map(|end| rest.find(end)).min().unwrap_or(rest.len());
        out.push(format!("qb {}", rest[..end].trim_end_matches(['.', ',', ';', ':', ')'])));
    }
    out
}

/// Words as a shell takes them apart.
fn split(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), String::new(), None);
    for c in text.chars().chain([' ']) {
        match (quote, c) {
            (Some(q), _) if q == c => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, ' ') if !word.is_empty() => words.push(std::mem::take(&mut word)),
            (None, ' ') => {}
            _ => word.push(c),
        }
    }
    if !word.trim().is_empty() {
        words.push(word.trim().to_owned());
    }
    words
}

/// Words of a command, with values for placeholders; `open` is that of the ones in braces.
fn filled(command: &str, open: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    for word in split(command) {
        let before = words.last().map(String::as_str).unwrap_or_default();
        let shout = word.len() > 1 && word.chars().all(|c| c.is_ascii_uppercase() || c == '-');
        words.push(match word.as_str() {
            _ if matches!(before, "-n" | "--owners-needed" | "--batch") => "3".into(),
            _ if before == "--bundle" => qb_model::Digest([7; 32]).to_string(),
            _ if before == "--pods" => "10.8.0.0/16".into(),
            _ if before == "--services" => "10.9.0.0/16".into(),
            _ if before == "--version" => "1.36.2".into(),
            _ if before == "--class" => "cli".into(),
            _ if before == "--role" => "owner".into(),
            "KEY" | "PUBLIC-KEY" => key(),
            "FILE" => "x1.json".into(),
            "URL" => "https://relay.example".into(),
            _ if word.contains("url}") => "https://relay.example".into(),
            _ if word.contains("key}") => key(),
            _ if shout && before != "explain" && !word.starts_with("--") => "x1".into(),
            _ => fill(&word, open),
        });
    }
    words
}

fn key() -> String {
    SecretKey::from_bytes(&[1; 32]).public_key().to_string()
}

fn fill(word: &str, open: &str) -> String {
    let (mut out, mut depth) = (String::new(), 0);
    for c in word.chars() {
        match c {
            '{' => {
                depth += 1;
                out.push_str(open);
            }
            '}' => depth -= 1,
            _ if depth == 0 => out.push(c),
            _ => {}
        }
    }
    out
}

/// Whether the grammar takes the words. A verb that is named without its objects is a reference.
fn takes(words: &[String]) -> Result<(), String> {
    let Err(error) = parse(words) else { return Ok(()) };
    let root = command();
    let noun = words.get(1).and_then(|noun| root.find_subcommand(noun));
    let verb = words.get(2).and_then(|verb| noun?.find_subcommand(verb));
    match error.kind() {
        ErrorKind::DisplayHelp => Ok(()),
        ErrorKind::MissingRequiredArgument if verb.is_some() => Ok(()),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand if noun.is_some() => Ok(()),
        _ => Err(error.to_string().lines().next().unwrap_or_default().to_owned()),
    }
}

fn wrong(text: &str) -> Option<String> {
    let tries = ["x1", &key(), "owner"].map(|open| takes(&filled(text, open)));
    let [first, ..] = &tries;
    let all = tries.iter().all(Result::is_err);
    all.then(|| format!("{text}\n    {}", first.as_ref().err().cloned().unwrap_or_default()))
}

#[test]
fn every_command_in_a_text_of_the_product_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = Vec::new();
    for part in ["agent", "consensus", "mesh", "relay"] {
        sources(&root.join(part), &mut files);
    }
    let (mut seen, mut bad) = (0, Vec::new());
    for file in files {
        let name = file.strip_prefix(&root).unwrap().display().to_string();
        for text in literals(&std::fs::read_to_string(&file).unwrap()) {
            for command in commands(&text).into_iter().filter(|c| !LATER.contains(&c.as_str())) {
                seen += 1;
                bad.extend(wrong(&command).map(|why| format!("{name}: {why}")));
            }
        }
    }
    assert!(seen > 100, "the texts are found: {seen}");
    assert!(bad.is_empty(), "{} commands do not exist:\n{}", bad.len(), bad.join("\n"));
}

#[test]
fn every_alert_has_a_way_out_that_exists() {
    for rule in qb_model::alerts::Rule::ALL {
        let remedy = rule.remedy("x1");
        if remedy.starts_with("qb ") {
            assert_eq!(commands(&remedy), [remedy.as_str()]);
            assert_eq!(wrong(&remedy), None);
        } else {
            assert!(remedy.starts_with("on x1: "), "{remedy}");
        }
    }
}

#[test]
fn a_command_that_does_not_exist_is_seen() {
    for text in
        ["qb site found", "see `qb admin key list`", "qb intent sing ID", "x: qb node list --wher state:pool"]
    {
        let found = commands(text);
        assert_eq!(found.len(), 1, "{text}");
        assert!(wrong(&found[0]).is_some(), "{text}");
    }
    assert_eq!(commands("first: qb node list, or `qb site status`"), ["qb node list", "qb site status"]);
}
