//! Roots from one read-only file system in a file. Needs root, mkfs.erofs and a kernel that mounts EROFS
//! from a file (Linux 6.12).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use cofferdam_handlers::Snapshotter;
use common::{SHARED, World};

#[test]
fn a_root_may_be_a_block_image() {
    let world = World::new();
    let mut table = (*world.engine.table()).clone();
    for handler in SHARED {
        let mut definition = table.resolve(handler).unwrap().1.clone();
        definition.defaults.snapshotter = Snapshotter::Erofs;
        table.insert(&format!("{handler}-block"), definition);
    }
    world.engine.set_table(table);
    for handler in SHARED {
        let name = format!("{handler}-block");
        for users in [false, true] {
            let pod = world.pod_with(&name, |c| c.user_namespace = users);
            let out = world.good(&pod, "grep -q block /proc/self/mountinfo; stat -c '%u %a' / /etc/passwd; touch /x && echo y > /etc/passwd && cat /etc/passwd", |_| {});
            assert_eq!(out, "0 755\n0 644\ny\n", "{handler} {users}");
            assert!(world.good(&pod, "cat /etc/passwd", |_| {}).contains("worker"), "what one writes is its own");
            world.engine.remove_sandbox(&pod).unwrap();
        }
    }
}
