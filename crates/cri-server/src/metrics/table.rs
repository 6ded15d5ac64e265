//! The metrics, one row each.

use super::{Of, counter, gauge};
use cofferdam_engine::stats::{Counters, DiskSize, DiskTraffic, HugePages};
use cofferdam_model::cri::{CgroupUsage, ContainerStatus, FsUsage, InterfaceUsage, SandboxStatus};

const NANOS: u64 = 1_000_000_000;
const MICROS: u64 = 1_000_000;

/// Of a cgroup, at each moment.
pub(super) const USAGE: [Of<CgroupUsage>; 14] = [
    counter("container_cpu_usage_seconds_total", "CPU time used, seconds.", |u| {
        u.cpu_nanos.map(|n| n / NANOS)
    }),
    gauge(
        "container_memory_working_set_bytes",
        "Memory that cannot be dropped at once, bytes.",
        |u| u.memory.working_set,
    ),
    gauge("container_memory_usage_bytes", "Memory used, page cache included, bytes.", |u| {
        u.memory.usage
    }),
    gauge("container_memory_rss", "Anonymous memory, bytes.", |u| u.memory.rss),
    gauge("container_memory_swap", "Swap used, bytes.", |u| u.memory.swap),
    gauge("container_threads", "Threads.", |u| u.processes),
    gauge("container_last_seen", "When it was measured, seconds since 1970.", |u| {
        u64::try_from(u.at).ok().map(|n| n / NANOS)
    }),
    counter(
        "container_pressure_cpu_waiting_seconds_total",
        "Time in which some waited for the CPU, seconds.",
        |u| u.cpu_pressure.map(|p| p.some.total / MICROS),
    ),
    counter(
        "container_pressure_cpu_stalled_seconds_total",
        "Time in which all waited for the CPU, seconds.",
        |u| u.cpu_pressure.map(|p| p.full.total / MICROS),
    ),
    counter(
        "container_pressure_memory_waiting_seconds_total",
        "Time in which some waited for memory, seconds.",
        |u| u.memory_pressure.map(|p| p.some.total / MICROS),
    ),
    counter(
        "container_pressure_memory_stalled_seconds_total",
        "Time in which all waited for memory, seconds.",
        |u| u.memory_pressure.map(|p| p.full.total / MICROS),
    ),
    counter(
        "container_pressure_io_waiting_seconds_total",
        "Time in which some waited for disks, seconds.",
        |u| u.io_pressure.map(|p| p.some.total / MICROS),
    ),
    counter(
        "container_pressure_io_stalled_seconds_total",
        "Time in which all waited for disks, seconds.",
        |u| u.io_pressure.map(|p| p.full.total / MICROS),
    ),
    gauge(
        "container_spec_memory_reservation_limit_bytes",
        "Memory that is kept for it, bytes; 0, for CRI has none.",
        |_| Some(0),
    ),
];

/// Page faults by kind; one more label says which, and one that those of groups below are counted too.
pub(super) const FAULTS: [(&str, Of<CgroupUsage>); 2] = [
    (
        "pgfault",
        counter("container_memory_failures_total", "Page faults.", |u| u.memory.page_faults),
    ),
    (
        "pgmajfault",
        counter("container_memory_failures_total", "Page faults.", |u| u.memory.major_page_faults),
    ),
];

/// Of a cgroup and its processes.
pub(super) const COUNTERS: [Of<Counters>; 15] = [
    counter("container_cpu_user_seconds_total", "CPU time in user mode, seconds.", |c| {
        c.cpu_user_nanos.map(|n| n / NANOS)
    }),
    counter("container_cpu_system_seconds_total", "CPU time in the kernel, seconds.", |c| {
        c.cpu_system_nanos.map(|n| n / NANOS)
    }),
    counter(
        "container_cpu_cfs_periods_total",
        "Periods of the CPU quota that have passed.",
        |c| c.periods,
    ),
    counter(
        "container_cpu_cfs_throttled_periods_total",
        "Periods in which the CPU quota was used up.",
        |c| c.throttled_periods,
    ),
    counter(
        "container_cpu_cfs_throttled_seconds_total",
        "Time without CPU for the quota was used up, seconds.",
        |c| c.throttled_nanos.map(|n| n / NANOS),
    ),
    gauge("container_memory_cache", "Page cache, bytes.", |c| c.memory_cache),
    gauge("container_memory_mapped_file", "Files that are mapped, bytes.", |c| c.memory_mapped),
    gauge("container_memory_kernel_usage", "Memory of the kernel, bytes.", |c| c.memory_kernel),
    gauge("container_memory_max_usage_bytes", "Most memory used at once, bytes.", |c| {
        c.memory_peak
    }),
    counter("container_memory_failcnt", "How often the memory limit was met.", |c| {
        c.memory_limit_hits
    }),
    counter("container_oom_events_total", "Processes that the kernel killed for memory.", |c| {
        c.oom_kills
    }),
    gauge("container_threads_max", "Most threads that there may be; 0 for no limit.", |c| {
        c.tasks_max
    }),
    gauge("container_processes", "Processes.", |c| Some(c.processes)),
    gauge("container_file_descriptors", "Open files of all processes.", |c| {
        Some(c.descriptors)
    }),
    gauge("container_sockets", "Open sockets of all processes.", |c| Some(c.sockets)),
];

/// Limits of a container's first process; one more label says which.
pub(super) const ULIMITS: [Of<Counters>; 1] = [gauge(
    "container_ulimits_soft",
    "Soft limit of the first process; absent for none.",
    |c| c.open_files_soft,
)];

/// Huge pages; one more label says of which size.
pub(super) const HUGE: [Of<HugePages>; 2] = [
    gauge("container_hugetlb_usage_bytes", "Huge pages in use, bytes.", |h| Some(h.usage)),
    gauge("container_hugetlb_max_usage_bytes", "Most huge pages in use at once, bytes.", |h| {
        h.peak
    }),
];

/// Traffic to disks; one more label says to which.
pub(super) const DISKS: [Of<DiskTraffic>; 4] = [
    counter("container_fs_reads_bytes_total", "Bytes read from the disk.", |d| {
        Some(d.read_bytes)
    }),
    counter("container_fs_reads_total", "Reads from the disk.", |d| Some(d.reads)),
    counter("container_fs_writes_bytes_total", "Bytes written to the disk.", |d| {
        Some(d.written_bytes)
    }),
    counter("container_fs_writes_total", "Writes to the disk.", |d| Some(d.writes)),
];

/// The same traffic by the disk's numbers; more labels say which disk and what was done.
pub(super) const BLKIO: [(&str, Of<DiskTraffic>); 2] = [
    (
        "Read",
        counter(
            "container_blkio_device_usage_total",
            "Bytes read from and written to the disk.",
            |d| Some(d.read_bytes),
        ),
    ),
    (
        "Write",
        counter(
            "container_blkio_device_usage_total",
            "Bytes read from and written to the disk.",
            |d| Some(d.written_bytes),
        ),
    ),
];

/// Of a container's writable layer.
pub(super) const LAYER: [Of<FsUsage>; 1] = [gauge(
    "container_fs_usage_bytes",
    "Room that the writable layer takes, bytes.",
    |f| Some(f.used_bytes),
)];

/// Of the file system that the writable layer is on.
pub(super) const DISK: [Of<DiskSize>; 3] = [
    gauge(
        "container_fs_limit_bytes",
        "Size of the file system of the writable layer, bytes.",
        |d| Some(d.bytes),
    ),
    gauge("container_fs_inodes_total", "Inodes of that file system.", |d| Some(d.inodes)),
    gauge("container_fs_inodes_free", "Inodes of that file system that are free.", |d| {
        Some(d.inodes_free)
    }),
];

/// Of a pod's links; one more label says which.
pub(super) const LINKS: [Of<InterfaceUsage>; 8] = [
    counter("container_network_receive_bytes_total", "Bytes received.", |i| Some(i.rx_bytes)),
    counter("container_network_receive_packets_total", "Packets received.", |i| {
        Some(i.rx_packets)
    }),
    counter("container_network_receive_errors_total", "Errors of receiving.", |i| {
        Some(i.rx_errors)
    }),
    counter(
        "container_network_receive_packets_dropped_total",
        "Packets dropped in receiving.",
        |i| Some(i.rx_dropped),
    ),
    counter("container_network_transmit_bytes_total", "Bytes sent.", |i| Some(i.tx_bytes)),
    counter("container_network_transmit_packets_total", "Packets sent.", |i| Some(i.tx_packets)),
    counter("container_network_transmit_errors_total", "Errors of sending.", |i| {
        Some(i.tx_errors)
    }),
    counter(
        "container_network_transmit_packets_dropped_total",
        "Packets dropped in sending.",
        |i| Some(i.tx_dropped),
    ),
];

/// Of a pod; one like it of a container is among the descriptors.
pub(super) const POD: [Of<SandboxStatus>; 1] = [gauge(
    "container_start_time_seconds",
    "When it was started, seconds since 1970.",
    |p| u64::try_from(p.created_at).ok().map(|n| n / NANOS),
)];

/// Of a container's request and its start.
pub(super) const CONTAINER: [Of<ContainerStatus>; 6] = [
    gauge("container_start_time_seconds", "When it was started, seconds since 1970.", |c| {
        u64::try_from(c.started_at).ok().map(|n| n / NANOS)
    }),
    gauge("container_spec_cpu_shares", "CPU shares asked for.", |c| {
        Some(c.config.resources.cpu_shares)
    }),
    gauge("container_spec_cpu_period", "Period of the CPU quota, microseconds.", |c| {
        Some(c.config.resources.cpu_period)
    }),
    gauge(
        "container_spec_cpu_quota",
        "CPU quota, microseconds a period; absent for none.",
        |c| u64::try_from(c.config.resources.cpu_quota).ok(),
    ),
    gauge(
        "container_spec_memory_swap_limit_bytes",
        "Limit of memory and swap together, bytes; 0 for none.",
        |c| u64::try_from(c.config.resources.memory_swap_limit.max(0)).ok(),
    ),
    gauge("container_spec_memory_limit_bytes", "Memory limit, bytes; 0 for none.", |c| {
        u64::try_from(c.config.resources.memory_limit).ok()
    }),
];
