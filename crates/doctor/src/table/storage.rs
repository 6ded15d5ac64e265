//! Folders of ours and their file systems.

use crate::diagnose::{Case, Diagnosis, row, says, told};
use crate::facts::{Facts, Storage};
use crate::finding::Severity::{Degrades, Note, StopsPods};

pub(super) const ROWS: &[Diagnosis] = &[
    row(
        "disk-full",
        "the disk is full",
        StopsPods,
        "The file system of <path> has next to no room left, so no record, layer or log can be written. Remove images and logs that nobody needs, or move --root to a larger one.",
        &["df -h <path>", "cofferdam image ls", "du -xsh /var/lib/cofferdam /var/log"],
    )
    .in_cluster(&["kubectl describe node <node> | grep -i pressure", "df -h", "crictl rmi --prune"])
    .heard(&[told("no space left on device").unless(&["/sys/fs/cgroup", "inotify", "user namespace"]), told("Disk quota exceeded"), told("ENOSPC").unless(&["no space left on device"])])
    .seen(|facts| storages(facts, |s| s.total_bytes > 0 && s.free_bytes < LITTLE, |s| format!("{} MiB of {} MiB free", s.free_bytes >> 20, s.total_bytes >> 20))),
    row(
        "inodes-full",
        "the file system holds no more files",
        StopsPods,
        "The file system of <path> has bytes left, but no inodes, and the kernel answers `no space left on device` all the same. Remove many small files (old layers, logs, caches), or make the file system anew with more inodes.",
        &["df -i <path>", "cofferdam image ls"],
    )
    .seen(|facts| storages(facts, |s| s.total_inodes > 0 && s.free_inodes < FEW, |s| format!("{} of {} inodes free", s.free_inodes, s.total_inodes))),
    row(
        "state-read-only",
        "the state directory is read-only",
        StopsPods,
        "<path> cannot be written: its file system is mounted read-only, by choice or because the kernel found it damaged. Mount it writable after a check, or give another folder with --root and --state.",
        &["findmnt --target <path>", "dmesg | grep -i -e 'remounting filesystem' -e 'ext4-fs error'", "mount -o remount,rw MOUNTPOINT"],
    )
    .heard(&[
        says("cannot create <path>: Read-only file system"),
        says("cannot <_> <path>: Read-only file system").unless(&["cannot create"]),
        says("<path> cannot be written: Read-only file system"),
        says("/var/lib/<_>: read-only file system").unless(&["cannot create", "cannot be written"]),
    ])
    .seen(|facts| storages(facts, |s| s.read_only, |s| format!("{} is mounted read-only", s.fstype))),
    row(
        "state-not-writable",
        "the state directory cannot be written",
        StopsPods,
        "This process may not write into <path>: it belongs to another user, or a security module forbids it. Run as root, or correct the folder's owner.",
        &["ls -ld <path>", "chown root:root <path>"],
    )
    .seen(|facts| {
        let denied = |s: &Storage| s.not_writable.is_some() && !s.read_only && facts.privileges.root != Some(false);
        storages(facts, denied, |s| s.not_writable.clone().unwrap_or_default())
    }),
    row(
        "state-not-private",
        "others can write into the state directory",
        StopsPods,
        "<path> can be written by others than root, who could put files there that Cofferdam trusts, so it is refused. Make it private.",
        &["chown root:root <path>", "chmod 0700 <path>"],
    )
    .heard(&[says("<path> cannot be used: others can write into it"), says("<path> cannot be used: it belongs to another user")])
    .seen(|facts| storages(facts, |s| s.open_to_others, |_| "its mode lets others write".into())),
    row(
        "state-on-overlayfs",
        "the state directory is on overlayfs",
        StopsPods,
        "<path> is itself an overlay, as inside a container, and the kernel takes no overlay as the writable layer of another one. Give --root a folder on a real file system, for example a volume.",
        &["findmnt --target <path>", "cofferdam --root=/mnt/DISK/cofferdam doctor"],
    )
    .heard(&[
        told("not supported as upperdir"),
        says("failed to mount overlay: invalid argument"),
        says("overlay<_>cannot be mounted: Invalid argument"),
    ])
    .seen(|facts| root_on(facts, &["overlay"], StopsPods)),
    row(
        "state-on-network",
        "the state directory is on a network file system",
        StopsPods,
        "<path> is on <fstype>, which the kernel does not take as the writable layer of an overlay, and on which locks and syncs mean little. Give --root a folder on a local disk.",
        &["findmnt --target <path>", "cofferdam --root=/mnt/DISK/cofferdam doctor"],
    )
    .seen(|facts| root_on(facts, &["nfs", "nfs4", "cifs", "smb3", "ceph", "9p", "fuse.sshfs", "fuse.glusterfs", "virtiofs"], StopsPods)),
    row(
        "state-on-tmpfs",
        "the state directory is in memory",
        Note,
        "<path> is on tmpfs: images and writable layers use memory, and records are gone after a restart. That is well for tests; else give --root a folder on a disk.",
        &["findmnt --target <path>"],
    )
    .seen(|facts| root_on(facts, &["tmpfs", "ramfs"], Note)),
    row(
        "state-noexec",
        "the state directory is mounted noexec",
        StopsPods,
        "<path> is on a file system mounted with noexec, so neither the pods' monitor nor any program of an image can be executed from there. Mount it without noexec, or give --root another folder.",
        &["findmnt --target <path>", "mount -o remount,exec MOUNTPOINT"],
    )
    .heard(&[says("<path> cannot be executed: Permission denied"), says("the pod's monitor did not start: monitor <path>: Permission denied"), says("the pod's monitor did not start: <_>Permission denied").unless(&["cannot be executed"])])
    .seen(|facts| {
        let rule = |s: &Storage| s.noexec && s.role == "root";
        storages(facts, rule, |s| format!("{} is mounted noexec", s.fstype))
    }),
    row(
        "record-unreadable",
        "a pod's record cannot be read",
        Degrades,
        "A record was damaged, or written by a newer Cofferdam, so its pod's processes were ended and the record was put aside, not deleted. Look at <path>, and remove it when you no longer need it.",
        &["ls -l <path>", "rm -r <path>"],
    )
    .heard(&[
        says("its record cannot be read; its processes are ended, and the record is kept at <path>"),
        says("record <path> cannot be read"),
        says("record <path> is of version"),
    ])
    .seen(|facts| {
        let case = |p: &std::path::PathBuf| Case::new(p.display().to_string()).with("path", p.display());
        facts.records_aside.iter().map(case).collect()
    }),
    row(
        "engine-unavailable",
        "Cofferdam cannot open its records",
        StopsPods,
        "Every command opens the records of pods first, and that fails for a reason that is none known here. Nothing can be told of pods until it is put right.",
        &["cofferdam config", "ls -ld /var/lib/cofferdam /run/cofferdam"],
    )
    .heard(&[says("the records cannot be opened: ")])
    .generic(),
    row(
        "locked",
        "another process works on it",
        Degrades,
        "<path> is locked by process <pid>, another Cofferdam that is at work on the same pod or folder. Wait until it has ended, or see what it is before you end it.",
        &["ps -fp <pid>"],
    )
    .heard(&[says("<path> is locked by process <pid>")]),
];

/// Below this many bytes a disk counts as full: an image's layer would not fit.
const LITTLE: u64 = 64 << 20;
/// Below this many inodes likewise.
const FEW: u64 = 1000;

fn storages(facts: &Facts, rule: impl Fn(&Storage) -> bool, evidence: impl Fn(&Storage) -> String) -> Vec<Case> {
    let case = |s: &Storage| {
        Case::new(format!("{}: {}", s.looked_at.display(), evidence(s)))
            .with("path", s.path.display())
            .with("fstype", &s.fstype)
            .about(format!("directory {}", s.path.display()))
    };
    facts.storage.iter().filter(|s| rule(s)).map(case).collect()
}

/// Where the folder of images and layers is on one of these file systems.
fn root_on(facts: &Facts, fstypes: &[&str], severity: crate::Severity) -> Vec<Case> {
    let on = storages(
        facts,
        |s| s.role == "root" && fstypes.contains(&s.fstype.as_str()),
        |s| s.fstype.clone(),
    );
    on.into_iter().map(|c| c.severe(severity)).collect()
}
