//! What one run of `qb` knows: flags, configuration, streams; and how it gets to a site.

use std::collections::BTreeSet;
use std::io::IsTerminal as _;
use std::path::Path;

use qb_model::charter::Charter;
use qb_model::dsse::SecretKey;
use qb_model::{Name, NodeId, PublicKey};
use tokio::sync::Mutex;

use crate::args::{Globals, Output};
use crate::client::Client;
use crate::client::api::Api;
use crate::client::connect::{Target, race};
use crate::client::memory::{Belief, Memory};
use crate::config::{self, Config, Paths, SiteConfig};
use crate::door::{Door, RelayUrl};
use crate::error::CliError;
use crate::files;
use crate::keyfile::{KeyFile, Kind};
use crate::out::Out;
use crate::out::text::{clean, now};
use crate::passphrase::Passphrases;

/// Longest charter or enrolment file in bytes.
const CHARTER_MAX: u64 = 256 * 1024;

/// One run.
#[derive(Debug, Clone)]
pub struct Ctx {
    /// Flags on everything.
    pub globals: Globals,
    /// Where things lie.
    pub paths: Paths,
    /// The configuration.
    pub config: Config,
    /// The streams.
    pub out: Out,
    /// Where passphrases come from.
    pub passphrases: Passphrases,
    /// A Tab asks: nobody sees what is said, so no door is believed for the first time.
    pub completing: bool,
}

/// A site of this computer.
#[derive(Debug, Clone)]
pub struct Here {
    /// Its name on this computer.
    pub name: Name,
    /// Its configuration.
    pub config: SiteConfig,
}

/// A key that signs.
pub struct Key {
    /// Its name on this computer.
    pub name: Name,
    /// The secret.
    pub secret: SecretKey,
    /// The public half.
    pub public: PublicKey,
}

/// A site that answers.
pub struct Session<'a> {
    /// The run.
    pub ctx: &'a Ctx,
    /// The site.
    pub here: Here,
    /// Its API.
    pub api: Api,
    /// Nodes that the signed log proves to be of the site, as far as it was read.
    pub(crate) proven: Mutex<BTreeSet<NodeId>>,
    key: Option<Key>,
}

impl Ctx {
    /// From flags and environment.
    ///
    /// # Errors
    /// The configuration is wrong.
    pub fn new(globals: Globals, env: &dyn Fn(&str) -> Option<String>) -> Result<Self, CliError> {
        let paths = Paths::find(globals.config.as_deref(), env)?;
        let config = config::load(&paths.config)?;
        let out = Out::new(&globals, env);
        let passphrases = Passphrases { file: env("QB_PASSPHRASE_FILE"), no_input: globals.no_input };
        Ok(Self { globals, paths, config, out, passphrases, completing: false })
    }

    /// The chosen site.
    ///
    /// # Errors
    /// There is none, or the configuration does not have it.
    pub fn here(&self) -> Result<Here, CliError> {
        let name = match (&self.globals.site, &self.config.current) {
            (Some(name), _) | (None, Some(name)) => name,
            (None, None) => {
                return Err(
                    CliError::usage("No site is chosen.").remedy("qb site create NAME, or qb site use NAME")
                );
            }
        };
        let config = self.config.site.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.config.site.keys().map(Name::as_str).collect();
            let error = CliError::usage(format!("No site {name} on this computer."));
            match config::nearest(name.as_str(), &known) {
                Some(near) => error.remedy(format!("the nearest is {near}")),
                None => error.remedy("qb site list, or qb site use FILE with its enrolment file"),
            }
        })?;
        Ok(Here { name: name.clone(), config: config.clone() })
    }

    /// The doors that are tried for a site, in order.
    pub fn doors(&self, here: &Here) -> Vec<Door> {
        match &self.globals.door {
            Some(door) => vec![door.clone()],
            None if here.config.doors.is_empty() => vec![Door::local()],
            None => here.config.doors.clone(),
        }
    }

    /// Whether questions can be asked.
    pub fn can_ask(&self) -> bool {
        !self.globals.no_input && std::io::stdin().is_terminal() && std::io::stderr().is_terminal()
    }

    /// The file that `-o` names, if it names one.
    pub fn file(&self) -> Option<&Path> {
        match &self.globals.output {
            Some(Output::File(path)) => Some(path),
            _ => None,
        }
    }

    /// Opens a key of this computer.
    ///
    /// # Errors
    /// It does not exist, is for something else, or its passphrase is wrong.
    pub fn open_key(&self, name: &Name, kind: Kind, site: &Name) -> Result<Key, CliError> {
        let path = self.paths.key(name.as_str());
        if !path.exists() {
            return Err(CliError::no_key(site.as_str()));
        }
        let file = KeyFile::load(&path)?;
        if file.kind != kind {
            let text =
                format!("Key {name} is a {} key; this needs an {} key.", file.kind.word(), kind.word());
            return Err(CliError::refused(text).remedy("qb key list"));
        }
        let secret = file.open(|| self.passphrases.of_key(name.as_str()))?;
        Ok(Key { name: name.clone(), secret, public: file.public })
    }

    /// A site's charter, verified, and its envelope as JSON.
    ///
    /// # Errors
    /// The file is not there, not a charter, or of another site.
    pub fn charter(&self, here: &Here) -> Result<Charter, CliError> {
        let charter = read_charter(&here.config.charter)?.0;
        if charter.site_id() != here.config.id {
            let text = format!("{} is the charter of another site.", here.config.charter.display());
            return Err(CliError::failed(text));
        }
        Ok(charter)
    }

    /// Connects to the chosen site; at a network's door, logs in.
    ///
    /// # Errors
    /// No door answers, or none lets this key in.
    pub async fn session(&self) -> Result<Session<'_>, CliError> {
        let here = self.here()?;
        let doors = self.doors(&here);
        self.session_at(here, doors).await
    }

    /// Connects to the chosen site past a relay where it may not be registered yet. A door that the
    /// command line names is taken as it is.
    ///
    /// # Errors
    /// As of [`Ctx::session`].
    pub async fn session_past(&self, url: &RelayUrl) -> Result<Session<'_>, CliError> {
        let here = self.here()?;
        let named = self.globals.door.is_some();
        let doors = self.doors(&here).into_iter().filter(|door| named || door.relay() != Some(url)).collect();
        self.session_at(here, doors).await
    }

    /// Connects to the first of some doors of a site that answers.
    ///
    /// # Errors
    /// As of [`Ctx::session`].
    pub async fn session_at(&self, here: Here, doors: Vec<Door>) -> Result<Session<'_>, CliError> {
        let mut key = None;
        let client = self.client(&here, doors, &mut key).await?;
        let id = here.config.id;
        Ok(Session { ctx: self, here, api: Api::new(client, id), proven: Mutex::default(), key })
    }

    /// Connects to the first of some doors that answers; at one that wants it, logs in with `key`, which
    /// is opened if it is not yet.
    ///
    /// # Errors
    /// No door answers, or none lets this key in.
    pub async fn client(
        &self,
        here: &Here,
        doors: Vec<Door>,
        key: &mut Option<Key>,
    ) -> Result<Client, CliError> {
        let path = self.paths.memory(&here.name);
        let mut memory = Memory::load(&path)?;
        memory.nodes.extend(&here.config.known_nodes);
        let target = |door: Door| Target { door, site: here.config.id, memory: memory.clone() };
        let targets: Vec<Target> = doors.into_iter().map(target).collect();
        let (at, connection) = race(&targets).await.map_err(|causes| unreachable(here, &causes))?;
        let target = targets.into_iter().nth(at).ok_or_else(|| CliError::failed("No door was chosen."))?;
        if at > 0 {
            self.out.hint(&format!("through {}; the doors before it do not answer yet", target.door));
        }
        let (node, door) = (connection.node, target.door.to_string());
        let client = Client::new(target, connection, self.out.clone());
        if let Some((node, belief)) = node {
            if belief == Belief::First {
                self.first(here, &door, node, &mut memory)?;
            }
            return self.log_in(here, client, node.public_key(), key).await;
        }
        match client.door().relay().cloned() {
            Some(url) => {
                let server = self.relay_key(here, &client, &url, &mut memory).await?;
                self.log_in(here, client, server, key).await
            }
            None => Ok(client),
        }
    }

    /// A node answers at a door where nobody did before.
    fn first(&self, here: &Here, door: &str, node: NodeId, memory: &mut Memory) -> Result<(), CliError> {
        if self.completing {
            return Err(CliError::unreachable(format!("{door} was never seen before.")));
        }
        let fingerprint = qb_model::words::fingerprint(&node.0);
        self.out
            .say(&format!("First time at {door}: node {fingerprint} answers for {}. Remembered.", here.name));
        memory.doors.insert(door.to_owned(), node);
        memory.save(&self.paths.memory(&here.name))
    }

    async fn log_in(
        &self,
        here: &Here,
        mut client: Client,
        server: PublicKey,
        key: &mut Option<Key>,
    ) -> Result<Client, CliError> {
        let opened = match key.take() {
            Some(opened) => opened,
            None => self.open_key(&self.key_name(here)?, Kind::Admin, &here.name)?,
        };
        let login = client.login(&opened.secret, server, now()).await;
        *key = Some(opened);
        self.out.trace(&format!("logged in as {}", login?.admin));
        Ok(client)
    }

    /// The key that is known of a relay: as remembered, else as the charter says.
    pub fn pinned(&self, here: &Here, url: &RelayUrl, memory: &Memory) -> Option<PublicKey> {
        let named = || {
            let charter = self.charter(here).ok()?;
            let at = |r: &&qb_model::charter::CharterRelay| r.url.parse().is_ok_and(|u: RelayUrl| u == *url);
            charter.body().relays.iter().find(at).map(|r| r.key)
        };
        memory.relays.get(url).copied().or_else(named)
    }

    /// The key that a relay must have: as remembered, else as the charter says, else as it says itself
    /// for the first time, which is then remembered.
    async fn relay_key(
        &self,
        here: &Here,
        client: &Client,
        url: &RelayUrl,
        memory: &mut Memory,
    ) -> Result<PublicKey, CliError> {
        if let Some(key) = self.pinned(here, url, memory) {
            return Ok(key);
        }
        if self.completing {
            return Err(CliError::unreachable(format!("{url} was never seen before.")));
        }
        let key = client.challenge().await?.server_key;
        let print = qb_model::words::fingerprint(&key.0);
        self.out.say(&format!("First time at {url}: relay {print} answers. Remembered."));
        memory.relays.insert(url.clone(), key);
        memory.save(&self.paths.memory(&here.name))?;
        Ok(key)
    }

    /// The name of the key that signs for a site.
    ///
    /// # Errors
    /// There is none.
    pub fn key_name(&self, here: &Here) -> Result<Name, CliError> {
        let name = self.globals.key.as_ref().or(here.config.key.as_ref());
        name.cloned().ok_or_else(|| CliError::no_key(here.name.as_str()))
    }
}

impl<'a> Session<'a> {
    /// A site of which no door answers: only what its charter says is known.
    pub fn nowhere(ctx: &'a Ctx, here: Here, door: Door) -> Self {
        let target = Target { door, site: here.config.id, memory: Memory::default() };
        let api = Api::new(Client::closed(target, ctx.out.clone()), here.config.id);
        Self { ctx, here, api, proven: Mutex::default(), key: None }
    }

    /// The key that signs, opened once.
    ///
    /// # Errors
    /// It does not exist or does not open.
    pub fn key(&mut self) -> Result<&Key, CliError> {
        let key = match self.key.take() {
            Some(key) => key,
            None => self.ctx.open_key(&self.ctx.key_name(&self.here)?, Kind::Admin, &self.here.name)?,
        };
        Ok(self.key.insert(key))
    }

    /// Takes it apart for whoever serves it on: the site, the client, and the key if it is open.
    pub fn into_parts(self) -> (Here, Client, Option<Key>) {
        (self.here, self.api.client, self.key)
    }

    /// Connects anew, to whatever door answers now, and logs in there: an agent that started again knows
    /// no session of before.
    ///
    /// # Errors
    /// No door answers, or it refuses this admin.
    pub async fn reopen(&mut self) -> Result<(), CliError> {
        let doors = self.ctx.doors(&self.here);
        let mut key = self.key.take();
        let client = self.ctx.client(&self.here, doors, &mut key).await;
        self.key = key;
        self.api = Api::new(client?, self.here.config.id);
        Ok(())
    }

    /// Whether a relay answers: what it shows of machines is its word.
    pub fn at_relay(&self) -> bool {
        self.api.client.door().relay().is_some()
    }

    /// Changes what is remembered of the site.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn remember(&self, change: impl FnOnce(&mut Memory)) -> Result<(), CliError> {
        let path = self.ctx.paths.memory(&self.here.name);
        let mut memory = Memory::load(&path)?;
        let before = memory.clone();
        change(&mut memory);
        if memory == before { Ok(()) } else { memory.save(&path) }
    }
}

fn unreachable(here: &Here, causes: &[String]) -> CliError {
    let causes: Vec<String> = causes.iter().map(|c| clean(c)).collect();
    let causes = if causes.is_empty() { vec!["it has no other door here".to_owned()] } else { causes };
    let text = format!("{} cannot be reached: {}.", here.name, causes.join("; "));
    CliError::unreachable(text).remedy("qb doctor, or another door: --door https://ADDRESS:8443")
}

/// Reads a charter from a charter file or an enrolment file, with the seeds of the latter.
///
/// # Errors
/// It is neither.
pub fn read_charter(path: &Path) -> Result<(Charter, Vec<String>), CliError> {
    let text = files::read_text(path, CHARTER_MAX)?;
    let wrong = |why: String| CliError::usage(format!("{} holds no charter: {why}.", path.display()));
    if let Ok(enrolment) = serde_json::from_str::<crate::enrol::Enrolment>(&text) {
        let envelope = serde_json::to_vec(&enrolment.charter).map_err(|e| wrong(e.to_string()))?;
        let charter = Charter::verify(&envelope).map_err(|e| wrong(e.to_string()))?;
        return Ok((charter, enrolment.seeds));
    }
    let charter = Charter::verify(text.trim_end().as_bytes()).map_err(|e| wrong(e.to_string()))?;
    Ok((charter, Vec::new()))
}
