//! Every row of `docs/handlers.md`, for real: under each handler the example of a feature ends well, or
//! is refused by `run` and by `check` with the sentence of the table.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::{ALL, IMAGE, World, brief, classes, pod_in};
use cofferdam_decide::enclosure::{Enclosure, Feature, OBJECTS, Verdict, features};
use serde_json::json;
use std::fs;

/// What this machine may lack, whatever the handler: a word of [`Feature::needs`], and how it is told.
fn lacking(needs: &str) -> bool {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    if needs.contains("AppArmor") {
        return read("/sys/module/apparmor/parameters/enabled").trim() != "Y" || needs.contains("loaded");
    }
    if needs.contains("SELinux") {
        return !std::path::Path::new("/sys/fs/selinux/enforce").exists();
    }
    if needs.contains("huge pages") {
        return read("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages").trim().parse::<u64>().unwrap_or(0) == 0;
    }
    // The test's mount namespace is whose it is run in.
    needs.contains("shared mount")
}

/// A world with what the examples name.
fn world() -> World {
    let world = World::new();
    let (seccomp, cdi) = (world.dir.join("seccomp"), world.dir.join("cdi"));
    for dir in [&seccomp, &cdi] {
        fs::create_dir_all(dir).unwrap();
    }
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]});
    fs::write(seccomp.join("test.json"), profile.to_string()).unwrap();
    let device = json!({"cdiVersion": "0.5.0", "kind": "example.com/device", "devices": [
        {"name": "one", "containerEdits": {"deviceNodes": [{"path": "/dev/example", "hostPath": "/dev/null"}]}}]});
    fs::write(cdi.join("device.json"), device.to_string()).unwrap();
    world.drop_in("pods.toml", &format!("[pods]\nseccomp_root = {seccomp:?}\ncdi_dirs = [{cdi:?}]\n"));
    world
}

/// The example under a handler, with the image of the tests, and a name of its own.
fn manifest(world: &World, feature: &Feature, handler: &str) -> String {
    let text = feature.manifest().replace("image: busybox", &format!("image: {IMAGE}"));
    let text = text.replace("reference: busybox", &format!("reference: {IMAGE}"));
    let text = text.replace("/run/cofferdam-test.sock", &world.dir.join("test.sock").display().to_string());
    text.replacen("spec:\n", &format!("spec:\n  runtimeClassName: {handler}\n"), 1)
}

fn kind(handler: &str) -> Enclosure {
    if handler == "runsc" { Enclosure::Gvisor } else { Enclosure::SharedKernel }
}

#[test]
fn what_the_table_calls_working_works() {
    let world = world();
    let _socket = std::os::unix::net::UnixListener::bind(world.dir.join("test.sock")).unwrap();
    for handler in ALL {
        let works = |f: &&Feature| f.verdict(kind(handler)) == Verdict::Works && !f.needs.is_some_and(lacking);
        let all: Vec<&Feature> = features().filter(works).collect();
        let mut text: String = classes().iter().map(|c| format!("{c}\n---\n")).collect();
        text += OBJECTS;
        all.iter().for_each(|f| text += &format!("---\n{}", manifest(&world, f, handler)));
        let answer = world.input(&["run", "-f", "-", "-o", "json", "--parallel", "4"], text.as_bytes());
        let report = answer.json();
        let failed: Vec<String> = all
            .iter()
            .filter(|f| pod_in(&report, f.name)["phase"] != "Succeeded")
            .map(|f| brief(&json!({"pods": [pod_in(&report, f.name)]})))
            .collect();
        assert!(failed.is_empty(), "under {handler}:\n{}\n{}", failed.join("\n"), answer.err);
        assert!(all.len() > 40, "{handler}: {}", all.len());
    }
}

#[test]
fn what_the_table_refuses_is_refused_by_run_and_check_with_its_sentence() {
    let world = world();
    for handler in ALL {
        for feature in features() {
            let Verdict::Refused(sentence) = feature.verdict(kind(handler)) else { continue };
            let text = format!("{}\n---\n{OBJECTS}---\n{}", classes()[2], manifest(&world, feature, handler));
            let ran = world.input(&["run", "-f", "-"], text.as_bytes());
            assert_eq!(ran.code, Some(121), "{} under {handler}: {ran:?}", feature.name);
            assert!(ran.err.contains(sentence), "{} under {handler}: {ran:?}", feature.name);
            let checked = world.input(&["check", "-f", "-"], text.as_bytes());
            assert_eq!(checked.code, Some(121), "{} under {handler}: {checked:?}", feature.name);
            let said = format!("{}{}", checked.out, checked.err);
            assert!(said.contains(sentence), "{} under {handler}: {said}", feature.name);
        }
    }
    assert!(common::names(&world.root().join("pods")).is_empty(), "nothing was begun");
}
