//! Volumes that hold files of objects and of the pod.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;

/// Every file that is seen under `dir` as `path=text mode`.
fn listing(dir: &Path, prefix: &str) -> Vec<String> {
    let mut entries: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    entries.retain(|name| !name.starts_with(".."));
    entries.sort();
    let mut out = Vec::new();
    for entry in entries {
        let (name, path) = (format!("{prefix}{entry}"), dir.join(&entry));
        let meta = path.metadata().unwrap();
        if meta.is_dir() {
            out.extend(listing(&path, &format!("{name}/")));
        } else {
            out.push(format!(
                "{name}={} {:o}",
                std::fs::read(&path).unwrap().escape_ascii(),
                meta.permissions().mode() & 0o7777
            ));
        }
    }
    out
}

#[test]
fn files_of_config_maps_and_secrets() {
    let cm = |rest: Value| {
        let mut source = rest;
        source["name"] = json!(source.get("name").and_then(Value::as_str).unwrap_or("cm"));
        json!({"configMap": source})
    };
    let secret = |rest: Value| {
        let mut source = rest;
        source["secretName"] = json!(source.get("secretName").and_then(Value::as_str).unwrap_or("s"));
        json!({"secret": source})
    };
    type Row<'a> = (&'a str, Value, Result<&'a [&'a str], &'a str>);
    let rows: Vec<Row<'_>> = vec![
        ("all keys", cm(json!({})), Ok(&["a=1 644", "b=2 644", "bin=\\xff 644"])),
        (
            "default mode",
            cm(json!({"defaultMode": 0o400})),
            Ok(&["a=1 400", "b=2 400", "bin=\\xff 400"]),
        ),
        (
            "items",
            cm(json!({"items": [{"key": "a", "path": "x/y"}, {"key": "b", "path": "z", "mode": 0o600}]})),
            Ok(&["x/y=1 644", "z=2 600"]),
        ),
        (
            "the later item of a path stands",
            cm(json!({"items": [{"key": "a", "path": "x"}, {"key": "b", "path": "x"}]})),
            Ok(&["x=2 644"]),
        ),
        ("missing", cm(json!({"name": "none"})), Err("configmap \"none\" not found")),
        ("optional and missing", cm(json!({"name": "none", "optional": true})), Ok(&[])),
        (
            "missing key",
            cm(json!({"items": [{"key": "q", "path": "x"}]})),
            Err("configmap references non-existent config key: q"),
        ),
        (
            "optional key",
            cm(json!({"optional": true, "items": [{"key": "q", "path": "x"}]})),
            Ok(&[]),
        ),
        (
            "path that leaves",
            cm(json!({"items": [{"key": "a", "path": "x/../../y"}]})),
            Err("path \"x/../../y\" must not contain '..'"),
        ),
        (
            "absolute path",
            cm(json!({"items": [{"key": "a", "path": "/y"}]})),
            Err("path \"/y\" must be a relative path"),
        ),
        (
            "key that leaves",
            cm(json!({"name": "evil"})),
            Err("key \"../x\" cannot be used as a file name: use 1 to 253 letters, digits, '-', '_' or '.', not beginning with '..'"),
        ),
        (
            "mode",
            cm(json!({"defaultMode": 0o1777})),
            Err("the mode of key \"a\" must be between 0 and 0777 (octal)"),
        ),
        ("secret", secret(json!({})), Ok(&["k=hunter2 644"])),
        ("secret mode", secret(json!({"defaultMode": 0o400})), Ok(&["k=hunter2 400"])),
        (
            "missing secret",
            secret(json!({"secretName": "none"})),
            Err("secret \"none\" not found"),
        ),
        (
            "missing secret key",
            secret(json!({"items": [{"key": "q", "path": "x"}]})),
            Err("references non-existent secret key: q"),
        ),
    ];
    for (what, volume, expected) in rows {
        let fixture = fixture();
        match prepare(&fixture, volume) {
            Ok(volumes) => {
                let mount = mount(&volumes, json!({"mountPath": "/m"})).unwrap();
                assert!(mount.readonly, "{what}: always read-only");
                assert_eq!(
                    listing(&mount.host_path, ""),
                    expected.unwrap_or_else(|e| panic!("{what}: expected {e}")),
                    "{what}"
                );
                volumes.remove().unwrap();
            }
            Err(err) => {
                assert_eq!(
                    err.0,
                    format!("MountVolume.SetUp failed for volume \"v\" : {}", expected.unwrap_err()),
                    "{what}"
                );
            }
        }
        assert!(!fixture.dirs.volumes.join("u1").exists(), "{what}: nothing stays");
        assert!(!fixture.dirs.secrets.join("u1").exists(), "{what}: nothing stays");
    }
}

#[test]
fn secrets_stay_in_their_own_root_for_the_owner_only() {
    let fixture = fixture();
    let volumes = prepare(&fixture, json!({"secret": {"secretName": "s"}})).unwrap();
    let mount = mount(&volumes, json!({"mountPath": "/m"})).unwrap();
    assert_eq!(mount.host_path, fixture.dirs.secrets.join("u1/v"));
    assert_eq!(mode(&fixture.dirs.secrets.join("u1")), 0o700);
}

#[test]
fn files_of_fields_and_of_several_sources() {
    let field = |path: &str, field: &str| json!({"path": path, "fieldRef": {"fieldPath": field}});
    let resource = |rest: Value| json!({"items": [{"path": "r", "resourceFieldRef": rest}]});
    let down = |items: Value| json!({"downwardAPI": {"items": items}});
    let projected = |sources: Value| json!({"projected": {"sources": sources}});
    let cm = |items: Value| json!({"configMap": {"name": "cm", "items": items}});
    type Row<'a> = (&'a str, Value, Result<&'a [&'a str], &'a str>);
    let rows: Vec<Row<'_>> = vec![
        ("a field", down(json!([field("d/name", "metadata.name")])), Ok(&["d/name=p 644"])),
        (
            "labels, escaped and sorted",
            down(json!([field("l", "metadata.labels")])),
            Ok(&[r#"l=a=\"1\"\nz=\"q\\\"\\n\" 644"#]),
        ),
        ("one label", down(json!([field("l", "metadata.labels['a']")])), Ok(&["l=1 644"])),
        (
            "a mode",
            json!({"downwardAPI": {"defaultMode": 0o440, "items": [{"path": "u", "mode": 0o400, "fieldRef": {"fieldPath": "metadata.uid"}}, field("n", "metadata.namespace")]}}),
            Ok(&["n=default 440", "u=u1 400"]),
        ),
        (
            "a resource",
            json!({"downwardAPI": resource(json!({"containerName": "c", "resource": "limits.cpu", "divisor": "1m"}))}),
            Ok(&["r=250 644"]),
        ),
        (
            "what has no limit has the machine's",
            json!({"downwardAPI": resource(json!({"containerName": "c", "resource": "limits.memory"}))}),
            Ok(&["r=8589934592 644"]),
        ),
        (
            "of which container?",
            json!({"downwardAPI": resource(json!({"resource": "limits.cpu"}))}),
            Err("file \"r\": resourceFieldRef must name a container; set containerName"),
        ),
        (
            "of no container",
            json!({"downwardAPI": resource(json!({"containerName": "x", "resource": "limits.cpu"}))}),
            Err("container x not found"),
        ),
        (
            "of the status",
            down(json!([field("x", "status.podIP")])),
            Err("unsupported fieldPath: status.podIP"),
        ),
        (
            "of nothing",
            down(json!([{"path": "x"}])),
            Err("file \"x\" needs exactly one of fieldRef and resourceFieldRef"),
        ),
        (
            "out of the volume",
            down(json!([field("../x", "metadata.name")])),
            Err("path \"../x\" must not contain '..'"),
        ),
        (
            "reserved",
            down(json!([field("..data", "metadata.name")])),
            Err("path \"..data\" must not start with '..', and must name a file"),
        ),
        ("no sources", projected(json!([])), Ok(&[])),
        (
            "all sources",
            json!({"projected": {"defaultMode": 0o400, "sources": [cm(json!([{"key": "a", "path": "x/a", "mode": 0o444}])), {"secret": {"name": "s"}}, down(json!([field("x/n", "metadata.name")]))]}}),
            Ok(&["k=hunter2 400", "x/a=1 444", "x/n=p 400"]),
        ),
        (
            "of whole objects the later stands",
            projected(json!([cm(json!([])), down(json!([field("a", "metadata.name")]))])),
            Ok(&["a=p 644", "b=2 644", "bin=\\xff 644"]),
        ),
        (
            "one path twice",
            projected(json!([
                cm(json!([{"key": "a", "path": "x"}])),
                down(json!([field("./x", "metadata.name")]))
            ])),
            Err("conflicting duplicate paths: \"./x\"; give each file a path of its own"),
        ),
        (
            "a file and a folder",
            projected(json!([
                cm(json!([{"key": "a", "path": "x"}])),
                down(json!([field("x/y", "metadata.name")]))
            ])),
            Err("conflicting paths: \"x/y\" and the file \"x\"; give each file a path of its own"),
        ),
        (
            "optional",
            projected(json!([{"secret": {"name": "none", "optional": true}}, {"configMap": {"name": "none", "optional": true}}])),
            Ok(&[]),
        ),
        (
            "missing",
            projected(json!([{"secret": {"name": "none"}}])),
            Err("secret \"none\" not found"),
        ),
        (
            "two in one",
            projected(json!([{"secret": {"name": "s"}, "configMap": {"name": "cm"}}])),
            Err("a source of a projected volume needs exactly one of configMap, secret and downwardAPI"),
        ),
    ];
    for (what, volume, expected) in rows {
        let fixture = fixture();
        let mut volume = volume;
        volume["name"] = json!("v");
        let pod = json!({
            "metadata": {"name": "p", "uid": "u1", "labels": {"z": "q\"\n", "a": "1"}},
            "spec": {"volumes": [volume], "containers": [{"name": "c", "resources": {"limits": {"cpu": "250m"}}}]},
        });
        match make(&fixture, &serde_json::from_value(pod).unwrap(), true) {
            Ok(volumes) => {
                let mount = mount(&volumes, json!({"mountPath": "/m"})).unwrap();
                assert!(mount.readonly, "{what}: always read-only");
                assert_eq!(
                    listing(&mount.host_path, ""),
                    expected.unwrap_or_else(|e| panic!("{what}: expected {e}")),
                    "{what}"
                );
                assert_eq!(
                    mount.host_path.starts_with(&fixture.dirs.secrets),
                    fixture.dirs.secrets.join("u1/v").exists(),
                    "{what}: secrets stay in their root"
                );
            }
            Err(err) => assert_eq!(
                err.0,
                format!("MountVolume.SetUp failed for volume \"v\" : {}", expected.unwrap_err()),
                "{what}"
            ),
        }
    }
}

#[test]
fn files_could_change_at_once() {
    let fixture = fixture();
    let volumes = prepare(
        &fixture,
        json!({"configMap": {"name": "cm", "items": [{"key": "a", "path": "x/y"}, {"key": "b", "path": "z"}]}}),
    )
    .unwrap();
    let dir = mount(&volumes, json!({"mountPath": "/m"})).unwrap().host_path;
    let link = |name: &str| std::fs::read_link(dir.join(name)).unwrap().into_os_string().into_string().unwrap();
    assert_eq!((link("x").as_str(), link("z").as_str()), ("..data/x", "..data/z"));
    let stamp = link("..data");
    assert!(stamp.starts_with("..20") && dir.join(&stamp).is_dir(), "{stamp}");
    assert_eq!(
        (mode(&dir), mode(&dir.join(&stamp)), mode(&dir.join(&stamp).join("x"))),
        (0o755, 0o755, 0o755)
    );
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 4, "and nothing else");
    let within = mount(&volumes, json!({"mountPath": "/m", "subPath": "x/y"})).unwrap();
    assert_eq!((within.host_path, within.sub_path), (dir, "x/y".into()));
}
