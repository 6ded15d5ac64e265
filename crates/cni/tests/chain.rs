//! How plugins are called, with small ones of our own: what they are told, in which order, and
//! what becomes of every way in which they can fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use cofferdam_cni::{Attachment, Bandwidth, Capabilities, Check, Cni, Error, Options, PodRef, PortMapping, Result, Version};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const POD: PodRef<'static> = PodRef {
    id: "0123456789abcdef",
    name: "web",
    namespace: "shop",
    uid: "u-1",
};
const ANSWER: &str = r#"{"cniVersion":"1.0.0","interfaces":[{"name":"br"},{"name":"eth0","sandbox":"/x"}],
    "ips":[{"interface":1,"address":"10.1.0.2/24","gateway":"10.1.0.1"}],"routes":[{"dst":"0.0.0.0/0"}],"dns":{"nameservers":["10.1.0.1"]}}"#;
const VERSIONS: &str = r#"VERSION) echo '{"cniVersion":"1.1.0","supportedVersions":["0.3.1","0.4.0","1.0.0","1.1.0"]}';;"#;

/// A machine's directories.
struct Place {
    dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        for folder in ["net.d", "bin", "bin2"] {
            fs::create_dir(place.path(folder)).unwrap();
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn options(&self) -> Options {
        Options {
            conf_dir: self.path("net.d"),
            bin_dirs: vec![self.path("bin"), self.path("bin2")],
            timeout: Duration::from_secs(20),
            ..Options::new(self.path("cache"))
        }
    }

    fn cni(&self) -> Cni {
        Cni::load(self.options()).unwrap().unwrap()
    }

    /// A plugin that writes down how it was called and then does `cases` of its verb.
    fn plugin(&self, name: &str, cases: &str) {
        let log = self.path("log");
        let script = format!(
            "#!/bin/sh\nin=$(cat)\nprintf '%s\\n' \"{name} $CNI_COMMAND id=$CNI_CONTAINERID ns=$CNI_NETNS if=$CNI_IFNAME args=$CNI_ARGS in=$in\" >> {}\ncase $CNI_COMMAND in\n{cases}\nesac\n",
            log.display()
        );
        let path = self.path("bin").join(name);
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    fn list(&self, version: &str, more: &Value, plugins: &[Value]) {
        let mut list = json!({"cniVersion": version, "name": "net-1", "plugins": plugins});
        list.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        fs::write(self.path("net.d").join("10-test.conflist"), list.to_string()).unwrap();
    }

    /// The calls so far, forgotten: (plugin and verb, the rest of the line, what it was given).
    fn calls(&self) -> Vec<(String, String, Value)> {
        let text = fs::read_to_string(self.path("log")).unwrap_or_default();
        let _ = fs::remove_file(self.path("log"));
        let read = |line: &str| {
            let (head, input) = line.split_once(" in=").unwrap();
            let (call, rest) = head.split_once(" id=").unwrap();
            (
                call.to_owned(),
                format!("id={rest}"),
                serde_json::from_str(input).unwrap_or(Value::Null),
            )
        };
        text.lines().map(read).collect()
    }

    fn verbs(&self) -> Vec<String> {
        self.calls().into_iter().map(|(call, ..)| call).collect()
    }

    fn cached(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("cache/results")).into_iter().flatten();
        entries.map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect()
    }
}

fn add(cni: &Cni) -> Result<Attachment> {
    cni.add(&POD, Path::new("/proc/self/ns/net"), &Capabilities::default())
}

fn answers(verb_add: &str) -> String {
    format!("ADD) cat <<'E'\n{verb_add}\nE\n;;\n{VERSIONS}")
}

#[test]
fn a_chain_is_called_in_order_and_back() {
    let place = Place::new();
    place.plugin("one", &answers(ANSWER));
    let second = ANSWER.replace("10.1.0.2/24", "10.1.0.9/24");
    place.plugin("two", &answers(&second));
    let capable = json!({"type": "two", "capabilities": {"portMappings": true, "bandwidth": true, "dns": false}, "own": 7});
    place.list("1.0.0", &json!({}), &[json!({"type": "one"}), capable]);
    let cni = place.cni();
    let wanted = Capabilities {
        port_mappings: vec![PortMapping {
            host_port: 8080,
            container_port: 80,
            protocol: "tcp",
            host_ip: None,
        }],
        bandwidth: Some(Bandwidth {
            ingress_rate: 1000,
            ingress_burst: 2000,
            ..Bandwidth::default()
        }),
        dns: Some(cofferdam_cni::Dns {
            servers: vec!["1.1.1.1".into()],
            ..Default::default()
        }),
        cgroup_path: Some("/kubepods/x".into()),
        ..Capabilities::default()
    };
    let made = cni.add(&POD, Path::new("/proc/self/ns/net"), &wanted).unwrap();
    assert_eq!(made.ips, ["10.1.0.9".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(made.result.dns.nameservers, ["10.1.0.1"]);

    let calls = place.calls();
    assert_eq!(calls.iter().map(|c| c.0.as_str()).collect::<Vec<_>>(), ["one ADD", "two ADD"]);
    for (_, told, input) in &calls {
        assert_eq!(
            told,
            "id=0123456789abcdef ns=/proc/self/ns/net if=eth0 args=IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;K8S_POD_INFRA_CONTAINER_ID=0123456789abcdef;K8S_POD_UID=u-1"
        );
        assert_eq!((&input["name"], &input["cniVersion"]), (&json!("net-1"), &json!("1.0.0")));
    }
    assert_eq!(
        (&calls[0].2["prevResult"], &calls[0].2["runtimeConfig"]),
        (&Value::Null, &Value::Null)
    );
    let given = &calls[1].2;
    assert_eq!(
        given["prevResult"]["ips"],
        json!([{"interface": 1, "address": "10.1.0.2/24", "gateway": "10.1.0.1"}])
    );
    assert_eq!(given["own"], 7);
    // What was declared, and nothing else.
    let limits = json!({"ingressRate": 1000, "ingressBurst": 2000, "egressRate": 0, "egressBurst": 0});
    let ports = json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]);
    assert_eq!(given["runtimeConfig"], json!({"portMappings": ports, "bandwidth": limits}));

    // The cache is libcni's.
    assert_eq!(place.cached(), ["net-1-0123456789abcdef-eth0"]);
    let entry: Value = serde_json::from_slice(&fs::read(place.path("cache/results/net-1-0123456789abcdef-eth0")).unwrap()).unwrap();
    assert_eq!(
        [
            &entry["kind"],
            &entry["containerId"],
            &entry["ifName"],
            &entry["networkName"],
            &entry["netns"],
            &entry["cniArgs"][1][1]
        ],
        ["cniCacheV1", "0123456789abcdef", "eth0", "net-1", "/proc/self/ns/net", "shop"]
    );
    assert_eq!(entry["result"]["ips"][0]["address"], "10.1.0.9/24");
    assert!(entry["config"].is_string() && entry["capabilityArgs"]["cgroupPath"] == "/kubepods/x");

    assert_eq!(cni.check(POD.id, Path::new("/proc/self/ns/net")).unwrap(), Check::Passed);
    let calls = place.calls();
    assert_eq!(calls.iter().map(|c| c.0.as_str()).collect::<Vec<_>>(), ["one CHECK", "two CHECK"]);
    assert_eq!(calls[0].2["prevResult"]["ips"][0]["address"], "10.1.0.9/24");

    // Another configuration since, or none: it is taken off by what it was added with.
    fs::remove_file(place.path("net.d/10-test.conflist")).unwrap();
    assert!(Cni::load(place.options()).unwrap().is_none());
    let later = Cni::open(place.options()).unwrap();
    later.del(POD.id, Some(Path::new("/proc/1073741824/ns/net"))).unwrap();
    let calls = place.calls();
    assert_eq!(calls.iter().map(|c| c.0.as_str()).collect::<Vec<_>>(), ["two DEL", "one DEL"]);
    for (_, told, input) in &calls {
        assert!(
            told.starts_with("id=0123456789abcdef ns= if=eth0 args=IgnoreUnknown=1;K8S_POD_NAMESPACE=shop"),
            "{told}"
        );
        assert_eq!(input["prevResult"]["ips"][0]["address"], "10.1.0.9/24");
    }
    assert_eq!(calls[0].2["runtimeConfig"]["portMappings"], ports);
    assert_eq!(place.cached(), [""; 0]);
    later.del(POD.id, None).unwrap();
    assert_eq!(place.verbs(), [""; 0]);
}

#[test]
fn every_failure_is_a_sentence_and_is_taken_back() {
    let ok = answers(ANSWER);
    for (name, cases, expected) in [
        (
            "refuses",
            r#"ADD) printf '%s' '{"code":7,"msg":"Bad\nrange","details":"too small"}'; exit 1;;"#,
            "the CNI plugin bad of the network net-1 refused ADD with code 7 (invalid configuration): Bad range: too small",
        ),
        (
            "dies",
            "ADD) echo why >&2; exit 3;;",
            "the CNI plugin bad of the network net-1 failed at ADD (exit status: 3): why",
        ),
        (
            "is mute",
            "ADD) exit 4;;",
            "the CNI plugin bad of the network net-1 failed at ADD without a word: exit status: 4",
        ),
        (
            "is killed",
            "ADD) kill -9 $$;;",
            "failed at ADD without a word: signal: 9 (SIGKILL)",
        ),
        ("is empty", "ADD) ;;", "answered ADD with what is no result: it is empty"),
        ("babbles", "ADD) echo hello;;", "answered ADD with what is no result: it is no JSON"),
        (
            "lies",
            r#"ADD) echo '{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.300/8"}]}';;"#,
            r#"ips[0]: its address "10.0.0.300/8" is no address with a prefix"#,
        ),
        (
            "floods",
            "ADD) yes | head -c 3000000;;",
            "answered ADD with more than 1048576 bytes and was killed",
        ),
        (
            "gives none",
            r#"ADD) echo '{"cniVersion":"1.0.0"}';;"#,
            "the CNI network net-1 gave the pod shop/web no address",
        ),
    ] {
        let place = Place::new();
        place.plugin("good", &ok);
        place.plugin("bad", cases);
        place.list("1.0.0", &json!({}), &[json!({"type": "good"}), json!({"type": "bad"})]);
        let cni = place.cni();
        let error = add(&cni).unwrap_err().to_string();
        assert!(error.contains(expected), "{name}: {error}");
        assert!(!error.contains('\n'), "{name}: {error:?}");
        assert_eq!(place.verbs(), ["good ADD", "bad ADD", "bad DEL", "good DEL"], "{name}");
        assert_eq!(place.cached(), [""; 0], "{name}");
    }
}

#[test]
fn a_plugin_that_hangs_is_killed_with_what_it_started() {
    let place = Place::new();
    let pids = place.path("pids");
    // Its child would hold the streams open for longer than any test.
    place.plugin("slow", &format!("ADD) sleep 1000 & echo $! > {}; wait;;", pids.display()));
    place.list("1.0.0", &json!({}), &[json!({"type": "slow"})]);
    let cni = Cni::load(Options {
        timeout: Duration::from_secs(1),
        ..place.options()
    })
    .unwrap()
    .unwrap();
    let error = add(&cni).unwrap_err().to_string();
    assert_eq!(
        error,
        "the CNI plugin slow of the network net-1 did not answer ADD within 1 s and was killed"
    );
    let pid = fs::read_to_string(pids).unwrap();
    let state = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    assert!(state.is_empty() || state.contains(") Z"), "{state}");
    assert_eq!(place.verbs(), ["slow ADD", "slow DEL"]);
    // One that leaves a child behind on purpose, with its streams, is not waited for.
    place.plugin(
        "slow",
        &format!(
            "ADD) sleep 1000 & echo $! > {}; cat <<'E'\n{ANSWER}\nE\n;;",
            place.path("pids").display()
        ),
    );
    let cni = Cni::load(Options {
        timeout: Duration::from_secs(60),
        ..place.options()
    })
    .unwrap()
    .unwrap();
    add(&cni).unwrap();
    let pid: i32 = fs::read_to_string(place.path("pids")).unwrap().trim().parse().unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL).unwrap();
}

#[test]
fn plugins_that_cannot_be_run() {
    let place = Place::new();
    place.plugin("good", &answers(ANSWER));
    place.list("1.0.0", &json!({}), &[json!({"type": "good"}), json!({"type": "gone"})]);
    let cni = place.cni();
    let error = add(&cni).unwrap_err().to_string();
    let dirs = format!("{} or {}", place.path("bin").display(), place.path("bin2").display());
    // Nothing was called, for half a chain would only have to be taken back.
    assert_eq!(
        error,
        format!("the CNI plugin gone of the network net-1 is not installed: no such file in {dirs}")
    );
    assert_eq!(place.verbs(), [""; 0]);
    assert_eq!(place.cached(), [""; 0]);
    assert!(cni.status().unwrap_err().to_string().contains("is not installed"));
    // Found in the second directory; not executable; no program.
    let path = place.path("bin2").join("gone");
    for (mode, text, expected) in [
        (0o644, "#!/bin/sh\n", "cannot be executed"),
        (0o755, "\u{7f}", "cannot be executed"),
    ] {
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let error = add(&cni).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("bin2/gone"), "{error}");
    }
    // Taken away while a pod is attached: told, kept, and done once it is back.
    place.plugin("gone", &answers(ANSWER));
    fs::remove_file(&path).unwrap();
    cni.del(POD.id, None).unwrap();
    add(&cni).unwrap();
    fs::rename(place.path("bin/gone"), &path).unwrap();
    fs::remove_file(&path).unwrap();
    place.calls();
    assert!(
        cni.del(POD.id, None)
            .unwrap_err()
            .to_string()
            .contains("plugin gone of the network net-1 is not installed")
    );
    assert_eq!((place.verbs(), place.cached().len()), (vec!["good DEL".to_owned()], 1));
    place.plugin("gone", "");
    cni.del(POD.id, None).unwrap();
    assert_eq!(place.cached(), [""; 0]);
}

#[test]
fn a_clean_up_that_fails_is_told_and_kept() {
    let place = Place::new();
    place.plugin(
        "bad",
        r#"ADD) echo '{"code":11,"msg":"later"}'; exit 1;; DEL) echo '{"code":100,"msg":"stuck"}'; exit 1;;"#,
    );
    place.list("1.1.0", &json!({}), &[json!({"type": "bad"})]);
    let cni = place.cni();
    let error = add(&cni).unwrap_err();
    assert_eq!(error.code(), Some(11));
    assert_eq!(
        error.to_string(),
        "the CNI plugin bad of the network net-1 refused ADD with code 11 (try again later): later; and its clean-up, which is tried again when the pod is removed, failed too: the CNI plugin bad of the network net-1 refused DEL with code 100: stuck"
    );
    assert_eq!(cni.attached().unwrap(), [POD.id]);
    assert!(cni.del(POD.id, None).is_err());
    place.plugin("bad", "DEL) ;;");
    cni.del(POD.id, None).unwrap();
    assert_eq!(cni.attached().unwrap(), [""; 0]);
}

#[test]
fn what_no_plugin_declares_is_refused_before_anything_is_called() {
    let place = Place::new();
    place.plugin("one", &answers(ANSWER));
    place.list(
        "1.0.0",
        &json!({}),
        &[json!({"type": "one", "capabilities": {"portMappings": false}})],
    );
    let ports = Capabilities {
        port_mappings: vec![PortMapping {
            host_port: 1,
            container_port: 1,
            protocol: "udp",
            host_ip: Some("::1".parse().unwrap()),
        }],
        ..Capabilities::default()
    };
    let netns = Path::new("/proc/self/ns/net");
    let error = place.cni().add(&POD, netns, &ports).unwrap_err().to_string();
    assert!(
        error.starts_with("the pod shop/web asks for hostPort, which no plugin of the CNI network net-1 declares"),
        "{error}"
    );
    assert_eq!(place.verbs(), [""; 0]);
    let lenient = Cni::load(Options {
        allow_unmet: true,
        ..place.options()
    })
    .unwrap()
    .unwrap();
    lenient.add(&POD, netns, &ports).unwrap();
    let hint = Capabilities {
        cgroup_path: Some("/x".into()),
        ..Capabilities::default()
    };
    place.cni().add(&POD, netns, &hint).unwrap();
    for (id, name) in [
        ("a-b", "web"),
        ("", "web"),
        ("../x", "web"),
        ("abc", "web;K8S_POD_UID=0"),
        ("abc", "a\nb"),
    ] {
        let pod = PodRef { id, name, ..POD };
        assert!(
            matches!(place.cni().add(&pod, netns, &hint), Err(Error::Word { .. })),
            "{id:?} {name:?}"
        );
    }
}

#[test]
fn versions_are_settled_with_the_plugins() {
    let place = Place::new();
    let answer = ANSWER
        .replace("\"1.0.0\"", "\"0.4.0\"")
        .replace("\"address\"", "\"version\":\"4\",\"address\"");
    let old = r#"VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["0.3.1","0.4.0"]}';;"#;
    place.plugin("old", &format!("ADD) cat <<'E'\n{answer}\nE\n;;\n{old}"));
    place.plugin("new", &answers(ANSWER));
    let plugins = [json!({"type": "old"}), json!({"type": "new"})];
    place.list("1.0.0", &json!({"cniVersions": ["0.4.0", "1.1.0", "9.9.9"]}), &plugins);
    let cni = place.cni();
    assert_eq!(cni.version().unwrap(), Version::V0_4_0);
    add(&cni).unwrap();
    let calls = place.calls();
    let given = &calls.last().unwrap().2;
    assert_eq!(
        (&given["cniVersion"], &given["prevResult"]["cniVersion"]),
        (&json!("0.4.0"), &json!("0.4.0"))
    );
    assert_eq!(given["prevResult"]["ips"][0]["version"], "4");
    // The version stays that of the attachment.
    place.list("1.1.0", &json!({}), &plugins);
    place.cni().del(POD.id, None).unwrap();
    assert!(place.calls().iter().all(|c| c.2["cniVersion"] == "0.4.0"));

    let error = place.cni().status().unwrap_err().to_string();
    assert_eq!(
        error,
        "no cniVersion of the network net-1 (1.1.0) is known to all its plugins: old knows 0.3.1, 0.4.0"
    );
    // Before VERSION, plugins refused it.
    place.plugin("old", r#"VERSION) echo '{"code":4,"msg":"unknown CNI_COMMAND"}'; exit 1;;"#);
    assert!(place.cni().status().unwrap_err().to_string().ends_with("old knows 0.1.0"));
    place.list("0.3.1", &json!({}), &[json!({"type": "new"})]);
    let cni = place.cni();
    cni.status().unwrap();
    add(&cni).unwrap();
    assert_eq!(cni.check(POD.id, Path::new("/")).unwrap(), Check::Unsupported);
    place.calls();
    cni.del(POD.id, None).unwrap();
    assert_eq!(place.calls()[0].2["prevResult"], Value::Null, "DEL has known results since 0.4.0");
}

#[test]
fn status_and_garbage_collection_of_1_1_0() {
    let place = Place::new();
    let cases = format!(
        "{}\nSTATUS) if [ -e {} ]; then echo '{{\"code\":50,\"msg\":\"no daemon\"}}'; exit 1; fi;;",
        answers(ANSWER),
        place.path("down").display()
    );
    place.plugin("one", &cases);
    place.list("1.1.0", &json!({}), &[json!({"type": "one"})]);
    let cni = place.cni();
    cni.status().unwrap();
    fs::write(place.path("down"), "").unwrap();
    let error = cni.status().unwrap_err();
    assert_eq!(error.code(), Some(50));
    assert_eq!(
        error.to_string(),
        "the CNI plugin one of the network net-1 refused STATUS with code 50 (not available): no daemon"
    );

    let other = PodRef { id: "feed", ..POD };
    add(&cni).unwrap();
    cni.add(&other, Path::new("/proc/self/ns/net"), &Capabilities::default()).unwrap();
    place.calls();
    let valid = || BTreeSet::from([POD.id.to_owned()]);
    assert!(cni.gc(valid).unwrap());
    let calls = place.calls();
    assert_eq!(calls.iter().map(|c| c.0.as_str()).collect::<Vec<_>>(), ["one DEL", "one GC"]);
    assert!(calls[0].1.starts_with("id=feed ns= "), "{}", calls[0].1);
    let told = json!([{"containerID": POD.id, "ifname": "eth0"}]);
    assert_eq!(
        (&calls[1].2["cni.dev/valid-attachments"], &calls[1].2["cni.dev/attachments"]),
        (&told, &told)
    );
    assert_eq!(cni.attached().unwrap(), [POD.id]);

    place.list(
        "1.1.0",
        &json!({"disableGC": "True", "disableCheck": true}),
        &[json!({"type": "one"})],
    );
    let cni = place.cni();
    assert!(cni.gc(valid).unwrap());
    assert_eq!(place.verbs(), [""; 0]);
    add(&cni).unwrap();
    assert_eq!(
        place.verbs(),
        ["one DEL", "one ADD"],
        "an attachment that was there is taken off first"
    );
    assert_eq!(cni.check(POD.id, Path::new("/")).unwrap(), Check::Disabled);
    assert_eq!(cni.check("none", Path::new("/")).unwrap(), Check::NotAttached);
    // What was written when somebody was killed half way is enough to take it off.
    let path = place.path("cache/results/net-1-0123456789abcdef-eth0");
    let mut entry: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    entry.as_object_mut().unwrap().shift_remove("result");
    fs::write(&path, entry.to_string()).unwrap();
    assert_eq!(cni.check(POD.id, Path::new("/")).unwrap(), Check::NotAttached);
    place.calls();
    cni.gc(BTreeSet::new).unwrap();
    assert_eq!(place.verbs(), ["one DEL"]);
    // One that cannot be read is taken off by the configuration of today.
    fs::write(&path, "{").unwrap();
    cni.del(POD.id, None).unwrap();
    assert_eq!(place.verbs(), ["one DEL"]);
    fs::write(&path, "{").unwrap();
    fs::remove_file(place.path("net.d/10-test.conflist")).unwrap();
    assert!(
        Cni::open(place.options())
            .unwrap()
            .del(POD.id, None)
            .unwrap_err()
            .to_string()
            .contains("records an attachment")
    );
    assert!(path.exists());
}

#[test]
fn collection_waits_for_nobody_who_adds() {
    let place = Place::new();
    let (begun, go) = (place.path("begun"), place.path("go"));
    let wait = format!(
        "ADD) touch {}; while [ ! -e {} ]; do sleep 0.01; done; cat <<'E'\n{ANSWER}\nE\n;;",
        begun.display(),
        go.display()
    );
    place.plugin("one", &wait);
    place.list("1.1.0", &json!({}), &[json!({"type": "one"})]);
    let cni = place.cni();
    std::thread::scope(|scope| {
        let adding = scope.spawn(|| add(&cni));
        while !begun.exists() {
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(!place.cni().gc(|| panic!("asked too early")).unwrap());
        fs::write(&go, "").unwrap();
        adding.join().unwrap().unwrap();
    });
    assert!(cni.gc(|| BTreeSet::from([POD.id.to_owned()])).unwrap());
    assert_eq!(place.verbs(), ["one ADD", "one GC"]);
}
