//! The maintainer scripts, in the two shells that systems call sh, each twice: what they call in which order,
//! what they leave, what they refuse.

#![allow(clippy::unwrap_used)]

mod stage;

use stage::{BARE, DEBIAN, FRESH, IMAGE, REDHAT, Stage, System};

/// One call of one script.
struct Case {
    what: &'static str,
    script: &'static str,
    args: &'static [&'static str],
    system: System,
    status: i32,
    calls: &'static [&'static str],
    /// Part of what it says; empty if it says nothing.
    says: &'static str,
    gone: &'static [&'static str],
    left: &'static [&'static str],
}

const DEFAULT: Case = Case {
    what: "",
    script: "",
    args: &[],
    system: FRESH,
    status: 0,
    calls: &[],
    says: "",
    gone: &[],
    left: &[],
};

fn play(cases: &[Case]) {
    for case in cases {
        for shell in ["/bin/dash", "/bin/bash"] {
            if !std::path::Path::new(shell).exists() {
                continue;
            }
            let stage = Stage::new(case.script, &case.system);
            let of = format!("{} ({} {:?}, {shell})", case.what, case.script, case.args);
            let first = stage.run(shell, case.args);
            assert_eq!(first.status, case.status, "{of}: {first:?}");
            assert_eq!(first.calls, case.calls, "{of}");
            assert_eq!(first.said.is_empty(), case.says.is_empty(), "{of}: {}", first.said);
            assert!(first.said.contains(case.says), "{of}: {}", first.said);
            let again = stage.run(shell, case.args);
            assert_eq!(again.status, case.status, "{of}, again: {again:?}");
            for path in case.gone {
                assert!(!stage.at(path).exists(), "{of}: {path} is left");
            }
            for path in case.left {
                assert!(stage.at(path).exists(), "{of}: {path} is gone");
            }
        }
    }
}

const STATE: &[&str] = &[
    "/var/lib/qb/agent/identity",
    "/var/lib/qb/exec/floor.json",
    "/etc/qb/site.enroll.json",
    "/etc/qb/agent.toml",
    "/etc/qb/hold",
    "/run/qb/bin/qb-agent",
];
const CLUSTER: &[&str] = &["/var/lib/qb/exec/clusters/clus100/pki", "/usr/share/qb/site.enroll.json"];
const RUNNING: System = System { state: "active", condition: "yes", ..FRESH };

#[test]
fn a_deb_of_the_agent_is_installed() {
    const ENABLED: [&str; 4] = [
        "systemd-sysusers qb-agent.conf",
        "systemd-tmpfiles --create qb-agent.conf",
        "deb-systemd-helper enable qb-exec.service",
        "deb-systemd-helper enable qb-agent.service",
    ];
    const MADE: [&str; 4] = [
        "getent group qb",
        "groupadd --system qb",
        "getent passwd qb",
        "useradd --system --gid qb --home-dir /var/lib/qb --no-create-home --shell /usr/sbin/nologin qb",
    ];
    const STARTED: &[&str] = &[
        ENABLED[0],
        ENABLED[1],
        ENABLED[2],
        ENABLED[3],
        "systemctl daemon-reload",
        "deb-systemd-invoke start qb-exec.service qb-agent.service",
    ];
    let new = Case { script: "qb-agent.postinst.deb", args: &["configure", ""], ..DEFAULT };
    play(&[
        Case { what: "with its site", calls: STARTED, says: "qb-agent id", ..new },
        Case {
            what: "without a site",
            system: System { files: &[], ..FRESH },
            calls: STARTED,
            says: "/etc/qb/site.enroll.json",
            ..new
        },
        Case {
            what: "it does not start",
            system: System { starts: false, ..FRESH },
            calls: STARTED,
            says: "journalctl -u qb-agent",
            ..new
        },
        Case { what: "in a chroot", system: System { runs: false, ..FRESH }, calls: &ENABLED, ..new },
        Case {
            what: "without systemd",
            system: System { runs: false, has: BARE, ..FRESH },
            calls: &MADE,
            ..new
        },
        Case {
            what: "in an image without /proc",
            system: System { runs: false, has: IMAGE, ..FRESH },
            calls: &[ENABLED[0], MADE[0], MADE[1], MADE[2], MADE[3]],
            ..new
        },
        Case {
            what: "without Debian's helpers",
            system: System { has: REDHAT, ..FRESH },
            calls: &[
                ENABLED[0],
                ENABLED[1],
                "systemctl enable qb-exec.service",
                "systemctl enable qb-agent.service",
                "systemctl daemon-reload",
                "systemctl start qb-exec.service qb-agent.service",
            ],
            says: "qb-agent id",
            ..new
        },
        Case { what: "a removal was refused", args: &["abort-remove"], ..new },
    ]);
}

#[test]
fn a_deb_of_the_agent_is_upgraded() {
    const BEFORE: [&str; 5] = [
        "systemd-sysusers qb-agent.conf",
        "systemd-tmpfiles --create qb-agent.conf",
        "deb-systemd-helper enable qb-exec.service",
        "deb-systemd-helper enable qb-agent.service",
        "systemctl daemon-reload",
    ];
    const RESTARTED: &[&str] = &[
        BEFORE[0],
        BEFORE[1],
        BEFORE[2],
        BEFORE[3],
        BEFORE[4],
        "deb-systemd-invoke restart qb-exec.service qb-agent.service",
    ];
    let up = Case { script: "qb-agent.postinst.deb", args: &["configure", "0.0.9-1"], ..DEFAULT };
    play(&[
        Case { what: "it runs", system: RUNNING, calls: RESTARTED, ..up },
        Case {
            what: "it is in a crash loop",
            system: System { state: "activating", ..RUNNING },
            calls: RESTARTED,
            ..up
        },
        Case {
            what: "an administrator stopped it",
            system: System { condition: "yes", ..FRESH },
            calls: &BEFORE,
            ..up
        },
        Case {
            what: "it waited for its site, which the new package holds",
            calls: &[
                BEFORE[0],
                BEFORE[1],
                BEFORE[2],
                BEFORE[3],
                BEFORE[4],
                "deb-systemd-invoke start qb-exec.service qb-agent.service",
            ],
            says: "qb-agent id",
            ..up
        },
        Case {
            what: "an administrator disabled it",
            system: System { enabled: false, ..FRESH },
            calls: &[
                BEFORE[0],
                BEFORE[1],
                "deb-systemd-helper update-state qb-exec.service",
                "deb-systemd-helper update-state qb-agent.service",
                BEFORE[4],
            ],
            ..up
        },
        Case {
            what: "the old version stops nothing and asks nothing",
            script: "qb-agent.prerm.deb",
            args: &["upgrade", "0.2.0-1"],
            system: System { check: Some(1), ..RUNNING },
            ..DEFAULT
        },
        Case {
            what: "the old version's last script",
            script: "qb-agent.postrm.deb",
            args: &["upgrade", "0.2.0-1"],
            system: System { files: STATE, ..RUNNING },
            left: STATE,
            ..DEFAULT
        },
    ]);
}

/// What a cluster that was given up left running.
const WORKLOADS: &str = "systemctl stop qb-workloads.slice qb.slice";

/// Both formats ask in the same way.
fn removals(case: Case, stopped: &'static [&'static str], unasked: &'static [&'static str]) {
    let of = |what, system, status, calls, says| Case { what, system, status, calls, says, ..case };
    play(&[
        of("free", RUNNING, 0, stopped, ""),
        of(
            "in a cluster",
            System { check: Some(1), ..RUNNING },
            1,
            &["qb-exec removal-check"],
            "carries clus100",
        ),
        of(
            "the executor crashes, no cluster",
            System { check: Some(134), ..RUNNING },
            0,
            stopped,
            "carries clus100",
        ),
        of(
            "the executor crashes, a cluster",
            System { check: Some(134), files: CLUSTER, ..RUNNING },
            1,
            &["qb-exec removal-check"],
            "is not empty",
        ),
        of("no executor, no cluster", System { check: None, ..RUNNING }, 0, unasked, ""),
        of(
            "no executor, a cluster",
            System { check: None, files: CLUSTER, ..RUNNING },
            1,
            &[],
            "is not empty",
        ),
    ]);
}

#[test]
fn a_deb_is_not_removed_from_a_machine_that_carries_a_cluster() {
    const STOP: &str = "deb-systemd-invoke stop qb-agent.service qb-exec.service";
    removals(
        Case { script: "qb-agent.prerm.deb", args: &["remove"], ..DEFAULT },
        &["qb-exec removal-check", STOP, WORKLOADS],
        &[STOP, WORKLOADS],
    );
}

#[test]
fn an_rpm_is_not_removed_from_a_machine_that_carries_a_cluster() {
    const STOP: &str = "systemctl stop qb-agent.service qb-exec.service";
    const DISABLE: &str = "systemctl disable qb-agent.service qb-exec.service";
    removals(
        Case { script: "qb-agent.preun.rpm", args: &["0"], ..DEFAULT },
        &["qb-exec removal-check", STOP, WORKLOADS, DISABLE],
        &[STOP, WORKLOADS, DISABLE],
    );
}

#[test]
fn a_purged_deb_leaves_nothing_and_a_removed_one_its_state() {
    const FORGOTTEN: [&str; 4] = [
        "deb-systemd-helper purge qb-agent.service",
        "deb-systemd-helper purge qb-exec.service",
        "systemctl daemon-reload",
        "systemctl reset-failed qb-agent.service qb-exec.service",
    ];
    const PURGED: &[&str] = &[
        FORGOTTEN[0],
        FORGOTTEN[1],
        FORGOTTEN[2],
        FORGOTTEN[3],
        "getent passwd qb",
        "userdel qb",
        "getent group qb",
        "groupdel qb",
    ];
    const FOREIGN: &[&str] = &["/etc/qb/relay.toml", "/var/lib/qb/agent/identity"];
    let system = System { files: STATE, ..FRESH };
    let case = Case { script: "qb-agent.postrm.deb", system, ..DEFAULT };
    play(&[
        Case {
            what: "removed",
            args: &["remove"],
            calls: &FORGOTTEN,
            gone: &["/run/qb"],
            left: &["/var/lib/qb/agent/identity", "/var/lib/qb/exec/floor.json", "/etc/qb/hold"],
            ..case
        },
        Case {
            what: "purged",
            args: &["purge"],
            calls: PURGED,
            gone: &["/run/qb", "/var/lib/qb", "/etc/qb"],
            ..case
        },
        Case {
            what: "purged beside a relay",
            args: &["purge"],
            system: System { files: FOREIGN, ..FRESH },
            calls: PURGED,
            gone: &["/var/lib/qb"],
            left: &["/etc/qb/relay.toml"],
            ..case
        },
        Case {
            what: "a relay purged beside an agent",
            script: "qb-relay.postrm.deb",
            args: &["purge"],
            system: System { has: DEBIAN, files: &["/etc/qb/agent.toml", "/var/lib/qb-relay/key"], ..FRESH },
            calls: &[
                "deb-systemd-helper purge qb-relay.service",
                "systemctl daemon-reload",
                "systemctl reset-failed qb-relay.service",
                "getent passwd qb-relay",
                "userdel qb-relay",
                "getent group qb-relay",
                "groupdel qb-relay",
            ],
            gone: &["/var/lib/qb-relay"],
            left: &["/etc/qb/agent.toml"],
            ..DEFAULT
        },
    ]);
}

#[test]
fn an_rpm_of_the_agent_comes_and_goes() {
    const USERS: [&str; 2] = ["systemd-sysusers qb-agent.conf", "systemd-tmpfiles --create qb-agent.conf"];
    const ENABLE: &str = "systemctl enable qb-exec.service qb-agent.service";
    const FORGOTTEN: [&str; 2] =
        ["systemctl daemon-reload", "systemctl reset-failed qb-agent.service qb-exec.service"];
    const MARKED: &[&str] = &["/etc/qb/purge", "/etc/qb/hold", "/var/lib/qb/agent/identity"];
    let fresh = System { has: REDHAT, ..FRESH };
    let running = System { has: REDHAT, ..RUNNING };
    let post = Case { script: "qb-agent.post.rpm", system: fresh, ..DEFAULT };
    let postun = Case { script: "qb-agent.postun.rpm", system: fresh, ..DEFAULT };
    play(&[
        Case {
            what: "installed",
            args: &["1"],
            calls: &[
                USERS[0],
                USERS[1],
                ENABLE,
                "systemctl daemon-reload",
                "systemctl start qb-exec.service qb-agent.service",
            ],
            says: "qb-agent id",
            ..post
        },
        Case {
            what: "installed into an image",
            args: &["1"],
            system: System { runs: false, ..fresh },
            calls: &[USERS[0], USERS[1], ENABLE],
            ..post
        },
        Case {
            what: "upgraded",
            args: &["2"],
            system: running,
            calls: &[
                USERS[0],
                USERS[1],
                "systemctl daemon-reload",
                "systemctl restart qb-exec.service qb-agent.service",
            ],
            ..post
        },
        Case {
            what: "the old version stops nothing and asks nothing",
            script: "qb-agent.preun.rpm",
            args: &["1"],
            system: System { check: Some(1), ..running },
            ..DEFAULT
        },
        Case {
            what: "the old version's last script",
            args: &["1"],
            system: System { files: STATE, ..running },
            left: STATE,
            ..postun
        },
        Case {
            what: "erased",
            args: &["0"],
            system: System { files: STATE, ..fresh },
            calls: &FORGOTTEN,
            says: "userdel qb",
            gone: &["/run/qb"],
            left: &["/var/lib/qb/agent/identity", "/etc/qb/hold"],
            ..postun
        },
        Case {
            what: "erased for good",
            args: &["0"],
            system: System { files: MARKED, ..fresh },
            calls: &[
                FORGOTTEN[0],
                FORGOTTEN[1],
                "getent passwd qb",
                "userdel qb",
                "getent group qb",
                "groupdel qb",
            ],
            gone: &["/var/lib/qb", "/etc/qb"],
            ..postun
        },
    ]);
}

#[test]
fn the_relay_comes_and_goes() {
    const RELAY: System = System { files: &["/var/lib/qb-relay/key"], ..FRESH };
    const DEB: [&str; 3] = [
        "systemd-sysusers qb-relay.conf",
        "deb-systemd-helper enable qb-relay.service",
        "systemctl daemon-reload",
    ];
    let deb = Case { script: "qb-relay.postinst.deb", system: RELAY, ..DEFAULT };
    let rpm = Case { system: System { has: REDHAT, ..RELAY }, ..DEFAULT };
    play(&[
        Case {
            what: "installed",
            args: &["configure", ""],
            calls: &[DEB[0], DEB[1], DEB[2], "deb-systemd-invoke start qb-relay.service"],
            ..deb
        },
        Case {
            what: "upgraded",
            args: &["configure", "0.0.9-1"],
            system: System { state: "active", ..RELAY },
            calls: &[DEB[0], DEB[1], DEB[2], "deb-systemd-invoke restart qb-relay.service"],
            ..deb
        },
        Case {
            what: "removed",
            script: "qb-relay.prerm.deb",
            args: &["remove"],
            calls: &["deb-systemd-invoke stop qb-relay.service"],
            ..deb
        },
        Case {
            what: "upgraded, the old version",
            script: "qb-relay.prerm.deb",
            args: &["upgrade", "1"],
            ..deb
        },
        Case {
            what: "an rpm is installed",
            script: "qb-relay.post.rpm",
            args: &["1"],
            calls: &[
                "systemd-sysusers qb-relay.conf",
                "systemctl enable qb-relay.service",
                "systemctl daemon-reload",
                "systemctl start qb-relay.service",
            ],
            ..rpm
        },
        Case {
            what: "an rpm is removed",
            script: "qb-relay.preun.rpm",
            args: &["0"],
            calls: &["systemctl stop qb-relay.service", "systemctl disable qb-relay.service"],
            ..rpm
        },
        Case {
            what: "an rpm was removed",
            script: "qb-relay.postun.rpm",
            args: &["0"],
            calls: &["systemctl daemon-reload", "systemctl reset-failed qb-relay.service"],
            says: "userdel qb-relay",
            left: &["/var/lib/qb-relay/key"],
            ..rpm
        },
    ]);
}
