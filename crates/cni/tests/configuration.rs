//! Configurations and results: tables, and that no text whatever makes their readers panic.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use cofferdam_cni::cache::Entry;
use cofferdam_cni::config::{NetworkList, load};
use cofferdam_cni::result::CniResult;
use cofferdam_cni::{Error, Version};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::fs;

#[test]
fn lists_are_read_or_refused_by_rule() {
    let read = |text: &str| NetworkList::parse_list(text.as_bytes());
    let list = read(r#"{"name":"n.1_-","cniVersions":["1.0.0","0.4.0","7.0.0"],"cniVersion":"0.3.1","plugins":[{"type":"a","capabilities":{"x":true,"y":false}}],"disableCheck":"TRUE","loadOnlyInlinedPlugins":true}"#).unwrap();
    assert_eq!(list.versions, [Version::V0_3_1, Version::V0_4_0, Version::V1_0_0]);
    assert_eq!((list.disable_check, list.disable_gc, list.only_inlined), (true, false, true));
    assert_eq!(list.plugins[0].capabilities.iter().collect::<Vec<_>>(), ["x"]);
    assert_eq!(
        read(r#"{"name":"n","plugins":[{"type":"a"}]}"#).unwrap().versions,
        [Version::V0_1_0]
    );
    for (text, expected) in [
        ("", "no JSON"),
        ("[]", "no JSON object"),
        (r#"{"plugins":[{"type":"a"}]}"#, "no field name"),
        (r#"{"name":7,"plugins":[{"type":"a"}]}"#, "name is no text"),
        (r#"{"name":"../x","plugins":[{"type":"a"}]}"#, "must begin with a letter"),
        (r#"{"name":"n","plugins":[]}"#, "empty"),
        (r#"{"name":"n","plugins":{}}"#, "no list"),
        (r#"{"name":"n","plugins":[7]}"#, "plugins[0]: it is no object"),
        (r#"{"name":"n","plugins":[{}]}"#, "no field type"),
        (r#"{"name":"n","plugins":[{"type":"../sh"}]}"#, "no file name"),
        (r#"{"name":"n","plugins":[{"type":".."}]}"#, "no file name"),
        (
            r#"{"name":"n","plugins":[{"type":"a","capabilities":{"x":1}}]}"#,
            "neither true nor false",
        ),
        (r#"{"name":"n","cniVersion":1,"plugins":[{"type":"a"}]}"#, "cniVersion is no text"),
        (
            r#"{"name":"n","cniVersion":"2.0.0","plugins":[{"type":"a"}]}"#,
            "none that is known here",
        ),
        (r#"{"name":"n","cniVersions":[1],"plugins":[{"type":"a"}]}"#, "no text"),
        (
            r#"{"name":"n","disableGC":"yes","plugins":[{"type":"a"}]}"#,
            "neither true nor false",
        ),
        (r#"{"name":"n","loadOnlyInlinedPlugins":true}"#, "no field plugins"),
    ] {
        let error = read(text).unwrap_err();
        assert!(error.contains(expected), "{text}: {error}");
    }
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(read(&deep).is_err());
    assert!(read(&format!(r#"{{"name":"n","plugins":[{}]}}"#, vec![r#"{"type":"a"}"#; 65].join(","))).is_err());
}

#[test]
fn the_first_file_by_name_counts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    assert!(load(&path.join("absent")).unwrap().is_none());
    assert!(load(path).unwrap().is_none());
    fs::write(path.join("00-readme.txt"), "not one").unwrap();
    fs::create_dir(path.join("00-folder.conf")).unwrap();
    fs::write(
        path.join("20-b.conflist"),
        r#"{"name":"b","cniVersion":"1.0.0","plugins":[{"type":"x"}]}"#,
    )
    .unwrap();
    fs::write(path.join("30-a.conf"), r#"{"name":"a","cniVersion":"0.3.1","type":"y"}"#).unwrap();
    let (file, list) = load(path).unwrap().unwrap();
    assert_eq!((file, list.name.as_str()), (path.join("20-b.conflist"), "b"));
    fs::rename(path.join("30-a.conf"), path.join("10-a.json")).unwrap();
    let (_, list) = load(path).unwrap().unwrap();
    assert_eq!(
        (list.name.as_str(), list.plugins[0].kind.as_str(), list.versions.as_slice()),
        ("a", "y", &[Version::V0_3_1][..])
    );
    // One that cannot be used is not passed over.
    for (text, expected) in [("{", "no JSON"), (r#"{"name":"b","plugins":[]}"#, "name the file .conflist")] {
        fs::write(path.join("10-a.json"), text).unwrap();
        let error = load(path).unwrap_err().to_string();
        assert!(error.contains("10-a.json cannot be used") && error.contains(expected), "{error}");
    }
    fs::write(path.join("10-a.json"), vec![b' '; 2 << 20]).unwrap();
    assert!(load(path).is_err());
}

#[test]
fn plugins_may_stand_in_files_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path();
    let write = |more: &str| fs::write(path.join("1.conflist"), format!(r#"{{"name":"n","cniVersion":"1.1.0"{more}}}"#)).unwrap();
    write("");
    assert!(matches!(load(path), Err(Error::Config { .. })));
    fs::create_dir(path.join("n")).unwrap();
    fs::write(path.join("n/2.conf"), r#"{"type":"two"}"#).unwrap();
    fs::write(path.join("n/1.conf"), r#"{"type":"one"}"#).unwrap();
    fs::write(path.join("n/0.conflist"), "no plugin").unwrap();
    let kinds = || {
        load(path)
            .unwrap()
            .unwrap()
            .1
            .plugins
            .into_iter()
            .map(|p| p.kind)
            .collect::<Vec<_>>()
    };
    assert_eq!(kinds(), ["one", "two"]);
    write(r#","plugins":[{"type":"zero"}]"#);
    assert_eq!(kinds(), ["zero", "one", "two"]);
    write(r#","plugins":[{"type":"zero"}],"loadOnlyInlinedPlugins":true"#);
    assert_eq!(kinds(), ["zero"]);
}

#[test]
fn results_keep_their_meaning_in_every_version() {
    let newest = json!({
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "br0", "mac": "aa:bb:cc:dd:ee:ff"}, {"name": "eth0", "mtu": 1400, "sandbox": "/ns"}],
        "ips": [{"interface": 1, "address": "10.1.0.2/24", "gateway": "10.1.0.1"}, {"interface": 1, "address": "fd00::2/64"}],
        "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1", "mtu": 1300}, {"dst": "::/0"}],
        "dns": {"nameservers": ["10.1.0.1"], "search": ["x"]},
    });
    let result = CniResult::read(&newest, Version::V0_1_0).unwrap();
    assert_eq!(result.to_json(Version::V1_1_0), newest);
    assert_eq!(
        result.addresses("eth0"),
        ["10.1.0.2".parse::<std::net::IpAddr>().unwrap(), "fd00::2".parse().unwrap()]
    );
    for version in [Version::V0_3_0, Version::V0_3_1, Version::V0_4_0, Version::V1_0_0] {
        let older = result.to_json(version);
        assert_eq!(older["ips"][1]["version"] == "6", version < Version::V1_0_0);
        assert_eq!(
            (&older["interfaces"][1]["mtu"], &older["routes"][0]["mtu"]),
            (&Value::Null, &Value::Null)
        );
        let back = CniResult::read(&older, Version::V1_1_0).unwrap();
        assert_eq!((&back.ips, &back.dns), (&result.ips, &result.dns));
    }
    let oldest = result.to_json(Version::V0_2_0);
    assert_eq!(
        oldest["ip4"],
        json!({"ip": "10.1.0.2/24", "gateway": "10.1.0.1", "routes": [{"dst": "0.0.0.0/0", "gw": "10.1.0.1"}]})
    );
    assert_eq!(oldest["ip6"], json!({"ip": "fd00::2/64", "routes": [{"dst": "::/0"}]}));
    let back = CniResult::read(&oldest, Version::V1_1_0).unwrap();
    assert_eq!((back.addresses("eth0"), back.routes.len()), (result.addresses("eth0"), 2));
}

#[test]
fn hostile_results_are_refused() {
    let many = |item: &str, count: usize| vec![item; count].join(",");
    for (text, expected) in [
        ("{}x".to_owned(), "no JSON"),
        ("7".into(), "no JSON object"),
        (r#"{"cniVersion":"5.0.0"}"#.into(), "none that is known here"),
        (r#"{"ips":[{"address":"10.0.0.1"}]}"#.into(), "no address with a prefix"),
        (r#"{"ips":[{"address":"10.0.0.1/33"}]}"#.into(), "no address with a prefix"),
        (r#"{"ips":[{"address":"10.0.0.1/+8"}]}"#.into(), "no address with a prefix"),
        (r#"{"ips":[{"address":7}]}"#.into(), "no text address"),
        (r#"{"ips":[{"address":"::1/129"}]}"#.into(), "no address with a prefix"),
        (r#"{"ips":[{"address":"10.0.0.1/8","gateway":"gw"}]}"#.into(), "no address"),
        (r#"{"ips":[{"address":"10.0.0.1/8","interface":0}]}"#.into(), "not among them"),
        (r#"{"ips":[{"address":"10.0.0.1/8","interface":-1}]}"#.into(), "no place"),
        (r#"{"ips":{}}"#.into(), "no list"),
        (r#"{"interfaces":[{"name":""}]}"#.into(), "no name"),
        (r#"{"interfaces":[{"name":"a\nb"}]}"#.into(), "control characters"),
        (r#"{"interfaces":[{"name":"a","mac":"zz"}]}"#.into(), "hardware address"),
        (r#"{"routes":[{"dst":"default"}]}"#.into(), "no address with a prefix"),
        (r#"{"routes":[{"dst":"::/0","mtu":"x"}]}"#.into(), "no number"),
        (r#"{"dns":{"nameservers":["a\nb"]}}"#.into(), "control characters"),
        (r#"{"dns":[]}"#.into(), "no object"),
        (
            format!(r#"{{"ips":[{}]}}"#, many(r#"{"address":"10.0.0.1/8"}"#, 257)),
            "more than 256",
        ),
        (format!(r#"{{"routes":[{}]}}"#, many(r#"{"dst":"::/0"}"#, 4097)), "more than 4096"),
        ("[".repeat(200_000), "no JSON"),
        (" ".repeat(2 << 20), "larger than"),
    ] {
        let error = CniResult::parse(text.as_bytes(), Version::V1_0_0).unwrap_err();
        assert!(error.contains(expected), "{}: {error}", &text[..text.len().min(80)]);
    }
}

#[test]
fn the_pods_addresses_are_those_of_its_interface() {
    let addresses = |interfaces: Value, ips: Value| {
        let value = json!({"cniVersion": "1.0.0", "interfaces": interfaces, "ips": ips});
        CniResult::read(&value, Version::V1_0_0)
            .unwrap()
            .addresses("eth0")
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    let links = json!([{"name": "eth0"}, {"name": "eth0", "sandbox": "/s"}, {"name": "net1", "sandbox": "/s"}]);
    let ip = |at: usize| json!({"interface": at, "address": format!("10.0.0.{at}/8")});
    assert_eq!(
        addresses(links.clone(), json!([ip(0), ip(1), ip(2)])),
        ["10.0.0.1"],
        "not the machine's link of that name"
    );
    assert_eq!(addresses(links.clone(), json!([ip(0), ip(2)])), ["10.0.0.2"]);
    assert_eq!(addresses(links, json!([ip(0)])), [""; 0]);
    assert_eq!(addresses(Value::Null, json!([{"address": "10.0.0.9/8"}])), ["10.0.0.9"]);
}

/// JSON that looks like configurations, results and entries of the cache, with anything in it.
fn anything() -> impl Strategy<Value = Value> {
    let texts = prop_oneof![
        Just(String::from("1.0.0")),
        Just("10.0.0.1/8".into()),
        Just("::/0".into()),
        Just("a".into()),
        Just("cniCacheV1".into()),
        Just("eth0".into()),
        ".{0,8}"
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        texts.prop_map(Value::from)
    ];
    let keys = "name|type|cniVersion|cniVersions|plugins|capabilities|interfaces|ips|routes|dns|address|gateway|dst|gw|mac|interface|ip4|ip6|ip|kind|containerId|config|ifName|networkName|result|cniArgs|mtu|[a-z]{1,3}";
    leaf.prop_recursive(4, 48, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((keys, inner), 0..6).prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_json_makes_a_reader_panic(value in anything()) {
        let bytes = value.to_string().into_bytes();
        let _ = NetworkList::parse_list(&bytes);
        let _ = NetworkList::parse_single(&bytes);
        let _ = Entry::parse(&bytes).map(|e| e.config());
        for version in Version::ALL {
            if let Ok(result) = CniResult::parse(&bytes, version) {
                // What was read can be read again, in every form.
                for form in Version::ALL {
                    prop_assert!(CniResult::read(&result.to_json(form), form).is_ok());
                }
            }
        }
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = NetworkList::parse_list(&bytes);
        let _ = CniResult::parse(&bytes, Version::NEWEST);
        let _ = Entry::parse(&bytes);
    }
}
