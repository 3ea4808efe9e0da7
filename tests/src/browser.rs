//! A real Chromium, driven over the WebDriver protocol: plain HTTP with JSON to a driver on loopback.
//! The client is here since the kept ones bring a licence that this project does not link.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::process::Process;
use crate::wait::eventually;
use anyhow::{Context as _, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// How long the driver may take to start.
const START: Duration = Duration::from_secs(30);
/// Longest answer of the driver: a page that is checked for accessibility takes seconds.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The member that holds an element's reference, by the standard.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// Where a system keeps the driver.
const DRIVERS: [&str; 3] =
    ["/usr/bin/chromedriver", "/usr/local/bin/chromedriver", "/usr/lib/chromium/chromedriver"];
/// Collects what the page's own policy refused, in every document from its beginning.
const WATCH: &str = "window.__refused = []; addEventListener('securitypolicyviolation', e => \
    window.__refused.push(`${e.effectiveDirective} ${e.blockedURI} ${e.sourceFile}:${e.lineNumber}`));";

/// An element of the page.
pub struct Element(String);

/// A browser with one window and an empty profile.
pub struct Browser {
    port: u16,
    session: String,
    refused: Vec<String>,
    _driver: Process,
}

impl Browser {
    /// Starts a driver and a browser; all their files lie below `dir`. `lenient` is the one host whose
    /// certificate nobody signed.
    pub fn open(dir: &Path, lenient: &str) -> Result<Self> {
        let program = DRIVERS.iter().map(PathBuf::from).find(|path| path.is_file());
        let program = program.context("chromedriver is missing: .ci/setup browser")?;
        let log = dir.join("chromedriver.log");
        let mut driver = Process::spawn(&program, ["--port=0"], &log)?;
        let port = eventually(START, "chromedriver listens", || {
            ensure!(driver.ended().is_none(), "it ended: {}", std::fs::read_to_string(&log)?);
            let text = std::fs::read_to_string(&log)?;
            let at = text.split("successfully on port ").nth(1).context("it has not said its port")?;
            let digits: String = at.chars().take_while(char::is_ascii_digit).collect();
            Ok(digits.parse::<u16>()?)
        })?;
        let mut browser = Self { port, session: String::new(), refused: Vec::new(), _driver: driver };
        let profile = format!("--user-data-dir={}", dir.join("profile").display());
        // `--no-sandbox`: tests run as root in containers. The rest keeps the browser off the network.
        let args = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--no-proxy-server",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-quic",
            "--lang=en-US",
            "--window-size=1440,900",
            &profile,
        ];
        ensure!(lenient.starts_with("https://127."), "{lenient} is not on loopback");
        let capabilities = json!({ "alwaysMatch": {
            "browserName": "chrome",
            "acceptInsecureCerts": true,
            "goog:chromeOptions": { "args": args },
        }});
        let made = browser.call("POST", "/session", &json!({ "capabilities": capabilities }))?;
        browser.session = made["sessionId"].as_str().context("no session")?.to_owned();
        browser.on_every_page(WATCH)?;
        Ok(browser)
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> Result<Value> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        let body = if method == "GET" { String::new() } else { body.to_string() };
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )?;
        let body = read_answer(stream).with_context(|| format!("{method} {path}"))?;
        let mut answer: Value = serde_json::from_slice(&body).context("the driver answers no JSON")?;
        let value = answer["value"].take();
        if let Some(error) = value["error"].as_str() {
            bail!(
                "{path}: {error}: {}",
                value["message"].as_str().unwrap_or_default().lines().next().unwrap_or_default()
            );
        }
        Ok(value)
    }

    fn post(&self, leaf: &str, body: &Value) -> Result<Value> {
        self.call("POST", &format!("/session/{}{leaf}", self.session), body)
    }

    fn cdp(&self, command: &str, params: &Value) -> Result<Value> {
        self.post("/goog/cdp/execute", &json!({ "cmd": command, "params": params }))
    }

    /// Runs a script in every document from its beginning.
    ///
    /// # Errors
    /// The driver refuses.
    pub fn on_every_page(&self, script: &str) -> Result<()> {
        self.cdp("Page.addScriptToEvaluateOnNewDocument", &json!({ "source": script })).map(drop)
    }

    /// Opens an address.
    pub fn go(&mut self, url: &str) -> Result<()> {
        self.collect()?;
        self.post("/url", &json!({ "url": url })).map(drop)
    }

    fn collect(&mut self) -> Result<()> {
        let new = self.js("return (window.__refused ?? []).splice(0)", &[])?;
        self.refused
            .extend(new.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned));
        Ok(())
    }

    /// What the pages' own policy refused so far.
    pub fn refused(&mut self) -> Result<Vec<String>> {
        self.collect()?;
        Ok(self.refused.clone())
    }

    /// Runs a script in the page, as a function's body.
    pub fn js(&self, script: &str, args: &[Value]) -> Result<Value> {
        self.post("/execute/sync", &json!({ "script": script, "args": args }))
    }

    /// The text that a person sees in the page.
    pub fn text(&self) -> Result<String> {
        let text = self.js("return document.body.innerText", &[])?;
        Ok(text.as_str().unwrap_or_default().to_owned())
    }

    /// Waits until the page shows a text.
    pub fn shows(&self, limit: Duration, text: &str) -> Result<()> {
        eventually(limit, &format!("the page shows {text:?}"), || {
            let seen = self.text()?;
            ensure!(
                seen.to_lowercase().contains(&text.to_lowercase()),
                "it shows: {}",
                seen.replace('\n', " | ")
            );
            Ok(())
        })
    }

    /// Waits for an element that can be seen and used, by CSS and by a part of its text or label.
    pub fn find(&self, limit: Duration, css: &str, text: &str) -> Result<Element> {
        let script = "const [css, text] = arguments;
            const root = document.querySelector('dialog[open]') ?? document;
            return [...root.querySelectorAll(css)].find(e => e.checkVisibility() && !e.disabled &&
                `${e.innerText ?? ''} ${e.getAttribute('aria-label') ?? ''}`.toLowerCase()
                    .includes(text.toLowerCase())) ?? null";
        eventually(limit, &format!("{css} with {text:?}"), || {
            let found = self.js(script, &[json!(css), json!(text)])?;
            let id = found[ELEMENT].as_str();
            Ok(Element(
                id.with_context(|| {
                    format!("it is not there: {}", self.text().unwrap_or_default().replace('\n', " | "))
                })?
                .to_owned(),
            ))
        })
    }

    /// Runs a script with an element.
    pub fn js_of(&self, element: &Element, script: &str) -> Result<Value> {
        self.js(script, &[json!({ ELEMENT: element.0 })])
    }

    /// The text of an element.
    pub fn text_of(&self, element: &Element) -> Result<String> {
        let text = self.js("return arguments[0].innerText", &[json!({ ELEMENT: element.0 })])?;
        Ok(text.as_str().unwrap_or_default().trim().to_owned())
    }

    /// Clicks as a person would: what lies above it gets the click.
    pub fn click(&self, limit: Duration, css: &str, text: &str) -> Result<()> {
        eventually(limit, &format!("a click on {css} with {text:?}"), || {
            let element = self.find(Duration::from_secs(1), css, text)?;
            self.post(&format!("/element/{}/click", element.0), &json!({})).map(drop)
        })
    }

    /// Types into an element.
    pub fn type_into(&self, element: &Element, text: &str) -> Result<()> {
        self.post(&format!("/element/{}/clear", element.0), &json!({}))?;
        self.post(&format!("/element/{}/value", element.0), &json!({ "text": text })).map(drop)
    }

    /// Presses keys one after the other, wherever the focus is.
    pub fn press(&self, keys: &str) -> Result<()> {
        let strokes: Vec<Value> = keys
            .chars()
            .flat_map(|key| {
                ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key.to_string() }))
            })
            .collect();
        let actions = json!({ "actions": [{ "type": "key", "id": "keys", "actions": strokes }] });
        self.post("/actions", &actions).map(drop)
    }

    /// What has the focus: its tag, label and text.
    pub fn focus(&self) -> Result<String> {
        let script = "const e = document.activeElement;
            return `${e.tagName} ${e.getAttribute('aria-label') ?? ''} ${e.type ?? ''} ${(e.innerText ?? '').slice(0, 60)}`";
        Ok(self.js(script, &[])?.as_str().unwrap_or_default().to_owned())
    }

    /// Tabs until the focus is on what the words name.
    pub fn tab_to(&self, words: &str) -> Result<()> {
        let mut seen = Vec::new();
        for _ in 0..80 {
            let at = self.focus()?;
            if at.contains(words) {
                return Ok(());
            }
            seen.push(at);
            self.press("\u{e004}")?;
        }
        bail!("the keyboard does not reach {words:?}: {}", seen.join(" > "))
    }

    /// How wide the page is, and which colours the system wants.
    pub fn look(&self, width: u32, height: u32, scheme: &str) -> Result<()> {
        let metrics = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.cdp("Emulation.setDeviceMetricsOverride", &metrics)?;
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.cdp("Emulation.setEmulatedMedia", &media).map(drop)
    }

    /// A picture of the whole page.
    pub fn picture(&self, path: &Path) -> Result<()> {
        let shot =
            self.cdp("Page.captureScreenshot", &json!({ "format": "png", "captureBeyondViewport": true }))?;
        let bytes = STANDARD.decode(shot["data"].as_str().context("no picture")?)?;
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir)?;
        }
        std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Reads an answer by its length: the driver keeps connections open, whatever it is asked.
fn read_answer(stream: TcpStream) -> Result<Vec<u8>> {
    let mut stream = BufReader::new(stream);
    let mut length = None;
    loop {
        let mut line = String::new();
        ensure!(stream.read_line(&mut line)? > 0, "the driver's answer ends in its head");
        if line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = Some(value.trim().parse::<usize>()?);
        }
    }
    let mut body = vec![0; length.context("the driver's answer has no length")?];
    stream.read_exact(&mut body)?;
    Ok(body)
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends the browser; the driver itself is killed after it. If that fails, so has the test.
        let _ = self.call("DELETE", &format!("/session/{}", self.session), &json!({}));
    }
}
