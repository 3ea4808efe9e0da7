//! `qb` alone: the state of the current site in six lines, and three likely next commands.

use qb_portal::view::{ClusterView, SiteView};

use crate::ctx::Ctx;
use crate::error::{CliError, Exit};
use crate::out::paint::{Paint, Tone};
use crate::out::text::{Clock, clean};
use crate::out::{marks, waiting};

use super::site::voters;

/// The six lines.
pub fn lines(site: &SiteView, clusters: &[ClusterView], clock: &Clock, paint: &Paint) -> Vec<String> {
    let c = &site.counts;
    let tone = if site.founded { Tone::Good } else { Tone::You };
    let mut lines = vec![
        format!("{} {}  {}", paint.marked(tone), site.name, voters(site)),
        format!(
            "  nodes     {} waiting, {} pool, {} attached, {} detaching",
            c.waiting, c.pool, c.attached, c.detaching
        ),
    ];
    let shown: Vec<String> =
        clusters.iter().take(3).map(|k| format!("{} {}", k.name, marks::cluster(k).1)).collect();
    let more = if clusters.len() > 3 { format!(" and {} more", clusters.len() - 3) } else { String::new() };
    let clusters = if shown.is_empty() { "none".to_owned() } else { format!("{}{more}", shown.join(", ")) };
    lines.push(format!("  clusters  {clusters}"));
    lines.push(format!("  trust     {}", clean(&site.trust)));
    lines.push(format!("  door      {}, agent {}", site.door.host, clean(&site.door.agent)));
    lines.push(match site.waiting_on.first() {
        Some(wait) => format!("  waits     {}", waiting::sentence(wait, clock)),
        None => "  waits     for nothing".to_owned(),
    });
    lines
}

/// Three likely next commands.
pub fn next(site: &SiteView, clusters: &[ClusterView]) -> Vec<String> {
    let mut next = Vec::new();
    if site.counts.waiting > 0 {
        next.push("qb node authorize --waiting".to_owned());
    }
    let empty = clusters.iter().find(|c| c.members.is_empty());
    match (empty, clusters.first()) {
        (Some(cluster), _) if site.counts.pool > 0 => {
            next.push(format!("qb cluster attach {} -n {}", cluster.name, site.counts.pool.min(3)));
        }
        (None, None) if site.founded => next.push("qb cluster create clus100".to_owned()),
        (_, Some(cluster)) => next.push(format!("qb cluster show {}", cluster.name)),
        _ => {}
    }
    next.truncate(3);
    for other in ["qb node list", "qb events", "qb audit verify"] {
        if next.len() < 3 {
            next.push(other.to_owned());
        }
    }
    next
}

/// Runs `qb` alone.
///
/// # Errors
/// No door answers.
pub async fn overview(ctx: &Ctx) -> Result<Exit, CliError> {
    if ctx.config.site.is_empty() {
        ctx.out.print("qb: no site on this computer yet.\n\nNext\n  qb site create NAME        make a site\n  qb site use FILE           add a site from its enrolment file\n  qb --help                  everything else\n")?;
        return Ok(Exit::Done);
    }
    let session = ctx.session().await?;
    let (site, clusters) = (session.api.site().await?, session.api.clusters().await?);
    if ctx.out.documents() {
        ctx.out.document(&site)?;
        return Ok(Exit::Done);
    }
    ctx.out.print(&lines(&site, &clusters, &ctx.out.clock(), &ctx.out.paint).join("\n"))?;
    let next = next(&site, &clusters);
    ctx.out.hint(&format!("\nNext\n  {}", next.join("\n  ")));
    Ok(Exit::Done)
}
