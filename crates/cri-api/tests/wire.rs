//! What both sides of the wire must agree on: names, numbers and types of CRI v1 as kubernetes/cri-api
//! publishes them (pkg/apis/runtime/v1/api.proto, July 2026).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use cofferdam_cri_api::v1;
use protox::prost_reflect::{DescriptorPool, Kind, MessageDescriptor};
use std::collections::BTreeSet;

fn pool() -> DescriptorPool {
    let set = protox::compile(["cri.proto"], [concat!(env!("CARGO_MANIFEST_DIR"), "/proto")]).unwrap();
    DescriptorPool::from_file_descriptor_set(set).unwrap()
}

fn message(pool: &DescriptorPool, name: &str) -> MessageDescriptor {
    pool.get_message_by_name(&format!("runtime.v1.{name}"))
        .unwrap_or_else(|| panic!("{name} is missing"))
}

#[test]
fn both_services_have_every_verb() {
    let pool = pool();
    let verbs = |name: &str| {
        let service = pool.get_service_by_name(name).unwrap();
        let all = service.methods().map(|m| {
            // Every verb has messages of its own, named after it, but for the events.
            let stem = if m.name() == "GetContainerEvents" { "GetEvents" } else { m.name() }.to_owned();
            assert_eq!(m.input().name(), stem + "Request");
            assert!(!m.is_client_streaming());
            let streams = m.name().starts_with("Stream") || m.name() == "GetContainerEvents";
            assert_eq!(m.is_server_streaming(), streams, "{}", m.name());
            m.name().to_owned()
        });
        all.collect::<BTreeSet<_>>().len()
    };
    assert_eq!((verbs("runtime.v1.RuntimeService"), verbs("runtime.v1.ImageService")), (37, 6));
}

/// Sum of the numbers of all fields and values, and how many there are: a number or a name that
/// slips is found, though each is not told here.
#[test]
fn no_field_is_lost_or_renumbered() {
    let pool = pool();
    let (mut messages, mut fields, mut sum) = (0, 0, 0);
    for message in pool.all_messages().filter(|m| !m.is_map_entry()) {
        messages += 1;
        let numbers: Vec<u32> = message.fields().map(|f| f.number()).collect();
        assert_eq!(numbers.iter().collect::<BTreeSet<_>>().len(), numbers.len(), "{}", message.name());
        fields += numbers.len();
        sum += numbers.iter().sum::<u32>();
    }
    let values: Vec<i32> = pool
        .all_enums()
        .flat_map(|e| e.values().map(|v| v.number()).collect::<Vec<_>>())
        .collect();
    assert_eq!((messages, fields, sum), (175, 478, 1720));
    assert_eq!((pool.all_enums().len(), values.len(), values.iter().sum::<i32>()), (11, 95, 2176));
}

#[test]
fn numbers_that_matter() {
    let pool = pool();
    let rows: &[(&str, &str, u32, Kind)] = &[
        (
            "PodSandboxConfig",
            "linux",
            8,
            Kind::Message(message(&pool, "LinuxPodSandboxConfig")),
        ),
        (
            "LinuxPodSandboxConfig",
            "overhead",
            4,
            Kind::Message(message(&pool, "LinuxContainerResources")),
        ),
        (
            "LinuxPodSandboxConfig",
            "resources",
            5,
            Kind::Message(message(&pool, "LinuxContainerResources")),
        ),
        ("RunPodSandboxRequest", "runtime_handler", 2, Kind::String),
        ("PodSandboxStatus", "runtime_handler", 9, Kind::String),
        ("PodSandbox", "runtime_handler", 7, Kind::String),
        (
            "PodSandboxStatusResponse",
            "containers_statuses",
            3,
            Kind::Message(message(&pool, "ContainerStatus")),
        ),
        (
            "NamespaceOption",
            "userns_options",
            5,
            Kind::Message(message(&pool, "UserNamespace")),
        ),
        (
            "LinuxSandboxSecurityContext",
            "run_as_group",
            8,
            Kind::Message(message(&pool, "Int64Value")),
        ),
        (
            "LinuxSandboxSecurityContext",
            "supplemental_groups_policy",
            11,
            Kind::Enum(pool.get_enum_by_name("runtime.v1.SupplementalGroupsPolicy").unwrap()),
        ),
        (
            "LinuxContainerSecurityContext",
            "run_as_group",
            12,
            Kind::Message(message(&pool, "Int64Value")),
        ),
        ("LinuxContainerSecurityContext", "no_new_privs", 11, Kind::Bool),
        ("LinuxContainerSecurityContext", "masked_paths", 13, Kind::String),
        (
            "LinuxContainerSecurityContext",
            "seccomp",
            15,
            Kind::Message(message(&pool, "SecurityProfile")),
        ),
        (
            "LinuxContainerSecurityContext",
            "supplemental_groups_policy",
            17,
            Kind::Enum(pool.get_enum_by_name("runtime.v1.SupplementalGroupsPolicy").unwrap()),
        ),
        (
            "LinuxContainerResources",
            "unified",
            9,
            Kind::Message(message(&pool, "LinuxContainerResources.UnifiedEntry")),
        ),
        ("LinuxContainerResources", "memory_swap_limit_in_bytes", 10, Kind::Int64),
        ("ContainerConfig", "CDI_devices", 17, Kind::Message(message(&pool, "CDIDevice"))),
        (
            "ContainerConfig",
            "stop_signal",
            18,
            Kind::Enum(pool.get_enum_by_name("runtime.v1.Signal").unwrap()),
        ),
        (
            "ContainerStatus",
            "stop_signal",
            19,
            Kind::Enum(pool.get_enum_by_name("runtime.v1.Signal").unwrap()),
        ),
        ("KeyValue", "value", 2, Kind::Bytes),
        ("Mount", "uidMappings", 6, Kind::Message(message(&pool, "IDMapping"))),
        ("Mount", "recursive_read_only", 8, Kind::Bool),
        ("Mount", "image", 9, Kind::Message(message(&pool, "ImageSpec"))),
        ("Mount", "mount_options", 11, Kind::String),
        ("ImageSpec", "user_specified_image", 18, Kind::String),
        ("ImageSpec", "runtime_handler", 19, Kind::String),
        ("ImageSpec", "image_ref", 20, Kind::String),
        ("Image", "pinned", 8, Kind::Bool),
        ("CpuUsage", "psi", 4, Kind::Message(message(&pool, "PsiStats"))),
        ("MemoryUsage", "psi", 8, Kind::Message(message(&pool, "PsiStats"))),
        ("ContainerStats", "io", 6, Kind::Message(message(&pool, "IoUsage"))),
        ("PsiData", "Avg300", 4, Kind::Double),
        (
            "StatusResponse",
            "runtime_handlers",
            3,
            Kind::Message(message(&pool, "RuntimeHandler")),
        ),
        ("StatusResponse", "features", 4, Kind::Message(message(&pool, "RuntimeFeatures"))),
        ("AttachRequest", "stdin", 2, Kind::Bool),
        ("ExecRequest", "stdin", 4, Kind::Bool),
        (
            "ContainerEventResponse",
            "pod_sandbox_status",
            4,
            Kind::Message(message(&pool, "PodSandboxStatus")),
        ),
        ("Metric", "label_values", 4, Kind::String),
        (
            "UpdatePodSandboxResourcesRequest",
            "overhead",
            2,
            Kind::Message(message(&pool, "LinuxContainerResources")),
        ),
    ];
    for (name, field, number, kind) in rows {
        let found = message(&pool, name)
            .get_field_by_name(field)
            .unwrap_or_else(|| panic!("{name}.{field} is missing"));
        assert_eq!((found.number(), &found.kind()), (*number, kind), "{name}.{field}");
    }
    let signal = |name: &str| {
        pool.get_enum_by_name("runtime.v1.Signal")
            .unwrap()
            .get_value_by_name(name)
            .map(|v| v.number())
    };
    assert_eq!(
        [signal("SIGNAL_SIGKILL"), signal("SIGNAL_SIGTERM"), signal("SIGNAL_SIGRTMAX")],
        [Some(13), Some(23), Some(65)]
    );
}

#[test]
fn secrets_are_not_printed() {
    let secret = || "s3cret".to_owned();
    let auth = v1::AuthConfig {
        username: "me".into(),
        password: secret(),
        auth: secret(),
        identity_token: secret(),
        registry_token: secret(),
        ..Default::default()
    };
    let request = v1::PullImageRequest {
        auth: Some(auth),
        ..Default::default()
    };
    let text = format!("{request:?}");
    assert!(text.contains("\"me\"") && !text.contains("s3cret"), "{text}");
}
