//! The command line: valid, complete, and helpful when mistyped.

use qb_cli::args::help::{command, parse};
use qb_cli::args::{Command, Format, Output, duration};
use qb_cli::door::Door;

#[test]
fn the_grammar_is_valid() {
    command().debug_assert();
}

/// An argument with the id of a flag on everything would be read as that flag, of another type.
#[test]
fn no_argument_shadows_a_flag_on_everything() {
    fn walk(command: &clap::Command, globals: &[clap::Id]) {
        for sub in command.get_subcommands() {
            for arg in sub.get_arguments().filter(|a| a.get_id() != "help") {
                assert!(!globals.contains(arg.get_id()), "{} {}", sub.get_name(), arg.get_id());
            }
            walk(sub, globals);
        }
    }
    let root = command();
    let globals: Vec<clap::Id> = root.get_arguments().map(|a| a.get_id().clone()).collect();
    walk(&root, &globals);
}

#[test]
fn every_noun_has_three_examples_before_its_flags() {
    for noun in command().get_subcommands_mut().filter(|c| !c.is_hide_set()) {
        let help = noun.render_help().to_string();
        let (examples, usage) = (help.find("Examples:"), help.find("Usage:"));
        assert!(examples < usage && examples.is_some(), "{help}");
        let block = &help[examples.unwrap()..usage.unwrap()];
        assert_eq!(block.matches("\n  qb ").count(), 3, "{block}");
    }
}

#[test]
fn every_verb_has_three_examples_and_its_own_flags_first() {
    fn walk(command: &mut clap::Command, path: &str) {
        for sub in command.get_subcommands_mut().filter(|c| !c.is_hide_set()) {
            let path = format!("{path} {}", sub.get_name());
            let help = sub.render_help().to_string();
            let block = &help[..help.find("Usage:").unwrap()];
            assert_eq!(block.matches("\n  qb ").count(), 3, "{path}: {block}");
            let (own, all) = (help.find("Print help"), help.find("Flags on everything"));
            assert!(
                own < all && own.is_some() && help[all.unwrap()..].lines().count() == 4,
                "{path}: {help}"
            );
            assert!(help.lines().next().unwrap().ends_with(|c: char| c != '.'), "{path}");
            walk(sub, &path);
        }
    }
    let mut root = command();
    root.build();
    assert!(root.render_help().to_string().contains("7  waits for more signatures"));
    walk(&mut root, "qb");
}

#[test]
fn mistyped_verbs_are_explained() {
    let error = parse(["qb", "node", "join", "a"]).unwrap_err();
    assert_eq!(error.exit_code(), 2);
    assert!(error.to_string().contains("A node joins by attach"), "{error}");
    let error = parse(["qb", "node", "lits"]).unwrap_err();
    assert!(error.to_string().contains("'list'"), "{error}");
}

#[test]
fn output_is_a_format_or_a_file() {
    let cli = parse(["qb", "audit", "export", "-o", "lyon.audit"]).unwrap();
    assert_eq!(cli.globals.output, Some(Output::File("lyon.audit".into())));
    let cli = parse(["qb", "node", "list", "-o", "json"]).unwrap();
    assert_eq!(cli.globals.output, Some(Output::Format(Format::Json)));
    assert!(parse(["qb", "node", "list", "-o", "jsn"]).is_err());
}

#[test]
fn a_plan_never_turns_into_the_act() {
    let plans =
        |args: &[&str]| parse(args.iter().copied()).unwrap().command.as_ref().is_some_and(Command::plans);
    assert!(plans(&["qb", "cluster", "attach", "c", "-n", "3"]));
    assert!(plans(&["qb", "node", "revoke", "a"]));
    assert!(!plans(&["qb", "site", "create", "a"]));
    assert!(!plans(&["qb", "bundle", "push", "a"]));
}

#[test]
fn attach_takes_nodes_or_a_number() {
    assert!(parse(["qb", "cluster", "attach", "c"]).is_err());
    assert!(parse(["qb", "cluster", "attach", "c", "a", "-n", "3"]).is_err());
    assert!(parse(["qb", "cluster", "attach", "c", "-n", "0"]).is_err());
    assert!(parse(["qb", "cluster", "attach", "c", "-n", "3", "--control-planes", "2"]).is_err());
    assert!(parse(["qb", "cluster", "attach", "c", "--control-plane", "a,b,c"]).is_ok());
    assert!(parse(["qb", "cluster", "attach", "c", "a", "--auto"]).is_err());
}

#[test]
fn times_are_read() {
    assert_eq!(duration("10m").unwrap().as_secs(), 600);
    assert_eq!(duration("90s").unwrap().as_secs(), 90);
    for bad in ["", "10", "1d", "-1s", "99999999999999999999h", "169h"] {
        assert!(duration(bad).is_err(), "{bad}");
    }
}

#[test]
fn doors_are_read() {
    for good in ["unix:/run/qb/agent/agent.sock", "https://10.20.1.11:8443", "https://[::1]:8443"] {
        assert_eq!(good.parse::<Door>().unwrap().to_string(), good);
    }
    for bad in ["http://10.0.0.1:80", "https://lyon:8443", "unix:relative", "https://10.0.0.1", "ssh://x", ""]
    {
        assert!(bad.parse::<Door>().is_err(), "{bad}");
    }
}

/// One key in 64 begins with a hyphen, as base64url has it.
#[test]
fn keys_that_begin_with_a_hyphen_are_read() {
    let key = (0..=255_u8)
        .map(|n| {
            qb_model::dsse::Signer::public_key(&qb_model::dsse::SecretKey::from_bytes(&[n; 32])).to_string()
        })
        .find(|key| key.starts_with('-'))
        .unwrap();
    let lines: [&[&str]; 6] = [
        &["qb", "admin", "add", "ana", "--role", "owner", "--public-key", &key, "--class", "browser"],
        &["qb", "admin", "add-key", "ana", &key, "--class", "browser", "-y"],
        &["qb", "admin", "revoke-key", "ana", &key, "--compromised"],
        &["qb", "relay", "add", "https://relay.example", "--relay-key", &key, "-y"],
        &["qb", "relay", "remove", &key, "--plan"],
        &["qb", "site", "create", "a", "--relay", "https://relay.example", "--relay-key", &key],
    ];
    for line in lines {
        assert!(parse(line.iter().copied()).is_ok(), "{:?}", parse(line.iter().copied()).err());
    }
}

#[test]
fn tokens_are_minted_with_bounds() {
    let good = [
        "qb",
        "token",
        "mint",
        "--uses",
        "20",
        "--expires",
        "8h",
        "--host",
        "lyon-*",
        "--cidr",
        "10.0.0.0/8",
    ];
    let parsed = parse(good).unwrap();
    let Some(Command::Token(qb_cli::args::token::TokenCommand::Mint(args))) = parsed.command else {
        panic!()
    };
    let key = qb_model::PublicKey([7; 32]);
    let action = qb_cli::cmd::token::action(key, qb_model::Millis(1_800_000_000_000), &args).unwrap();
    let said = qb_cli::sentence::of(&action, &qb_cli::sentence::Hosts::new());
    let until = "on probation, until";
    assert!(said.contains("for 20 machines named lyon-* at 10.0.0.0/8") && said.contains(until), "{said}");
    // What a plan names does the same again.
    let again = qb_cli::cmd::token::again(&args);
    assert_eq!(again, "qb token mint --uses 20 --expires 28800s --host 'lyon-*' --cidr 10.0.0.0/8");
    for bad in [
        &["--uses", "0"][..],
        &["--uses", "1001"],
        &["--expires", "169h"],
        &["--cidr", "10.0.0.1/8"],
        &["--host", "Lyon"],
    ] {
        let line = [&["qb", "token", "mint"], bad].concat();
        assert!(parse(line.iter().copied()).is_err(), "{bad:?}");
    }
    let mut labelled = args;
    labelled.labels = vec!["rack".into()];
    assert!(qb_cli::cmd::token::action(key, qb_model::Millis(1), &labelled).is_err());
}

/// One of 64 keys, ids and digests begins with a hyphen; what is mistyped is still named.
#[test]
fn what_is_named_by_its_key_may_begin_with_a_hyphen() {
    let key = "-0aAbB1cC2dD3eE4fF5gG6hH7iI8jJ9kK-lL_mM0nN8";
    for words in [
        &["intent", "show", key, "-o", "json"][..],
        &["node", "authorize", "-y", key],
        &["cluster", "detach", "c1", "h1", key, "--plan"],
        &["cluster", "create", "c1", "--bundle", key, "-y"],
        &["--door", "https://10.0.0.1:8443", "node", "show", key],
        &["relay", "add", "https://r.example", "--relay-key", key, "--org", "acme"],
        &["audit", "list"],
    ] {
        if let Err(error) = parse(["qb"].iter().chain(words).copied()) {
            panic!("{words:?}: {error}");
        }
    }
    let cli = parse(["qb", "node", "show", key, "-y"]).unwrap();
    assert!(cli.globals.yes && matches!(cli.command, Some(Command::Node(_))));
    assert!(parse(["qb", "node", "authorize", "h1", "--yess"]).is_err());
    assert!(parse(["qb", "intent", "show", "-0"]).is_err());
}
