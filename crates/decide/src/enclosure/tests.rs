#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::testing::{object, pod};
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn example(feature: &Feature) -> Pod {
    let text = feature.manifest();
    let value: Value = serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}\n{text}", feature.name));
    object(value)
}

/// Asked for of a running pod.
const LATER: [&str; 3] = ["ephemeral-containers", "exec", "usage"];

#[test]
fn every_example_asks_for_its_feature_and_is_a_pod() {
    let mut names = BTreeSet::new();
    for feature in features() {
        assert!(names.insert(feature.name), "{} stands twice", feature.name);
        let is_plain = feature.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-');
        assert!(is_plain && !feature.description.is_empty(), "{}", feature.name);
        let pod = example(feature);
        assert_eq!(
            feature.asked_for(&pod).is_empty(),
            LATER.contains(&feature.name),
            "{}",
            feature.manifest()
        );
        let admitted = crate::chain::admit_pod(pod, &crate::chain::World::default(), &crate::quota::Used::default());
        assert!(admitted.is_ok(), "{}: {}", feature.name, admitted.unwrap_err());
    }
    assert!(names.len() > 55, "{}", names.len());
}

/// A plain pod asks for what every enclosure does.
#[test]
fn a_plain_pod_is_refused_by_none() {
    let plain = pod(json!({}));
    for feature in features() {
        assert_eq!(feature.asked_for(&plain), [""; 0], "{}", feature.name);
    }
    for enclosure in Enclosure::ALL {
        assert_eq!(refusals(&plain, enclosure), []);
    }
}

#[test]
fn examples_are_refused_as_the_table_says() {
    for feature in features() {
        for enclosure in Enclosure::ALL {
            let pod = example(feature);
            let own: Vec<_> = refusals(&pod, enclosure)
                .into_iter()
                .filter(|r| r.feature == feature.name)
                .collect();
            match feature.verdict(enclosure) {
                Verdict::Works => assert_eq!(own, [], "{}", feature.name),
                Verdict::Refused(sentence) => {
                    assert!(!own.is_empty(), "{}", feature.name);
                    assert!(own.iter().all(|r| r.sentence == sentence), "{own:?}");
                    // Why, and what to do.
                    assert!(sentence.contains("; ") && !sentence.ends_with('.'), "{sentence}");
                }
            }
        }
    }
    assert!(features().all(|f| f.verdict(Enclosure::SharedKernel) == Verdict::Works));
}

#[test]
fn fields_are_told_where_they_are() {
    let of = pod(json!({
        "hostPID": true,
        "securityContext": {"sysctls": [{"name": "net.core.somaxconn", "value": "1"}, {"name": "kernel.sem", "value": "1"}]},
        "volumes": [{"name": "a"}, {"name": "s", "hostPath": {"path": "/run/x", "type": "Socket"}}],
        "initContainers": [{"name": "i", "image": "i", "securityContext": {"seLinuxOptions": {"level": "s0"}}}],
        "containers": [
            {"name": "a", "image": "i"},
            {
                "name": "b",
                "image": "i",
                "resources": {"limits": {"hugepages-2Mi": "2Mi", "cpu": "1"}},
                "volumeMounts": [{"name": "a", "mountPath": "/a"}, {"name": "s", "mountPath": "/s", "mountPropagation": "Bidirectional"}],
            },
        ],
    }));
    let told: Vec<_> = refusals(&of, Enclosure::Gvisor).iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "spec.volumes[1].hostPath: gVisor does not let its containers connect to sockets of the machine; use TCP",
            "spec.containers[1].volumeMounts[1].mountPropagation: gVisor cannot show on the machine what a container mounts; remove mountPropagation: Bidirectional",
            "spec.hostPID: gVisor cannot give a pod the machine's namespaces; remove hostPID",
            "spec.containers[1].resources.limits[hugepages-2Mi]: gVisor has no huge pages; remove hugepages-* and the volumes of medium HugePages",
            "spec.initContainers[0].securityContext.seLinuxOptions: gVisor cannot apply SELinux labels; remove seLinuxOptions",
            "spec.securityContext.sysctls[0]: gVisor has no kernel settings that could be set; remove it from securityContext.sysctls",
            "spec.securityContext.sysctls[1]: gVisor has no kernel settings that could be set; remove it from securityContext.sysctls",
        ]
    );
    assert_eq!(refusals(&of, Enclosure::SharedKernel), []);
    assert_eq!(admit(&of, Enclosure::SharedKernel), Ok(()));
}

#[test]
fn a_refused_pod_is_forbidden() {
    let denied = admit(&pod(json!({"hostNetwork": true, "hostPID": true})), Enclosure::Gvisor).unwrap_err();
    assert_eq!(
        (denied.code(), denied.to_string()),
        (
            403,
            "pods \"p\" is forbidden: [gVisor cannot give a pod the machine's namespaces; remove hostNetwork, gVisor cannot give a pod the machine's namespaces; remove hostPID]".into()
        )
    );
    let fields: Vec<_> = denied.causes().into_iter().map(|c| c.field).collect();
    assert_eq!(fields, ["spec.hostNetwork", "spec.hostPID"]);
}
