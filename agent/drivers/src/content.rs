//! What the rehearsal's bundle holds: small text files, the same bytes on every machine.

use qb_model::ids::{IdError, Millis, Name, Version};

use crate::bundle::{ANY_ARCH, ArtifactKind, BundleError, Label, Tally, Unsigned};
use crate::config::{Schema, SchemaType, UnitDefaults};

const README: &str = "\
This bundle is a rehearsal.

It holds settings for stand-in processes that answer on the ports of Kubernetes. It installs no
Kubernetes and runs no containers. Use it to try out enrolment, attach, join and detach with real
processes, certificates and ports, and a bundle of another driver for everything else.
";
/// Restart and stop times: quick, since a rehearsal is watched.
const UNIT: UnitDefaults = UnitDefaults { restart_first_ms: 200, restart_most_ms: 10_000, stop_ms: 3_000 };

/// Builds the rehearsal's bundle, unsigned: manifest and table, for a publisher to sign, and the
/// artifacts' bytes, which follow.
///
/// # Errors
/// None in practice: everything that goes in is fixed. The error says which rule broke.
pub fn build_rehearsal_bundle(
    version: &Version,
    created_ms: Millis,
) -> Result<(Unsigned, Vec<u8>), BundleError> {
    let files = files(version)?;
    let unpacked = files.iter().map(|(_, text)| text.len() as u64).sum();
    let broken = |_| BundleError::Rule("its archive cannot be built");
    let archive = archive(&files).map_err(broken)?;
    let name = |text: &str| text.parse::<Name>().map_err(rule);
    let mut tally = Tally::default();
    tally
        .add(name("settings")?, ArtifactKind::Tar, Some(unpacked), &mut archive.as_slice())
        .map_err(broken)?;
    let label = Label {
        name: name("rehearsal")?,
        driver: name("rehearsal")?,
        version: version.clone(),
        channel: name("stable")?,
        arch: ANY_ARCH.to_owned(),
        created_ms,
        min_agent: "0.1.0".parse().map_err(rule)?,
    };
    Ok((tally.finish(label)?, archive))
}

fn rule(_: IdError) -> BundleError {
    BundleError::Rule("a name breaks its rule")
}

/// Path and text of every file, sorted by path.
fn files(version: &Version) -> Result<Vec<(&'static str, String)>, BundleError> {
    let json = |value: Result<String, serde_json::Error>| match value {
        Ok(text) => Ok(text + "\n"),
        Err(_) => Err(BundleError::Rule("a setting cannot be serialized")),
    };
    let schema = |title: &str, members: &[(&str, SchemaType)]| {
        json(serde_json::to_string_pretty(&Schema {
            title: title.to_owned(),
            members: members.iter().map(|(name, kind)| ((*name).to_owned(), *kind)).collect(),
        }))
    };
    let unit = json(serde_json::to_string_pretty(&UNIT))?;
    Ok(vec![
        ("README", README.to_owned()),
        ("VERSION", format!("{version}\n")),
        ("schema/api-server.json", schema("configuration of the API server's stand-in", &API_SERVER)?),
        ("schema/cluster.json", schema("what every member knows of the cluster", &CLUSTER)?),
        ("schema/node-service.json", schema("configuration of the node service's stand-in", &NODE_SERVICE)?),
        ("units/api-server.json", unit.clone()),
        ("units/node-service.json", unit),
    ])
}

const CLUSTER: [(&str, SchemaType); 7] = [
    ("v", SchemaType::Number),
    ("rehearsal", SchemaType::Boolean),
    ("site", SchemaType::String),
    ("cluster", SchemaType::String),
    ("version", SchemaType::String),
    ("first", SchemaType::String),
    ("members", SchemaType::Array),
];

const API_SERVER: [(&str, SchemaType); 10] = [
    ("v", SchemaType::Number),
    ("rehearsal", SchemaType::Boolean),
    ("cluster", SchemaType::String),
    ("node", SchemaType::String),
    ("listen", SchemaType::String),
    ("certificate", SchemaType::String),
    ("key", SchemaType::String),
    ("authority", SchemaType::String),
    ("data", SchemaType::String),
    ("first", SchemaType::String),
];

const NODE_SERVICE: [(&str, SchemaType); 14] = [
    ("v", SchemaType::Number),
    ("rehearsal", SchemaType::Boolean),
    ("cluster", SchemaType::String),
    ("node", SchemaType::String),
    ("host", SchemaType::String),
    ("role", SchemaType::String),
    ("tcp", SchemaType::String),
    ("udp", SchemaType::String),
    ("server", SchemaType::String),
    ("authority", SchemaType::String),
    ("credential", SchemaType::String),
    ("identity", SchemaType::String),
    ("status", SchemaType::String),
    ("heartbeat_ms", SchemaType::Number),
];

/// A tar archive in memory: fixed times, owners and modes, so that the same files give the same
/// digest everywhere.
fn archive(files: &[(&str, String)]) -> std::io::Result<Vec<u8>> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, text) in files {
        let mut header = tar::Header::new_ustar();
        header.set_path(path)?;
        header.set_entry_type(tar::EntryType::Regular);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(text.len() as u64);
        header.set_cksum();
        builder.append(&header, text.as_bytes())?;
    }
    builder.into_inner()
}
