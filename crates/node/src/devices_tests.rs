#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use serde_json::{Value, json};

const GPU: &str = "nvidia.com/gpu";

fn pod(uid: &str, annotations: Value, init: Value, containers: Value) -> Pod {
    let pod = json!({"metadata": {"name": "p", "uid": uid, "annotations": annotations}, "spec": {"initContainers": init, "containers": containers}});
    serde_json::from_value(pod).unwrap()
}

/// A folder with that of pod `u`, and that of another pod, which has these devices.
fn root(busy: &[&str]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for uid in ["u", "v", "other", "none"] {
        std::fs::create_dir(root.path().join(uid)).unwrap();
    }
    std::fs::write(root.path().join("file"), "").unwrap();
    std::fs::write(root.path().join("other").join(FILE), busy.join("\n")).unwrap();
    root
}

fn wants(name: &str, gpus: u32) -> Value {
    json!({"name": name, "resources": {"limits": {GPU: gpus, "cpu": 1, "kubernetes.io/x": 7}}})
}

fn machine(gpus: usize) -> BTreeMap<String, Vec<String>> {
    let names = std::iter::once("all".to_owned())
        .filter(|_| gpus > 0)
        .chain((0..gpus).map(|n| n.to_string()));
    BTreeMap::from([(GPU.to_owned(), names.collect())])
}

fn text(claim: &Devices) -> String {
    claim
        .containers
        .iter()
        .map(|(c, names)| format!("{c}:{}", names.join(",").replace("nvidia.com/gpu=", "")))
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn devices_are_chosen_and_none_twice() {
    let sidecar = |gpus| {
        let mut sidecar = wants("s", gpus);
        sidecar["restartPolicy"] = json!("Always");
        sidecar
    };
    let rows = [
        ("none", json!([]), json!([{"name": "a"}]), &[][..], Ok("")),
        ("two of three", json!([]), json!([wants("a", 1), wants("b", 1)]), &[], Ok("a:0 b:1")),
        (
            "what others have is left",
            json!([]),
            json!([wants("a", 2)]),
            &["nvidia.com/gpu=0"],
            Ok("a:1,2"),
        ),
        (
            "an init container has those of later ones",
            json!([wants("i", 2)]),
            json!([wants("a", 1), wants("b", 2)]),
            &[],
            Ok("a:0 b:1,2 i:0,1"),
        ),
        (
            "but not those of a sidecar",
            json!([sidecar(1), wants("i", 2)]),
            json!([wants("a", 1)]),
            &[],
            Ok("a:1 i:1,2 s:0"),
        ),
        (
            "who has all leaves none",
            json!([]),
            json!([wants("a", 1)]),
            &["nvidia.com/gpu=all"],
            Err("Insufficient nvidia.com/gpu: the containers of pod \"p\" ask for 1, and of the 3 on this machine 3 are in use"),
        ),
        (
            "too many",
            json!([]),
            json!([wants("a", 2), wants("b", 1)]),
            &["nvidia.com/gpu=1", "other.com/x=1"],
            Err("Insufficient nvidia.com/gpu: the containers of pod \"p\" ask for 3, and of the 3 on this machine 1 are in use"),
        ),
    ];
    for (what, init, containers, busy, expected) in rows {
        let root = root(busy);
        let found = claim(&pod("u", json!({}), init, containers), &machine(3), root.path());
        let told = found.as_ref().map(text).map_err(String::as_str);
        assert_eq!(told, expected.map(str::to_owned), "{what}");
        let is_written = found.is_ok_and(|devices| !devices.mine.is_empty());
        assert_eq!(
            root.path().join("u").join(FILE).exists(),
            is_written,
            "{what}: only what was given is held"
        );
    }
}

#[test]
fn devices_are_a_pods_as_long_as_its_folder_is_there() {
    let root = root(&[]);
    let one = |uid: &str| claim(&pod(uid, json!({}), json!([]), json!([wants("a", 1)])), &machine(1), root.path());
    assert_eq!(one("u").unwrap().of("a"), ["nvidia.com/gpu=0"]);
    assert!(one("v").unwrap_err().starts_with("Insufficient nvidia.com/gpu"));
    std::fs::remove_dir_all(root.path().join("u")).unwrap();
    assert_eq!(one("v").unwrap().of("a"), ["nvidia.com/gpu=0"]);
    let err = claim(
        &pod("none", json!({}), json!([]), json!([wants("a", 1)])),
        &BTreeMap::new(),
        root.path(),
    )
    .unwrap_err();
    assert!(err.contains("no CDI specification on this machine describes any"), "{err}");
}

#[test]
fn many_at_once_get_different_devices() {
    let root = root(&[]);
    let all: BTreeSet<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..16)
            .map(|n| {
                let root = root.path();
                scope.spawn(move || {
                    std::fs::create_dir(root.join(format!("t{n}"))).unwrap();
                    claim(
                        &pod(&format!("t{n}"), json!({}), json!([]), json!([wants("a", 1)])),
                        &machine(16),
                        root,
                    )
                    .unwrap()
                    .of("a")
                    .remove(0)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(all.len(), 16);
}

#[test]
fn annotations_name_devices() {
    let root = self::root(&[]);
    let ask = |annotations| claim(&pod("u", annotations, json!([]), json!([{"name": "a"}])), &machine(0), root.path());
    let named = ask(
        json!({"cdi.k8s.io/x": "nvidia.com/gpu=all,v.com/net-1=a:b", "cdi.k8s.io/y": "nvidia.com/gpu=all", "io.kubernetes.cri-o.Devices": "/dev/kvm"}),
    );
    assert_eq!(named.unwrap().of("a"), ["nvidia.com/gpu=all", "v.com/net-1=a:b"]);
    for bad in [
        "",
        "gpu",
        "nvidia.com/gpu",
        "nvidia.com/gpu=",
        "/gpu=0",
        "v.com/gpu=../x",
        "v.com/gpu=a/b",
        "1.com/gpu=0",
        "v.com/gpu=a,",
    ] {
        let err = ask(json!({"cdi.k8s.io/x": bad})).unwrap_err();
        assert!(err.contains("is not a CDI device"), "{bad}: {err}");
    }
    let root = self::root(&[]);
    let both = claim(
        &pod("v", json!({"cdi.k8s.io/x": "nvidia.com/gpu=0"}), json!([]), json!([wants("a", 1)])),
        &machine(2),
        root.path(),
    );
    assert_eq!(
        both.unwrap().of("a"),
        ["nvidia.com/gpu=0", "nvidia.com/gpu=1"],
        "what is named is not chosen again"
    );
}
