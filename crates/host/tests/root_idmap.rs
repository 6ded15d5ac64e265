//! Clones of mounts and user namespaces, in mount namespaces of the tests' own. Needs root and Linux 5.12.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use cofferdam_host::idmap::{self, Bind};
use cofferdam_host::{mountinfo, userns};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Runs `work` on a thread with a mount namespace of its own, from which nothing gets out.
fn apart(work: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let run = scope.spawn(|| {
            // SAFETY does not arise: rustix's unshare is safe for a thread's own file system view.
            let flags = rustix::thread::UnshareFlags::NEWNS | rustix::thread::UnshareFlags::FS;
            #[allow(deprecated)]
            rustix::thread::unshare(flags).unwrap();
            use rustix::mount::MountPropagationFlags as Flags;
            rustix::mount::mount_change("/", Flags::DOWNSTREAM | Flags::REC).unwrap();
            work();
        });
        run.join().unwrap();
    });
}

fn owner(path: &Path) -> (u32, u32) {
    let meta = path.metadata().unwrap();
    (meta.uid(), meta.gid())
}

#[test]
fn ids_of_a_clone_are_those_of_its_namespace() {
    let dir = tempfile::tempdir().unwrap();
    let (source, target) = (dir.path().join("source"), dir.path().join("target"));
    for at in [&source, &target] {
        std::fs::create_dir(at).unwrap();
    }
    std::fs::write(source.join("file"), "x").unwrap();
    std::os::unix::fs::chown(source.join("file"), Some(7), Some(8)).unwrap();
    apart(|| {
        let users = userns::with_maps("0 131072 65536", "0 196608 65536").unwrap();
        idmap::bind(
            &source,
            &target,
            &Bind {
                users: Some(users.as_fd()),
                ..Bind::default()
            },
        )
        .unwrap();
        assert_eq!(owner(&target.join("file")), (131_079, 196_616));
        assert_eq!(owner(&source.join("file")), (7, 8));
        assert!(
            std::fs::write(target.join("new"), "x").is_err(),
            "the machine's root has no id in there"
        );
    });
    assert!(!target.join("file").exists(), "nothing is mounted outside");
    assert!(userns::with_maps("nonsense", "0 0 1").is_err());
}

#[test]
fn readonly_reaches_what_is_mounted_beneath() {
    let dir = tempfile::tempdir().unwrap();
    let (source, target) = (dir.path().join("source"), dir.path().join("target"));
    std::fs::create_dir_all(source.join("sub")).unwrap();
    std::fs::create_dir(&target).unwrap();
    apart(|| {
        rustix::mount::mount(
            "x",
            source.join("sub"),
            "tmpfs",
            rustix::mount::MountFlags::empty(),
            None::<&std::ffi::CStr>,
        )
        .unwrap();
        let all = Bind {
            recursive: true,
            readonly: true,
            ..Bind::default()
        };
        idmap::bind(&source, &target, &all).unwrap();
        for at in [target.join("new"), target.join("sub/new")] {
            let error = std::fs::write(&at, "x").unwrap_err();
            assert_eq!(error.kind(), std::io::ErrorKind::ReadOnlyFilesystem, "{}", at.display());
        }
        std::fs::write(source.join("sub/new"), "x").unwrap();
        assert!(target.join("sub/new").exists());
    });
}

#[test]
fn a_clone_propagates_as_it_is_told() {
    const MS_SHARED: u64 = 1 << 20;
    const MS_PRIVATE: u64 = 1 << 18;
    let dir = tempfile::tempdir().unwrap();
    let (source, shared, private) = (dir.path().join("source"), dir.path().join("shared"), dir.path().join("private"));
    for at in [&source, &shared, &private] {
        std::fs::create_dir(at).unwrap();
    }
    apart(|| {
        idmap::bind(
            &source,
            &shared,
            &Bind {
                propagation: MS_SHARED,
                ..Bind::default()
            },
        )
        .unwrap();
        idmap::bind(
            &shared,
            &private,
            &Bind {
                propagation: MS_PRIVATE,
                ..Bind::default()
            },
        )
        .unwrap();
        assert!(mountinfo::mount_of(&shared).unwrap().shared);
        assert!(!mountinfo_of(&private).shared);
    });
    let error = idmap::bind(dir.path().join("none"), &shared, &Bind::default()).unwrap_err();
    assert!(error.is_absent() && error.to_string().contains("none"), "{error}");
}

/// As this thread sees it.
fn mountinfo_of(at: &Path) -> mountinfo::Mount {
    let text = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
    mountinfo::parse(&text).into_iter().rfind(|m| m.point == at).unwrap()
}
