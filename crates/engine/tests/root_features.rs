//! What a container asks for is what it gets: confinement, mounts, devices, groups. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use cofferdam_model::cri::{Device, Mount, Profile, Propagation};
use common::{SHARED, World, build, until, volume};
use std::process::Command;

#[test]
fn seccomp_profiles_are_enforced() {
    let world = World::new();
    let profile = world.path("profile.json");
    std::fs::write(&profile, r#"{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":38}]}"#).unwrap();
    for handler in SHARED {
        let pod = world.pod(handler);
        let mode = |profile: Profile| world.good(&pod, "grep Seccomp: /proc/self/status", |c| c.security.seccomp = profile);
        assert!(mode(Profile::Unconfined).trim().ends_with('0'));
        assert!(mode(Profile::RuntimeDefault).trim().ends_with('2'), "{handler}");
        let localhost = Profile::Localhost(profile.to_str().unwrap().into());
        let (code, out) = world.run(&pod, "mkdir /tmp/x", |c| c.security.seccomp = localhost.clone());
        assert!(code != 0 && out.contains("Function not implemented"), "{handler}: {code} {out}");
        let privileged = world.good(&pod, "mkdir /tmp/x && grep Seccomp: /proc/self/status", |c| {
            (c.security.privileged, c.security.seccomp) = (true, localhost.clone());
        });
        assert!(privileged.trim().ends_with('0'), "a privileged container has no filter");
        let pipe = world.path(&format!("pipe-{handler}"));
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        for (path, told) in [("/no/such", "/no/such"), ("/etc/passwd", "seccomp profile /etc/passwd"), (pipe.to_str().unwrap(), "is not a file")] {
            let why = world.create(&pod, "true", |c| c.security.seccomp = Profile::Localhost(path.into())).unwrap_err().to_string();
            assert!(why.contains(told), "{why}");
        }
    }
}

#[test]
fn what_the_kernel_lacks_is_refused() {
    let world = World::new();
    let pod = world.pod("crun");
    if !std::path::Path::new("/sys/module/apparmor/parameters/enabled").exists() {
        let why = world.create(&pod, "true", |c| c.security.apparmor = Some(Profile::RuntimeDefault)).unwrap_err().to_string();
        assert!(why.contains("AppArmor is not enabled"), "{why}");
    }
    if !std::path::Path::new("/sys/fs/selinux/enforce").exists() {
        let options = cofferdam_model::pod::SeLinuxOptions { level: Some("s0".into()), ..Default::default() };
        let why = world.create(&pod, "true", |c| c.security.selinux = Some(options)).unwrap_err().to_string();
        assert!(why.contains("SELinux is not enabled"), "{why}");
    }
}

#[test]
fn proc_is_unmasked_and_groups_are_strict_where_asked() {
    let world = World::new();
    for handler in SHARED {
        let pod = world.pod(handler);
        let count = "grep -c ' /proc/' /proc/self/mounts; true";
        assert_ne!(world.good(&pod, count, |_| {}).trim(), "0");
        assert_eq!(world.good(&pod, count, |c| c.security.unmasked_proc = true).trim(), "0", "{handler}");
        let groups = |strict| {
            world.good(&pod, "id -G", |c| {
                (c.security.run_as_user, c.security.supplemental_groups, c.security.strict_groups) = (Some(1000), vec![77], strict);
            })
        };
        assert_eq!((groups(false).trim(), groups(true).trim()), ("1000 50 77", "1000 77"), "{handler}");
    }
}

#[test]
fn a_sub_path_stays_in_its_volume() {
    let world = World::new();
    let vol = world.path("vol");
    std::fs::create_dir_all(vol.join("a/b")).unwrap();
    std::fs::write(vol.join("a/b/file"), "within\n").unwrap();
    std::os::unix::fs::symlink("a/b", vol.join("link")).unwrap();
    std::os::unix::fs::symlink("/etc", vol.join("out")).unwrap();
    let sub = |path: &str| Mount { sub_path: path.into(), ..volume(&vol, "/v") };
    for handler in SHARED {
        let pod = world.pod(handler);
        assert_eq!(world.good(&pod, "cat /v/file", |c| c.mounts = vec![sub("link")]), "within\n");
        assert_eq!(world.good(&pod, "cat /v", |c| c.mounts = vec![sub("a/b/file")]), "within\n", "a file");
        world.good(&pod, "touch /v/made", |c| c.mounts = vec![sub("new/dir")]);
        assert!(vol.join("new/dir/made").exists());
        std::fs::remove_dir_all(vol.join("new")).unwrap();
        for path in ["out", "out/passwd"] {
            let why = world.create(&pod, "true", |c| c.mounts = vec![sub(path)]).unwrap_err().to_string();
            assert!(why.contains("leads out of"), "{handler}: {why}");
        }
        let why = world.create(&pod, "true", |c| c.mounts = vec![sub("../vol")]).unwrap_err().to_string();
        assert!(why.contains("must be relative"), "{why}");
        // A memory volume's, which only the pod sees.
        let memory = |path: &str| Mount { tmpfs: Some(1 << 20), sub_path: path.into(), ..volume("/memory", "/m") };
        world.good(&pod, "echo there > /m/file", |c| c.mounts = vec![memory("x/y")]);
        assert_eq!(world.good(&pod, "cat /m/x/y/file; df -k /m | tail -1 | awk '{print $2}'", |c| c.mounts = vec![memory("")]), "there\n1024\n");
    }
}

#[test]
fn images_are_mounted_read_only() {
    let world = World::new();
    build(&world.engine, "test/data:1", &[("/data/deep/file", "of an image\n")]);
    let of = |sub: &str| Mount { image: Some("test/data:1".into()), image_sub_path: sub.into(), ..volume("", "/i") };
    for handler in SHARED {
        let pod = world.pod(handler);
        assert_eq!(world.good(&pod, "cat /i/data/deep/file", |c| c.mounts = vec![of("")]), "of an image\n");
        assert_eq!(world.good(&pod, "cat /i/file", |c| c.mounts = vec![of("data/deep")]), "of an image\n");
        let (code, out) = world.run(&pod, "touch /i/x", |c| c.mounts = vec![of("")]);
        assert!(code != 0 && out.contains("Read-only"), "{out}");
        let why = world.create(&pod, "true", |c| c.mounts = vec![of("none")]).unwrap_err().to_string();
        assert!(why.contains("has no such path"), "{why}");
        let missing = Mount { image: Some("test/none:1".into()), ..volume("", "/i") };
        assert!(world.create(&pod, "true", |c| c.mounts = vec![missing]).is_err());
        let held = world.engine.remove_image("test/data:1").unwrap_err().to_string();
        assert!(held.contains("container \"c"), "{held}");
        world.engine.remove_sandbox(&pod).unwrap();
    }
    world.engine.remove_image("test/data:1").unwrap();
}

#[test]
fn mounts_propagate_as_asked_and_are_read_only_all_the_way() {
    let world = World::new();
    let at = world.path("shared");
    std::fs::create_dir(&at).unwrap();
    let call = |command: &str, args: &[&str]| assert!(Command::new(command).args(args).status().unwrap().success());
    let path = at.to_str().unwrap();
    call("mount", &["-t", "tmpfs", "none", path]);
    call("mount", &["--make-shared", path]);
    for dir in ["machine", "container", "below"] {
        std::fs::create_dir(at.join(dir)).unwrap();
    }
    call("mount", &["-t", "tmpfs", "none", at.join("below").to_str().unwrap()]);
    let with = |propagation| Mount { propagation, ..volume(&at, "/v") };
    for handler in SHARED {
        let pod = world.pod(handler);
        let wait = "for i in $(seq 500); do [ -e /v/machine/there ] && echo seen && exit; sleep 0.01; done; echo unseen";
        let slave = world.start(&pod, wait, |c| c.mounts = vec![with(Propagation::HostToContainer)]);
        let mounts = "mount -t tmpfs none /v/container && touch /v/container/there && while [ ! -e /v/go ]; do sleep 0.01; done; umount /v/container";
        let peer = world.start(&pod, mounts, |c| {
            (c.mounts, c.security.privileged) = (vec![with(Propagation::Bidirectional)], true);
        });
        until("the container's mount is the machine's", || at.join("container/there").exists().then_some(()));
        let private = world.start(&pod, &wait.replace("500", "50"), |c| c.mounts = vec![volume(&at, "/v")]);
        call("mount", &["-t", "tmpfs", "none", at.join("machine").to_str().unwrap()]);
        std::fs::write(at.join("machine/there"), "").unwrap();
        assert_eq!(world.log(&world.ended(&slave)), "seen\n", "{handler}");
        assert_eq!(world.log(&world.ended(&private)), "unseen\n", "{handler}");
        std::fs::write(at.join("go"), "").unwrap();
        assert_eq!(world.ended(&peer).exit_code, 0);
        assert!(!at.join("container/there").exists());
        std::fs::remove_file(at.join("go")).unwrap();
        call("umount", &[at.join("machine").to_str().unwrap()]);

        let mount = |readonly, recursive_read_only| Mount { readonly, recursive_read_only, ..volume(&at, "/v") };
        let below = |mount: Mount| world.run(&pod, "touch /v/below/x", |c| c.mounts = vec![mount]).0 == 0;
        assert!(below(mount(true, false)), "plain read-only leaves what is mounted below");
        assert!(!below(mount(true, true)), "{handler}");
    }
    call("umount", &["-R", path]);
}

#[test]
fn devices_are_given_by_name_and_no_others() {
    let world = World::new();
    for handler in SHARED {
        let pod = world.pod(handler);
        let device = |permissions: &str| Device { host_path: "/dev/loop-control".into(), container_path: "/dev/mine".into(), permissions: permissions.into() };
        let look = "stat -c '%t:%T' /dev/mine; (true < /dev/mine) && echo read; (true > /dev/mine) && echo written; true";
        let seen = |permissions: &str| world.good(&pod, &format!("({look}) 2>/dev/null"), |c| c.devices = vec![device(permissions)]);
        assert_eq!(seen("rwm"), "a:ed\nread\nwritten\n", "{handler}");
        assert_eq!(seen("r"), "a:ed\nread\n", "{handler}: only what is permitted");
        let kmsg = Device { host_path: "/dev/kmsg".into(), container_path: "/dev/kmsg".into(), permissions: "r".into() };
        for (device, told) in [
            (Device { host_path: "/etc/passwd".into(), ..kmsg.clone() }, "not a device"),
            (Device { host_path: "/no/such".into(), ..kmsg.clone() }, "/no/such"),
            (Device { permissions: "rx".into(), ..kmsg.clone() }, "must be of r, w and m"),
            (Device { container_path: "/dev/../etc".into(), ..kmsg.clone() }, "must be absolute"),
        ] {
            let why = world.create(&pod, "true", |c| c.devices = vec![device]).unwrap_err().to_string();
            assert!(why.contains(told), "{why}");
        }
        let why = world.create(&pod, "true", |c| c.cdi_devices = vec!["vendor.example/none=a".into()]).unwrap_err().to_string();
        assert!(why.contains("vendor.example/none=a"), "{why}");
    }
}

#[test]
fn devices_come_by_their_cdi_names() {
    let mut world = World::new();
    let (dir, data) = (world.path("cdi"), world.path("data"));
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(data.join("lib"), "of the device\n").unwrap();
    let text = format!(
        r#"{{"cdiVersion":"0.6.0","kind":"vendor.example/dev","devices":[{{"name":"a","containerEdits":{{"env":["DEVICE=a"],
        "deviceNodes":[{{"path":"/dev/loop-control","permissions":"r"}}],"mounts":[{{"hostPath":"{}","containerPath":"/given","options":["ro","bind"]}}]}}}}]}}"#,
        data.display()
    );
    std::fs::write(dir.join("vendor.json"), text).unwrap();
    world.engine = world.reopen(|options| options.cdi_dirs = vec![dir.clone()]).0;
    for (handler, users) in SHARED.into_iter().flat_map(|h| [(h, false), (h, true)]) {
        let pod = world.pod_with(handler, |c| c.user_namespace = users);
        let script = "cat /given/lib; echo $DEVICE; (true < /dev/loop-control) && echo read; (true > /dev/loop-control) 2>/dev/null && echo written; true";
        let out = world.good(&pod, &format!("({script}) 2>&1"), |c| c.cdi_devices = vec!["vendor.example/dev=a".into()]);
        // In a user namespace the file is the machine's own, which only its root may open.
        let wanted = if users { "of the device\na\n" } else { "of the device\na\nread\n" };
        assert!(out.starts_with(wanted) && !out.contains("written"), "{handler} {users}: {out}");
        world.engine.remove_sandbox(&pod).unwrap();
    }
}

#[test]
fn a_container_may_see_the_processes_of_another() {
    let world = World::new();
    for handler in SHARED {
        let pod = world.pod(handler);
        let target = world.start(&pod, "exec sleep 4321", |_| {});
        assert!(!world.good(&pod, "ps", |_| {}).contains("sleep 4321"));
        assert!(world.good(&pod, "ps", |c| c.pid_of = Some(target.clone())).contains("sleep 4321"), "{handler}");
        world.engine.stop_container(&target, std::time::Duration::ZERO).unwrap();
        let why = world.create(&pod, "ps", |c| c.pid_of = Some(target.clone())).unwrap_err().to_string();
        assert!(why.contains("which is not running"), "{why}");
    }
}

/// The containers of a pod share the files, and none can fill the machine with them.
#[test]
fn files_of_etc_are_shared_and_bounded() {
    let world = World::new();
    for handler in ["crun", "runc", "runsc"] {
        let pod = world.pod_with(handler, |pod| pod.hostname = "shared".into());
        let first = world.start(&pod, "echo 10.0.0.9 added >> /etc/hosts; sleep 1000", |_| {});
        until("the line is there", || (world.exec(&first, "grep -c added /etc/hosts").0 == 0).then_some(()));
        assert_eq!(world.good(&pod, "cat /etc/hostname; grep added /etc/hosts", |_| {}), "shared\n10.0.0.9 added\n", "{handler}");
        let (code, told) = world.run(&pod, "dd if=/dev/zero of=/etc/hosts bs=65536 count=64 2>&1", |_| {});
        assert!(code != 0 && told.contains("No space left"), "{handler}: {code} {told}");
        assert_eq!(world.good(&pod, "cat /etc/hostname", |_| {}), "shared\n", "{handler}");
        world.engine.remove_sandbox(&pod).unwrap();
    }
}
