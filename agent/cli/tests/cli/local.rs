//! What lies on this computer: configuration, keys, memory.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use qb_cli::client::memory::{Belief, Memory};
use qb_cli::config::{parse, with_current, with_doors, with_site};
use qb_cli::error::Exit;
use qb_cli::files;
use qb_cli::keyfile::{KeyFile, Kind};
use qb_cli::out::paint::Paint;
use qb_model::NodeId;
use qb_model::dsse::{Purpose, Signer as _, verify};
use zeroize::Zeroizing;

const GOOD: &str = "# mine\ncurrent = \"lyon\"\n\n[site.lyon]\nid = \"qb1aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"\ncharter = \"/x\"\ndoors = [\"unix:/a\"] # first\nkey = \"mira\"\n";

#[test]
fn config_errors_name_file_line_and_the_nearest_name() {
    let wrong = GOOD.replace("doors", "dors");
    let error = parse(Path::new("/etc/c.toml"), &wrong).unwrap_err();
    assert_eq!(error.exit, Exit::Usage);
    assert_eq!(error.lines(), ["/etc/c.toml line 7: unknown field `dors`.", "  the nearest is `doors`"]);
    let error = parse(Path::new("/c"), &GOOD.replace("unix:/a", "http://a")).unwrap_err();
    assert!(error.text.starts_with("/c line 7:"), "{error}");
    let error = parse(Path::new("/c"), &GOOD.replace("\"lyon\"", "\"lion\"")).unwrap_err();
    assert_eq!(error.lines(), ["/c: current = \"lion\" is no site in it.", "  qb site use lyon"]);
}

#[test]
fn edits_keep_what_people_wrote() {
    let config = parse(Path::new("/c"), GOOD).unwrap();
    let site = config.site.values().next().unwrap();
    let two = with_site(GOOD, &"nice".parse().unwrap(), site).unwrap();
    let two = with_current(&two, &"nice".parse().unwrap());
    assert!(two.starts_with("# mine\ncurrent = \"nice\"\n"), "{two}");
    let parsed = parse(Path::new("/c"), &two).unwrap();
    assert_eq!(parsed.site.len(), 2);
    assert_eq!(parsed.site.values().nth(1), Some(site));
    let three =
        with_doors(&two, &"nice".parse().unwrap(), &["https://10.0.0.1:8443".parse().unwrap()]).unwrap();
    let parsed = parse(Path::new("/c"), &three).unwrap();
    assert_eq!(parsed.site[&"nice".parse().unwrap()].doors[0].to_string(), "https://10.0.0.1:8443");
    assert_eq!(parsed.site[&"lyon".parse().unwrap()].doors[0].to_string(), "unix:/a");
}

#[test]
fn keys_open_only_with_their_passphrase_and_only_for_their_owner() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys/a.key");
    let (file, key) = KeyFile::create(&path, Kind::Admin, Some("horse")).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    assert!(KeyFile::create(&path, Kind::Admin, None).is_err(), "a key is never overwritten");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains("plain"), "{text}");

    let read = KeyFile::load(&path).unwrap();
    let give = |text: &str| Ok(Zeroizing::new(text.to_owned()));
    assert!(read.open(|| give("hors")).is_err());
    let opened = read.open(|| give("horse")).unwrap();
    assert_eq!(opened.public_key(), file.public);
    let signature = opened.sign(Purpose::Intent, b"x");
    assert!(verify(Purpose::Intent, b"x", &key.public_key(), &signature));

    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    let error = KeyFile::load(&path).err().unwrap();
    assert_eq!(error.exit, Exit::Refused);
    assert!(error.text.ends_with("may be read by others: its mode is 0640."), "{error}");
    assert!(error.remedy.unwrap().starts_with("chmod 600"));
}

#[test]
fn a_key_of_one_kind_is_not_another() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.key");
    KeyFile::create(&path, Kind::Publisher, Some("horse")).unwrap();
    let text = std::fs::read_to_string(&path).unwrap().replace("\"publisher\"", "\"admin\"");
    std::fs::write(&path, text).unwrap();
    let read = KeyFile::load(&path).unwrap();
    assert!(read.open(|| Ok(Zeroizing::new("horse".to_owned()))).is_err(), "the kind is sealed in");
}

#[test]
fn files_are_bounded_and_written_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a");
    files::write(&path, b"12345", 0o600, false).unwrap();
    assert!(files::read(&path, 4).is_err());
    assert_eq!(files::read(&path, 5).unwrap(), b"12345");
    assert!(files::write(&path, b"6", 0o600, true).is_err());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left behind");
}

#[test]
fn a_door_is_believed_once() {
    let (a, b) = (NodeId([1; 32]), NodeId([2; 32]));
    let mut memory = Memory::default();
    assert_eq!(memory.believe("https://10.0.0.1:1", &a), Belief::First);
    memory.doors.insert("https://10.0.0.1:1".to_owned(), a);
    assert_eq!(memory.believe("https://10.0.0.1:1", &a), Belief::Known);
    assert_eq!(memory.believe("https://10.0.0.1:1", &b), Belief::Changed(a));
    memory.nodes.insert(b);
    assert_eq!(
        memory.believe("https://10.0.0.1:1", &b),
        Belief::Known,
        "an authorized node may take an address over"
    );
}

#[test]
fn colours_follow_the_environment() {
    let env = |pairs: &'static [(&str, &str)]| {
        move |name: &str| pairs.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned())
    };
    assert!(Paint::detect(true, &env(&[])).colour);
    assert!(!Paint::detect(false, &env(&[])).colour);
    assert!(!Paint::detect(true, &env(&[("NO_COLOR", "1")])).colour);
    assert!(!Paint::detect(true, &env(&[("TERM", "dumb")])).colour);
    assert!(Paint::detect(false, &env(&[("CLICOLOR_FORCE", "1")])).colour);
    assert!(!Paint::detect(true, &env(&[("LANG", "C")])).unicode);
    assert!(Paint::detect(true, &env(&[("LANG", "de_DE.UTF-8")])).unicode);
}
