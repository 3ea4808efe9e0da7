//! The one table of what each action needs. Roles, the portal set, removals and trust expectations
//! are all read from here.

use crate::action::{Action, Role};

/// Which keys may sign an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRule {
    /// Keys of every class, while the policy keeps the default list.
    Portal,
    /// Not keys of class `browser`, unless owners widened the policy's list.
    Lasting,
}

/// What an action needs, and what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActionClass {
    /// The action's name.
    pub name: &'static str,
    /// The least role of its author.
    pub role: Role,
    /// The default for browser keys. The policy's list decides.
    pub keys: KeyRule,
    /// Whether it is an entry of the trust log.
    pub trust: bool,
    /// Whether the intent must name a recent trust head.
    pub names_trust: bool,
    /// Whether it takes something away: no generation is expected, and it works at every cap.
    pub removal: bool,
    /// Whether an admin of any role may do it alone to their own keys.
    pub own: bool,
    /// Whether as many owners must sign as the policy says.
    pub many: bool,
    /// The feature level that it came with.
    pub level: u32,
}

const fn row(name: &'static str, role: Role, keys: KeyRule) -> ActionClass {
    ActionClass {
        name,
        role,
        keys,
        trust: false,
        names_trust: false,
        removal: false,
        own: false,
        many: false,
        level: 1,
    }
}

const fn portal(name: &'static str) -> ActionClass {
    row(name, Role::Operator, KeyRule::Portal)
}

const fn owner(name: &'static str) -> ActionClass {
    let mut class = row(name, Role::Owner, KeyRule::Lasting);
    class.names_trust = true;
    class.many = true;
    class
}

const fn trust(name: &'static str) -> ActionClass {
    let mut class = owner(name);
    class.trust = true;
    class
}

const fn removal(mut class: ActionClass) -> ActionClass {
    class.removal = true;
    class
}

const fn own(mut class: ActionClass) -> ActionClass {
    class.own = true;
    class
}

/// The table.
const TABLE: [ActionClass; 32] = [
    row("site.found", Role::Owner, KeyRule::Lasting),
    portal("node.authorize"),
    removal(row("node.revoke", Role::Operator, KeyRule::Lasting)),
    portal("node.label"),
    portal("cluster.create"),
    portal("cluster.attach"),
    portal("cluster.detach"),
    owner("cluster.delete"),
    trust("admin.add"),
    removal(trust("admin.remove")),
    trust("admin.role"),
    own(trust("key.add")),
    removal(own(trust("key.revoke"))),
    trust("policy.set"),
    trust("publisher.add"),
    removal(trust("publisher.remove")),
    trust("relay.add"),
    removal(trust("relay.remove")),
    trust("relay.register"),
    owner("intent.release"),
    row("intent.cancel", Role::Operator, KeyRule::Lasting),
    owner("agent.upgrade"),
    removal(row("agent.upgrade.stop", Role::Owner, KeyRule::Lasting)),
    row("token.mint", Role::Operator, KeyRule::Lasting),
    removal(row("token.revoke", Role::Operator, KeyRule::Lasting)),
    row("cluster.upgrade", Role::Operator, KeyRule::Lasting),
    removal(row("cluster.upgrade.stop", Role::Operator, KeyRule::Lasting)),
    row("cluster.backup", Role::Operator, KeyRule::Lasting),
    owner("cluster.restore"),
    row("cluster.label", Role::Operator, KeyRule::Lasting),
    row("cluster.addon.set", Role::Operator, KeyRule::Lasting),
    removal(row("cluster.addon.remove", Role::Operator, KeyRule::Lasting)),
];

/// The names of all actions.
pub const ACTIONS: [&str; TABLE.len()] = {
    let mut names = [""; TABLE.len()];
    let mut at = 0;
    while at < TABLE.len() {
        names[at] = TABLE[at].name;
        at += 1;
    }
    names
};

/// The row of an action's name.
pub fn required_by_name(name: &str) -> Option<&'static ActionClass> {
    TABLE.iter().find(|row| row.name == name)
}

/// The row of an action.
pub fn required(action: &Action) -> &'static ActionClass {
    let at = match action {
        Action::SiteFound { .. } => 0,
        Action::NodeAuthorize { .. } => 1,
        Action::NodeRevoke { .. } => 2,
        Action::NodeLabel { .. } => 3,
        Action::ClusterCreate { .. } => 4,
        Action::ClusterAttach { .. } => 5,
        Action::ClusterDetach { .. } => 6,
        Action::ClusterDelete { .. } => 7,
        Action::AdminAdd { .. } => 8,
        Action::AdminRemove { .. } => 9,
        Action::AdminRole { .. } => 10,
        Action::KeyAdd { .. } => 11,
        Action::KeyRevoke { .. } => 12,
        Action::PolicySet { .. } => 13,
        Action::PublisherAdd { .. } => 14,
        Action::PublisherRemove { .. } => 15,
        Action::RelayAdd { .. } => 16,
        Action::RelayRemove { .. } => 17,
        Action::RelayRegister { .. } => 18,
        Action::IntentRelease { .. } => 19,
        Action::IntentCancel { .. } => 20,
        Action::AgentUpgrade { .. } => 21,
        Action::AgentUpgradeStop { .. } => 22,
        Action::TokenMint { .. } => 23,
        Action::TokenRevoke { .. } => 24,
        Action::ClusterUpgrade { .. } => 25,
        Action::ClusterUpgradeStop { .. } => 26,
        Action::ClusterBackup { .. } => 27,
        Action::ClusterRestore { .. } => 28,
        Action::ClusterLabel { .. } => 29,
        Action::ClusterAddonSet { .. } => 30,
        Action::ClusterAddonRemove { .. } => 31,
    };
    &TABLE[at]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::PORTAL_SET;

    #[test]
    fn the_portal_set_is_what_the_table_says() {
        let mut portal: Vec<_> = TABLE.iter().filter(|r| r.keys == KeyRule::Portal).map(|r| r.name).collect();
        portal.sort_unstable();
        assert_eq!(portal, PORTAL_SET);
    }
}
