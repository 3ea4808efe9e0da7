#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt as _;

use qb_model::ids::{Digest, PublicKey};
use sha2::{Digest as _, Sha256};

use super::*;
use crate::versions::state::{Installed, Trial};

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

fn places(home: &Path) -> Places {
    let at = |name: &str| home.join(name);
    Places { root: at("exec"), agent: at("qb-agent"), exec: at("qb-exec"), links: at("bin") }
}

/// A version whose two files lie there.
fn installed(root: &Path, n: u8) -> Installed {
    let store = Store::open(root).unwrap();
    let digest = Digest([n; 32]);
    let programs = [Program::Agent, Program::Exec].map(|which| {
        let path = store.program(&digest, which);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let bytes = format!("{} {n}", which.name());
        std::fs::write(&path, &bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        Digest(Sha256::digest(bytes).into())
    });
    Installed { digest, version: version(&format!("0.{n}.0")), publisher: PublicKey([9; 32]), programs }
}

fn linked(places: &Places) -> PathBuf {
    std::fs::read_link(places.links.join("qb-agent")).unwrap()
}

fn start(places: &Places) -> Start {
    let start = before(places, &version("0.1.0"), Program::Agent).unwrap();
    assert_eq!(start.program, linked(places));
    start
}

#[test]
fn links_lead_to_what_was_picked_and_files_that_changed_are_left() {
    let temp = tempfile::tempdir().unwrap();
    let places = places(temp.path());
    assert_eq!(start(&places), Start { program: places.agent.clone(), notes: vec![] });
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&places.root), mode(&places.root.join("versions"))), (0o711, 0o711));

    let store = Store::open(&places.root).unwrap();
    let (two, three) = (installed(&places.root, 2), installed(&places.root, 3));
    let file = store.program(&three.digest, Program::Agent);
    let set = |current: &Installed, previous: Option<&Installed>| {
        store.change(|s| (s.current, s.previous) = (Some(current.clone()), previous.cloned())).unwrap();
    };
    set(&three, Some(&two));
    assert_eq!(start(&places).program, file);
    // Nothing refers to version 4: it is tidied up.
    let four = installed(&places.root, 4);
    start(&places);
    assert!(!store.program(&four.digest, Program::Agent).exists());

    for damage in ["content", "writable", "link", "gone"] {
        let three = installed(&places.root, 3);
        let two = installed(&places.root, 2);
        set(&three, Some(&two));
        match damage {
            "content" => std::fs::write(&file, "qb-agent 666").unwrap(),
            "writable" => std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o777)).unwrap(),
            "link" => {
                std::fs::rename(&file, temp.path().join("moved")).unwrap();
                std::os::unix::fs::symlink(temp.path().join("moved"), &file).unwrap();
            }
            _ => std::fs::remove_file(&file).unwrap(),
        }
        let start = start(&places);
        assert_eq!(start.program, store.program(&two.digest, Program::Agent), "{damage}");
        assert!(start.notes[0].contains("qb-agent of version 0.3.0"), "{damage}: {:?}", start.notes);
        assert!(!file.exists(), "{damage}: left, it is tidied up");
    }
}

#[test]
fn what_cannot_be_read_or_written_is_said_and_the_package_runs() {
    let temp = tempfile::tempdir().unwrap();
    let places = places(temp.path());
    let two = installed(&places.root, 2);
    let store = Store::open(&places.root).unwrap();
    let file = store.program(&two.digest, Program::Agent);
    store.change(|state| state.current = Some(two.clone())).unwrap();
    let state = places.root.join("versions/state.json");
    let good = std::fs::read(&state).unwrap();
    let unknown = String::from_utf8(good.clone()).unwrap().replacen("{\"v\":1", "{\"x\":0,\"v\":1", 1);
    let newer = String::from_utf8(good.clone()).unwrap().replacen("{\"v\":1", "{\"v\":2", 1);
    for damaged in [&b"{"[..], b"", unknown.as_bytes(), newer.as_bytes(), &vec![b' '; 200_000]] {
        std::fs::write(&state, damaged).unwrap();
        let start = start(&places);
        assert_eq!(start.program, places.agent);
        assert!(
            start.notes[0].contains("state.json") && start.notes[0].contains("the package's program runs")
        );
        assert_eq!(std::fs::read(&state).unwrap(), damaged, "a person looks at it");
        assert!(file.exists(), "nothing is tidied up by it");
    }
    std::fs::write(&state, good).unwrap();
    assert_eq!(start(&places).program, file);

    // A start that cannot be counted is not one of a version on trial.
    let three = installed(&places.root, 3);
    let trial = Trial {
        of: three,
        order: Digest([7; 32]),
        agent_starts: 0,
        exec_starts: 0,
        confirmed: false,
        floors: qb_drivers::agent::VersionFloors::default(),
    };
    store.change(|state| state.trial = Some(trial)).unwrap();
    let in_the_way = places.root.join("versions/.state.json.new");
    std::fs::create_dir_all(in_the_way.join("x")).unwrap();
    let uncounted = start(&places);
    assert_eq!(uncounted.program, file);
    assert!(uncounted.notes[0].contains("cannot be written"), "{:?}", uncounted.notes);
    std::fs::remove_dir_all(in_the_way).unwrap();
    assert_ne!(start(&places).program, file);
}
