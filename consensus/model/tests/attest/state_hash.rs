//! The hash of the state: the same on every replica, another for every change.

use qb_model::command::Command;
use qb_model::state::SiteState;

use crate::support::site::Site;

#[test]
fn replicas_agree_and_every_entry_shows() {
    let mut site = Site::with_pool(3);
    let before = site.state.digest();
    let copy = SiteState::from_own_snapshot(&site.state.to_snapshot()).unwrap();
    assert_eq!(copy.digest(), before);
    // Ignored by the state, but for its place in the log.
    site.propose(Command::Tick(Vec::new()));
    assert_ne!(site.state.digest(), before);
}
