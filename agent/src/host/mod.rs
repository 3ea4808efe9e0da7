//! The host: what it is and how loaded it is. The only place of this crate that asks the system
//! about itself.

pub mod address;
pub mod clock;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use qb_model::HostName;
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
        agent: qb_exec::VERSION,
    })
}

/// The machine's name, or the one that was given instead.
///
/// # Errors
/// The machine's is no host name.
pub fn name(given: Option<&HostName>) -> Result<HostName, qb_exec::FactsError> {
    if let Some(given) = given {
        return Ok(given.clone());
    }
    let name = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
    name.parse().map_err(|_| qb_exec::FactsError::Host(name))
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

/// The directory that the system made for this service at run time; none if it made none.
pub fn runtime_dir() -> Option<PathBuf> {
    let all = std::env::var("RUNTIME_DIRECTORY").ok()?;
    // Several are parted by colons; the first one is the socket's.
    all.split(':').next().filter(|dir| dir.starts_with('/')).map(PathBuf::from)
}

/// Whether this machine has an address, so that a port can be opened there.
pub fn has_address(ip: IpAddr) -> bool {
    let bound = std::net::UdpSocket::bind((ip, 0));
    !bound.is_err_and(|e| e.kind() == io::ErrorKind::AddrNotAvailable)
}

/// Who has a port that this process cannot have: `nginx (process 812)`, as far as the system tells.
/// None if the port can be had.
pub fn port_holder(at: SocketAddr) -> Option<String> {
    let refused = TcpListener::bind(at).err()?;
    if refused.kind() != io::ErrorKind::AddrInUse {
        return None;
    }
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"];
    let text: String =
        tables.iter().map(|t| std::fs::read_to_string(t).unwrap_or_default()).collect::<Vec<_>>().concat();
    let holder = listeners(&text, at).into_iter().find_map(|inode| holder_of(Path::new("/proc"), &inode));
    Some(
        holder.unwrap_or_else(|| format!("a process that `ss -ltnp 'sport = :{}'` shows to root", at.port())),
    )
}

/// The inodes of sockets that listen at an address, or at all addresses:
/// `0: 0100007F:1F90 00000000:0000 0A ... UID TIMEOUT INODE ...`.
fn listeners(table: &str, at: SocketAddr) -> Vec<String> {
    let everywhere = [IpAddr::from([0u8; 4]), IpAddr::from([0u8; 16])];
    let wanted: Vec<String> = everywhere
        .iter()
        .chain([&at.ip()])
        .map(|ip| format!("{}:{:04X}", table_form(ip), at.port()))
        .collect();
    let fields = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields
        .filter(|f| f.len() > 9 && f[3] == "0A" && wanted.iter().any(|w| w == f[1]))
        .map(|f| f[9].to_owned())
        .collect()
}

/// An address as the kernel's tables have it: words of 32 bits, each in this machine's order.
fn table_form(ip: &IpAddr) -> String {
    let bytes = match ip {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let word = |b: &[u8]| format!("{:08X}", u32::from_ne_bytes([b[0], b[1], b[2], b[3]]));
    bytes.chunks_exact(4).map(word).collect()
}

fn holder_of(proc: &Path, inode: &str) -> Option<String> {
    let socket = format!("socket:[{inode}]");
    for entry in std::fs::read_dir(proc).ok()?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Ok(pid) = name.parse::<u32>() else { continue };
        // Other users' processes do not show theirs.
        let open = std::fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten();
        if open
            .map(|fd| std::fs::read_link(fd.path()))
            .any(|to| to.is_ok_and(|to| to.as_os_str() == socket.as_str()))
        {
            let command = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            return Some(format!("{} (process {pid})", crate::text::clean(command.trim())));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_a_port_is_told() {
        let held = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = held.local_addr().unwrap();
        let me = format!("(process {})", std::process::id());
        assert!(port_holder(at).is_some_and(|who| who.ends_with(&me)));
        drop(held);
        assert_eq!(port_holder(at), None);
        let table = "  sl  local_address rem_address   st ...\n   \
            0: 0100007F:1F90 00000000:0000 0A 0:0 0:0 0 1000 0 4242 1 0\n   \
            1: 0100007F:1F90 0100007F:9999 01 0:0 0:0 0 1000 0 4243 1 0\n   \
            2: 00000000:1F91 00000000:0000 0A 0:0 0:0 0 1000 0 4244 1 0\n   \
            0: 00000000000000000000000001000000:1F92 0:0 0A 0:0 0:0 0 1000 0 4245 1 0\n";
        for (at, want) in [
            ("127.0.0.1:8080", vec!["4242"]),
            ("127.0.0.2:8080", vec![]),
            ("127.0.0.2:8081", vec!["4244"]),
            ("[::1]:8082", vec!["4245"]),
            ("127.0.0.1:9", vec![]),
        ] {
            assert_eq!(listeners(table, at.parse().unwrap()), want, "{at}");
        }
    }

    #[test]
    fn an_address_that_is_not_here_is_known() {
        assert!(has_address("127.3.4.5".parse().unwrap()));
        assert!(!has_address("192.0.2.77".parse().unwrap()));
    }

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
