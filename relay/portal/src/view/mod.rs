//! What the API answers with: the JSON contract of both doors, version 1. Fields are only added.
//! Times are milliseconds since the epoch, UTC; sizes are bytes. Nothing secret is ever in a view,
//! but for the token that a login answers with.

mod cluster;
mod event;
mod intent;
mod login;
mod node;
mod package;
mod problem;
mod site;
mod token;

pub use cluster::{
    AddonState, AddonView, BackupView, ClusterState, ClusterUpgradeState, ClusterUpgradeView, ClusterView,
    MemberView, StageView, UpkeepView,
};
pub use event::{AlertView, AuditExport, AuditView, Event, HistoryView, SampleView};
pub use intent::{
    IntentState, IntentView, PlanRequest, PlanView, PlannedNode, PlannedStage, PreflightRequest,
    PreflightView, Says,
};
pub use login::{LoginChallenge, LoginView};
pub use node::{NodeState, NodeUpgradeState, NodeUpgradeView, NodeView, WorkView};
pub use package::{PackageView, PackagesView};
pub use problem::Problem;
pub use site::{
    AdminKeyView, AdminView, AgentUpgradeState, AgentUpgradeView, BundleView, Counts, DoorView, Head,
    LinkView, RelayView, SiteView, VoterView,
};
pub use token::TokenView;
