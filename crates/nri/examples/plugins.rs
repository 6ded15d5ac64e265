//! Walks a made-up pod through its life and shows what plugins make of it: to try plugins without a runtime.
//!
//! `cargo run -p cofferdam-nri --example plugins -- SOCKET PLUGIN_DIR CONFIG_DIR HOW_MANY` waits until as many
//! plugins are connected, at most 30 seconds.

use cofferdam_model::cri::{ContainerConfig, Device, LinuxResources, Mount, SandboxConfig};
use cofferdam_nri::{Container, Eviction, Nri, Options, Pod, Result, State, Update};
use std::sync::Arc;
use std::time::{Duration, Instant};

struct Printing;

impl State for Printing {
    fn snapshot(&self) -> (Vec<Pod>, Vec<Container>) {
        (Vec::new(), Vec::new())
    }

    fn update(&self, update: &Update) -> std::result::Result<(), String> {
        println!("asked for {update:?}");
        Ok(())
    }

    fn evict(&self, eviction: &Eviction) -> std::result::Result<(), String> {
        println!("asked for {eviction:?}");
        Ok(())
    }
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().unwrap_or_default();
    let options = Options {
        socket: Some(next().into()),
        plugin_dir: next().into(),
        config_dir: next().into(),
        log: Arc::new(|level, text| println!("{level:?}: {text}")),
        ..Options::default()
    };
    let wanted: usize = next().parse().unwrap_or(1);
    let nri = Nri::start(options, Arc::new(Printing))?;
    let deadline = Instant::now() + Duration::from_secs(30);
    while nri.plugins().len() < wanted && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(50));
    }
    println!("plugins: {:?}", nri.plugins());
    live(&nri)
}

fn live(nri: &Nri) -> Result<()> {
    let mut config = SandboxConfig {
        name: "web".into(),
        namespace: "default".into(),
        uid: "u1".into(),
        ..Default::default()
    };
    for (key, value) in [
        (
            "devices.noderesource.dev/container.app",
            "- path: /dev/nri-null\n  type: c\n  major: 1\n  minor: 3\n",
        ),
        (
            "mounts.noderesource.dev/container.app",
            "- source: /srv\n  destination: /mnt\n  type: bind\n  options: [bind, ro]\n",
        ),
        ("cdi-devices.noderesource.dev/container.app", "- vendor.com/device=null\n"),
        (
            "ulimits.noderesource.dev/container.app",
            "- type: RLIMIT_MEMLOCK\n  hard: 987654\n  soft: 645321\n",
        ),
        ("large", &"x".repeat(1_000_000)),
    ] {
        config.annotations.insert(key.to_owned(), value.to_owned());
    }
    let pod = Pod::new("pod1", &config, "runc");
    let mut request = ContainerConfig {
        name: "app".into(),
        command: vec!["sleep".into(), "1".into()],
        env: vec![("A".into(), "b".into())],
        mounts: vec![Mount {
            container_path: "/data".into(),
            host_path: "/srv".into(),
            ..Default::default()
        }],
        devices: vec![Device {
            host_path: "/dev/null".into(),
            container_path: "/dev/n".into(),
            permissions: "rw".into(),
        }],
        resources: LinuxResources {
            cpu_shares: 100,
            memory_limit: 1 << 26,
            ..Default::default()
        },
        ..Default::default()
    };
    let container = Container::new("ctr1", "pod1", &request);
    nri.run_pod(&pod)?;
    let created = nri.create_container(&pod, &container)?;
    println!("created: {created:?}");
    created.adjustment.apply(&mut request);
    println!(
        "request: {:?}",
        (
            &request.env,
            &request.mounts,
            &request.devices,
            &request.cdi_devices,
            &request.hooks,
            &request.rlimits
        )
    );
    let container = Container::new("ctr1", "pod1", &request);
    nri.container_created(&pod, &container)?;
    nri.start_container(&pod, &container)?;
    nri.container_started(&pod, &container)?;
    println!("updated: {:?}", nri.update_container(&pod, &container, &request.resources)?);
    nri.container_updated(&pod, &container)?;
    println!("stopped: {:?}", nri.stop_container(&pod, &container)?);
    nri.remove_container(&pod, &container)?;
    nri.stop_pod(&pod)?;
    nri.remove_pod(&pod)?;
    println!("plugins: {:?}", nri.plugins());
    Ok(())
}
