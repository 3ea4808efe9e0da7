//! The web UI in a real browser, against a real site: its own door over TLS, its own pages.
//!
//! Needs Chromium and its driver (`.ci/setup browser`), and the pages (`just web`).

mod access;
mod ceiling;
mod day;
mod hostile;
mod proxy;
mod relay;
mod terminal;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use qb_tests::binaries::Binaries;
use qb_tests::browser::Browser;
use qb_tests::command::Qb;
use qb_tests::site::{ADMIN, Layout, Site};
use qb_tests::wait::eventually;
use serde_json::Value;

/// How long anything may take that should take a second or so.
const SOON: Duration = Duration::from_secs(30);

/// A site, a browser on the door of its first node, and their files, which are removed in the end.
struct Fixture {
    browser: Browser,
    site: Site,
    door: String,
    _dir: tempfile::TempDir,
}

/// Starts a site with addresses 127.0.`net`.11 to .15 and founds it with its first node; the other
/// four wait. `prepare` may change what the agents are told before they start.
fn founded(net: u8, prepare: impl FnOnce(&mut Site)) -> Result<Fixture> {
    let dir = tempfile::Builder::new().prefix("qb").tempdir()?;
    let layout = Layout { dir: dir.path().join("s"), name: "lyon".into(), net: [127, 0, net] };
    let mut site = Site::open(&layout, &Binaries::find()?)?;
    prepare(&mut site);
    site.ports_free()?;
    site.create()?;
    site.start()?;
    eventually(SOON, "five machines knock", || {
        let waiting = site.nodes()?.iter().filter(|n| n.state == "waiting").count();
        ensure!(waiting == 5, "{waiting}");
        Ok(())
    })?;
    site.qb.ok(&["node", "authorize", "node-1", "-y"])?;
    let door = site.agents[0].url();
    let browser = Browser::open(dir.path(), &door)?;
    Ok(Fixture { browser, site, door, _dir: dir })
}

impl Fixture {
    /// Makes a key in the browser, has it added in a terminal as the page says, and logs in.
    fn sign_in(&mut self) -> Result<()> {
        let door = format!("{}/", self.door);
        sign_in(&mut self.browser, &self.site.qb, &door)
    }

    /// A document of the site, by its first door.
    fn get(&mut self, leaf: &str) -> Result<Value> {
        self.site.get(leaf)
    }

    /// Intents that the site has heard of.
    fn intents(&mut self) -> Result<usize> {
        Ok(self.get("/intents")?.as_array().map(Vec::len).unwrap_or_default())
    }

    /// A node by its name.
    fn node(&mut self, name: &str) -> Result<Value> {
        let nodes = self.get("/nodes")?;
        let found = nodes.as_array().into_iter().flatten().find(|n| n["name"] == name).cloned();
        found.with_context(|| format!("{name} is not there"))
    }

    /// Fails with the agents' last words and a picture of the page.
    fn told<T>(&self, result: Result<T>) -> T {
        match result {
            Ok(value) => value,
            Err(e) => {
                let picture = pictures().join("failed.png");
                let taken = self.browser.picture(&picture).is_ok();
                let taken = if taken { picture.display().to_string() } else { "no picture".to_owned() };
                panic!("{e:#}\npicture: {taken}\n{}", self.site.tails(10));
            }
        }
    }
}

/// Makes a key in a browser for the origin of `url`, has it added as the page says, and logs in there.
fn sign_in(browser: &mut Browser, qb: &Qb, url: &str) -> Result<()> {
    browser.go(url)?;
    browser.click(SOON, "button", "Make a key for this browser")?;
    browser.shows(SOON, "not added yet")?;
    let shown = browser.find(SOON, "code", "qb admin add-key")?;
    let command = browser.text_of(&shown)?;
    let print = browser.find(SOON, ".words6", "")?;
    let print = browser.text_of(&print)?;
    ensure!(print.split('-').count() == 4, "{print}");
    // As it stands there, but for the admin's id, which a page without a session does not know.
    let typed = command.replace("ADMIN", ADMIN);
    let args = typed.strip_prefix("qb ").context("the command is one of qb")?.split(' ');
    let args: Vec<&str> = std::iter::once("-y").chain(args).collect();
    let ran = qb.ok(&args)?;
    let said = format!("{}{}", ran.stdout, ran.stderr);
    ensure!(said.contains(&print), "the page shows {print}, the terminal: {said}");
    // A relay hears of the key a moment after the site.
    eventually(SOON, "the login is taken", || {
        browser.click(SOON, "button", "Log in")?;
        browser.shows(Duration::from_secs(2), "Mira Okafor")
    })
}

/// Where pictures go: below the build's own folder, which no tree holds.
fn pictures() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("browser")
}
