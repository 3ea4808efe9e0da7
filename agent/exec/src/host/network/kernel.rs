//! The kernel's side of the pod network, over netlink: reads what is there, makes one change.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use futures::TryStreamExt as _;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteType,
};
use rtnetlink::{
    AddressMessageBuilder, Error, Handle, IpVersion, LinkMessageBuilder, LinkUnspec, LinkVxlan,
    RouteMessageBuilder,
};
use tokio::task::JoinHandle;

use super::plan::{Actual, BRIDGE, Change, DEVICE, LINK_LOCAL, Mac, Overlay, Running, Subnet, Vxlan};

/// The mark of our routes, a number that nobody registered: what has it is ours, whoever looks.
const PROTOCOL: RouteProtocol = RouteProtocol::Other(113);
/// Far above every route of a host's own: where anybody says something, that counts.
const QUIET_PRIORITY: u32 = 4096;

/// Why the kernel's network cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KernelError {
    #[error("the kernel's network cannot be asked: {0}; is qb's helper kept from it?")]
    Socket(#[source] std::io::Error),
    #[error("the kernel refuses to {doing}: {source}; look at `ip -d link` and `dmesg` on this host")]
    Refused {
        /// What it was to do.
        doing: String,
        source: Error,
    },
}

/// A link, as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    pub(crate) name: String,
    /// `bridge`, `veth`; empty for a card.
    pub(crate) kind: String,
    /// The index of the bridge that it is a port of.
    pub(crate) master: Option<u32>,
    mtu: u32,
    up: bool,
    vxlan: Option<Vxlan>,
}

/// A route of the main table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) to: (IpAddr, u8),
    pub(crate) via: Option<IpAddr>,
    /// Index of the link.
    pub(crate) link: Option<u32>,
    pub(crate) ours: bool,
    pub(crate) unreachable: bool,
}

/// A connection to the kernel. It is of the network namespace of the thread that made it.
pub(crate) struct Kernel {
    handle: Handle,
    task: JoinHandle<()>,
}

impl Drop for Kernel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What was being done, for the message.
fn refused<T>(doing: impl Into<String>) -> impl FnOnce(Error) -> Result<T, KernelError> {
    move |source| Err(KernelError::Refused { doing: doing.into(), source })
}

impl Kernel {
    /// Connects; inside a runtime.
    pub(crate) fn connect() -> Result<Self, KernelError> {
        let (connection, handle, _) = rtnetlink::new_connection().map_err(KernelError::Socket)?;
        Ok(Self { handle, task: tokio::spawn(connection) })
    }

    /// All links.
    pub(crate) async fn links(&self) -> Result<Vec<Link>, KernelError> {
        let links = self.handle.link().get().execute().try_collect::<Vec<_>>().await;
        let links = links.or_else(refused("list links"))?;
        Ok(links.into_iter().map(link).collect())
    }

    /// All addresses with the index of their link.
    pub(crate) async fn addresses(&self) -> Result<Vec<(u32, IpAddr, u8)>, KernelError> {
        let all = self.handle.address().get().execute().try_collect::<Vec<_>>().await;
        let all = all.or_else(refused("list addresses"))?;
        let one = |message: rtnetlink::packet_route::address::AddressMessage| {
            let find = |local: bool| {
                message.attributes.iter().find_map(|attribute| match attribute {
                    AddressAttribute::Local(address) if local => Some(*address),
                    AddressAttribute::Address(address) if !local => Some(*address),
                    _ => None,
                })
            };
            // Between two ends, the other end's is the second.
            let address = find(true).or_else(|| find(false))?;
            Some((message.header.index, address, message.header.prefix_len))
        };
        Ok(all.into_iter().filter_map(one).collect())
    }

    /// All routes of the main table.
    pub(crate) async fn routes(&self) -> Result<Vec<Route>, KernelError> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut asked = RouteMessage::default();
            asked.header.address_family = family;
            let all = self.handle.route().get(asked).execute().try_collect::<Vec<_>>().await;
            routes.extend(all.or_else(refused("list routes"))?.iter().filter_map(route));
        }
        Ok(routes)
    }

    /// What there is of the pod network of a host with this address.
    pub(crate) async fn look(&self, own: Ipv4Addr) -> Result<Actual, KernelError> {
        let links = self.links().await?;
        let addresses = self.addresses().await?;
        let routes = self.routes().await?;
        let device = links.iter().find(|link| link.name == DEVICE);
        let carrier = addresses.iter().find(|(_, address, _)| *address == IpAddr::V4(own));
        let link_mtu =
            carrier.and_then(|(index, ..)| links.iter().find(|link| link.index == *index)).map(|l| l.mtu);
        let mut actual = Actual { link_mtu, ..Actual::default() };
        let bridge = links.iter().find(|link| link.name == BRIDGE).map(|link| link.index);
        for route in &routes {
            let (IpAddr::V4(to), bits) = route.to else { continue };
            let subnet = Subnet { address: to, bits };
            if route.ours && route.unreachable && subnet == LINK_LOCAL {
                actual.overlay.quiet = true;
                continue;
            }
            let on_device = device.is_some_and(|device| route.link == Some(device.index));
            match (on_device, route.via) {
                (true, Some(IpAddr::V4(via))) => drop(actual.overlay.routes.insert(subnet, via)),
                // Of the device's own address.
                (true, _) => {}
                (false, _) if bridge.is_some() && route.link == bridge => {}
                (false, _) => {
                    let name = route.link.and_then(|index| links.iter().find(|link| link.index == index));
                    let name = name.map_or_else(|| "no link".to_owned(), |link| link.name.clone());
                    actual.foreign.insert((subnet, name));
                }
            }
        }
        if let Some(device) = device {
            actual.overlay.device = Some((device.vxlan, Running { mtu: device.mtu, up: device.up }));
            let own = addresses.iter().filter(|(index, ..)| *index == device.index);
            actual.overlay.addresses = own
                .filter_map(|(_, address, bits)| match address {
                    IpAddr::V4(address) => Some(Subnet { address: *address, bits: *bits }),
                    IpAddr::V6(_) => None,
                })
                .collect();
            self.look_at_peers(device.index, &mut actual.overlay).await?;
        }
        Ok(actual)
    }

    async fn look_at_peers(&self, device: u32, overlay: &mut Overlay) -> Result<(), KernelError> {
        for message in self.neighbours(AddressFamily::Bridge, device).await? {
            if let (Some(mac), Some(to)) = (hardware(&message), destination(&message)) {
                overlay.forwards.insert((mac, to));
            }
        }
        for message in self.neighbours(AddressFamily::Inet, device).await? {
            let permanent = message.header.state == NeighbourState::Permanent;
            if let (true, Some(mac), Some(of)) = (permanent, hardware(&message), destination(&message)) {
                overlay.neighbours.insert(of, mac);
            }
        }
        Ok(())
    }

    async fn neighbours(
        &self,
        family: AddressFamily,
        device: u32,
    ) -> Result<Vec<NeighbourMessage>, KernelError> {
        let mut asked = self.handle.neighbours().get();
        if family == AddressFamily::Inet {
            asked = asked.set_family(IpVersion::V4);
        } else {
            asked.message_mut().header.family = family;
        }
        let all = asked.execute().try_collect::<Vec<_>>().await.or_else(refused("list neighbours"))?;
        let of = |m: &NeighbourMessage| m.header.ifindex == device && m.header.family == family;
        Ok(all.into_iter().filter(of).collect())
    }

    /// Whether link-local addresses are unreachable because we said so.
    pub(crate) async fn is_quiet(&self) -> Result<bool, KernelError> {
        let to = (IpAddr::V4(LINK_LOCAL.address), LINK_LOCAL.bits);
        Ok(self.routes().await?.iter().any(|route| route.ours && route.unreachable && route.to == to))
    }

    /// Makes one change.
    pub(crate) async fn apply(&self, change: &Change) -> Result<(), KernelError> {
        let doing = || format!("{change:?}");
        let result = match change {
            Change::MakeDevice(kind) => self.handle.link().add(device(kind)).execute().await,
            Change::Quiet(on) => {
                let route = quiet();
                let routes = self.handle.route();
                if *on { routes.add(route).execute().await } else { routes.del(route).execute().await }
            }
            change => {
                let links = self.links().await?;
                // It went meanwhile, and all that hung on it.
                let Some(link) = links.iter().find(|link| link.name == DEVICE) else { return Ok(()) };
                self.apply_on(link.index, change).await
            }
        };
        result.or_else(refused(doing()))
    }

    async fn apply_on(&self, index: u32, change: &Change) -> Result<(), Error> {
        match change {
            Change::MakeDevice(_) | Change::Quiet(_) => Ok(()),
            Change::DropDevice => self.handle.link().del(index).execute().await,
            Change::Run(running) => {
                let message = LinkMessageBuilder::<LinkUnspec>::new().index(index).mtu(running.mtu);
                let message = if running.up { message.up() } else { message.down() };
                self.handle.link().change(message.build()).execute().await
            }
            Change::AddAddress(Subnet { address, bits }) => {
                self.handle.address().add(index, IpAddr::V4(*address), *bits).execute().await
            }
            Change::DropAddress(Subnet { address, bits }) => {
                let message = AddressMessageBuilder::<Ipv4Addr>::new().index(index).address(*address, *bits);
                self.handle.address().del(message.build()).execute().await
            }
            Change::AddForward(mac, to) => {
                let mut add = self.handle.neighbours().add_bridge(index, &mac.0);
                add = add.destination(IpAddr::V4(*to)).flags(NeighbourFlags::Own).state(
                    // Never too old, and of no address of this host.
                    NeighbourState::Permanent,
                );
                add.execute().await
            }
            Change::DropForward(mac, to) => {
                let mut message = NeighbourMessage::default();
                message.header.family = AddressFamily::Bridge;
                message.header.ifindex = index;
                message.header.flags = NeighbourFlags::Own;
                message.attributes = vec![
                    NeighbourAttribute::LinkLocalAddress(mac.0.to_vec()),
                    NeighbourAttribute::Destination(NeighbourAddress::Inet(*to)),
                ];
                self.handle.neighbours().del(message).execute().await
            }
            Change::SetNeighbour(of, mac) => {
                let add = self.handle.neighbours().add(index, IpAddr::V4(*of));
                add.link_local_address(&mac.0).replace().execute().await
            }
            Change::DropNeighbour(of) => {
                let mut message = NeighbourMessage::default();
                message.header.family = AddressFamily::Inet;
                message.header.ifindex = index;
                message.attributes = vec![NeighbourAttribute::Destination(NeighbourAddress::Inet(*of))];
                self.handle.neighbours().del(message).execute().await
            }
            Change::SetRoute(to, via) => {
                let route = on_link(*to, index).gateway(*via).onlink().build();
                self.handle.route().add(route).replace().execute().await
            }
            Change::DropRoute(to) => self.handle.route().del(on_link(*to, index).build()).execute().await,
        }
    }

    /// Takes a link away, if it is there.
    pub(crate) async fn drop_link(&self, name: &str) -> Result<(), KernelError> {
        let links = self.links().await?;
        let Some(link) = links.iter().find(|link| link.name == name) else { return Ok(()) };
        match self.handle.link().del(link.index).execute().await {
            // Its namespace went, and took it along.
            Err(Error::NetlinkError(e)) if e.raw_code() == -rustix::io::Errno::NODEV.raw_os_error() => Ok(()),
            ended => ended.or_else(refused(format!("remove the link {name}"))),
        }
    }
}

fn on_link(to: Subnet, index: u32) -> RouteMessageBuilder<Ipv4Addr> {
    let route = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(to.address, to.bits);
    route.output_interface(index).protocol(PROTOCOL)
}

fn quiet() -> RouteMessage {
    let route = RouteMessageBuilder::<Ipv4Addr>::new();
    let route = route.destination_prefix(LINK_LOCAL.address, LINK_LOCAL.bits).kind(RouteType::Unreachable);
    route.protocol(PROTOCOL).priority(QUIET_PRIORITY).build()
}

fn device(kind: &Vxlan) -> LinkMessage {
    let link = LinkVxlan::new(DEVICE, kind.id).port(kind.port).local(kind.local).learning(kind.learning);
    link.address(kind.mac.0.to_vec()).build()
}

fn hardware(message: &NeighbourMessage) -> Option<Mac> {
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLocalAddress(bytes) => Some(Mac(bytes.as_slice().try_into().ok()?)),
        _ => None,
    })
}

fn destination(message: &NeighbourMessage) -> Option<Ipv4Addr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(address)) => Some(*address),
        // Of a device's frames: the family says nothing of the address.
        NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => {
            Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.as_slice()).ok()?))
        }
        _ => None,
    })
}

fn link(message: LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        kind: String::new(),
        master: None,
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
        vxlan: None,
    };
    let (mut mac, mut data) = (None, None);
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Controller(index) => link.master = Some(index),
            LinkAttribute::Address(bytes) => mac = bytes.try_into().ok().map(Mac),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    match info {
                        LinkInfo::Kind(kind) => link.kind = kind_name(&kind),
                        LinkInfo::Data(InfoData::Vxlan(parts)) => data = Some(parts),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    link.vxlan = mac.zip(data).and_then(|(mac, data)| vxlan(mac, &data));
    link
}

fn kind_name(kind: &InfoKind) -> String {
    kind.to_string()
}

fn vxlan(mac: Mac, parts: &[InfoVxlan]) -> Option<Vxlan> {
    let (mut id, mut port, mut local, mut learning) = (None, None, None, false);
    for part in parts {
        match part {
            InfoVxlan::Id(is) => id = Some(*is),
            InfoVxlan::Port(is) => port = Some(*is),
            InfoVxlan::Local(is) => local = Some(*is),
            InfoVxlan::Learning(is) => learning = *is,
            _ => {}
        }
    }
    Some(Vxlan { id: id?, port: port?, local: local?, learning, mac })
}

fn route(message: &RouteMessage) -> Option<Route> {
    let header = &message.header;
    let mut table = u32::from(header.table);
    let v4 = header.address_family == AddressFamily::Inet;
    let nowhere = if v4 { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { "::".parse().ok()? };
    let mut route = Route {
        to: (nowhere, header.destination_prefix_length),
        via: None,
        link: None,
        ours: header.protocol == PROTOCOL,
        unreachable: header.kind == RouteType::Unreachable,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(to) => route.to.0 = address(to)?,
            RouteAttribute::Gateway(via) => route.via = address(via),
            RouteAttribute::Oif(index) => route.link = Some(*index),
            RouteAttribute::Table(is) => table = *is,
            _ => {}
        }
    }
    (table == u32::from(RouteHeader::RT_TABLE_MAIN)).then_some(route)
}

fn address(of: &RouteAddress) -> Option<IpAddr> {
    match of {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

/// Names of links that are ports of a bridge.
pub(crate) fn ports(links: &[Link], bridge: &str) -> BTreeSet<String> {
    let index = links.iter().find(|link| link.name == bridge).map(|link| link.index);
    let of = links.iter().filter(|link| index.is_some() && link.master == index);
    of.map(|link| link.name.clone()).collect()
}

#[cfg(all(test, feature = "lab"))]
#[path = "kernel_tests.rs"]
mod tests;
