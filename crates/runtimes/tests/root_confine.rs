//! Specs as `plan` makes them under the real runc and crun: what confines a container confines it, and
//! what it is given is there. Needs root, runc, crun and a static busybox.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use cofferdam_host::cgroup::{Cgroups, Mode};
use cofferdam_host::idmap::{self, Bind};
use cofferdam_host::userns;
use cofferdam_model::cri::Propagation;
use cofferdam_plan::seccomp::{self, Target};
use cofferdam_plan::spec::{self, ContainerSpec, Hook, IdMap, Namespace, Process, SpecDevice, SpecDeviceRule, SpecMount};
use cofferdam_plan::userns::IdRange;
use serde_json::Value;
use std::collections::BTreeSet;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;
use std::process::Command;

const RUNTIMES: [&str; 2] = ["crun", "runc"];

/// A root file system of busybox.
fn rootfs(dir: &Path) {
    for name in ["bin", "proc", "sys", "dev", "tmp", "data"] {
        std::fs::create_dir_all(dir.join(name)).unwrap();
    }
    let busybox = cofferdam_host::machine::find_command("busybox").expect("busybox is installed");
    std::fs::copy(busybox, dir.join("bin/busybox")).unwrap();
    for name in ["sh", "cat", "id", "ls", "mkdir", "mount", "touch", "unshare", "stat", "true"] {
        std::os::unix::fs::symlink("busybox", dir.join("bin").join(name)).unwrap();
    }
}

fn capabilities() -> BTreeSet<String> {
    spec::capabilities(false, &["SYS_ADMIN".into(), "SYSLOG".into()], &[]).unwrap()
}

fn plain(script: &str) -> ContainerSpec {
    ContainerSpec {
        process: Process {
            args: ["sh", "-c", script].map(String::from).to_vec(),
            env: vec![("PATH".into(), "/bin".into())],
            capabilities: capabilities(),
            ..Process::default()
        },
        rootfs: "rootfs".into(),
        network: Namespace::Host,
        cgroup: Namespace::Host,
        ..ContainerSpec::default()
    }
}

struct Ran {
    code: Option<i32>,
    out: String,
    error: String,
}

/// Runs a container to its end, in a mount namespace of its own from which nothing gets out.
fn run(runtime: &str, bundle: &Path, spec: &ContainerSpec) -> Ran {
    if !bundle.join("rootfs").exists() {
        rootfs(&bundle.join("rootfs"));
    }
    let id = format!("cdtest-{}-{runtime}", std::process::id());
    let mut spec = spec.clone();
    spec.cgroups_path = (runtime == "runc").then(|| Path::new("/").join(&id));
    std::fs::write(bundle.join("config.json"), spec::container_json(&spec).to_string()).unwrap();
    let state = bundle.join("state");
    let manager = if runtime == "crun" {
        "--cgroup-manager=disabled"
    } else {
        "--debug=false"
    };
    let hide = hidden().map_or("true".to_owned(), |at| format!("umount -l {}", at.display()));
    let command = |verb: &[&str]| {
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "--propagation",
            "slave",
            "sh",
            "-c",
            &format!("{hide}; exec \"$@\""),
            "sh",
            runtime,
            "--root",
        ]);
        command.arg(&state).arg(manager).args(verb).current_dir(bundle).output().unwrap()
    };
    let output = command(&["run", &id]);
    command(&["delete", "--force", &id]);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran {
        code: output.status.code(),
        out: text(&output.stdout),
        error: text(&output.stderr),
    }
}

/// crun refuses to run where a controller is on v2 and others are not.
fn hidden() -> Option<std::path::PathBuf> {
    let cgroups = Cgroups::detect().unwrap();
    (cgroups.mode() == Mode::Hybrid).then(|| cgroups.unified().unwrap().to_owned())
}

fn each(test: impl Fn(&str, &Path)) {
    for runtime in RUNTIMES {
        let dir = tempfile::Builder::new().prefix("cdt").tempdir().unwrap();
        std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        test(runtime, dir.path());
    }
}

fn default_profile(capabilities: &BTreeSet<String>) -> Value {
    let (uname, kernel) = (rustix::system::uname(), |release: &str| seccomp::kernel_version(release));
    let (machine, release) = (uname.machine().to_string_lossy(), uname.release().to_string_lossy());
    seccomp::runtime_default(&Target {
        architecture: &machine,
        kernel: kernel(&release),
        capabilities,
    })
}

#[test]
fn the_runtimes_own_profile_allows_what_programs_need_and_no_more() {
    let script =
        "mkdir /made && (true) && grep -c . /proc/self/status >/dev/null; grep Seccomp: /proc/self/status; unshare -U true && echo OUT";
    each(|runtime, bundle| {
        let mut asked = plain(&script.replace("grep", "busybox grep"));
        asked.process.capabilities = spec::capabilities(false, &[], &[]).unwrap();
        let open = run(runtime, bundle, &asked);
        assert!(
            open.out.contains("Seccomp:\t0") && open.out.contains("OUT"),
            "{runtime}: {} {}",
            open.out,
            open.error
        );
        std::fs::remove_dir(bundle.join("rootfs/made")).unwrap();
        asked.seccomp = Some(default_profile(&asked.process.capabilities));
        let confined = run(runtime, bundle, &asked);
        assert!(
            confined.out.contains("Seccomp:\t2") && !confined.out.contains("OUT"),
            "{runtime}: {} {}",
            confined.out,
            confined.error
        );
        assert!(confined.error.contains("Operation not permitted"), "{runtime}: {}", confined.error);
        assert!(bundle.join("rootfs/made").exists());
        // Who may administer may make namespaces too.
        asked.process.capabilities = capabilities();
        asked.seccomp = Some(default_profile(&asked.process.capabilities));
        std::fs::remove_dir(bundle.join("rootfs/made")).unwrap();
        assert!(run(runtime, bundle, &asked).out.contains("OUT"), "{runtime}");
    });
}

#[test]
fn a_profile_of_the_administrators_holds_and_names_that_nobody_knows_do_no_harm() {
    let text = r#"{"defaultAction":"SCMP_ACT_ALLOW","archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}],
        "syscalls":[{"names":["mkdir","mkdirat","no_such_call","mseal"],"action":"SCMP_ACT_ERRNO","errnoRet":13},
                    {"names":["chmod"],"action":"SCMP_ACT_ERRNO","includes":{"caps":["CAP_SYS_BOOT"]}}]}"#;
    let capabilities = capabilities();
    let uname = rustix::system::uname();
    let machine = uname.machine().to_string_lossy();
    let profile = seccomp::localhost(
        text.as_bytes(),
        &Target {
            architecture: &machine,
            kernel: (5, 0),
            capabilities: &capabilities,
        },
    )
    .unwrap();
    each(|runtime, bundle| {
        let spec = ContainerSpec {
            seccomp: Some(profile.clone()),
            ..plain("mkdir /made; touch /touched && busybox chmod 600 /touched && echo rest")
        };
        let ran = run(runtime, bundle, &spec);
        assert!(
            ran.error.contains("Permission denied") && ran.out.contains("rest"),
            "{runtime}: {} {}",
            ran.out,
            ran.error
        );
    });
}

#[test]
fn read_only_reaches_beneath_only_where_it_is_asked_for() {
    each(|runtime, bundle| {
        let volume = bundle.join("volume");
        std::fs::create_dir_all(volume.join("sub")).unwrap();
        rustix::mount::mount(
            "x",
            volume.join("sub"),
            "tmpfs",
            rustix::mount::MountFlags::empty(),
            None::<&std::ffi::CStr>,
        )
        .unwrap();
        let of = |recursive| SpecMount::volume(&volume, "/data", true, recursive, Propagation::Private);
        let script = "touch /data/a || echo top; touch /data/sub/a || echo sub";
        let told = [false, true].map(|recursive| {
            run(
                runtime,
                bundle,
                &ContainerSpec {
                    mounts: vec![of(recursive)],
                    ..plain(script)
                },
            )
        });
        rustix::mount::unmount(volume.join("sub"), rustix::mount::UnmountFlags::DETACH).unwrap();
        let told = told.map(|ran| ran.out.replace('\n', " "));
        assert_eq!(told, ["top ", "top sub "], "{runtime}");
    });
}

#[test]
fn a_user_namespace_has_its_own_root_over_mapped_files() {
    let range = IdRange::of(720_896);
    each(|runtime, bundle| {
        let lower = bundle.join("lower");
        rootfs(&lower);
        for name in ["rootfs", "upper", "work", "mapped", "volume", "shown"] {
            std::fs::create_dir(bundle.join(name)).unwrap();
        }
        std::fs::write(bundle.join("volume/file"), "x").unwrap();
        std::os::unix::fs::chown(bundle.join("volume/file"), Some(7), Some(8)).unwrap();
        std::os::unix::fs::chown(bundle.join("upper"), Some(range.first), Some(range.first)).unwrap();
        let users = userns::with_maps(&range.line(), &range.line()).unwrap();
        let mapped = Bind {
            users: Some(users.as_fd()),
            ..Bind::default()
        };
        idmap::bind(&lower, bundle.join("mapped"), &mapped).unwrap();
        idmap::bind(bundle.join("volume"), bundle.join("shown"), &mapped).unwrap();
        let at = |name: &str| bundle.join(name).display().to_string();
        let data = format!("lowerdir={},upperdir={},workdir={}", at("mapped"), at("upper"), at("work"));
        let data = std::ffi::CString::new(data).unwrap();
        rustix::mount::mount(
            "overlay",
            bundle.join("rootfs"),
            "overlay",
            rustix::mount::MountFlags::empty(),
            data.as_c_str(),
        )
        .unwrap();
        let spec = ContainerSpec {
            user_namespace: Some(format!("/proc/{}/fd/{}", std::process::id(), users.as_raw_fd()).into()),
            id_map: Some(IdMap {
                host: range.first,
                size: 65_536,
            }),
            mounts: vec![SpecMount::bind(bundle.join("shown"), "/data", false)],
            network: Namespace::New,
            ..plain("id -u; busybox cat /proc/self/uid_map; stat -c %u:%g /data/file; touch /new /data/new; stat -c %u /bin/busybox")
        };
        let ran = run(runtime, bundle, &spec);
        let words: Vec<_> = ran.out.split_ascii_whitespace().collect();
        for at in ["rootfs", "shown", "mapped"] {
            rustix::mount::unmount(bundle.join(at), rustix::mount::UnmountFlags::DETACH).unwrap();
        }
        assert_eq!(words, ["0", "0", "720896", "65536", "7:8", "0"], "{runtime}: {}", ran.error);
        let owner = |path: &str| std::os::unix::fs::MetadataExt::uid(&bundle.join(path).metadata().unwrap());
        assert_eq!((owner("upper/new"), owner("volume/new")), (720_896, 0), "{runtime}");
    });
}

#[test]
fn what_is_mounted_in_a_volume_shows_in_a_user_namespace_too() {
    let range = IdRange::of(720_896);
    each(|runtime, bundle| {
        let users = userns::with_maps(&range.line(), &range.line()).unwrap();
        std::fs::create_dir_all(bundle.join("volume/sub")).unwrap();
        rustix::mount::mount(
            "x",
            bundle.join("volume/sub"),
            "tmpfs",
            rustix::mount::MountFlags::empty(),
            None::<&std::ffi::CStr>,
        )
        .unwrap();
        std::fs::write(bundle.join("volume/sub/inside"), "x").unwrap();
        // As the driver of crun names it: an absolute one shows nothing beneath (crun before 1.9).
        let source = if runtime == "crun" {
            "volume".into()
        } else {
            bundle.join("volume")
        };
        let of = |readonly| SpecMount::volume(&source, "/data", readonly, true, Propagation::Private);
        let spec = |readonly| ContainerSpec {
            user_namespace: Some(format!("/proc/{}/fd/{}", std::process::id(), users.as_raw_fd()).into()),
            id_map: Some(range.map()),
            mounts: vec![of(readonly)],
            network: Namespace::New,
            ..plain("ls /data/sub; touch /data/sub/new && echo wrote")
        };
        let told = [false, true].map(|readonly| run(runtime, bundle, &spec(readonly)));
        rustix::mount::unmount(bundle.join("volume/sub"), rustix::mount::UnmountFlags::DETACH).unwrap();
        let told = told.map(|ran| ran.out.split_ascii_whitespace().collect::<Vec<_>>().join(" ") + &ran.error);
        assert!(told[0].contains("inside wrote"), "{runtime}: {told:?}");
        assert!(
            told[1].contains("inside") && told[1].contains("Read-only file system"),
            "{runtime}: {told:?}"
        );
    });
}

#[test]
fn devices_and_hooks_are_given() {
    each(|runtime, bundle| {
        let mark = bundle.join("hooked");
        let hook = |moment: &str, text: &str| Hook {
            moment: moment.into(),
            path: "/bin/sh".into(),
            args: ["sh", "-c", &format!("cat >/dev/null; echo {text} >> {}", mark.display())]
                .map(String::from)
                .to_vec(),
            timeout: Some(10),
            ..Hook::default()
        };
        // 1:11 is /dev/kmsg: no container has it by default.
        let kmsg = SpecDevice {
            path: "/dev/log-of-kernel".into(),
            kind: 'c',
            major: 1,
            minor: 11,
            mode: 0o600,
            uid: 0,
            gid: 0,
        };
        let spec = ContainerSpec {
            devices: vec![kmsg],
            device_rules: vec![SpecDeviceRule {
                kind: 'c',
                major: 1,
                minor: 11,
                access: "r".into(),
            }],
            hooks: vec![hook("createRuntime", "made"), hook("poststop", "gone")],
            ..plain("stat -c %t:%T /dev/log-of-kernel; busybox dd if=/dev/log-of-kernel of=/dev/null count=0 2>/dev/null && echo opened")
        };
        let ran = run(runtime, bundle, &spec);
        assert_eq!(
            ran.out.split_ascii_whitespace().collect::<Vec<_>>(),
            ["1:b", "opened"],
            "{runtime}: {}",
            ran.error
        );
        assert_eq!(std::fs::read_to_string(&mark).unwrap(), "made\ngone\n", "{runtime}");
        assert_eq!(ran.code, Some(0));
    });
}

#[test]
fn proc_is_unmasked_only_where_it_is_asked_for() {
    each(|runtime, bundle| {
        let script =
            "busybox wc -c < /proc/timer_list; touch /proc/sys/kernel/hostname 2>/dev/null; busybox grep -c ' /proc/' /proc/mounts";
        let counted = |unmasked_proc| {
            let ran = run(
                runtime,
                bundle,
                &ContainerSpec {
                    unmasked_proc,
                    ..plain(script)
                },
            );
            ran.out.split_ascii_whitespace().last().unwrap_or_default().parse::<u32>().unwrap()
        };
        assert!(counted(false) >= 5, "{runtime}");
        assert_eq!(counted(true), 0, "{runtime}");
    });
}
