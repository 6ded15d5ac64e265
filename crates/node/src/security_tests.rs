#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use serde_json::{Value, json};

fn of(root: &Path, spec: Value, own: Value, annotations: Value) -> Result<Security, String> {
    let mut spec = spec;
    spec["containers"] = json!([{"name": "c", "securityContext": own}]);
    let pod: Pod = serde_json::from_value(json!({"metadata": {"name": "p", "annotations": annotations}, "spec": spec})).unwrap();
    security(&pod, &pod.spec.containers[0], root)
}

/// The settings of a container, with those of its pod.
fn merged(pod: Value, own: Value) -> Result<Security, String> {
    of(Path::new("/none"), json!({"securityContext": pod}), own, json!({}))
}

#[test]
fn the_containers_settings_win() {
    let base = Security::default();
    let selinux = |level: &str| serde_json::from_value(json!({"level": level})).unwrap();
    let rows = vec![
        ("nothing", json!({}), json!({}), base.clone()),
        (
            "the pod's",
            json!({"runAsUser": 1, "runAsGroup": 2, "runAsNonRoot": true, "supplementalGroupsPolicy": "Strict"}),
            json!({}),
            Security {
                run_as_user: Some(1),
                run_as_group: Some(2),
                run_as_non_root: true,
                strict_groups: true,
                ..base.clone()
            },
        ),
        (
            "the container's",
            json!({"runAsUser": 1, "runAsGroup": 2, "runAsNonRoot": true, "supplementalGroupsPolicy": "Merge"}),
            json!({"runAsUser": 3, "runAsGroup": 4, "runAsNonRoot": false}),
            Security {
                run_as_user: Some(3),
                run_as_group: Some(4),
                ..base.clone()
            },
        ),
        (
            "fsGroup is a group of the processes",
            json!({"supplementalGroups": [5, 6], "fsGroup": 7}),
            json!({}),
            Security {
                supplemental_groups: vec![5, 6, 7],
                ..base.clone()
            },
        ),
        (
            "no escalation",
            json!({}),
            json!({"allowPrivilegeEscalation": false}),
            Security {
                no_new_privs: true,
                ..base.clone()
            },
        ),
        ("escalation", json!({}), json!({"allowPrivilegeEscalation": true}), base.clone()),
        (
            "privileged: no profile at all",
            json!({"seccompProfile": {"type": "RuntimeDefault"}, "appArmorProfile": {"type": "RuntimeDefault"}}),
            json!({"privileged": true, "readOnlyRootFilesystem": true}),
            Security {
                privileged: true,
                readonly_rootfs: true,
                seccomp_named: true,
                apparmor: Some(Profile::Unconfined),
                ..base.clone()
            },
        ),
        (
            "privileged: a profile that is named stays",
            json!({"appArmorProfile": {"type": "Localhost", "localhostProfile": "x"}}),
            json!({"privileged": true}),
            Security {
                privileged: true,
                apparmor: Some(Profile::Localhost("x".into())),
                ..base.clone()
            },
        ),
        (
            "capabilities",
            json!({}),
            json!({"capabilities": {"add": ["NET_ADMIN"], "drop": ["ALL"]}}),
            Security {
                add_capabilities: vec!["NET_ADMIN".into()],
                drop_capabilities: vec!["ALL".into()],
                ..base.clone()
            },
        ),
        (
            "SELinux of the pod",
            json!({"seLinuxOptions": {"level": "s0"}}),
            json!({}),
            Security {
                selinux: Some(selinux("s0")),
                ..base.clone()
            },
        ),
        (
            "SELinux of the container, as a whole",
            json!({"seLinuxOptions": {"user": "u", "level": "s0"}}),
            json!({"seLinuxOptions": {"level": "s1"}}),
            Security {
                selinux: Some(selinux("s1")),
                ..base.clone()
            },
        ),
        (
            "seccomp of the pod",
            json!({"seccompProfile": {"type": "RuntimeDefault"}}),
            json!({}),
            Security {
                seccomp: Profile::RuntimeDefault,
                seccomp_named: true,
                ..base.clone()
            },
        ),
        (
            "seccomp of the container",
            json!({"seccompProfile": {"type": "RuntimeDefault"}}),
            json!({"seccompProfile": {"type": "Unconfined"}}),
            Security {
                seccomp_named: true,
                ..base.clone()
            },
        ),
        ("the default /proc", json!({}), json!({"procMount": "Default"}), base),
    ];
    for (what, pod, own, expected) in rows {
        assert_eq!(merged(pod, own), Ok(expected), "{what}");
    }
}

#[test]
fn what_is_wrong_is_refused() {
    let rows = [
        (
            json!({"runAsNonRoot": true}),
            json!({"runAsUser": 0}),
            "container's runAsUser breaks non-root policy (pod: \"p_default()\", container: c)",
        ),
        (
            json!({"supplementalGroupsPolicy": "x"}),
            json!({}),
            "supplementalGroupsPolicy \"x\" is unknown; use Merge or Strict",
        ),
        (
            json!({}),
            json!({"procMount": "x"}),
            "procMount \"x\" is unknown; use Default or Unmasked",
        ),
        (
            json!({}),
            json!({"procMount": "Unmasked"}),
            "procMount: `hostUsers` must be false to use `Unmasked`",
        ),
        (
            json!({"seccompProfile": {"type": "x"}}),
            json!({}),
            "seccompProfile type \"x\" is unknown; use Localhost, RuntimeDefault or Unconfined",
        ),
        (
            json!({"seccompProfile": {"type": "Localhost"}}),
            json!({}),
            "localhostProfile must be set if seccompProfile type is Localhost",
        ),
        (
            json!({}),
            json!({"privileged": true, "seccompProfile": {"type": "RuntimeDefault", "localhostProfile": "x"}}),
            "seccompProfile: localhostProfile can only be set if type is Localhost, not RuntimeDefault",
        ),
        (
            json!({"appArmorProfile": {"type": "x"}}),
            json!({}),
            "appArmorProfile type \"x\" is unknown; use Localhost, RuntimeDefault or Unconfined",
        ),
        (
            json!({"appArmorProfile": {"type": "Localhost"}}),
            json!({}),
            "appArmorProfile: localhostProfile must be set if type is Localhost",
        ),
        (
            json!({"appArmorProfile": {"type": "Localhost", "localhostProfile": " x"}}),
            json!({}),
            "AppArmor profile \" x\" must be a name of 1 to 4095 characters without blanks around it",
        ),
    ];
    for (pod, own, expected) in rows {
        assert_eq!(merged(pod, own).unwrap_err(), expected);
    }
    let spec = json!({"hostUsers": false});
    assert!(
        of(Path::new("/none"), spec, json!({"procMount": "Unmasked"}), json!({}))
            .unwrap()
            .unmasked_proc
    );
}

#[test]
fn app_armor_by_field_and_annotation() {
    let local = |name: &str| Some(Profile::Localhost(name.to_owned()));
    let field = |name: &str| json!({"appArmorProfile": {"type": "Localhost", "localhostProfile": name}});
    let annotation = |text: &str| json!({"container.apparmor.security.beta.kubernetes.io/c": text});
    let rows = [
        ("none", json!({}), json!({}), json!({}), Ok(None)),
        ("the pod's", field("pod"), json!({}), json!({}), Ok(local("pod"))),
        (
            "the annotation before the pod's",
            field("pod"),
            json!({}),
            annotation("localhost/note"),
            Ok(local("note")),
        ),
        (
            "the container's before all",
            field("pod"),
            field("own"),
            annotation("localhost/note"),
            Ok(local("own")),
        ),
        (
            "default",
            json!({}),
            json!({}),
            annotation("runtime/default"),
            Ok(Some(Profile::RuntimeDefault)),
        ),
        (
            "unconfined",
            json!({}),
            json!({}),
            annotation("unconfined"),
            Ok(Some(Profile::Unconfined)),
        ),
        (
            "another container's",
            json!({}),
            json!({}),
            json!({"container.apparmor.security.beta.kubernetes.io/d": "localhost/x"}),
            Ok(None),
        ),
        (
            "wrong",
            json!({}),
            json!({}),
            annotation("x"),
            Err("invalid AppArmor profile name: \"x\"; use runtime/default, unconfined or localhost/NAME"),
        ),
        (
            "no name",
            json!({}),
            json!({}),
            annotation("localhost/"),
            Err("AppArmor profile \"\" must be a name of 1 to 4095 characters without blanks around it"),
        ),
    ];
    for (what, pod, own, annotations, expected) in rows {
        let found = of(Path::new("/none"), json!({"securityContext": pod}), own, annotations).map(|s| s.apparmor);
        assert_eq!(found, expected.map_err(str::to_owned), "{what}");
    }
}

#[test]
fn seccomp_profiles_are_files_of_their_folder() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("seccomp");
    std::fs::create_dir_all(root.join("profiles")).unwrap();
    std::fs::create_dir(root.join("folder.json")).unwrap();
    std::fs::write(root.join("profiles/good.json"), r#"{"defaultAction": "SCMP_ACT_ERRNO"}"#).unwrap();
    std::fs::write(root.join("list.json"), "[]").unwrap();
    std::fs::write(root.join("bad.json"), "{").unwrap();
    std::fs::write(root.join("big.json"), format!("{{\"a\": \"{}\"}}", "x".repeat(1 << 20))).unwrap();
    std::fs::write(dir.path().join("outside.json"), "{}").unwrap();
    std::os::unix::fs::symlink("profiles/good.json", root.join("link.json")).unwrap();
    std::os::unix::fs::symlink("../outside.json", root.join("out.json")).unwrap();
    std::os::unix::fs::symlink(dir.path().join("outside.json"), root.join("abs.json")).unwrap();
    for (name, expected) in [
        ("profiles/good.json", Ok(())),
        ("link.json", Ok(())),
        ("none.json", Err("it does not exist; put the profile there")),
        ("../outside.json", Err("localhostProfile must be a relative path without '..'")),
        ("/etc/passwd", Err("localhostProfile must be a relative path without '..'")),
        (
            "out.json",
            Err("a link leads out of the folder of profiles; put the profile itself there"),
        ),
        (
            "abs.json",
            Err("a link leads out of the folder of profiles; put the profile itself there"),
        ),
        ("folder.json", Err("it is not a regular file")),
        ("list.json", Err("it is not a JSON object in the form of Docker's profiles")),
        ("bad.json", Err("it is not JSON: EOF while parsing an object at line 1 column 1")),
        ("big.json", Err("it is larger than 1 MiB")),
    ] {
        let own = json!({"seccompProfile": {"type": "Localhost", "localhostProfile": name}});
        let path = root.join(name).display().to_string();
        let expected = expected
            .map(|()| Profile::Localhost(path.clone()))
            .map_err(|why| format!("cannot load seccomp profile {path:?}: {why}"));
        assert_eq!(of(&root, json!({}), own, json!({})).map(|s| s.seccomp), expected, "{name}");
    }
}
