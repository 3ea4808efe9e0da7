//! The configuration by which the container runtime gives pods their addresses.

use serde::Serialize;

use super::plan::{BRIDGE, Subnet};

/// Version of the format: the newest that plugins of 0.8, with Kubernetes 1.20, know.
const VERSION: &str = "0.3.1";
/// Its place below the root.
pub(crate) const PLACE: &str = "etc/cni/net.d/10-qb.conflist";

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List {
    cni_version: &'static str,
    name: &'static str,
    plugins: (Bridge, PortMap),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Bridge {
    r#type: &'static str,
    bridge: &'static str,
    is_gateway: bool,
    hairpin_mode: bool,
    /// Our own rules do it, and leave out what goes to other hosts' pods.
    ip_masq: bool,
    mtu: u32,
    ipam: HostLocal,
}

#[derive(Serialize)]
struct HostLocal {
    r#type: &'static str,
    ranges: [[Range; 1]; 1],
    routes: [Route; 1],
}

#[derive(Serialize)]
struct Range {
    subnet: String,
}

#[derive(Serialize)]
struct Route {
    dst: &'static str,
}

#[derive(Serialize)]
struct PortMap {
    r#type: &'static str,
    capabilities: Capabilities,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Capabilities {
    port_mappings: bool,
}

/// The configuration of a member with these pods, on a link whose pods send packets of `mtu` bytes.
pub(crate) fn render(pods: Subnet, mtu: u32) -> Result<String, serde_json::Error> {
    let ipam = HostLocal {
        r#type: "host-local",
        ranges: [[Range { subnet: pods.to_string() }]],
        routes: [Route { dst: "0.0.0.0/0" }],
    };
    let bridge = Bridge {
        r#type: "bridge",
        bridge: BRIDGE,
        is_gateway: true,
        hairpin_mode: true,
        ip_masq: false,
        mtu,
        ipam,
    };
    let ports = PortMap { r#type: "portmap", capabilities: Capabilities { port_mappings: true } };
    serde_json::to_string_pretty(&List { cni_version: VERSION, name: "qb", plugins: (bridge, ports) })
        .map(|text| text + "\n")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn golden() {
        let expected = r#"{
  "cniVersion": "0.3.1",
  "name": "qb",
  "plugins": [
    {
      "type": "bridge",
      "bridge": "cni0",
      "isGateway": true,
      "hairpinMode": true,
      "ipMasq": false,
      "mtu": 1450,
      "ipam": {
        "type": "host-local",
        "ranges": [
          [
            {
              "subnet": "10.244.7.0/24"
            }
          ]
        ],
        "routes": [
          {
            "dst": "0.0.0.0/0"
          }
        ]
      }
    },
    {
      "type": "portmap",
      "capabilities": {
        "portMappings": true
      }
    }
  ]
}
"#;
        assert_eq!(render("10.244.7.0/24".parse().unwrap(), 1450).unwrap(), expected);
    }
}
