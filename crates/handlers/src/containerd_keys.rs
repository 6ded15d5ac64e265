//! The keys of containerd's `config.toml`, from `internal/cri/config/config.go` and
//! `cmd/containerd/server/config/config.go` (2.x), `pkg/cri/config/config.go` (1.6, for what 2.x
//! dropped) and `api/types/runc/options/oci.proto`.

use crate::schema::Effect::{Apart, Elsewhere, Info, NotYet, Strict, Used};
use crate::schema::Kind::{Any, Bool, Count, Int, Named, Table, Text, Texts};
use crate::schema::{Key, key};

const OUR_CGROUPS: &str =
    "is honoured in our own way: the cgroups are Cofferdam's own and never go through systemd";

/// Top level. `plugins` is read apart.
pub(crate) const TOP: &[Key] = &[
    key("version", Int, Used),
    key("imports", Texts, Used),
    key("root", Any, Elsewhere),
    key("state", Any, Elsewhere),
    key("temp", Any, Elsewhere),
    key("plugin_dir", Any, Elsewhere),
    key("no_subreaper", Any, Elsewhere),
    key("subreaper", Any, Elsewhere),
    key("debug", Any, Elsewhere),
    key("grpc", Any, Elsewhere),
    key("ttrpc", Any, Elsewhere),
    key("metrics", Any, Elsewhere),
    key("disabled_plugins", Any, Elsewhere),
    key("required_plugins", Any, Elsewhere),
    key("oom_score", Any, Elsewhere),
    key("cgroup", Any, Elsewhere),
    key("proxy_plugins", Any, Elsewhere),
    key("timeouts", Any, Elsewhere),
    key("stream_processors", Any, Elsewhere),
    key("plugins", Any, Elsewhere),
];

/// The CRI plugin's table: `plugins.cri` (version 1), `plugins."io.containerd.grpc.v1.cri"` (2) or
/// `plugins."io.containerd.cri.v1.runtime"` (3).
pub(crate) const CRI: &[Key] = &[
    key("containerd", Table(CONTAINERD), Used),
    key("systemd_cgroup", Bool, Info(OUR_CGROUPS)),
    key("enable_selinux", Bool, Strict),
    key("unset_seccomp_profile", Text, Used),
    key("disable_apparmor", Bool, Used),
    key("disable_cgroup", Bool, NotYet),
    key("disable_proc_mount", Bool, NotYet),
    key("restrict_oom_score_adj", Bool, Used),
    key("device_ownership_from_security_context", Bool, Used),
    key("ignore_image_defined_volumes", Bool, NotYet),
    key("enable_unprivileged_ports", Bool, Used),
    key("enable_unprivileged_icmp", Bool, Used),
    key("max_container_log_line_size", Int, Elsewhere),
    key("selinux_category_range", Any, Elsewhere),
    key("tolerate_missing_hugetlb_controller", Any, Elsewhere),
    key("disable_hugetlb_controller", Any, Elsewhere),
    key("netns_mounts_under_state_dir", Any, Elsewhere),
    key("enable_cdi", Any, Elsewhere),
    key("cdi_spec_dirs", Any, Elsewhere),
    key("drain_exec_sync_io_timeout", Any, Elsewhere),
    key("ignore_deprecation_warnings", Any, Elsewhere),
    key("stats_collect_period", Any, Elsewhere),
    key("stats_retention_period", Any, Elsewhere),
    key("enable_criu", Any, Elsewhere),
    key("cni", Any, Elsewhere),
    key("registry", Any, Elsewhere),
    key("image_decryption", Any, Elsewhere),
    key("sandbox_image", Any, Elsewhere),
    key("max_concurrent_downloads", Any, Elsewhere),
    key("image_pull_progress_timeout", Any, Elsewhere),
    key("image_pull_with_sync_fs", Any, Elsewhere),
    key("disable_tcp_service", Any, Elsewhere),
    key("stream_server_address", Any, Elsewhere),
    key("stream_server_port", Any, Elsewhere),
    key("stream_idle_timeout", Any, Elsewhere),
    key("enable_tls_streaming", Any, Elsewhere),
    key("x509_key_pair_streaming", Any, Elsewhere),
];

/// The `containerd` table in it.
const CONTAINERD: &[Key] = &[
    key("default_runtime_name", Text, Used),
    key("runtimes", Named(RUNTIME), Apart),
    key("default_runtime", Table(RUNTIME), Apart),
    key("untrusted_workload_runtime", Table(RUNTIME), Apart),
    key("no_pivot", Bool, NotYet),
    key("snapshotter", Text, Used),
    key("disable_snapshot_annotations", Any, Elsewhere),
    key("discard_unpacked_layers", Any, Elsewhere),
    key("ignore_blockio_not_enabled_errors", Bool, NotYet),
    key("ignore_rdt_not_enabled_errors", Bool, NotYet),
];

/// The table of one runtime.
pub(crate) const RUNTIME: &[Key] = &[
    key("runtime_type", Text, Used),
    key("runtime_path", Text, Used),
    key("runtime_engine", Text, Used),
    key("runtime_root", Text, Used),
    key("privileged_without_host_devices", Bool, Used),
    key(
        "privileged_without_host_devices_all_devices_allowed",
        Bool,
        NotYet,
    ),
    key("options", Table(OPTIONS), Used),
    key("base_runtime_spec", Text, Strict),
    key("cni_conf_dir", Text, Used),
    key("cni_max_conf_num", Int, Elsewhere),
    key("sandboxer", Text, Used),
    key("sandbox_mode", Text, Used),
    key("snapshotter", Text, Used),
    key("io_type", Text, Used),
    key("pod_annotations", Texts, NotYet),
    key("container_annotations", Texts, NotYet),
    key("cgroup_writable", Bool, NotYet),
    key("disable_pause_image_pull", Bool, Elsewhere),
];

/// The options of a runtime: runc's and, for any other shim, `TypeUrl`, `ConfigPath` and `ConfigBody`.
const OPTIONS: &[Key] = &[
    key("BinaryName", Text, Used),
    key("Root", Text, Used),
    key("TypeUrl", Text, Used),
    key("ConfigPath", Text, Used),
    key("ConfigBody", Text, NotYet),
    key("SystemdCgroup", Bool, Info(OUR_CGROUPS)),
    key("ShimCgroup", Text, NotYet),
    key("NoPivotRoot", Bool, NotYet),
    key("NoNewKeyring", Bool, NotYet),
    key("IoUid", Count, NotYet),
    key("IoGid", Count, NotYet),
    key("CriuPath", Text, NotYet),
    key("CriuImagePath", Text, NotYet),
    key("CriuWorkPath", Text, NotYet),
    key("TaskApiAddress", Text, Elsewhere),
    key("TaskApiVersion", Int, Elsewhere),
];
