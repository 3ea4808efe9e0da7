#![allow(clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt as _;

use super::*;

fn host(script: &str) -> (tempfile::TempDir, HostPrograms) {
    let temp = tempfile::tempdir().unwrap();
    let bin = temp.path().join("bin");
    std::fs::create_dir_all(&bin).unwrap();
    let program = bin.join("tool");
    std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let programs = HostPrograms {
        root: temp.path().to_owned(),
        bin,
        cwd: temp.path().to_owned(),
        redactor: Arc::default(),
        tell: Tell::into(temp.path().join("told")),
    };
    (temp, programs)
}

#[tokio::test]
async fn a_program_gets_its_arguments_its_input_and_nothing_else() {
    let (temp, host) = host("pwd; echo \"$#:$1:$2\"; cat; env | cut -d= -f1 | sort | tr '\\n' ' '");
    let call = Call::tree("tool", ["a b", "$(x)"]).input("fed ");
    let output = host.run(call).await.unwrap();
    let said = String::from_utf8(output.done("tool", "").unwrap()).unwrap();
    let here = temp.path().display();
    assert_eq!(said, format!("{here}\n2:a b:$(x)\nfed ETCDCTL_API HOME LC_ALL PATH PWD "));
}

#[tokio::test]
async fn what_a_failed_program_said_is_shown_without_secrets() {
    let (temp, host) = host("echo '--token abcdef.0123456789abcdef'; echo 'no such thing' >&2; exit 3");
    let output = host.run(Call::tree("tool", [""; 0]).told()).await.unwrap();
    assert!(!output.is_ok());
    let error = output.done("the tool", "do this").unwrap_err();
    assert!(error.text.starts_with("the tool ended with status 3: "), "{}", error.text);
    assert!(error.text.contains("no such thing") && !error.text.contains("abcdef"), "{}", error.text);
    let told = super::super::tell::told(&temp.path().join("told"));
    assert!(!told.is_empty() && !told.contains("abcdef"), "{told}");
}

#[tokio::test]
async fn too_much_too_long_and_missing_are_failures() {
    let (_temp, host) = host("case $1 in much) yes | head -c 2000;; long) exec sleep 600;; esac");
    let much = host.run(Call::tree("tool", ["much"]).most(1000)).await.unwrap_err();
    assert!(much.text.contains("more than 1000 bytes"), "{}", much.text);
    let long = host.run(Call::tree("tool", ["long"]).limit(Duration::from_millis(50))).await.unwrap_err();
    assert!(long.text.contains("took more than"), "{}", long.text);
    let missing = host.run(Call::tree("other", [""; 0])).await.unwrap_err();
    assert!(missing.text.contains("bin/other"), "{}", missing.text);
    let system = host.run(Call::system(SystemProgram::Nft, ["list"])).await.unwrap_err();
    assert!(system.remedy.contains("nftables"), "{}", system.remedy);
}

#[test]
fn the_end_of_what_is_said_is_kept_and_begins_with_a_line() {
    let mut tail = Tail::default();
    for n in 0..20_000 {
        tail.push(format!("line {n}\n").as_bytes());
    }
    let text = String::from_utf8(tail.bytes.to_vec()).unwrap();
    assert!(text.len() <= SAID_BYTES && text.starts_with("line ") && text.ends_with("line 19999\n"));
}
