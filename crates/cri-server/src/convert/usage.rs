//! Usage on the wire.

use cofferdam_cri_api::v1;
use cofferdam_model::cri::{CgroupUsage, ContainerUsage, FsUsage, InterfaceUsage, PodUsage, Pressure, PressureLine};

/// The link that a pod's default route takes: the first, as CNI names it.
const DEFAULT_LINK: &str = "eth0";

fn value(value: Option<u64>) -> Option<v1::UInt64Value> {
    value.map(|value| v1::UInt64Value { value })
}

fn psi(pressure: Option<&Pressure>) -> Option<v1::PsiStats> {
    let line = |l: &PressureLine| {
        Some(v1::PsiData {
            total: l.total,
            avg10: l.avg10,
            avg60: l.avg60,
            avg300: l.avg300,
        })
    };
    pressure.map(|p| v1::PsiStats {
        full: line(&p.full),
        some: line(&p.some),
    })
}

/// `rate` is in nanoseconds a second.
fn cpu(usage: &CgroupUsage, rate: Option<u64>) -> v1::CpuUsage {
    v1::CpuUsage {
        timestamp: usage.at,
        usage_core_nano_seconds: value(usage.cpu_nanos),
        usage_nano_cores: value(rate),
        psi: psi(usage.cpu_pressure.as_ref()),
    }
}

fn memory(usage: &CgroupUsage) -> v1::MemoryUsage {
    let memory = &usage.memory;
    v1::MemoryUsage {
        timestamp: usage.at,
        working_set_bytes: value(memory.working_set),
        available_bytes: value(memory.available),
        usage_bytes: value(memory.usage),
        rss_bytes: value(memory.rss),
        page_faults: value(memory.page_faults),
        major_page_faults: value(memory.major_page_faults),
        psi: psi(usage.memory_pressure.as_ref()),
    }
}

fn io(usage: &CgroupUsage) -> Option<v1::IoUsage> {
    usage.io_pressure.as_ref().map(|pressure| v1::IoUsage {
        timestamp: usage.at,
        psi: psi(Some(pressure)),
    })
}

/// A container's usage.
pub(crate) fn container(attributes: v1::ContainerAttributes, usage: &ContainerUsage, rate: Option<u64>) -> v1::ContainerStats {
    let ContainerUsage { cgroup, writable } = usage;
    let swap = cgroup.memory.swap.map(|bytes| v1::SwapUsage {
        timestamp: cgroup.at,
        swap_available_bytes: value(cgroup.memory.swap_available),
        swap_usage_bytes: value(Some(bytes)),
    });
    v1::ContainerStats {
        attributes: Some(attributes),
        cpu: Some(cpu(cgroup, rate)),
        memory: Some(memory(cgroup)),
        writable_layer: (writable.at != 0).then(|| filesystem(writable)),
        swap,
        io: io(cgroup),
    }
}

/// A pod's usage, and its containers'.
pub(crate) fn pod(
    attributes: v1::PodSandboxAttributes,
    usage: &PodUsage,
    rate: Option<u64>,
    containers: Vec<v1::ContainerStats>,
) -> v1::PodSandboxStats {
    let interface = |i: &InterfaceUsage| v1::NetworkInterfaceUsage {
        name: i.name.clone(),
        rx_bytes: value(Some(i.rx_bytes)),
        rx_errors: value(Some(i.rx_errors)),
        tx_bytes: value(Some(i.tx_bytes)),
        tx_errors: value(Some(i.tx_errors)),
    };
    let (first, rest): (Vec<_>, Vec<_>) = usage.network.iter().partition(|i| i.name == DEFAULT_LINK);
    let network = v1::NetworkUsage {
        timestamp: usage.network_at,
        default_interface: first.first().map(|i| interface(i)),
        interfaces: rest.into_iter().map(interface).collect(),
    };
    let cgroup = &usage.cgroup;
    v1::PodSandboxStats {
        attributes: Some(attributes),
        linux: Some(v1::LinuxPodSandboxStats {
            cpu: Some(cpu(cgroup, rate)),
            memory: Some(memory(cgroup)),
            network: (!usage.network.is_empty()).then_some(network),
            process: Some(v1::ProcessUsage {
                timestamp: cgroup.at,
                process_count: value(cgroup.processes),
            }),
            containers,
            io: io(cgroup),
        }),
        windows: None,
    }
}

/// Room taken on a file system.
pub(crate) fn filesystem(usage: &FsUsage) -> v1::FilesystemUsage {
    v1::FilesystemUsage {
        timestamp: usage.at,
        fs_id: Some(v1::FilesystemIdentifier {
            mountpoint: usage.mountpoint.to_string_lossy().into_owned(),
        }),
        used_bytes: value(Some(usage.used_bytes)),
        inodes_used: value(Some(usage.inodes_used)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use cofferdam_model::cri::MemoryUsage;

    #[test]
    fn what_nobody_counts_is_absent_and_zero_is_told() {
        let line = |total| PressureLine {
            total,
            ..PressureLine::default()
        };
        let cgroup = CgroupUsage {
            at: 5,
            cpu_nanos: Some(0),
            memory: MemoryUsage {
                working_set: Some(3),
                ..MemoryUsage::default()
            },
            io_pressure: Some(Pressure {
                some: line(1),
                full: line(2),
            }),
            ..CgroupUsage::default()
        };
        let usage = ContainerUsage {
            cgroup: cgroup.clone(),
            ..ContainerUsage::default()
        };
        let stats = container(v1::ContainerAttributes::default(), &usage, None);
        assert_eq!(stats.cpu.unwrap().usage_core_nano_seconds.unwrap().value, 0);
        let memory = stats.memory.unwrap();
        assert_eq!(
            (memory.working_set_bytes.unwrap().value, memory.rss_bytes, memory.psi),
            (3, None, None)
        );
        assert_eq!((stats.writable_layer, stats.swap), (None, None));
        let psi = stats.io.unwrap().psi.unwrap();
        assert_eq!((psi.some.unwrap().total, psi.full.unwrap().total), (1, 2));
        let link = InterfaceUsage {
            name: "eth0".into(),
            rx_bytes: 1,
            rx_errors: 3,
            ..InterfaceUsage::default()
        };
        let other = InterfaceUsage {
            name: "net1".into(),
            ..InterfaceUsage::default()
        };
        let usage = PodUsage {
            cgroup,
            network: vec![other, link],
            ..PodUsage::default()
        };
        let network = pod(v1::PodSandboxAttributes::default(), &usage, None, vec![])
            .linux
            .unwrap()
            .network
            .unwrap();
        let link = network.default_interface.unwrap();
        assert_eq!(
            (
                link.rx_bytes.unwrap().value,
                link.rx_errors.unwrap().value,
                network.interfaces.len()
            ),
            (1, 3, 1)
        );
    }
}
