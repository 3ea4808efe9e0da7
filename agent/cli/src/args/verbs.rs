//! Three examples of every verb that brings none of its own.

/// The examples of a verb by its path: `qb node show`.
pub fn examples(path: &str) -> Option<&'static str> {
    EXAMPLES.iter().find(|(verb, _)| *verb == path).map(|(_, text)| *text)
}

const EXAMPLES: &[(&str, &str)] = &[
    (
        "qb site create",
        "  qb site create lyon --admin mira --name \"Mira Okafor\" --seed 10.20.1.11:7444\n  qb site create lyon --recovery-key recovery.pub --enroll lyon.json\n  qb site create demo --no-passphrase",
    ),
    ("qb site list", "  qb site list\n  qb site list -o name\n  qb site list -o json"),
    (
        "qb site use",
        "  qb site use lyon\n  qb site use lyon.enroll.json\n  qb site use lyon.enroll.json --add-door https://10.20.1.11:8443",
    ),
    (
        "qb site verify",
        "  qb site verify\n  qb --door https://10.20.1.11:8443 site verify\n  qb site verify -o json",
    ),
    ("qb site status", "  qb site status\n  qb site status --watch\n  qb site status -o json"),
    (
        "qb site enroll",
        "  qb site enroll -o lyon.enroll.json\n  qb site enroll --seed 10.20.1.11:7444 -o lyon.enroll.json\n  qb site enroll --site lyon",
    ),
    (
        "qb node show",
        "  qb node show lyon-r1-01\n  qb node show k7mq-2v9d --watch\n  qb node show lyon-r1-01 -o yaml",
    ),
    (
        "qb node label",
        "  qb node label lyon-r1-01 disk=ssd\n  qb node label lyon-r1-01 disk-\n  qb node label lyon-r1-01 rack=4 row=b --plan",
    ),
    (
        "qb node revoke",
        "  qb node revoke lyon-r1-01 --plan\n  qb node revoke lyon-r1-01\n  qb node revoke lyon-r1-01 --then wipe --confirm lyon-r1-01",
    ),
    (
        "qb cluster show",
        "  qb cluster show clus100\n  qb cluster show clus100 --watch\n  qb cluster show clus100 -o json",
    ),
    (
        "qb cluster detach",
        "  qb cluster detach clus100 lyon-r1-02 --plan\n  qb cluster detach clus100 lyon-r1-02 lyon-r2-02\n  qb cluster detach clus100 lyon-r1-02 --no-wait",
    ),
    (
        "qb cluster halt",
        "  qb cluster halt clus100 --plan\n  qb cluster halt clus100\n  qb cluster halt clus100 --yes",
    ),
    (
        "qb cluster addon list",
        "  qb cluster addon list clus100\n  qb cluster addon list clus100 --watch\n  qb cluster addon list clus100 -o json",
    ),
    (
        "qb cluster addon remove",
        "  qb cluster addon remove clus100 metrics --plan\n  qb cluster addon remove clus100 metrics\n  qb cluster addon remove clus100 metrics --yes",
    ),
    (
        "qb cluster delete",
        "  qb cluster delete clus100 --plan\n  qb cluster delete clus100\n  qb cluster delete clus100 --confirm clus100",
    ),
    (
        "qb preflight explain",
        "  qb preflight explain NET-ONE-WAY\n  qb preflight explain HOST-SWAP\n  qb preflight explain PORT-BUSY",
    ),
    ("qb intent list", "  qb intent list\n  qb intent list --watch\n  qb intent list -o json"),
    (
        "qb intent show",
        "  qb intent show 01K9P4XW\n  qb intent show 01K9P4XW --watch\n  qb intent show 01K9P4XW -o yaml",
    ),
    (
        "qb intent send",
        "  qb intent send 01K9P4XW\n  qb intent send signed.json\n  qb --door https://10.20.1.11:8443 intent send 01K9P4XW",
    ),
    (
        "qb intent withdraw",
        "  qb intent withdraw 01K9P4XW --plan\n  qb intent withdraw 01K9P4XW\n  qb intent withdraw 01K9P4XW --yes",
    ),
    (
        "qb package build",
        "  qb package build --vendor qb-agent_0.1.0-1_amd64.deb\n  qb package build --vendor qb-agent-0.1.0-1.x86_64.rpm --seed 10.20.1.11:7444 -o lyon.rpm\n  qb package build --site lyon --vendor qb-agent_0.1.0-1_amd64.deb -o json",
    ),
    (
        "qb package verify",
        "  qb package verify lyon.deb --vendor qb-agent_0.1.0-1_amd64.deb\n  qb package verify lyon.deb\n  qb package verify lyon.rpm --via https://relay.example -o json",
    ),
    (
        "qb package line",
        "  qb package line\n  qb package line --vendor qb-agent_0.1.0-1_amd64.deb --vendor qb-agent-0.1.0-1.x86_64.rpm\n  qb package line --via https://relay.example --cacert /etc/qb/relay-ca.crt",
    ),
    (
        "qb package fetch",
        "  qb package fetch\n  qb package fetch --rpm -o lyon.rpm\n  qb package fetch --vendor qb-agent_0.1.0-1_amd64.deb -o /media/stick/lyon.deb",
    ),
    ("qb bundle list", "  qb bundle list\n  qb bundle list -o json\n  qb bundle list -o name"),
    (
        "qb bundle push",
        "  qb bundle push rehearsal.qbb\n  qb bundle push k8s-1.36.2-r3.qbb\n  qb bundle push rehearsal.qbb -o json",
    ),
    ("qb bundle distrust", "  qb bundle list\n  qb bundle distrust KEY --plan\n  qb bundle distrust KEY"),
    (
        "qb bundle build",
        "  qb bundle build --driver kubeadm --version v1.36.2 --from DIR -o k8s-1.36.2.qbb\n  qb bundle build --driver kubeadm --version v1.36.2 --sources kubeadm-1.36.toml\n  qb bundle build --driver agent --version 0.2.0 --from target/release",
    ),
    (
        "qb bundle verify",
        "  qb bundle verify k8s-1.36.2.qbb\n  qb bundle verify k8s-1.36.2.qbb --publisher KEY\n  qb bundle verify k8s-1.36.2.qbb -o json",
    ),
    (
        "qb bundle export",
        "  qb bundle list\n  qb bundle export 4f2aQ9xk\n  qb bundle export 4f2aQ9xk -o /media/stick/k8s-1.36.2.qbb",
    ),
    ("qb agent list", "  qb agent list\n  qb agent list --watch\n  qb agent list -o json"),
    (
        "qb agent upgrade",
        "  qb agent upgrade agent-0.2.0.qbb --first lyon-r1-01 --plan\n  qb agent upgrade agent-0.2.0.qbb --first lyon-r1-01,lyon-r2-01 --batch 3\n  qb agent upgrade 4f2aQ9xk --first-zone r3",
    ),
    ("qb agent stop", "  qb agent stop --plan\n  qb agent stop\n  qb agent stop --yes"),
    ("qb admin list", "  qb admin list\n  qb admin list -o json\n  qb admin list -o name"),
    (
        "qb admin add",
        "  qb admin add ana --name \"Ana Ruiz\" --role owner --public-key KEY\n  qb admin add jon --role operator --public-key KEY\n  qb admin add eve --role viewer --public-key KEY --class browser",
    ),
    (
        "qb admin remove",
        "  qb admin remove ana\n  qb admin remove ana --compromised\n  qb admin remove ana --confirm ana",
    ),
    (
        "qb admin role",
        "  qb admin role ana owner\n  qb admin role ana operator\n  qb admin role ana viewer --yes",
    ),
    (
        "qb admin add-key",
        "  qb admin add-key ana KEY\n  qb admin add-key ana KEY --class hardware\n  qb admin add-key ana KEY --class browser",
    ),
    (
        "qb admin revoke-key",
        "  qb admin revoke-key ana 9rtx-e5m1\n  qb admin revoke-key ana 9rtx-e5m1 --compromised\n  qb admin revoke-key ana KEY",
    ),
    (
        "qb token mint",
        "  qb token mint\n  qb token mint --uses 20 --expires 8h --host 'lyon-r1-*' --cidr 10.20.1.0/24 -o rack1.token\n  qb token mint --label rack=r1 --plan",
    ),
    ("qb token list", "  qb token list\n  qb token list -o json\n  qb token list -o name"),
    ("qb token revoke", "  qb token list\n  qb token revoke 9rtx-e5m1\n  qb token revoke 9rtx-e5m1 --plan"),
    (
        "qb relay add",
        "  qb relay add https://relay.example\n  qb relay add https://relay.example --relay-key KEY --org acme\n  qb relay add http://127.0.0.1:8480 --plan",
    ),
    (
        "qb relay register",
        "  qb relay register https://relay.example --org acme\n  qb relay register https://relay.example --org acme --plan\n  qb relay register http://127.0.0.1:8480 --org demo --yes",
    ),
    ("qb relay list", "  qb relay list\n  qb relay list -o json\n  qb relay list -o name"),
    (
        "qb relay remove",
        "  qb relay remove https://relay.example --plan\n  qb relay remove https://relay.example\n  qb relay remove 9rtx-e5m1",
    ),
    ("qb key list", "  qb key list\n  qb key list -o name\n  qb key list -o json"),
    (
        "qb key new",
        "  qb key new ana\n  qb key new acme --kind publisher\n  qb key new spare --kind recovery",
    ),
    (
        "qb key export-public",
        "  qb key export-public\n  qb key export-public ana\n  qb key export-public --site lyon",
    ),
    ("qb key show", "  qb key show\n  qb key show ana\n  qb key show ana -o json"),
    ("qb policy show", "  qb policy show\n  qb policy show -o json\n  qb policy show --site lyon"),
    (
        "qb policy set",
        "  qb policy set --voters all\n  qb policy set --anchor-max-age 48h\n  qb policy set --browser-actions none",
    ),
    ("qb alert list", "  qb alert list\n  qb alert list --watch\n  qb alert list -o json"),
    ("qb audit list", "  qb audit list\n  qb audit list -o json\n  qb audit list --utc"),
    (
        "qb audit verify",
        "  qb audit verify\n  qb audit verify lyon.audit\n  qb audit verify lyon.audit -o json",
    ),
    (
        "qb audit export",
        "  qb audit export -o lyon.audit\n  qb audit export > lyon.audit\n  qb audit export --site lyon -o lyon.audit",
    ),
];
