//! The host: what it is and how loaded it is. The only place of this crate that asks the system
//! about itself.

use qb_model::facts::Facts;

use crate::config::Config;

/// How loaded a host is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Load average over one minute, in thousandths.
    pub load_milli: u32,
    /// Used memory in bytes.
    pub memory_used_bytes: u64,
    /// Seconds since the host was booted.
    pub uptime_s: u64,
}

/// Gathers what the host is. Blocks for a moment.
pub fn facts(config: &Config) -> Result<Facts, qb_exec::FactsError> {
    qb_exec::gather_facts(qb_exec::FactsConfig {
        address: config.address,
        zone: &config.zone,
        state_dir: &config.state,
        host: config.host_name.as_ref(),
        agent: env!("CARGO_PKG_VERSION"),
    })
}

/// How loaded the host is now; zeros where the system does not say.
pub fn load() -> Load {
    let average = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    Load {
        load_milli: parse_load(&average),
        memory_used_bytes: parse_used(&memory),
        uptime_s: parse_uptime(&uptime),
    }
}

fn parse_load(text: &str) -> u32 {
    let first = text.split_whitespace().next().and_then(|t| t.parse::<f64>().ok());
    // A float beyond the range becomes the nearest number, and none becomes 0.
    (first.unwrap_or(0.0) * 1_000.0).round() as u32
}

/// `350735.47 234388.90`: since the boot, and idle.
fn parse_uptime(text: &str) -> u64 {
    let whole = text.split(['.', ' ']).next();
    whole.and_then(|seconds| seconds.parse().ok()).unwrap_or(0)
}

fn parse_used(text: &str) -> u64 {
    let field = |name: &str| {
        text.lines().find_map(|l| l.strip_prefix(name)?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok())
    };
    match (field("MemTotal:"), field("MemAvailable:")) {
        (Some(total), Some(free)) => total.saturating_sub(free).saturating_mul(1024),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_files_are_read() {
        assert_eq!(parse_load("0.52 0.58 0.59 1/467 12345\n"), 520);
        assert_eq!(parse_load(""), 0);
        assert_eq!(parse_used("MemTotal:  10 kB\nMemFree: 1 kB\nMemAvailable:  4 kB\n"), 6 * 1024);
        assert_eq!(parse_used("nonsense"), 0);
        assert_eq!(parse_uptime("350735.47 234388.90\n"), 350_735);
        assert_eq!([parse_uptime(""), parse_uptime("-3 x"), parse_uptime("7")], [0, 0, 7]);
        assert_eq!([parse_load("-1 x"), parse_load("NaN"), parse_load("1e99")], [0, 0, u32::MAX]);
    }
}
