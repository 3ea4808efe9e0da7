//! How a site begins, and that it begins once.

use anyhow::{Result, ensure};
use qb_tests::wait::eventually;

use super::{SOON, authorized, fresh, told, waiting};

#[test]
fn a_site_is_founded_once_whatever_door_is_asked() {
    let mut fixture = fresh(21).expect("a site starts");
    let result = founded_once(&mut fixture.site);
    told(&fixture, result);
}

fn founded_once(site: &mut qb_tests::site::Site) -> Result<()> {
    waiting(site, 5)?;
    site.qb.ok(&["node", "authorize", "node-1", "-y"])?;
    // The door of a machine that is not let in knows at once that there is a site.
    let door = format!("unix:{}", site.agent("node-4")?.socket().display());
    eventually(SOON, "node-4 hears of the founding", || {
        let ran = site.qb.run(&["--door", &door, "node", "authorize", "node-4", "-y"])?;
        ensure!(ran.code != 0, "node-4 founded a second site");
        ensure!(ran.stderr.contains("door of a member"), "{}", ran.stderr);
        Ok(())
    })?;
    site.qb.ok(&["node", "authorize", "--waiting", "-y"])?;
    eventually(SOON, "all are in one site", || {
        for agent in &site.agents {
            let nodes: Vec<qb_tests::views::Node> =
                qb_tests::http::get(&agent.socket(), "/v1/sites/lyon/nodes")?;
            let pool = nodes.iter().filter(|n| n.state == "pool").count();
            ensure!(pool == 5, "{} shows {pool} in the pool", agent.spec.name);
        }
        Ok(())
    })
}

#[test]
fn every_door_shows_the_same_and_takes_the_same() {
    let mut fixture = authorized(22).expect("a site starts");
    let result = doors_agree(&mut fixture.site);
    told(&fixture, result);
}

fn doors_agree(site: &mut qb_tests::site::Site) -> Result<()> {
    // Through the one that follows and votes not, over TLS, with a login.
    let door = site.agent("node-5")?.url();
    site.qb.ok(&["--door", &door, "cluster", "create", "clus100", "-y"])?;
    eventually(SOON, "every door has the same head", || {
        let mut heads = Vec::new();
        for agent in &site.agents {
            let head: qb_tests::views::Head = qb_tests::http::get(&agent.socket(), "/v1/sites/lyon/head")?;
            heads.push(head.hash);
        }
        heads.dedup();
        ensure!(heads.len() == 1, "{heads:?}");
        Ok(())
    })
}
