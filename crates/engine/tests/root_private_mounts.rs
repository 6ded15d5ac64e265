//! On a machine that does not share its mounts (one without systemd, or a container), what is mounted after a
//! pod was made is seen in its volumes all the same. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use cofferdam_model::cri::{Mount, Propagation};
use common::{SHARED, World, until, volume};
use std::process::Command;

/// The machine of the test below is a mount namespace that shares nothing: a process of its own.
#[test]
fn later_mounts_are_seen_where_the_machine_shares_none() {
    let itself = std::env::current_exe().unwrap();
    let ran = Command::new("unshare")
        .args(["--mount", "--propagation", "private"])
        .arg(itself)
        .args(["--ignored", "--exact", "in_a_namespace_that_shares_nothing"])
        .status()
        .unwrap();
    assert!(ran.success());
}

/// The machine's root is shared, and a mount below it is not.
#[test]
fn later_mounts_are_seen_below_a_mount_that_is_not_shared() {
    let itself = std::env::current_exe().unwrap();
    let ran = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", "mount --make-rshared / && exec \"$0\" \"$@\""])
        .arg(itself)
        .args(["--ignored", "--exact", "in_a_namespace_with_one_private_mount"])
        .status()
        .unwrap();
    assert!(ran.success());
}

#[test]
#[ignore = "run by the test above, in a mount namespace of its own"]
fn in_a_namespace_with_one_private_mount() {
    let world = World::new();
    let call = |command: &str, args: &[&str]| assert!(Command::new(command).args(args).status().unwrap().success());
    let at = world.path("apart");
    std::fs::create_dir(&at).unwrap();
    call("mount", &["-t", "tmpfs", "none", at.to_str().unwrap()]);
    call("mount", &["--make-private", at.to_str().unwrap()]);
    for handler in SHARED {
        let late = at.join(handler);
        std::fs::create_dir(&late).unwrap();
        let pod = world.pod(handler);
        call("mount", &["-t", "tmpfs", "none", late.to_str().unwrap()]);
        std::fs::write(late.join("file"), "there\n").unwrap();
        let seen = world.good(&pod, "cat /v/file", |c| c.mounts = vec![volume(&late, "/v")]);
        assert_eq!(seen, "there\n", "{handler}");
        world.engine.remove_sandbox(&pod).unwrap();
        call("umount", &[late.to_str().unwrap()]);
    }
    call("umount", &[at.to_str().unwrap()]);
}

#[test]
#[ignore = "run by the test above, in a mount namespace of its own"]
fn in_a_namespace_that_shares_nothing() {
    let world = World::new();
    let call = |command: &str, args: &[&str]| assert!(Command::new(command).args(args).status().unwrap().success());
    for handler in SHARED {
        let pod = world.pod(handler);
        // As a kubelet does for a subPath or a late volume: after the pod, before its container.
        let at = world.path(handler);
        let path = at.to_str().unwrap();
        std::fs::create_dir(&at).unwrap();
        call("mount", &["-t", "tmpfs", "none", path]);
        call("mount", &["--make-shared", path]);
        for dir in ["below", "later", "sub"] {
            std::fs::create_dir(at.join(dir)).unwrap();
        }
        std::fs::write(at.join("sub/file"), "there\n").unwrap();
        call("mount", &["-t", "tmpfs", "none", at.join("below").to_str().unwrap()]);
        let with = |readonly, propagation| Mount {
            readonly,
            propagation,
            ..volume(&at, "/v")
        };
        let touch = |readonly, file: &str| {
            world
                .run(&pod, &format!("touch {file}"), |c| {
                    c.mounts = vec![with(readonly, Propagation::Private)]
                })
                .0
        };
        assert_eq!(
            touch(true, "/v/below/x"),
            0,
            "{handler}: plain read-only leaves what is mounted below"
        );
        assert_ne!(touch(true, "/v/x"), 0, "{handler}");
        let sub = Mount {
            sub_path: "sub".into(),
            ..volume(&at, "/v")
        };
        assert_eq!(world.good(&pod, "cat /v/file", |c| c.mounts = vec![sub]), "there\n", "{handler}");

        let wait = "for i in $(seq 500); do [ -e /v/later/there ] && echo seen && exit; sleep 0.01; done; echo unseen";
        let slave = world.start(&pod, wait, |c| c.mounts = vec![with(false, Propagation::HostToContainer)]);
        let private = world.start(&pod, &wait.replace("500", "50"), |c| {
            c.mounts = vec![with(false, Propagation::Private)]
        });
        let own = "mkdir /v/own && mount -t tmpfs none /v/own && touch /v/own/x";
        let mounts = world.start(&pod, own, |c| {
            (c.mounts, c.security.privileged) = (vec![with(false, Propagation::HostToContainer)], true)
        });
        call("mount", &["-t", "tmpfs", "none", at.join("later").to_str().unwrap()]);
        std::fs::write(at.join("later/there"), "").unwrap();
        assert_eq!(world.log(&world.ended(&slave)), "seen\n", "{handler}");
        assert_eq!(world.log(&world.ended(&private)), "unseen\n", "{handler}");
        assert_eq!(world.ended(&mounts).exit_code, 0);
        until("the container's directory is there", || at.join("own").is_dir().then_some(()));
        assert!(!at.join("own/x").exists(), "{handler}: nothing comes back to the machine");
        world.engine.remove_sandbox(&pod).unwrap();
        call("umount", &["-R", path]);
    }
}
