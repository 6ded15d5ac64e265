//! Volumes and mounts: one row a rule.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
use common::hold;

fn one(source: &str) -> String {
    format!("volumes: [{{name: v, {source}}}]")
}

/// Rows of a volume's source and the sentence about it.
fn sources(rows: &[(&str, &str)]) {
    for (source, sentence) in rows {
        hold(&[(&one(source), "", sentence)]);
    }
}

#[test]
fn downward_api() {
    sources(&[
        (
            "downwardAPI: {items: [{path: labels, fieldRef: {fieldPath: metadata.labels}}, {path: a/cpu, resourceFieldRef: {containerName: app, resource: limits.cpu, divisor: 1m}, mode: 0400}]}",
            "",
        ),
        (
            "downwardAPI: {items: [{path: pages, resourceFieldRef: {containerName: app, resource: limits.hugepages-2Mi}}]}",
            "",
        ),
        (
            "downwardAPI: {items: [{path: a, fieldRef: {fieldPath: status.podIP}}]}",
            "spec.volumes[0].downwardAPI.items[0].fieldRef.fieldPath is \"status.podIP\", but must be metadata.name, .namespace, .uid, .labels, .labels['KEY'], .annotations or .annotations['KEY']",
        ),
        (
            "downwardAPI: {items: [{path: a}]}",
            "spec.volumes[0].downwardAPI.items[0] must have one of fieldRef, resourceFieldRef",
        ),
        (
            "downwardAPI: {items: [{path: a, fieldRef: {fieldPath: metadata.name}, resourceFieldRef: {containerName: app, resource: limits.cpu}}]}",
            "spec.volumes[0].downwardAPI.items[0].resourceFieldRef cannot stand beside fieldRef; remove one",
        ),
        (
            "downwardAPI: {items: [{path: a, resourceFieldRef: {resource: limits.cpu}}]}",
            "spec.volumes[0].downwardAPI.items[0].resourceFieldRef.containerName is missing; add it",
        ),
        (
            "downwardAPI: {items: [{path: a, resourceFieldRef: {containerName: b, resource: limits.cpu}}]}",
            "spec.volumes[0].downwardAPI.items[0].resourceFieldRef.containerName is \"b\", but the pod has no container of that name",
        ),
        (
            "downwardAPI: {items: [{path: a, resourceFieldRef: {containerName: app, resource: limits.gpu}}]}",
            "spec.volumes[0].downwardAPI.items[0].resourceFieldRef.resource is limits.gpu, but must be one of limits.cpu, limits.memory, limits.ephemeral-storage, requests.cpu, requests.memory, requests.ephemeral-storage; did you mean limits.cpu?",
        ),
        (
            "downwardAPI: {items: [{path: a, fieldRef: {fieldPath: metadata.name}}, {path: ./a, fieldRef: {fieldPath: metadata.uid}}]}",
            "spec.volumes[0].downwardAPI.items[1].path is \"a\" a second time; give each key a path of its own",
        ),
        (
            "downwardAPI: {items: [{path: ..a, fieldRef: {fieldPath: metadata.name}}]}",
            "spec.volumes[0].downwardAPI.items[0].path is \"..a\", but must be a path that does not begin with '/' or '..' and has no '..'",
        ),
    ]);
}

#[test]
fn projected() {
    sources(&[
        (
            "projected: {defaultMode: 0440, sources: [{configMap: {name: c, items: [{key: k, path: k}]}}, {secret: {name: s, optional: true}}, {downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}}]}",
            "",
        ),
        ("projected: {}", ""),
        (
            "projected: {sources: [{}]}",
            "spec.volumes[0].projected.sources[0] must have one of configMap, secret, downwardAPI",
        ),
        (
            "projected: {sources: [{configMap: {name: a}, secret: {name: b}}]}",
            "spec.volumes[0].projected.sources[0].secret cannot stand beside configMap; remove one",
        ),
        (
            "projected: {sources: [{configMap: {name: a, items: [{key: k, path: p}]}}, {secret: {name: b, items: [{key: k, path: p}]}}]}",
            "spec.volumes[0].projected.sources[1].secret.items[0].path is \"p\" a second time; give each key a path of its own",
        ),
        (
            "projected: {sources: [{configMap: {name: a, items: [{key: k, path: p/q}]}}, {secret: {name: b, items: [{key: k, path: p}]}}]}",
            "spec.volumes[0].projected.sources[0].configMap.items[0].path is \"p/q\", but \"p\" is a file; give each key a path of its own",
        ),
        (
            "projected: {sources: [{serviceAccountToken: {path: token}}]}",
            "spec.volumes[0].projected.sources[0].serviceAccountToken is not supported: it takes an API server to issue it; remove this source, or run this pod on a cluster",
        ),
    ]);
}

#[test]
fn images_and_what_is_not_mounted() {
    sources(&[
        ("image: {reference: example.com/a:1, pullPolicy: Never}", ""),
        ("image: {}", "spec.volumes[0].image.reference is missing; add it"),
        (
            "image: {reference: a}, emptyDir: {}",
            "spec.volumes[0].image cannot stand beside emptyDir; remove one",
        ),
        (
            "persistentVolumeClaim: {claimName: c}",
            "spec.volumes[0].persistentVolumeClaim is not supported: there are no persistent volumes on one machine; use hostPath for what shall stay, emptyDir for the rest",
        ),
        (
            "nfs: {server: a, path: /b}",
            "spec.volumes[0].nfs is not supported: storage drivers are not run here; mount it on the machine, and give the place as a hostPath",
        ),
        (
            "gitRepo: {repository: a}",
            "spec.volumes[0].gitRepo is not supported: Kubernetes has switched it off; clone in an init container into an emptyDir",
        ),
    ]);
}

#[test]
fn huge_pages() {
    let two = "resources: {limits: {cpu: 1, hugepages-2Mi: 4Mi}}";
    let both = "resources: {limits: {cpu: 1, hugepages-2Mi: 4Mi, hugepages-1Gi: 1Gi}}";
    let dir = |medium: &str| one(&format!("emptyDir: {{medium: {medium}}}"));
    hold(&[
        (&dir("HugePages"), two, ""),
        (&dir("HugePages-2Mi"), both, ""),
        (
            &dir("HugePages"),
            "",
            "spec.volumes[0].emptyDir.medium is HugePages, but no container has a limit of huge pages; add hugepages-2Mi, or the size that the machine has, to its limits",
        ),
        (
            &dir("HugePages"),
            both,
            "spec.volumes[0].emptyDir.medium is HugePages, but the pod asks for several sizes; name one, as HugePages-2Mi",
        ),
        (
            &dir("HugePages-1Gi"),
            two,
            "spec.volumes[0].emptyDir.medium needs huge pages of this size; add hugepages-1Gi to the limits of a container",
        ),
        (
            &dir("HugePages-x"),
            two,
            "spec.volumes[0].emptyDir.medium must end in a size, as HugePages-2Mi",
        ),
        (
            &dir("Huge"),
            two,
            "spec.volumes[0].emptyDir.medium is Huge, but must be one of \"\", Memory, HugePages",
        ),
    ]);
}

#[test]
fn mounts() {
    let volume = one("emptyDir: {}");
    let mount = |rest: &str| format!("volumeMounts: [{{name: v, mountPath: /v, {rest}}}]");
    let privileged = format!(
        "{}\nsecurityContext: {{privileged: true}}",
        mount("mountPropagation: Bidirectional")
    );
    hold(&[
        (&volume, &mount("subPathExpr: $(A)/b"), ""),
        (&volume, &mount("mountPropagation: HostToContainer"), ""),
        (&volume, &privileged, ""),
        (
            &volume,
            &mount("readOnly: true, recursiveReadOnly: Enabled, mountPropagation: None"),
            "",
        ),
        (&volume, &mount("recursiveReadOnly: Disabled"), ""),
        (
            &volume,
            &mount("subPath: a, subPathExpr: b"),
            "spec.containers[0].volumeMounts[0].subPathExpr cannot stand beside subPath; remove one",
        ),
        (
            &volume,
            &mount("subPathExpr: ../b"),
            "spec.containers[0].volumeMounts[0].subPathExpr is \"../b\", but must be a path that does not begin with '/' and has no '..'",
        ),
        (
            &volume,
            &mount("mountPropagation: Bidirectional"),
            "spec.containers[0].volumeMounts[0].mountPropagation is Bidirectional, which needs securityContext.privileged: true; write HostToContainer, or None",
        ),
        (
            &volume,
            &mount("recursiveReadOnly: IfPossible"),
            "spec.containers[0].volumeMounts[0].recursiveReadOnly needs readOnly: true beside it",
        ),
        (
            &volume,
            &mount("readOnly: true, recursiveReadOnly: Enabled, mountPropagation: HostToContainer"),
            "spec.containers[0].volumeMounts[0].recursiveReadOnly needs mountPropagation: None, or none at all",
        ),
        (
            &volume,
            &mount("recursiveReadOnly: Always"),
            "spec.containers[0].volumeMounts[0].recursiveReadOnly is Always, but must be one of Disabled, IfPossible, Enabled",
        ),
    ]);
}
