#![allow(clippy::unwrap_used)]
use proptest::prelude::*;

use super::*;

fn net(text: &str) -> Subnet {
    text.parse().unwrap()
}

fn chosen(pods: &str, services: &str, endpoints: &[&str], port: u16) -> ChosenSettings {
    let some = |text: &str| (!text.is_empty()).then(|| net(text));
    ChosenSettings {
        pods: some(pods),
        services: some(services),
        endpoints: (!endpoints.is_empty()).then(|| endpoints.iter().map(|e| e.parse().unwrap()).collect()),
        port: (port > 0).then_some(port),
    }
}

#[test]
fn networks_have_one_text() {
    for good in ["10.244.0.0/16", "0.0.0.0/0", "10.1.2.3/32", "172.16.0.0/12"] {
        assert_eq!(net(good).to_string(), good);
    }
    for bad in ["", "10.244.0.0", "10.244.0.0/33", "10.244.0.0/016", "10.244.0.0/+8", "10.0.0/8", "fd00::/8"]
    {
        assert!(matches!(bad.parse::<Subnet>(), Err(SubnetError::Form(_))), "{bad}");
    }
    let error = "10.244.3.0/16".parse::<Subnet>().unwrap_err();
    assert_eq!(error.to_string(), "10.244.3.0/16 has bits set behind its prefix: write 10.244.0.0/16");
}

#[test]
fn endpoints_are_names_or_addresses() {
    for good in ["k8s.example.com", "api", "10.0.0.9", "a-1.b2", "1a.2b"] {
        assert!(good.parse::<Endpoint>().is_ok(), "{good}");
    }
    let long = format!("{}a", "a.".repeat(127));
    for bad in [
        "",
        "k8s.example.com:6443",
        "10.0.0",
        "10.0.0.256",
        "010.0.0.1",
        "a..b",
        "A",
        "fd00::1",
        "a.1",
        "-a",
        "a/b",
        "a b",
        &long,
    ] {
        assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
    }
}

#[test]
fn choices_that_cannot_be_name_field_value_and_remedy() {
    for (chosen, said) in [
        (
            chosen("10.0.0.0/7", "", &[], 0),
            "pods 10.0.0.0/7 has a prefix of 7 bits: choose a network of /8 to /20",
        ),
        (
            chosen("10.8.0.0/21", "", &[], 0),
            "pods 10.8.0.0/21 has a prefix of 21 bits: choose a network of /8 to /20",
        ),
        (
            chosen("", "10.0.0.0/11", &[], 0),
            "services 10.0.0.0/11 has a prefix of 11 bits: choose a network of /12 to /24",
        ),
        (
            chosen("", "10.8.0.0/25", &[], 0),
            "services 10.8.0.0/25 has a prefix of 25 bits: choose a network of /12 to /24",
        ),
        (
            chosen("127.0.0.0/16", "", &[], 0),
            "pods 127.0.0.0/16 overlaps 127.0.0.0/8, loopback addresses: choose a private one, such as one in 10.0.0.0/8",
        ),
        (
            chosen("", "169.254.7.0/24", &[], 0),
            "services 169.254.7.0/24 overlaps 169.254.0.0/16, link-local addresses: choose a private one, such as one in 10.0.0.0/8",
        ),
        (
            chosen("169.0.0.0/8", "", &[], 0),
            "pods 169.0.0.0/8 overlaps 169.254.0.0/16, link-local addresses: choose a private one, such as one in 10.0.0.0/8",
        ),
        (
            chosen("224.0.0.0/8", "", &[], 0),
            "pods 224.0.0.0/8 overlaps 224.0.0.0/4, multicast addresses: choose a private one, such as one in 10.0.0.0/8",
        ),
        (
            chosen("255.0.0.0/8", "", &[], 0),
            "pods 255.0.0.0/8 overlaps 240.0.0.0/4, reserved addresses: choose a private one, such as one in 10.0.0.0/8",
        ),
        (
            chosen("0.0.0.0/8", "", &[], 0),
            "pods 0.0.0.0/8 overlaps 0.0.0.0/8, addresses of no host: choose a private one, such as one in 10.0.0.0/8",
        ),
        (
            chosen("10.0.0.0/8", "", &[], 0),
            "services 10.96.0.0/16 overlaps the pods' 10.0.0.0/8: choose another of the two",
        ),
        (
            chosen("", "10.244.7.0/24", &[], 0),
            "services 10.244.7.0/24 overlaps the pods' 10.244.0.0/16: choose another of the two",
        ),
        (chosen("10.244.0.0/16", "", &[], 0), "pods is 10.244.0.0/16, which is the default: leave it out"),
        (chosen("", "10.96.0.0/16", &[], 0), "services is 10.96.0.0/16, which is the default: leave it out"),
        (chosen("", "", &["a"], 6443), "port is 6443, which is the default: leave it out"),
        (chosen("", "", &[], 443), "port is of the first endpoint, and there is none: name one"),
        (chosen("", "", &["a", "b", "a"], 0), "endpoints has a twice: name it once"),
        (chosen("", "", &["a", "b", "c", "d", "e"], 0), "endpoints has 5 elements, allowed are 0 to 4"),
        (
            chosen("", "", &["127.0.0.1"], 0),
            "endpoints has 127.0.0.1, which is of the loopback addresses: name one that your computers reach",
        ),
        (
            chosen("", "", &["10.244.1.1"], 0),
            "endpoints has 10.244.1.1, which is of the pod network 10.244.0.0/16: name one that your computers reach",
        ),
        (
            chosen("10.245.0.0/16", "", &["100.127.0.9"], 0),
            "endpoints has 100.127.0.9, which is of the network between hosts 100.127.0.0/16: name one that your computers reach",
        ),
        (ChosenSettings::default(), "settings chooses nothing: leave it out"),
        (
            ChosenSettings { endpoints: Some(Vec::new()), ..Default::default() },
            "endpoints is empty: leave it out",
        ),
        (
            ChosenSettings {
                endpoints: Some(vec!["a".parse().unwrap()]),
                port: Some(0),
                ..Default::default()
            },
            "port is 0: name one of 1 to 65535",
        ),
    ] {
        assert_eq!(Settings::of(Some(&chosen)).unwrap_err().to_string(), said);
    }
}

#[test]
fn a_choice_and_what_follows_from_it() {
    assert_eq!(Settings::of(None), Ok(Settings::default()));
    assert_eq!(Settings::default().chosen(), None);
    assert_eq!((Settings::default().slots(), Settings::default().overlay()), (256, net("10.245.0.0/16")));
    let asked = chosen("192.168.0.0/20", "172.16.0.0/12", &["k8s.example.com", "203.0.113.9"], 8443);
    let settings = Settings::of(Some(&asked)).unwrap();
    assert_eq!(settings.slots(), 16);
    assert_eq!(settings.first_endpoint().as_deref(), Some("k8s.example.com:8443"));
    assert_eq!(
        asked.to_string(),
        "pods 192.168.0.0/20, services 172.16.0.0/12, API at k8s.example.com:8443 and 203.0.113.9"
    );
    assert_eq!(
        serde_json::to_string(&asked).unwrap(),
        r#"{"pods":"192.168.0.0/20","services":"172.16.0.0/12","endpoints":["k8s.example.com","203.0.113.9"],"port":8443}"#
    );
}

#[test]
fn other_drivers_choose_nothing() {
    let asked = chosen("10.8.0.0/16", "", &[], 0);
    let of = |driver: &str, asked| check(&driver.parse().unwrap(), asked).map_err(|e| e.to_string());
    assert_eq!(of("kubeadm", Some(&asked)), Ok(()));
    assert_eq!(of("rehearsal", None), Ok(()));
    let said = "settings are of clusters of driver kubeadm, not rehearsal: leave them out";
    assert_eq!(of("rehearsal", Some(&asked)), Err(said.to_owned()));
}

fn subnets(bits: std::ops::RangeInclusive<u8>) -> impl Strategy<Value = Subnet> {
    (any::<u32>(), bits).prop_map(|(address, bits)| {
        let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
        Subnet { address: Ipv4Addr::from_bits(address & mask), bits }
    })
}

/// Settings, some of which can be.
fn any_settings() -> impl Strategy<Value = Settings> {
    let pods = prop_oneof![Just(PODS), Just(net("10.0.0.0/8")), subnets(8..=20)];
    let services = prop_oneof![Just(SERVICES), Just(net("172.16.0.0/12")), subnets(12..=24)];
    let endpoints =
        prop::sample::subsequence(vec!["k8s.example.com", "api", "203.0.113.9", "10.0.0.9"], 0..=4);
    let port = prop_oneof![Just(ENDPOINT_PORT), 1..=u16::MAX];
    (pods, services, endpoints, port).prop_map(|(pods, services, endpoints, port)| {
        let endpoints: Vec<Endpoint> = endpoints.iter().map(|e| e.parse().unwrap()).collect();
        let port = if endpoints.is_empty() { ENDPOINT_PORT } else { port };
        Settings { pods, services, endpoints, port }
    })
}

proptest! {
    #[test]
    fn texts_of_networks_read_back(subnet in subnets(0..=32), other in subnets(0..=32)) {
        prop_assert_eq!(subnet.to_string().parse::<Subnet>().unwrap(), subnet);
        prop_assert_eq!(subnet.overlaps(other), other.overlaps(subnet));
        prop_assert!(subnet.holds(Subnet::host(subnet.address)));
        let in_it = subnet.holds(Subnet::host(other.address)) || other.holds(Subnet::host(subnet.address));
        prop_assert_eq!(subnet.overlaps(other), in_it);
    }

    #[test]
    fn any_text_is_a_network_or_refused(text in "[0-9./+ ]{0,20}") {
        if let Ok(subnet) = text.parse::<Subnet>() {
            prop_assert_eq!(subnet.to_string(), text);
        }
    }

    /// What can be has one signed form, which gives it back; its networks share no address.
    #[test]
    fn every_settings_that_can_be_have_one_choice(settings in any_settings()) {
        prop_assume!(settings.check().is_ok());
        let chosen = settings.chosen();
        prop_assert_eq!(Settings::of(chosen.as_ref()).unwrap(), settings.clone());
        if let Some(chosen) = &chosen {
            let json = serde_json::to_vec(chosen).unwrap();
            prop_assert_eq!(&serde_json::from_slice::<ChosenSettings>(&json).unwrap(), chosen);
        }
        let bytes = postcard::to_stdvec(&settings).unwrap();
        prop_assert_eq!(&postcard::from_bytes::<Settings>(&bytes).unwrap(), &settings);
        let networks = settings.networks();
        for (n, (_, one)) in networks.iter().enumerate() {
            for (_, other) in &networks[n + 1..] {
                prop_assert!(!one.overlaps(*other), "{one} {other}");
            }
        }
        prop_assert!((16..=256).contains(&settings.slots()));
    }
}
