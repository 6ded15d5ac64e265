//! Volumes, and how containers have them.

use super::Feature;
use super::find::{of_mounts, of_volumes};
use cofferdam_model::pod::{EmptyDir, Pod, Volume};

const AT_DATA: &str = "volumeMounts:\n- {name: data, mountPath: /data}";

pub(super) static FEATURES: &[Feature] = &[
    Feature::works("empty-dir", "`emptyDir` on disk", |pod| of_empty_dirs(pod, |d| medium(d).is_empty()))
        .spec("volumes:\n- name: data\n  emptyDir: {}")
        .container(AT_DATA)
        .script("echo a > /data/a\ntest \"$(cat /data/a)\" = a"),
    Feature::works("empty-dir-memory", "`emptyDir` in memory, with a size limit", |pod| {
        of_empty_dirs(pod, |d| medium(d) == "Memory")
    })
    .spec("volumes:\n- name: data\n  emptyDir: {medium: Memory, sizeLimit: 1Mi}")
    .container(AT_DATA)
    .script("head -c 500000 /dev/zero > /data/fits\nif head -c 2000000 /dev/zero > /data/too-much; then exit 1; fi"),
    Feature::works("empty-dir-huge-pages", "`emptyDir` of huge pages", |pod| {
        of_empty_dirs(pod, |d| medium(d).starts_with("HugePages"))
    })
    .not_in_gvisor("gVisor has no huge pages; remove hugepages-* and the volumes of medium HugePages")
    .needs("free huge pages of 2 MiB")
    .spec("volumes:\n- name: data\n  emptyDir: {medium: HugePages-2Mi}")
    .container("resources: {limits: {cpu: 1, memory: 64Mi, hugepages-2Mi: 2Mi}}\nvolumeMounts:\n- {name: data, mountPath: /data}")
    .script("grep ' /data hugetlbfs ' /proc/mounts"),
    Feature::works("config-map", "`configMap`", |pod| of_volumes(pod, "configMap", |v| v.config_map.is_some()))
        .spec("volumes:\n- name: data\n  configMap: {name: settings, items: [{key: color, path: deep/color, mode: 0o400}]}")
        .container(AT_DATA)
        .script("test \"$(cat /data/deep/color)\" = blue"),
    Feature::works("secret", "`secret`", |pod| of_volumes(pod, "secret", |v| v.secret.is_some()))
        .spec("volumes:\n- name: data\n  secret: {secretName: token, defaultMode: 0o400}")
        .container(AT_DATA)
        .script("test \"$(cat /data/key)\" = hunter2"),
    Feature::works("downward-api", "`downwardAPI`", |pod| {
        of_volumes(pod, "downwardAPI", |v| v.downward_api.is_some())
    })
    .metadata("labels: {app: shop}")
    .spec("volumes:\n- name: data\n  downwardAPI:\n    items:\n    - path: labels\n      fieldRef: {fieldPath: metadata.labels}\n    - path: cpu\n      resourceFieldRef: {containerName: main, resource: limits.cpu, divisor: 1m}")
    .container("resources: {limits: {cpu: 500m}}\nvolumeMounts:\n- {name: data, mountPath: /data}")
    .script("grep 'app=\"shop\"' /data/labels\ntest \"$(cat /data/cpu)\" = 500"),
    Feature::works("projected", "`projected`", |pod| of_volumes(pod, "projected", |v| v.projected.is_some()))
        .spec("volumes:\n- name: data\n  projected:\n    sources:\n    - configMap: {name: settings}\n    - secret: {name: token}\n    - downwardAPI: {items: [{path: name, fieldRef: {fieldPath: metadata.name}}]}")
        .container(AT_DATA)
        .script("test \"$(cat /data/color /data/key /data/name | tr -d '\\n')\" = bluehunter2projected"),
    Feature::works("host-path", "`hostPath` of files and directories", |pod| {
        of_host_paths(pod, &["", "Directory", "DirectoryOrCreate", "File", "FileOrCreate"])
    })
    .spec("volumes:\n- name: data\n  hostPath: {path: /etc/hostname, type: File}")
    .container(AT_DATA)
    .script("test -s /data"),
    Feature::works("host-path-socket", "`hostPath` of a socket", |pod| of_host_paths(pod, &["Socket"]))
        .not_in_gvisor("gVisor does not let its containers connect to sockets of the machine; use TCP")
        .not_in_vm("a virtual machine has no sockets of the machine; use TCP")
        .needs("a socket /run/cofferdam-test.sock")
        .spec("volumes:\n- name: data\n  hostPath: {path: /run/cofferdam-test.sock, type: Socket}")
        .container(AT_DATA)
        .script("test -S /data"),
    Feature::works("host-path-device", "`hostPath` of a device", |pod| {
        of_host_paths(pod, &["CharDevice", "BlockDevice"])
    })
    .not_in_vm("a virtual machine has no devices of the machine; remove the volume")
    .spec("volumes:\n- name: data\n  hostPath: {path: /dev/zero, type: CharDevice}")
    .container("securityContext: {privileged: true}\nvolumeMounts:\n- {name: data, mountPath: /data}")
    .script("test -c /data\ntest \"$(head -c 3 /data | wc -c)\" = 3"),
    Feature::works("image-volume", "image volumes", |pod| of_volumes(pod, "image", |v| v.image.is_some()))
        .spec("volumes:\n- name: data\n  image: {reference: busybox}")
        .container(AT_DATA)
        .script("test -x /data/bin/sh\nif touch /data/x; then exit 1; fi"),
    Feature::works("sub-path", "`subPath`", |pod| of_mounts(pod, "subPath", |m| m.sub_path.is_some()))
        .spec("volumes:\n- name: data\n  configMap: {name: settings}")
        .container("volumeMounts:\n- {name: data, mountPath: /etc/color, subPath: color}")
        .script("test \"$(cat /etc/color)\" = blue"),
    Feature::works("sub-path-expr", "`subPathExpr`", |pod| of_mounts(pod, "subPathExpr", |m| m.sub_path_expr.is_some()))
        .spec("volumes:\n- name: data\n  emptyDir: {}")
        .container("env:\n- name: POD\n  valueFrom: {fieldRef: {fieldPath: metadata.name}}\nvolumeMounts:\n- {name: data, mountPath: /data}\n- {name: data, mountPath: /own, subPathExpr: of/$(POD)}")
        .script("touch /own/mine\ntest -e /data/of/sub-path-expr/mine"),
    Feature::works("read-only-mount", "read-only mounts", |pod| of_mounts(pod, "readOnly", |m| m.read_only))
        .spec("volumes:\n- name: data\n  emptyDir: {}")
        .container("volumeMounts:\n- {name: data, mountPath: /data, readOnly: true}")
        .script("if touch /data/x; then exit 1; fi"),
    Feature::works("recursive-read-only", "mounts read-only all the way down (`recursiveReadOnly`)", |pod| {
        let is_asked = |text: Option<&str>| text.is_some_and(|t| t != "Disabled");
        of_mounts(pod, "recursiveReadOnly", |m| is_asked(m.recursive_read_only.as_deref()))
    })
    .spec("volumes:\n- name: data\n  hostPath: {path: /run, type: Directory}")
    .container("volumeMounts:\n- {name: data, mountPath: /data, readOnly: true, recursiveReadOnly: Enabled}")
    .script("if touch /data/x /data/lock/x; then exit 1; fi"),
    Feature::works("propagation-host-to-container", "mounts of the machine that come later (`HostToContainer`)", |pod| {
        of_mounts(pod, "mountPropagation", |m| m.mount_propagation.as_deref() == Some("HostToContainer"))
    })
    .not_in_vm("a virtual machine does not see what the machine mounts later; remove mountPropagation")
    .spec("volumes:\n- name: data\n  hostPath: {path: /mnt, type: DirectoryOrCreate}")
    .container("volumeMounts:\n- {name: data, mountPath: /data, mountPropagation: HostToContainer}"),
    Feature::works("propagation-bidirectional", "mounts of a container that the machine sees (`Bidirectional`)", |pod| {
        of_mounts(pod, "mountPropagation", |m| m.mount_propagation.as_deref() == Some("Bidirectional"))
    })
    .not_in_gvisor("gVisor cannot show on the machine what a container mounts; remove mountPropagation: Bidirectional")
    .not_in_vm("what a container mounts in a virtual machine stays in it, and the machine never sees it; remove mountPropagation")
    .needs("a shared mount at /mnt")
    .spec("volumes:\n- name: data\n  hostPath: {path: /mnt, type: DirectoryOrCreate}")
    .container("securityContext: {privileged: true}\nvolumeMounts:\n- {name: data, mountPath: /data, mountPropagation: Bidirectional}"),
];

fn of_empty_dirs(pod: &Pod, is: impl Fn(&EmptyDir) -> bool) -> Vec<String> {
    of_volumes(pod, "emptyDir", |v| v.empty_dir.as_ref().is_some_and(&is))
}

fn medium(dir: &EmptyDir) -> &str {
    dir.medium.as_deref().unwrap_or_default()
}

fn of_host_paths(pod: &Pod, kinds: &[&str]) -> Vec<String> {
    let is = |v: &Volume| {
        let path = v.host_path.as_ref();
        path.is_some_and(|p| kinds.contains(&p.kind.as_deref().unwrap_or_default()))
    };
    of_volumes(pod, "hostPath", is)
}
