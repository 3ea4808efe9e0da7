//! `qb-agent id`: what an administrator compares on the machine itself.

use std::io::Write as _;

use qb_model::words::fingerprint;

use crate::config::Config;
use crate::door::views::words_of;
use crate::identity::Identity;
use crate::{enroll, host};

/// Prints words and fingerprints of the node and its site.
pub fn print(config: &Config) -> anyhow::Result<()> {
    let enrolment = enroll::read(&config.enroll)?;
    let identity = Identity::open(&config.state.join("identity"), false)?;
    let facts = host::facts(config)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "site   {}", enrolment.site)?;
    writeln!(out, "       {}", words_of(&enrolment.site.0.0))?;
    writeln!(out, "node   {}  {}", facts.host, fingerprint(&identity.node.0))?;
    writeln!(out, "       {}", words_of(&identity.node.0))?;
    Ok(())
}
