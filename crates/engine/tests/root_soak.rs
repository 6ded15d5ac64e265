//! A long-lived engine does not grow. Needs root, and time: run it by name, with `--ignored`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use cofferdam_model::cri::NamespaceMode;
use common::World;

/// Resident memory of this process, KiB.
fn memory() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    text.lines().find_map(|l| l.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok()).unwrap()
}

fn count(dir: &std::path::Path) -> usize {
    let mut all = 0;
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        all += 1;
        if entry.file_type().is_ok_and(|t| t.is_dir()) {
            all += count(&entry.path());
        }
    }
    all
}

/// Descriptors, threads, and files of the layout.
fn held(world: &World) -> (usize, usize, usize) {
    let dir = |path: &str| std::fs::read_dir(path).unwrap().count();
    (dir("/proc/self/fd"), dir("/proc/self/task"), count(&world.path("l")) + count(&world.path("s")))
}

#[test]
#[ignore = "takes minutes; COFFERDAM_SOAK is how many pods"]
fn a_thousand_pods_leave_nothing() {
    let world = World::new();
    let events = world.engine.events();
    let pods: usize = std::env::var("COFFERDAM_SOAK").ok().and_then(|n| n.parse().ok()).unwrap_or(1000);
    let one = |number: usize| {
        let handler = if number.is_multiple_of(10) { "runc" } else { "crun" };
        let pod = world.pod_with(handler, |c| {
            c.network = NamespaceMode::Pod;
            c.user_namespace = number.is_multiple_of(7);
        });
        let id = world.start(&pod, "echo hello; exec sleep 1000", |c| c.log_path = "soak.log".into());
        assert_eq!(world.exec(&id, "echo in").1, "in\n");
        world.engine.container_stats(&pod).unwrap();
        world.engine.remove_sandbox(&pod).unwrap();
        while events.try_recv().is_ok() {}
    };
    // What is made once is made by then.
    (0..50).for_each(one);
    let settled = || common::until("watchers end", || (held(&world).1 <= 3).then(|| held(&world)));
    let (before, memory_before) = (settled(), memory());
    (0..pods).for_each(one);
    let (after, memory_after) = (settled(), memory());
    println!("{pods} pods: descriptors, threads, files {before:?} then {after:?}; memory {memory_before} then {memory_after} KiB");
    assert_eq!(before, after);
    assert!(memory_after < memory_before + 4096, "{memory_before} then {memory_after} KiB");
}
