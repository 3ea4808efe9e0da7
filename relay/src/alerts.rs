//! Alerts that the relay raises itself.

use std::time::Duration;

use qb_model::Millis;
use qb_model::waiting::WaitingOn;
use qb_portal::view::AlertView;

use crate::intents::seconds;
use crate::site::LiveSite;

/// The layer of what the relay raises itself.
pub(crate) const LAYER: &str = "relay";

/// `site-dark` once no link was there for `dark`, and the marks.
pub(crate) fn of_site(site: &LiveSite, now: u64, dark: Duration) -> Vec<AlertView> {
    let mut alerts = site.marks.alerts();
    let since = site.links.down_since().filter(|since| is_over(*since, now, dark));
    if let Some(since) = since {
        let text = format!("no gateway has a link to the relay: {}", ago(since, now));
        alerts.push(AlertView {
            rule: "site-dark".to_owned(),
            severity: "critical".to_owned(),
            layer: LAYER.to_owned(),
            subject: site.name.to_string(),
            text,
            since: Millis(since),
            resolved: None,
            remedy: Some("qb site status".to_owned()),
        });
    }
    alerts
}

fn is_over(since: u64, now: u64, dark: Duration) -> bool {
    u128::from(now.saturating_sub(since)) >= dark.as_millis()
}

fn ago(since: u64, now: u64) -> String {
    if since == 0 {
        "there was none yet".to_owned()
    } else {
        format!("since {}", seconds(now.saturating_sub(since)))
    }
}

/// Why what is shown is old: put first among what a site waits for.
pub(crate) fn stale(site: &LiveSite, read_at: u64, now: u64) -> WaitingOn {
    let since = site.links.down_since().filter(|since| *since > 0).unwrap_or(read_at);
    if since == 0 {
        let text = "was never linked to this relay: nothing of it is known here but who founded it";
        return WaitingOn::itself("relay.stale", site.name.as_str(), text, Millis(now));
    }
    let age = seconds(now.saturating_sub(read_at));
    let text = format!("is shown as it was {age} ago: stale since its last link to the relay ended");
    WaitingOn::itself("relay.stale", site.name.as_str(), text, Millis(since))
}
