//! What is chosen of a cluster when it is created, and holds for its life: the networks of its pods and
//! services, and the names by which a customer's own balancer serves its API.
//!
//! Two forms. [`ChosenSettings`] is what an admin signs: a member is written only where it differs from the
//! default, so one choice has one text. [`Settings`] is what follows from it, with every value: the state,
//! orders and drivers know this one alone.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::assignment::KUBEADM;
use crate::ids::{Endpoint, Name};
use crate::limits::{ENDPOINTS, KUBEADM_SLOTS, PODS_BITS, SERVICES_BITS};
use crate::validate::ValueError;

/// Networks of pods where nothing else was chosen.
pub const PODS: Subnet = Subnet { address: Ipv4Addr::new(10, 244, 0, 0), bits: 16 };
/// Addresses of services where nothing else was chosen.
pub const SERVICES: Subnet = Subnet { address: Ipv4Addr::new(10, 96, 0, 0), bits: 16 };
/// Port of the API at a customer's balancer where nothing else was chosen.
pub const ENDPOINT_PORT: u16 = 6443;
/// Where the hosts' own addresses between each other's pods lie: the first of these that is free. They lie
/// far apart: networks of pods and services that may be chosen never take all of them.
const OVERLAYS: [Subnet; 3] = [
    Subnet { address: Ipv4Addr::new(10, 245, 0, 0), bits: 16 },
    Subnet { address: Ipv4Addr::new(100, 127, 0, 0), bits: 16 },
    Subnet { address: Ipv4Addr::new(172, 31, 0, 0), bits: 16 },
];
/// Bits of the network of one member's pods.
const MEMBER_BITS: u8 = 24;
/// What no host of its own ever has, with its name.
const NOT_UNICAST: [(Subnet, &str); 5] = [
    (Subnet { address: Ipv4Addr::UNSPECIFIED, bits: 8 }, "addresses of no host"),
    (Subnet { address: Ipv4Addr::new(127, 0, 0, 0), bits: 8 }, "loopback addresses"),
    (Subnet { address: Ipv4Addr::new(169, 254, 0, 0), bits: 16 }, "link-local addresses"),
    (Subnet { address: Ipv4Addr::new(224, 0, 0, 0), bits: 4 }, "multicast addresses"),
    (Subnet { address: Ipv4Addr::new(240, 0, 0, 0), bits: 4 }, "reserved addresses"),
];

/// A network of IPv4 addresses. As text and on the wire `10.244.0.0/16`, with no bit set behind the prefix.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subnet {
    /// Its first address.
    pub address: Ipv4Addr,
    /// Bits of its prefix, 0 to 32.
    pub bits: u8,
}

impl Subnet {
    /// The network of one address.
    pub const fn host(address: Ipv4Addr) -> Self {
        Self { address, bits: 32 }
    }

    fn mask(self) -> u32 {
        u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0)
    }

    /// Whether `other` is this network or a part of it.
    pub fn holds(self, other: Self) -> bool {
        other.bits >= self.bits && (other.address.to_bits() ^ self.address.to_bits()) & self.mask() == 0
    }

    /// Whether the two have an address in common.
    pub fn overlaps(self, other: Self) -> bool {
        self.holds(other) || other.holds(self)
    }
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl fmt::Debug for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is no network of IPv4 addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubnetError {
    /// Something else.
    #[error("{0:?} is no IPv4 network: write address and prefix length, as in 10.244.0.0/16")]
    Form(String),
    /// An address in a network, and not the network's own.
    #[error("{text} has bits set behind its prefix: write {network}")]
    HostBits {
        /// What was written.
        text: String,
        /// The network that the address is in.
        network: Subnet,
    },
}

impl FromStr for Subnet {
    type Err = SubnetError;

    fn from_str(text: &str) -> Result<Self, SubnetError> {
        let parts = text.split_once('/').and_then(|(a, b)| Some((a.parse().ok()?, b.parse::<u8>().ok()?)));
        let subnet = parts.map(|(address, bits)| Self { address, bits });
        // One text each: no `/016`, no `+16`.
        let Some(subnet) = subnet.filter(|s| s.bits <= 32 && s.to_string() == text) else {
            return Err(SubnetError::Form(text.chars().take(80).collect()));
        };
        let network = Self {
            address: Ipv4Addr::from_bits(subnet.address.to_bits() & subnet.mask()),
            bits: subnet.bits,
        };
        if network == subnet {
            Ok(subnet)
        } else {
            Err(SubnetError::HostBits { text: text.to_owned(), network })
        }
    }
}

impl Serialize for Subnet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Subnet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// Settings as they are signed: what differs from the defaults, and nothing else.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChosenSettings {
    /// Networks of pods. Absent for [`PODS`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pods: Option<Subnet>,
    /// Addresses of services. Absent for [`SERVICES`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub services: Option<Subnet>,
    /// Where the customer serves the API besides the nodes: 1 to 4, the one that people are given first.
    /// Absent for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Vec<Endpoint>>,
    /// The first one's port. Absent for [`ENDPOINT_PORT`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
}

impl fmt::Display for ChosenSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Vec::new();
        words.extend(self.pods.map(|pods| format!("pods {pods}")));
        words.extend(self.services.map(|services| format!("services {services}")));
        if let Some(all) = &self.endpoints {
            let mut all: Vec<String> = all.iter().map(Endpoint::to_string).collect();
            if let (Some(first), Some(port)) = (all.first_mut(), self.port) {
                *first = format!("{first}:{port}");
            }
            words.push(format!("API at {}", all.join(" and ")));
        }
        f.write_str(&words.join(", "))
    }
}

/// Settings of a cluster, every one with its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Networks of pods: each member has the /24 of its slot.
    pub pods: Subnet,
    /// Addresses of services.
    pub services: Subnet,
    /// Names and addresses that the API server's certificates have besides those of nodes, at most 4.
    pub endpoints: Vec<Endpoint>,
    /// Port of the API at the first of them.
    pub port: u16,
}

impl Default for Settings {
    fn default() -> Self {
        Self { pods: PODS, services: SERVICES, endpoints: Vec::new(), port: ENDPOINT_PORT }
    }
}

impl Settings {
    /// The settings that follow from a choice.
    ///
    /// # Errors
    /// A value that cannot be, or that is written although it is the default.
    pub fn of(chosen: Option<&ChosenSettings>) -> Result<Self, ValueError> {
        let Some(chosen) = chosen else { return Ok(Self::default()) };
        let built_in = Self::default();
        let settings = Self {
            pods: written("pods", chosen.pods, built_in.pods)?,
            services: written("services", chosen.services, built_in.services)?,
            endpoints: chosen.endpoints.clone().unwrap_or_default(),
            port: written("port", chosen.port, built_in.port)?,
        };
        if chosen.endpoints.as_ref().is_some_and(Vec::is_empty) {
            return Err(ValueError::new("endpoints", "is empty: leave it out"));
        }
        if chosen.port.is_some() && chosen.endpoints.is_none() {
            return Err(ValueError::new("port", "is of the first endpoint, and there is none: name one"));
        }
        settings.check()?;
        if settings == built_in {
            return Err(ValueError::new("settings", "chooses nothing: leave it out"));
        }
        Ok(settings)
    }

    /// The choice that these follow from; none if they are the defaults.
    pub fn chosen(&self) -> Option<ChosenSettings> {
        let built_in = Self::default();
        (*self != built_in).then(|| ChosenSettings {
            pods: (self.pods != built_in.pods).then_some(self.pods),
            services: (self.services != built_in.services).then_some(self.services),
            endpoints: (!self.endpoints.is_empty()).then(|| self.endpoints.clone()),
            port: (self.port != built_in.port).then_some(self.port),
        })
    }

    /// Whether these can be the settings of a cluster.
    ///
    /// # Errors
    /// The first value that cannot be: which, what is wrong, what helps.
    pub fn check(&self) -> Result<(), ValueError> {
        network("pods", self.pods, PODS_BITS)?;
        network("services", self.services, SERVICES_BITS)?;
        if self.pods.overlaps(self.services) {
            return Err(ValueError::new(
                "services",
                format_args!("{} overlaps the pods' {}: choose another of the two", self.services, self.pods),
            ));
        }
        crate::validate::count("endpoints", self.endpoints.len(), 0, ENDPOINTS)?;
        if self.port == 0 {
            return Err(ValueError::new("port", "is 0: name one of 1 to 65535"));
        }
        let mut seen = BTreeSet::new();
        self.endpoints.iter().try_for_each(|endpoint| {
            if !seen.insert(endpoint) {
                return Err(ValueError::new("endpoints", format_args!("has {endpoint} twice: name it once")));
            }
            self.endpoint(endpoint)
        })
    }

    fn endpoint(&self, endpoint: &Endpoint) -> Result<(), ValueError> {
        let Ok(address) = endpoint.as_str().parse::<Ipv4Addr>() else { return Ok(()) };
        let host = Subnet::host(address);
        let wrong = |of: &dyn fmt::Display| {
            let rule = format!("has {address}, which is of the {of}: name one that your computers reach");
            Err(ValueError::new("endpoints", rule))
        };
        if let Some((_, what)) = NOT_UNICAST.iter().find(|(not, _)| not.holds(host)) {
            return wrong(what);
        }
        match self.networks().into_iter().find(|(_, network)| network.holds(host)) {
            Some((word, network)) => wrong(&format_args!("{word} {network}")),
            None => Ok(()),
        }
    }

    /// All networks that the cluster takes for itself, with whose they are.
    pub fn networks(&self) -> [(&'static str, Subnet); 3] {
        [
            ("pod network", self.pods),
            ("service network", self.services),
            ("network between hosts", self.overlay()),
        ]
    }

    /// Where hosts have their own addresses between each other's pods: nobody chooses it, it keeps out of the
    /// way of what was chosen.
    pub fn overlay(&self) -> Subnet {
        let free = |of: &&Subnet| !of.overlaps(self.pods) && !of.overlaps(self.services);
        // Two networks of the sizes that may be chosen lie in at most two of the three places.
        OVERLAYS.iter().find(free).copied().unwrap_or(OVERLAYS[0])
    }

    /// How many members have room in the pods' networks.
    pub fn slots(&self) -> u16 {
        let most = 1_u32.checked_shl(u32::from(MEMBER_BITS.saturating_sub(self.pods.bits))).unwrap_or(0);
        u16::try_from(most).map_or(KUBEADM_SLOTS, |most| most.min(KUBEADM_SLOTS))
    }

    /// The first endpoint with its port, as people are given it; none if there is none.
    pub fn first_endpoint(&self) -> Option<String> {
        self.endpoints.first().map(|endpoint| format!("{endpoint}:{}", self.port))
    }
}

/// A member that is written differs from the default.
fn written<T: PartialEq + fmt::Display>(
    field: &'static str,
    value: Option<T>,
    built_in: T,
) -> Result<T, ValueError> {
    match value {
        Some(value) if value == built_in => {
            Err(ValueError::new(field, format_args!("is {value}, which is the default: leave it out")))
        }
        value => Ok(value.unwrap_or(built_in)),
    }
}

fn network(field: &'static str, is: Subnet, (least, most): (u8, u8)) -> Result<(), ValueError> {
    if !(least..=most).contains(&is.bits) {
        let rule = format!("{is} has a prefix of {} bits: choose a network of /{least} to /{most}", is.bits);
        return Err(ValueError::new(field, rule));
    }
    match NOT_UNICAST.iter().find(|(not, _)| not.overlaps(is)) {
        Some((not, what)) => Err(ValueError::new(
            field,
            format_args!("{is} overlaps {not}, {what}: choose a private one, such as one in 10.0.0.0/8"),
        )),
        None => Ok(()),
    }
}

/// Whether a cluster of this driver can have this choice.
///
/// # Errors
/// It can have none, or not this one.
pub fn check(driver: &Name, chosen: Option<&ChosenSettings>) -> Result<(), ValueError> {
    if chosen.is_some() && driver.as_str() != KUBEADM {
        return Err(ValueError::new(
            "settings",
            format_args!("are of clusters of driver {KUBEADM}, not {driver}: leave them out"),
        ));
    }
    Settings::of(chosen).map(drop)
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
