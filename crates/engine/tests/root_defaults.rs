//! What a handler's configuration gives containers that say nothing. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

mod common;

use cofferdam_handlers::{Defaults, Ulimit, UnsetSeccomp};
use cofferdam_model::cri::{Device, NamespaceMode};
use common::{SHARED, World};

#[test]
fn a_handlers_defaults_hold_where_nothing_is_said() {
    let world = World::new();
    let mut table = (*world.engine.table()).clone();
    for handler in SHARED {
        let mut definition = table.resolve(handler).unwrap().1.clone();
        definition.defaults = Defaults {
            capabilities: Some(vec!["CHOWN".into()]),
            pids_limit: Some(77),
            unset_seccomp_profile: Some(UnsetSeccomp::RuntimeDefault),
            sysctls: [("net.ipv4.ip_unprivileged_port_start".to_owned(), "5".to_owned())].into(),
            ulimits: [("nofile".to_owned(), Ulimit { soft: 100, hard: 200 })].into(),
            device_ownership: true,
            ..Defaults::default()
        };
        table.insert(&format!("{handler}-own"), definition);
    }
    world.engine.set_table(table);
    for handler in SHARED {
        let pod = world.pod_with(&format!("{handler}-own"), |c| c.network = NamespaceMode::Pod);
        let look = "grep -E 'CapEff|Seccomp:' /proc/self/status; ulimit -n; ulimit -Hn; cat /proc/sys/net/ipv4/ip_unprivileged_port_start; \
                    cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null; true";
        let words = |text: String| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
        let wanted = "CapEff: 0000000000000001 Seccomp: 2 100 200 5 77";
        assert_eq!(words(world.good(&pod, look, |_| {})), wanted, "{handler}");
        let said = world.good(&pod, look, |c| {
            (c.security.seccomp_named, c.resources.pids_limit) = (true, 88);
            c.security.add_capabilities = vec!["DAC_OVERRIDE".into()];
        });
        assert_eq!(words(said), "CapEff: 0000000000000003 Seccomp: 0 100 200 5 88", "{handler}: what is said counts");
        let fuse = Device { host_path: "/dev/fuse".into(), container_path: "/dev/fuse".into(), permissions: "rw".into() };
        let owner = world.good(&pod, "stat -c %u:%g /dev/fuse", |c| {
            (c.devices, c.security.run_as_user, c.security.run_as_group) = (vec![fuse], Some(1000), Some(50));
        });
        assert_eq!(owner, "1000:50\n", "{handler}");
        world.engine.remove_sandbox(&pod).unwrap();
    }
}
