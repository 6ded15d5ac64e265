//! `cofferdam install` and `uninstall` in a folder that stands for `/`: exact files, and everything put back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::Value;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

const CONFIG: &str = "/etc/cofferdam/config.toml";
const CRICTL: &str = "/etc/crictl.yaml";
const UNIT: &str = "/etc/systemd/system/cofferdam.service";
const FLAGS: &str = "/var/lib/kubelet/kubeadm-flags.env";
const KUBELET: &str = "/var/lib/kubelet/config.yaml";
const WANTED: &str = "/etc/systemd/system/multi-user.target.wants/cofferdam.service";

/// containerd's, as the guides have it.
const CONTAINERD: &str = include_str!("documents/024-containerd.toml");
const CRIO: &str = include_str!("documents/027-crio.toml");

/// A machine's files.
struct Machine(tempfile::TempDir);

#[derive(Debug)]
struct Answer {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Answer {
    #[track_caller]
    fn good(self) -> Self {
        assert_eq!(self.code, Some(0), "{self:#?}");
        self
    }

    #[track_caller]
    fn fails(self, saying: &str) {
        assert_eq!(self.code, Some(120), "{self:#?}");
        assert!(self.err.contains(saying), "looked for {saying:?} in: {}", self.err);
    }

    #[track_caller]
    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:#?}"))
    }
}

impl Machine {
    fn new(files: &[(&str, &str)]) -> Self {
        let machine = Self(tempfile::tempdir().unwrap());
        fs::create_dir(machine.at("/etc")).unwrap();
        for (path, text) in files {
            machine.write(path, text);
        }
        machine
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.path().join(path.trim_start_matches('/'))
    }

    fn write(&self, path: &str, text: &str) {
        fs::create_dir_all(self.at(path).parent().unwrap()).unwrap();
        fs::write(self.at(path), text).unwrap();
    }

    #[track_caller]
    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.at(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
    }

    fn call(&self, args: &[&str]) -> Answer {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cofferdam"));
        command.args(args).arg("--root-dir").arg(self.0.path());
        let output = command.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Answer {
            code: output.status.code(),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }

    /// Every file, link and folder, with mode and content.
    fn tree(&self) -> BTreeMap<PathBuf, (u32, String)> {
        let mut all = BTreeMap::new();
        let mut folders = vec![self.0.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()) {
                let meta = fs::symlink_metadata(&entry).unwrap();
                let content = match meta.file_type() {
                    t if t.is_symlink() => fs::read_link(&entry).unwrap().display().to_string(),
                    t if t.is_dir() => {
                        folders.push(entry.clone());
                        String::new()
                    }
                    // It has the number of the process that held it.
                    _ if entry.ends_with("install/lock") => String::new(),
                    _ => fs::read_to_string(&entry).unwrap(),
                };
                all.insert(
                    entry.strip_prefix(self.0.path()).unwrap().to_owned(),
                    (meta.permissions().mode(), content),
                );
            }
        }
        all
    }

    /// What becomes of each file.
    fn actions(answer: &Answer) -> BTreeMap<String, String> {
        let text = |v: &Value| v.as_str().unwrap().to_owned();
        let json = answer.json();
        json["files"]
            .as_array()
            .unwrap()
            .iter()
            .map(|f| (text(&f["path"]), text(&f["action"])))
            .collect()
    }
}

fn kubeadm() -> Machine {
    Machine::new(&[
        ("/etc/containerd/config.toml", CONTAINERD),
        (CRICTL, "runtime-endpoint: unix:///run/containerd/containerd.sock\n"),
        (
            FLAGS,
            "KUBELET_KUBEADM_ARGS=\"--container-runtime-endpoint=unix:///var/run/containerd/containerd.sock --v=2\"\n",
        ),
        (KUBELET, "kind: KubeletConfiguration\ncgroupDriver: systemd\n"),
    ])
}

#[test]
fn a_node_of_containerds_is_taken_over_and_put_back_exactly() {
    let machine = kubeadm();
    fs::set_permissions(machine.at(FLAGS), fs::Permissions::from_mode(0o640)).unwrap();
    let before = machine.tree();
    let answer = machine.call(&["install", "--kubelet", "-o", "json"]).good();
    let json = answer.json();
    assert_eq!(json["from"], "containerd");
    let names: Vec<&str> = json["handlers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|h| h["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["kata-fc", "kata-qemu", "runc", "runsc"]);
    let handler = |name: &str| {
        json["handlers"]
            .as_array()
            .unwrap()
            .iter()
            .find(|h| h["name"] == name)
            .unwrap()
            .clone()
    };
    assert_eq!(handler("runc")["default"], true);
    assert_eq!(
        handler("runsc")["origin"],
        "/etc/containerd/config.toml:12",
        "paths are the machine's, not the folder's"
    );
    assert!(handler("kata-qemu")["unusable"].as_str().unwrap().contains("kata-qemu"));
    assert_eq!(handler("runsc")["unusable"], Value::Null);

    let config = machine.read(CONFIG);
    for line in [
        "version = 1",
        "import = [\"/etc/containerd/config.toml\"]",
        "mode = \"cni\"",
        "cgroup_driver = \"systemd\"",
    ] {
        assert!(config.lines().any(|l| l == line), "{line} is not in:\n{config}");
    }
    let endpoint = "unix:///run/cofferdam/cri.sock";
    assert_eq!(
        machine.read(CRICTL),
        format!("runtime-endpoint: {endpoint}\nimage-endpoint: {endpoint}\ntimeout: 10\n")
    );
    assert_eq!(
        machine.read(FLAGS),
        format!("KUBELET_KUBEADM_ARGS=\"--container-runtime-endpoint={endpoint} --v=2\"\n")
    );
    assert_eq!(fs::metadata(machine.at(FLAGS)).unwrap().permissions().mode() & 0o777, 0o640);
    assert_eq!(
        machine.read(KUBELET),
        "kind: KubeletConfiguration\ncgroupDriver: systemd\n",
        "the flag wins, and is there"
    );

    machine.call(&["uninstall"]).good();
    assert_eq!(machine.tree(), before);
    let again = machine.call(&["uninstall"]).good();
    assert!(again.out.contains("Nothing is installed here."), "{again:?}");
    assert_eq!(machine.tree(), before);
}

#[test]
fn the_unit_keeps_pods_alive_and_names_this_binary() {
    let machine = Machine::new(&[]);
    machine.call(&["--root", "/srv/c", "install"]).good();
    let unit = machine.read(UNIT);
    let start = format!(
        "ExecStart={} cri --root /srv/c",
        Path::new(env!("CARGO_BIN_EXE_cofferdam")).display()
    );
    for line in [
        start.as_str(),
        "Type=notify",
        "KillMode=process",
        "Delegate=yes",
        "Restart=always",
        "StartLimitIntervalSec=0",
        "OOMScoreAdjust=-999",
        "TasksMax=infinity",
        "LimitNOFILE=1048576",
        "Environment=HOME=/root",
        "ExecReload=/bin/kill -HUP $MAINPID",
        "WantedBy=multi-user.target",
    ] {
        assert!(unit.lines().any(|l| l == line), "{line} is not in:\n{unit}");
    }
    let odd = Machine::new(&[]);
    odd.call(&["--root", "/srv/a b", "install"]).fails("a unit cannot name this path");
    assert!(!odd.at("/var").exists(), "nothing is made");
}

#[test]
fn a_second_install_changes_nothing() {
    let machine = kubeadm();
    machine.call(&["install", "--kubelet"]).good();
    let once = machine.tree();
    let answer = machine.call(&["install", "--kubelet", "-o", "json"]).good();
    assert!(Machine::actions(&answer).values().all(|a| a == "same"), "{answer:?}");
    assert_eq!(machine.tree(), once);
}

#[test]
fn a_dry_run_tells_all_and_writes_nothing() {
    let machine = kubeadm();
    let before = machine.tree();
    let answer = machine.call(&["install", "--dry-run", "--kubelet", "-o", "json"]).good();
    let want = [(CONFIG, "new"), (CRICTL, "replace"), (UNIT, "new"), (FLAGS, "replace")];
    assert_eq!(
        Machine::actions(&answer),
        want.map(|(path, action)| (path.to_owned(), action.to_owned())).into()
    );
    let table = machine.call(&["install", "--dry-run"]).good().out;
    for said in [
        "what was there is kept aside",
        "runsc",
        "kata-qemu:",
        "Nothing was written.",
        "containerRuntimeEndpoint: unix:///run/cofferdam/cri.sock",
    ] {
        assert!(table.contains(said), "{said:?} is not in:\n{table}");
    }
    assert_eq!(machine.tree(), before);
    machine.call(&["install"]).good();
    let installed = machine.tree();
    assert!(machine.call(&["uninstall", "--dry-run"]).good().out.contains("put back"));
    assert_eq!(machine.tree(), installed);
}

#[test]
fn a_file_that_was_changed_since_is_nobodys_to_overwrite() {
    let machine = kubeadm();
    let before = machine.tree();
    machine.call(&["install"]).good();
    let edited = machine.read(UNIT) + "# mine\n";
    machine.write(UNIT, &edited);
    let with_edit = machine.tree();
    machine.call(&["install"]).fails(UNIT);
    machine
        .call(&["uninstall"])
        .fails(&format!("changed since `cofferdam install` wrote it: {UNIT}; nothing is put back"));
    assert_eq!(machine.tree(), with_edit, "nothing at all is done");
    machine.call(&["install", "--force"]).good();
    assert!(!machine.read(UNIT).contains("# mine"));
    machine.write(UNIT, &edited);
    machine.call(&["uninstall", "--force"]).good();
    assert_eq!(machine.tree(), before);
}

#[test]
fn a_configuration_that_somebody_wrote_stays_and_counts() {
    let mine = "import = []\n[cri]\nsocket = \"/run/mine/cri.sock\"\n";
    let machine = Machine::new(&[(CONFIG, mine), ("/etc/containerd/config.toml", CONTAINERD)]);
    let before = machine.tree();
    let answer = machine.call(&["install", "-o", "json"]).good();
    assert_eq!(Machine::actions(&answer)[CONFIG], "stays");
    assert_eq!(machine.read(CONFIG), mine);
    assert!(machine.read(CRICTL).contains("unix:///run/mine/cri.sock"));
    machine.call(&["uninstall"]).good();
    assert_eq!(machine.tree(), before);
}

#[test]
fn our_configuration_becomes_its_owners_with_the_first_change() {
    let machine = kubeadm();
    machine.call(&["install"]).good();
    let mine = machine.read(CONFIG) + "metrics_address = \"127.0.0.1:9790\"\n";
    machine.write(CONFIG, &mine);
    let answer = machine.call(&["install", "-o", "json"]).good();
    assert_eq!(Machine::actions(&answer)[CONFIG], "stays");
    assert_eq!(machine.read(CONFIG), mine);
    machine.call(&["uninstall"]).fails(CONFIG);
}

/// A kill between any two writes: the journal is on the disk, and each file is as before or as wanted.
#[test]
fn an_install_that_was_cut_off_anywhere_is_finished_or_undone() {
    let (files, count) = ([CONFIG, CRICTL, UNIT, FLAGS], 4);
    for done in 0..=count {
        for undo in [false, true] {
            let machine = kubeadm();
            let before = machine.tree();
            machine.call(&["install", "--kubelet"]).good();
            let whole = machine.tree();
            for path in &files[done..] {
                match before.get(Path::new(path.trim_start_matches('/'))) {
                    Some((_, text)) => machine.write(path, text),
                    None => fs::remove_file(machine.at(path)).unwrap(),
                }
                let name = Path::new(path).file_name().unwrap().to_str().unwrap();
                machine.write(&format!("{}/.{name}.1.0.tmp", Path::new(path).parent().unwrap().display()), "half");
            }
            if undo {
                machine.call(&["uninstall"]).good();
                assert_eq!(machine.tree(), before, "cut off after {done}");
            } else {
                machine.call(&["install", "--kubelet"]).good();
                assert_eq!(machine.tree(), whole, "cut off after {done}");
                machine.call(&["uninstall"]).good();
                assert_eq!(machine.tree(), before, "cut off after {done}");
            }
        }
    }
}

#[test]
fn an_install_that_fails_half_way_is_run_again() {
    let machine = kubeadm();
    machine.write("/etc/systemd", "no folder");
    let before = machine.tree();
    machine.call(&["install"]).fails("/etc/systemd/system");
    assert!(machine.at(CONFIG).exists(), "it failed half-way");
    machine.call(&["uninstall"]).good();
    assert_eq!(machine.tree(), before);
    machine.call(&["install"]).fails("/etc/systemd/system");
    fs::remove_file(machine.at("/etc/systemd")).unwrap();
    machine.call(&["install"]).good();
    assert!(machine.at(UNIT).exists());
}

#[test]
fn crios_handlers_and_drop_ins_are_taken_over() {
    let network = "[crio.network]\nnetwork_dir = \"/etc/cni/crio\"\nplugin_dirs = [\"/opt/crio/bin\"]\n[crio.runtime]\ncgroup_manager = \"cgroupfs\"\nhooks_dir = [\"/h\"]\n";
    let machine = Machine::new(&[
        ("/etc/crio/crio.conf", CRIO),
        ("/etc/crio/crio.conf.d/10-net.conf", network),
        ("/etc/containers/registries.conf", "unqualified-search-registries = []\n"),
    ]);
    let json = machine.call(&["install", "-o", "json"]).good().json();
    assert_eq!(json["from"], "crio");
    let names: Vec<&str> = json["handlers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|h| h["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["kata-qemu", "runc", "runsc"]);
    let config = machine.read(CONFIG);
    for line in [
        "import = [\"/etc/crio/crio.conf\", \"/etc/crio/crio.conf.d/*\"]",
        "cni_conf = \"/etc/cni/crio\"",
        "cni_plugins = [\"/opt/crio/bin\"]",
        "cgroup_driver = \"cgroupfs\"",
    ] {
        assert!(config.lines().any(|l| l == line), "{line} is not in:\n{config}");
    }
    let warnings = json["warnings"].to_string();
    for said in [
        "hooks_dir",
        "/etc/crio/crio.conf.d/10-net.conf:6",
        "/etc/containers/registries.conf is not read",
    ] {
        assert!(warnings.contains(said), "{said:?} is not in {warnings}");
    }
    assert!(!warnings.contains(machine.0.path().to_str().unwrap()), "{warnings}");
}

#[test]
fn registry_mirrors_come_along_and_what_is_lost_is_said() {
    let text = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\"]\nsandbox_image = \"pause:3\"\n\
                [plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"/etc/containerd/certs.d\"\n";
    let machine = Machine::new(&[("/etc/containerd/config.toml", text)]);
    let answer = machine.call(&["install"]).good();
    assert!(machine.read(CONFIG).contains("hosts = [\"/etc/containerd/certs.d\"]"));
    assert!(answer.out.contains("no pod has a pause image"), "{answer:?}");
}

#[test]
fn whose_configuration_is_taken_is_never_guessed() {
    let both = [("/etc/containerd/config.toml", CONTAINERD), ("/etc/crio/crio.conf", CRIO)];
    let machine = Machine::new(&both);
    machine.call(&["install"]).fails("choose with --from containerd or --from crio");
    assert_eq!(
        machine
            .call(&["install", "--dry-run", "--from", "crio", "-o", "json"])
            .good()
            .json()["from"],
        "crio"
    );
    machine.write(KUBELET, "containerRuntimeEndpoint: unix:///var/run/crio/crio.sock\n");
    assert_eq!(machine.call(&["install", "--dry-run", "-o", "json"]).good().json()["from"], "crio");
    let none = Machine::new(&[]);
    none.call(&["install", "--from", "containerd"])
        .fails("/etc/containerd/config.toml is not there");
    none.call(&["install", "--kubelet"]).fails("no node of kubeadm's");
    assert!(!none.at("/var").exists() && !none.at(CONFIG).exists(), "nothing is made");
    none.call(&["install"]).good();
    let config = none.read(CONFIG);
    assert!(config.contains("import = []\n") && !config.contains("cni"), "{config}");
}

#[test]
fn a_broken_configuration_of_theirs_stops_the_install() {
    let machine = Machine::new(&[("/etc/containerd/config.toml", "version = [")]);
    machine.call(&["install"]).fails("this is not valid TOML");
    assert!(!machine.at(CONFIG).exists() && !machine.at("/var").exists());
}

#[test]
fn links_and_what_systemctl_enable_made_are_cared_for() {
    let machine = Machine::new(&[("/etc/other.yaml", "timeout: 1\n")]);
    symlink("other.yaml", machine.at(CRICTL)).unwrap();
    let before = machine.tree();
    machine.call(&["install"]).good();
    assert!(!machine.at(CRICTL).is_symlink(), "the file behind the link is not written to");
    assert_eq!(machine.read("/etc/other.yaml"), "timeout: 1\n");
    fs::create_dir_all(machine.at(WANTED).parent().unwrap()).unwrap();
    symlink(UNIT, machine.at(WANTED)).unwrap();
    machine.call(&["uninstall"]).good();
    assert!(!machine.at(WANTED).is_symlink());
    fs::remove_dir(machine.at(WANTED).parent().unwrap()).unwrap();
    fs::remove_dir(machine.at("/etc/systemd/system")).unwrap();
    fs::remove_dir(machine.at("/etc/systemd")).unwrap();
    assert_eq!(machine.tree(), before);
}

#[test]
fn data_goes_with_purge_alone_and_never_with_pods_in_it() {
    let machine = Machine::new(&[]);
    machine.call(&["install"]).good();
    machine.write("/var/lib/cofferdam/images/x", "layer");
    machine.call(&["uninstall"]).good();
    assert!(machine.at("/var/lib/cofferdam/images/x").exists());
    machine.call(&["install"]).good();
    machine.write("/var/lib/cofferdam/pods/0123/pod.json", "{}");
    machine.call(&["uninstall", "--purge"]).fails("1 pods are still recorded");
    assert!(machine.at(UNIT).exists(), "nothing at all is done");
    fs::remove_dir_all(machine.at("/var/lib/cofferdam/pods/0123")).unwrap();
    machine.call(&["uninstall", "--purge"]).good();
    assert!(!machine.at("/var/lib/cofferdam").exists() && !machine.at(UNIT).exists());
}

#[test]
fn a_journal_that_names_other_places_is_not_obeyed() {
    let machine = Machine::new(&[]);
    machine.call(&["install"]).good();
    let path = "/var/lib/cofferdam/install/journal.json";
    let text = machine.read(path);
    machine.write(path, &text.replace("/etc/crictl.yaml", "/etc/../../x"));
    machine.call(&["uninstall"]).fails("names files outside its folder");
    machine.write(path, "{");
    machine.call(&["uninstall"]).fails("is no journal of `cofferdam install`");
    machine.write(path, &text.replace("\"version\": 1", "\"version\": 2"));
    machine.call(&["uninstall"]).fails("is of version 2");
}

/// A link that is right on the machine that the folder becomes leads, until then, to this one's files.
#[test]
fn a_link_out_of_the_folder_is_not_followed() {
    let (machine, outside) = (Machine::new(&[]), tempfile::tempdir().unwrap());
    let unit = outside.path().join("cofferdam.service");
    fs::write(&unit, "theirs").unwrap();
    fs::create_dir_all(machine.at("/etc/systemd")).unwrap();
    symlink(outside.path(), machine.at("/etc/systemd/system")).unwrap();
    machine.call(&["install"]).fails("leads out of");
    assert_eq!(fs::read_to_string(&unit).unwrap(), "theirs");
    assert!(!machine.at("/etc/crictl.yaml").exists(), "refused before anything is written");

    // Nor what is removed.
    fs::remove_file(machine.at("/etc/systemd/system")).unwrap();
    let data = outside.path().join("lib/cofferdam/images");
    fs::create_dir_all(&data).unwrap();
    symlink(outside.path(), machine.at("/var")).unwrap();
    machine.call(&["uninstall", "--purge"]).fails("leads out of");
    assert!(data.exists());

    // One that leads within is as good as a folder.
    fs::remove_file(machine.at("/var")).unwrap();
    fs::create_dir(machine.at("/usr")).unwrap();
    symlink("../../usr", machine.at("/etc/systemd/system")).unwrap();
    machine.call(&["install"]).good();
    assert!(machine.at("/usr/cofferdam.service").is_file());
}

#[test]
fn what_kubeadm_wrote_anew_is_edited_anew() {
    let machine = Machine::new(&[(KUBELET, "containerRuntimeEndpoint: unix:///old\n")]);
    machine.call(&["install", "--kubelet"]).good();
    let renewed = "containerRuntimeEndpoint: unix:///old\nmaxPods: 50\n";
    machine.write(KUBELET, renewed);
    machine.call(&["install", "--kubelet"]).good();
    assert_eq!(
        machine.read(KUBELET),
        "containerRuntimeEndpoint: unix:///run/cofferdam/cri.sock\nmaxPods: 50\n"
    );
    machine.call(&["uninstall"]).good();
    assert_eq!(machine.read(KUBELET), renewed, "what is put back is kubeadm's newest");
}

#[test]
fn cri_is_a_command_with_help_like_every_other() {
    let output = Command::new(env!("CARGO_BIN_EXE_cofferdam"))
        .args(["cri", "--help"])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("SIGTERM ends it and no pod."), "{text}");
}
