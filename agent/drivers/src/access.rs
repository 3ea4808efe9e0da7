//! Who may do what inside a cluster, from the admins of the site: one ClusterRoleBinding per admin,
//! and what has to change so that the cluster has exactly these (security rules 7.4).
//!
//! A client certificate names the admin and no group of Kubernetes' own: without its binding it is
//! good for nothing, so deleting the binding revokes at once.

use std::collections::BTreeMap;

use qb_model::action::Role;
use qb_model::ids::Name;
use qb_model::trust::Admin;
use serde::{Deserialize, Serialize};

/// The label of every binding that qb keeps. Others are nobody's business here.
pub const BINDING_LABEL: (&str, &str) = ("app.kubernetes.io/managed-by", "qb");
/// What the names of bindings begin with.
const PREFIX: &str = "qb:admin:";
/// Bytes of a list of bindings: every admin's, many times over.
pub const BINDING_LIST_BYTES: usize = 4 * 1024 * 1024;

/// The user that an admin is in a cluster: the common name of the certificate.
pub fn user(admin: &Name) -> String {
    format!("qb:{admin}")
}

/// The group that goes with it: the certificate's organization. Nothing is bound to it by qb, and it is
/// never one of Kubernetes' own.
pub fn group(role: Role) -> &'static str {
    match role {
        Role::Viewer => "qb:viewer",
        Role::Operator => "qb:operator",
        Role::Owner => "qb:owner",
    }
}

/// The cluster role of a role: an operator is root on every node anyway.
pub fn cluster_role(role: Role) -> &'static str {
    match role {
        Role::Viewer => "view",
        Role::Operator | Role::Owner => "cluster-admin",
    }
}

/// A binding of one admin.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Binding {
    /// Its name.
    pub name: String,
    /// The user.
    pub user: String,
    /// The cluster role.
    pub role: String,
}

/// What is done to the cluster, in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BindingChanges {
    /// Names to delete: of admins that are gone, of other roles, of other users. First, so that nobody
    /// keeps what they lost while others get what they won.
    pub delete: Vec<String>,
    /// Bindings to create.
    pub create: Vec<Binding>,
}

impl BindingChanges {
    /// Whether nothing has to change.
    pub fn is_empty(&self) -> bool {
        self.delete.is_empty() && self.create.is_empty()
    }
}

/// The roles of the admins of a site who get a binding.
pub fn roles(admins: &BTreeMap<Name, Admin>) -> BTreeMap<Name, Role> {
    // Who has no key can ask for nothing.
    let able = admins.iter().filter(|(_, entry)| !entry.keys.is_empty());
    able.map(|(admin, entry)| (admin.clone(), entry.role)).collect()
}

/// The bindings that these roles imply, by name.
pub fn desired(roles: &BTreeMap<Name, Role>) -> BTreeMap<String, Binding> {
    let binding = |(admin, role): (&Name, &Role)| {
        let name = format!("{PREFIX}{admin}");
        let role = cluster_role(*role).to_owned();
        (name.clone(), Binding { name, user: user(admin), role })
    };
    roles.iter().map(binding).collect()
}

/// What makes the cluster's bindings the desired ones. A role of a binding cannot be changed: such a
/// one is deleted and created again.
pub fn changes(desired: &BTreeMap<String, Binding>, actual: &[Found]) -> BindingChanges {
    let as_wanted = |found: &&Found| desired.get(&found.name).is_some_and(|want| found.is(want));
    let kept: Vec<&str> = actual.iter().filter(as_wanted).map(|found| found.name.as_str()).collect();
    BindingChanges {
        delete: actual.iter().filter(|f| !as_wanted(f)).map(|f| f.name.clone()).collect(),
        create: desired.values().filter(|b| !kept.contains(&b.name.as_str())).cloned().collect(),
    }
}

/// A binding as the cluster has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Its name.
    pub name: String,
    role: (String, String),
    subjects: Vec<(String, String)>,
}

impl Found {
    /// Whether it binds this user to this role and nothing else.
    fn is(&self, want: &Binding) -> bool {
        self.role == ("ClusterRole".to_owned(), want.role.clone())
            && self.subjects == [("User".to_owned(), want.user.clone())]
    }
}

/// Why a list of bindings is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccessError {
    /// Too long.
    #[error(
        "the list of role bindings has {0} bytes, over {BINDING_LIST_BYTES}: delete those whose label says that they are qb's and that are not"
    )]
    TooLong(usize),
    /// Not what the API server answers.
    #[error("the list of role bindings cannot be read: {0}")]
    Form(String),
}

#[derive(Deserialize)]
struct List {
    items: Vec<Item>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Item {
    metadata: Meta,
    role_ref: RoleRef,
    #[serde(default)]
    subjects: Vec<Subject>,
}

#[derive(Deserialize)]
struct Meta {
    name: String,
}

#[derive(Deserialize)]
struct RoleRef {
    kind: String,
    name: String,
}

#[derive(Deserialize)]
struct Subject {
    kind: String,
    name: String,
}

/// Reads what `kubectl get clusterrolebindings -l ... -o json` answers.
///
/// # Errors
/// It is too long or no such list.
pub fn read_bindings(json: &[u8]) -> Result<Vec<Found>, AccessError> {
    if json.len() > BINDING_LIST_BYTES {
        return Err(AccessError::TooLong(json.len()));
    }
    let list: List = serde_json::from_slice(json).map_err(|e| AccessError::Form(e.to_string()))?;
    let found = |item: Item| Found {
        name: item.metadata.name,
        role: (item.role_ref.kind, item.role_ref.name),
        subjects: item.subjects.into_iter().map(|s| (s.kind, s.name)).collect(),
    };
    Ok(list.items.into_iter().map(found).collect())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Manifest<'a> {
    api_version: &'static str,
    kind: &'static str,
    items: Vec<BindingManifest<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BindingManifest<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: MetaManifest<'a>,
    role_ref: RefManifest<'a>,
    subjects: [RefManifest<'a>; 1],
}

#[derive(Serialize)]
struct MetaManifest<'a> {
    name: &'a str,
    labels: BTreeMap<&'static str, &'static str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RefManifest<'a> {
    api_group: &'static str,
    kind: &'static str,
    name: &'a str,
}

const GROUP: &str = "rbac.authorization.k8s.io";

impl<'a> From<&'a Binding> for BindingManifest<'a> {
    fn from(Binding { name, user, role }: &'a Binding) -> Self {
        Self {
            api_version: "rbac.authorization.k8s.io/v1",
            kind: "ClusterRoleBinding",
            metadata: MetaManifest { name, labels: BTreeMap::from([BINDING_LABEL]) },
            role_ref: RefManifest { api_group: GROUP, kind: "ClusterRole", name: role },
            subjects: [RefManifest { api_group: GROUP, kind: "User", name: user }],
        }
    }
}

/// The bindings as one manifest, for `kubectl apply -f -`.
pub fn manifest(bindings: &[Binding]) -> String {
    let items = bindings.iter().map(BindingManifest::from).collect();
    let list = Manifest { api_version: "v1", kind: "List", items };
    // Strings in structs always become JSON.
    serde_json::to_string_pretty(&list).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use qb_model::action::KeyClass;
    use qb_model::ids::{Generation, PublicKey};
    use qb_model::trust::AdminKey;

    use super::*;

    fn admins(list: &[(&str, Role)]) -> BTreeMap<Name, Admin> {
        let key = AdminKey { class: KeyClass::Cli, expires: None };
        let admin = |role: Role| Admin {
            name: "A person".to_owned(),
            role,
            keys: BTreeMap::from([(PublicKey([1; 32]), key)]),
            generation: Generation(1),
        };
        list.iter().map(|(name, role)| (name.parse().unwrap(), admin(*role))).collect()
    }

    fn found(bindings: &BTreeMap<String, Binding>) -> Vec<Found> {
        read_bindings(manifest(&bindings.values().cloned().collect::<Vec<_>>()).as_bytes()).unwrap()
    }

    const STAFF: [(&str, Role); 3] = [("ana", Role::Owner), ("jon", Role::Operator), ("eve", Role::Viewer)];

    #[test]
    fn what_is_written_is_what_is_wanted_and_is_kept() {
        let wanted = desired(&roles(&admins(&STAFF)));
        let users: Vec<_> = wanted.values().map(|b| (b.user.as_str(), b.role.as_str())).collect();
        assert_eq!(users, [("qb:ana", "cluster-admin"), ("qb:eve", "view"), ("qb:jon", "cluster-admin")]);
        assert_eq!(changes(&wanted, &found(&wanted)), BindingChanges::default());
        let all = changes(&wanted, &[]);
        assert!(all.delete.is_empty() && all.create.len() == 3);
    }

    #[test]
    fn who_is_gone_or_demoted_loses_it() {
        let before = found(&desired(&roles(&admins(&STAFF))));
        let wanted = desired(&roles(&admins(&[("ana", Role::Viewer), ("eve", Role::Viewer)])));
        let diff = changes(&wanted, &before);
        assert_eq!(diff.delete, ["qb:admin:ana", "qb:admin:jon"]);
        assert_eq!(diff.create.len(), 1);
        assert_eq!(diff.create[0], wanted["qb:admin:ana"]);
        // Who has no key is nobody.
        let mut keyless = admins(&[("ana", Role::Owner)]);
        keyless.values_mut().for_each(|a| a.keys.clear());
        assert!(desired(&roles(&keyless)).is_empty());
    }

    #[test]
    fn a_binding_that_was_tampered_with_is_made_anew() {
        let wanted = desired(&roles(&admins(&[("eve", Role::Viewer)])));
        let good = manifest(&wanted.values().cloned().collect::<Vec<_>>());
        for (from, to) in [
            (r#""name": "view""#, r#""name": "cluster-admin""#),
            (r#""kind": "ClusterRole","#, r#""kind": "Role","#),
            (r#""name": "qb:eve""#, r#""name": "qb:mallory""#),
            (r#""kind": "User""#, r#""kind": "Group""#),
        ] {
            let bad = good.replace(from, to);
            assert_ne!(bad, good, "{from}");
            let diff = changes(&wanted, &read_bindings(bad.as_bytes()).unwrap());
            assert_eq!((diff.delete.len(), diff.create.len()), (1, 1), "{to}");
        }
        let more = good.replace("\"subjects\": [", "\"subjects\": [{\"kind\": \"User\", \"name\": \"x\"},");
        assert_eq!(changes(&wanted, &read_bindings(more.as_bytes()).unwrap()).delete, ["qb:admin:eve"]);
        assert!(read_bindings(b"[]").is_err());
        assert!(read_bindings(&vec![b' '; BINDING_LIST_BYTES + 1]).is_err());
    }

    #[test]
    fn nobody_is_ever_of_a_group_of_kubernetes_own() {
        for role in [Role::Viewer, Role::Operator, Role::Owner] {
            assert!(group(role).starts_with("qb:") && !group(role).starts_with("system:"));
        }
        assert!(user(&"system".parse().unwrap()).starts_with("qb:"));
    }
}
