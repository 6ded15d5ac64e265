//! Virtual machines.

use crate::diagnose::{Case, Diagnosis, row, says};
use crate::facts::{Facts, Handler, Kvm};
use crate::finding::Severity::{Note, StopsPods};

pub(super) const ROWS: &[Diagnosis] = &[
    row(
        "no-hardware-virtualization",
        "no hardware virtualization support",
        StopsPods,
        "The CPUs of this machine do not offer virtualisation (VT-x, AMD-V), because it is off in the firmware or because this is itself a virtual machine without nesting; so VMs of Kata and gVisor's KVM platform cannot run. Turn it on in the firmware, or take instances that nest; emulation in software is weaker and must be permitted by name.",
        &["grep -c -w -E 'vmx|svm' /proc/cpuinfo", "ls -l /dev/kvm"],
    )
    .in_cluster(&["kubectl debug node/<node> -it --image=busybox -- grep -c -w -E 'vmx|svm' /proc/cpuinfo", "kubectl label nodes <node> katacontainers.io/kata-runtime-"])
    .heard(&[
        says("no hardware virtualization support"),
        says("System is not capable of running Kata Containers"),
        says("KVM support is missing"),
        says("CPU property not found"),
    ])
    .seen(no_virtualization),
    row(
        "kvm-device-missing",
        "/dev/kvm is missing",
        StopsPods,
        "There is no /dev/kvm although virtual machines need it: the kvm module is not loaded, or the container in which this runs was not given the device. Load the module of this CPU's maker, or pass the device.",
        &["modprobe kvm_intel || modprobe kvm_amd", "ls -l /dev/kvm"],
    )
    .heard(&[
        says("Could not access KVM kernel module"),
        says("failed to initialize KVM").unless(&["Could not access KVM"]),
        says("/dev/kvm: no such file or directory").unless(&["Could not access KVM"]),
        says("opening KVM device file"),
    ])
    .seen(kvm_missing),
    row(
        "kvm-device-unusable",
        "/dev/kvm cannot be opened",
        StopsPods,
        "The device is there, and the kernel does not let it be opened: its mode or the device cgroup is in the way, another hypervisor holds the CPU, or the module is for another one. Be root, add the user to the group kvm, or unload the other hypervisor.",
        &["ls -l /dev/kvm", "dmesg | grep -i kvm"],
    )
    .heard(&[says("/dev/kvm: permission denied"), says("/dev/kvm: device or resource busy"), says("/dev/kvm: operation not permitted")])
    .seen(kvm_unusable),
    row(
        "vhost-missing",
        "the vhost devices are missing",
        StopsPods,
        "Kata reaches the agent in its virtual machine over vsock and its network over vhost, and the kernel has not loaded <module>. Load it now and at every start; where it is busy, VMware's own vsock modules hold its place.",
        &["modprobe -a vhost_vsock vhost_net", "printf 'vhost_vsock\\nvhost_net\\n' > /etc/modules-load.d/kata.conf"],
    )
    .heard(&[
        says("/dev/vhost-vsock: no such"),
        says("/dev/vhost-net: no such"),
        says("timed out connecting to vsock").unless(&["/dev/vhost-vsock"]),
    ])
    .seen(vhost_missing),
    row(
        "vm-did-not-start",
        "the virtual machine did not start",
        StopsPods,
        "The hypervisor ended or hung before the agent in the virtual machine answered, and the message does not say why. Its own log does; too little memory, a kernel or image that the configuration does not find, and nested virtualisation that hangs are the usual reasons.",
        &["kata-runtime check --verbose", "journalctl -t kata -n 50"],
    )
    .heard(&[
        says("failed to launch qemu"),
        says("Unable to launch <_>qemu").unless(&["KVM"]),
        says("exitting QMP loop").unless(&["KVM"]),
        says("QMP command failed"),
        says("Failed to check if grpc server is working").unless(&["vsock"]),
    ]),
];

/// Whether Cofferdam's own driver is meant, which does not exist yet: it needs nothing of the machine.
fn is_unbuilt(handler: &Handler) -> bool {
    handler.driver == "vm" && handler.trouble.as_ref().is_some_and(|why| why.contains("not built yet"))
}

/// Handlers whose pods need `/dev/kvm`.
fn in_need(facts: &Facts) -> Vec<&Handler> {
    let platform = |h: &Handler| h.flags.get("platform").is_some_and(|p| p.as_deref() == Some("kvm"));
    let kata = |h: &Handler| h.driver == "shim" && crate::Enclosure::of(&h.name) == crate::Enclosure::Vm;
    facts
        .handlers
        .iter()
        .filter(|h| h.driver == "vm" || platform(h) || kata(h))
        .filter(|h| !is_unbuilt(h))
        .collect()
}

/// One case about the machine: it stops pods only where a handler needs it.
fn needed(facts: &Facts, evidence: &str) -> Vec<Case> {
    let names: Vec<_> = in_need(facts).iter().map(|h| h.name.as_str()).collect();
    if names.is_empty() {
        return vec![Case::new(format!("{evidence}; no handler needs it")).severe(Note)];
    }
    vec![Case::new(format!("{evidence}; needed by handler {}", names.join(", ")))]
}

fn no_virtualization(facts: &Facts) -> Vec<Case> {
    match (&facts.virtualization.kvm, facts.virtualization.cpu) {
        (Kvm::Absent, Some(false)) => needed(facts, "no vmx or svm in /proc/cpuinfo, and no /dev/kvm"),
        _ => Vec::new(),
    }
}

fn kvm_missing(facts: &Facts) -> Vec<Case> {
    match (&facts.virtualization.kvm, facts.virtualization.cpu) {
        (Kvm::Absent, Some(true) | None) => needed(facts, "there is no /dev/kvm"),
        _ => Vec::new(),
    }
}

fn kvm_unusable(facts: &Facts) -> Vec<Case> {
    match &facts.virtualization.kvm {
        Kvm::Unusable(why) => needed(facts, &format!("/dev/kvm: {why}")),
        _ => Vec::new(),
    }
}

fn vhost_missing(facts: &Facts) -> Vec<Case> {
    let vms = facts
        .handlers
        .iter()
        .filter(|h| !is_unbuilt(h))
        .any(|h| h.driver == "vm" || (h.driver == "shim" && crate::Enclosure::of(&h.name) == crate::Enclosure::Vm));
    if !vms || facts.virtualization.vhost_vsock != Some(false) {
        return Vec::new();
    }
    vec![Case::new("there is no /dev/vhost-vsock").with("module", "vhost_vsock")]
}
