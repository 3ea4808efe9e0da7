//! Who sees which site: every look-up in the store names the org besides the site.

use qb_model::{Name, SiteId};

/// A site in its org. Made when a site is loaded or registered, and handed out through sessions
/// only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scope {
    org: Name,
    site: SiteId,
}

impl Scope {
    pub(crate) fn new(org: Name, site: SiteId) -> Self {
        Self { org, site }
    }

    pub(crate) fn org(&self) -> &Name {
        &self.org
    }

    pub(crate) fn site(&self) -> SiteId {
        self.site
    }

    /// As the store names them.
    pub(crate) fn parts(&self) -> (String, [u8; 32]) {
        (self.org.to_string(), self.site.0.0)
    }
}
