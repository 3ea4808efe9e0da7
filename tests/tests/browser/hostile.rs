//! Names, zones and notes that hold markup and marks that turn the direction of writing are shown as
//! text, and nothing of them runs.

use anyhow::{Context as _, Result, ensure};
use qb_model::action::{Action, Label};
use qb_model::{NodeId, SiteId};
use qb_tests::signing::Signatory;
use qb_tests::site::ADMIN;
use serde_json::Value;

use super::{Fixture, SOON, founded};

/// Runs if it is ever taken for markup.
const MARKUP: &str = "<img src=x onerror=window.__hit=1><script>window.__hit=1</script>";
/// What a machine says of itself is signed by nobody: here the text after the mark would read backwards.
const ZONE: &str = "<b>rack</b>\u{202e}1-kcar";

#[test]
fn hostile_texts_are_shown_as_text() {
    let mut fixture = founded(52, |site| site.agents[0].spec.zone = ZONE.to_owned()).expect("a site starts");
    let result = shown_as_text(&mut fixture);
    fixture.told(result);
}

fn shown_as_text(f: &mut Fixture) -> Result<()> {
    f.sign_in()?;
    // A person whose name is markup, and a note that is.
    let name = format!("Eve {MARKUP}");
    let key = Signatory::fresh("eve")?.public_key().to_string();
    f.site.qb.ok(&[
        "admin",
        "add",
        "eve",
        "--name",
        &name,
        "--role",
        "viewer",
        "--public-key",
        &key,
        "-y",
    ])?;
    noted(f, &format!("note {MARKUP}"))?;

    for (page, shows) in [
        ("/keys", "Eve <img src=x onerror=window.__hit=1>"),
        ("/audit?where=label", "labels on node-1"),
        ("/audit", "eve"),
        ("/intents", "labels on node-1"),
        ("/nodes", "<b>rack</b>"),
        ("/nodes/node-1", "<b>rack</b>"),
        ("/nodes/node-1/facts", "<b>rack</b>"),
        ("", "<b>rack</b>"),
    ] {
        f.browser.go(&format!("{}/lyon{page}", f.door))?;
        f.browser.shows(SOON, shows).with_context(|| format!("page {page}"))?;
        unharmed(f, page)?;
    }
    f.browser.go(&format!("{}/lyon/audit?where=label", f.door))?;
    f.browser.click(SOON, "button.line", "labels on node-1")?;
    f.browser.shows(SOON, &format!("note {MARKUP}"))?;
    unharmed(f, "an entry of the audit")?;
    let refused = f.browser.refused()?;
    ensure!(refused.is_empty(), "the policy refused: {refused:?}");
    Ok(())
}

/// Labels the first node, with a note in the signed bytes.
fn noted(f: &mut Fixture, note: &str) -> Result<()> {
    let key = f.site.qb.keys().join(format!("{}.key", f.site.name));
    let signatory = Signatory::of_file(ADMIN, &key)?;
    let node: NodeId = f.node("node-1")?["id"].as_str().unwrap_or_default().parse()?;
    let label = Label { key: "a".to_owned(), value: "b".to_owned() };
    let site: SiteId = f.site.view()?.id.parse()?;
    let action = Action::NodeLabel { node, labels: vec![label] };
    let mut intent = signatory.intent(site, &f.site.head()?, action)?;
    intent.note = Some(note.to_owned());
    let answer = f.site.send(&signatory.sign(&intent)?)?;
    ensure!(answer.text("state") == "done", "{}", answer.json());
    Ok(())
}

/// Nothing ran, nothing became an element, and no mark turns the writing.
fn unharmed(f: &Fixture, page: &str) -> Result<()> {
    let hit = f.browser.js("return window.__hit ?? null", &[])?;
    ensure!(hit == Value::Null, "{page}: markup ran");
    let made =
        f.browser.js("return document.querySelectorAll('img, #app script, iframe, object').length", &[])?;
    ensure!(made == 0, "{page}: markup became {made} elements");
    let raw = f.browser.js("return /[\\u202a-\\u202e\\u2066-\\u2069]/.test(document.body.innerText)", &[])?;
    ensure!(raw == Value::Bool(false), "{page}: a mark that turns the writing is in the text");
    Ok(())
}
