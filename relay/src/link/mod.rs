//! Links of gateways: from the upgrade of a connection to its end.

mod accept;
mod registry;
mod session;
mod speak;

pub(crate) use accept::routes;
pub(crate) use registry::{Link, Links};
