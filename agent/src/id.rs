//! `qb-agent id`: what an administrator compares on the machine itself.

use std::fmt::Write as _;

use anyhow::Context as _;
use qb_model::words::fingerprint;

use crate::config::Options;
use crate::door::views::words_of;
use crate::identity::Identity;
use crate::{enroll, host};

/// Words and fingerprints of the node and its site, as lines. Changes nothing.
///
/// # Errors
/// There is no site or no identity yet, or they cannot be read.
pub fn lines(options: &Options) -> anyhow::Result<String> {
    let state = options.state_dir();
    let chosen = enroll::choose(options.enroll.as_deref(), &state)?;
    let site = &chosen.enrolment.site;
    let mut out = format!("site   {site}\n       {}\n", words_of(&site.0.0));
    let identity = Identity::read(&state.join("identity"))?.with_context(|| {
        format!(
            "{out}this machine has no identity in {} yet: it is made at the first start, systemctl start qb-agent",
            state.display()
        )
    })?;
    let host = host::name(options.host_name.as_ref())?;
    // Writing to a string does not fail.
    let _ = writeln!(out, "node   {host}  {}", fingerprint(&identity.node.0));
    let _ = writeln!(out, "       {}", words_of(&identity.node.0));
    if let Some(notice) = chosen.notice {
        let _ = writeln!(out, "\n{notice}");
    }
    Ok(out)
}
