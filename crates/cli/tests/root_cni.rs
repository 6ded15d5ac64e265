//! Pods attached by CNI plugins: Debian's, and one that does what a test wants.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use common::web::{PORT, SERVES, address, get, get_from, kill_all, tool, until_get};
use common::{ALL, Running, SHARED, WAITS, World, app, brief, manifest, names, pod, pod_in, until};
use rustix::process::Signal;
use serde_json::{Value, json};
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// A world whose pods CNI plugins attach.
struct Machine {
    // Ended first: the plugins need their bridge, configuration and folders until then.
    world: World,
    bridge: Bridge,
}

/// The bridge that Debian's plugin makes and leaves to whoever configured it.
struct Bridge(String);

impl Drop for Bridge {
    fn drop(&mut self) {
        let _ = std::process::Command::new("ip")
            .args(["link", "del", &self.0])
            .stderr(std::process::Stdio::null())
            .status();
    }
}

/// A plugin that notes how it is called, does what the test says, and hands on the address.
const ODD: &str = r#"#!/bin/sh
if [ "$CNI_COMMAND" = VERSION ]; then
    echo '{"cniVersion": "1.0.0", "supportedVersions": ["0.4.0", "1.0.0"]}'
    exit
fi
config=$(cat)
echo "$CNI_COMMAND $CNI_CONTAINERID netns=$(readlink "$CNI_NETNS" || echo none) $CNI_IFNAME $config" >> DIR/calls
[ -e DIR/does ] && . DIR/does
[ "$CNI_COMMAND" = ADD ] || exit 0
ip=$(echo "$config" | sed 's/.*"address":"\([0-9./]*\)".*/\1/')
echo "{\"cniVersion\": \"1.0.0\", \"interfaces\": [{\"name\": \"eth0\", \"sandbox\": \"$CNI_NETNS\"}], \"ips\": [{\"address\": \"$ip\", \"interface\": 0}]}"
"#;

impl Machine {
    /// Debian's bridge and host-local, and then `more` plugins.
    fn new(more: &[Value]) -> Self {
        let world = World::new();
        let machine = Self {
            bridge: Bridge(format!("cni-{}", world.bridge)),
            world,
        };
        let dir = machine.world.dir.display().to_string();
        fs::create_dir(machine.world.dir.join("net.d")).unwrap();
        fs::create_dir(machine.world.dir.join("plugins")).unwrap();
        machine.world.script("plugins/odd", &ODD.replace("DIR", &dir));
        machine.configure(more);
        let places = format!("cni_conf = \"{dir}/net.d\"\ncni_plugins = [\"{dir}/plugins\", \"/usr/lib/cni\"]");
        machine.world.drop_in("cni.toml", &format!("[network]\nmode = \"cni\"\n{places}\n"));
        machine
    }

    fn configure(&self, more: &[Value]) {
        let ranges = json!([[{"subnet": format!("{}.0/24", self.net())}]]);
        let ipam =
            json!({"type": "host-local", "dataDir": self.world.dir.join("leases"), "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}]});
        let bridge =
            json!({"type": "bridge", "bridge": self.bridge.0, "isGateway": true, "ipMasq": false, "hairpinMode": true, "ipam": ipam});
        let plugins = [&[bridge], more].concat();
        let list = json!({"cniVersion": "1.0.0", "name": "test", "plugins": plugins});
        fs::write(self.conflist(), list.to_string()).unwrap();
    }

    fn conflist(&self) -> PathBuf {
        self.world.dir.join("net.d/10-test.conflist")
    }

    /// The first three numbers of the plugins' subnet.
    fn net(&self) -> String {
        format!("10.250.{}", self.world.net.split('.').nth(2).unwrap())
    }

    /// What the plugin `odd` does from now on: lines of sh.
    fn odd_does(&self, script: &str) {
        fs::write(self.world.dir.join("does"), script).unwrap();
    }

    /// The calls of the plugin `odd`, and none any more.
    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.world.dir.join("calls")).unwrap_or_default();
        let _ = fs::remove_file(self.world.dir.join("calls"));
        calls.lines().map(str::to_owned).collect()
    }

    /// The addresses that host-local has given.
    fn leases(&self) -> Vec<String> {
        let mut all = names(&self.world.dir.join("leases/test"));
        all.retain(|name| name.starts_with("10."));
        all.sort();
        all
    }

    fn ports(&self) -> usize {
        names(&PathBuf::from(format!("/sys/class/net/{}/brif", self.bridge.0))).len()
    }

    /// What is kept of attachments.
    fn kept(&self) -> Vec<String> {
        names(&self.world.root().join("network/cni/results"))
    }

    #[track_caller]
    fn assert_nothing_attached(&self) {
        assert_eq!(self.leases(), [""; 0], "addresses");
        assert_eq!(self.kept(), [""; 0], "records");
        until("links are gone", || (self.ports() == 0).then_some(()));
    }

    /// Processes of the plugin `odd`.
    fn plugins_that_run(&self) -> Vec<String> {
        let path = self.world.dir.join("plugins").display().to_string();
        let pids = names(&PathBuf::from("/proc"))
            .into_iter()
            .filter(|n| n.bytes().all(|b| b.is_ascii_digit()));
        let of_odd = |line: String| line.contains(&path) || line.contains("odd-child");
        pids.filter(|pid| fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(of_odd))
            .collect()
    }
}

fn odd() -> Value {
    json!({"type": "odd", "capabilities": {"portMappings": true, "bandwidth": true}})
}

/// How often each verb was called.
fn count(calls: &[String], verb: &str) -> usize {
    calls.iter().filter(|call| call.starts_with(verb)).count()
}

#[test]
fn plugins_attach_the_pods_of_all_handlers_and_take_them_off() {
    let machine = Machine::new(&[odd()]);
    let world = &machine.world;
    world.detach(&ALL.map(|handler| {
        let mut serving = pod(handler, handler, &[app(SERVES)]);
        serving["spec"]["containers"][0]["ports"] = json!([{"containerPort": PORT, "hostPort": 4321}]);
        serving["metadata"]["annotations"] = json!({"kubernetes.io/egress-bandwidth": "8M"});
        serving
    }));
    for handler in ALL {
        let ip = address(world, handler);
        assert!(ip.to_string().starts_with(&machine.net()), "{handler} has {ip}");
        assert!(until_get(ip, PORT).starts_with(handler));
    }
    for (from, to) in ALL.iter().zip(ALL.iter().cycle().skip(1)) {
        let own = address(world, from);
        assert_eq!(
            get_from(world, from, address(world, to), PORT),
            Some(format!("{to} {own}")),
            "{from} to {to}"
        );
    }
    let calls = machine.calls();
    assert_eq!(count(&calls, "ADD"), 3, "{calls:?}");
    for handler in ALL {
        let id = world.id_of(handler);
        let call = calls
            .iter()
            .find(|call| call.starts_with(&format!("ADD {id} netns=net:[")))
            .unwrap_or_else(|| panic!("{calls:?}"));
        assert!(
            call.contains("\"hostPort\":4321") && call.contains("\"containerPort\":8080") && call.contains("\"egressRate\":8000000"),
            "{call}"
        );
    }
    assert_eq!(machine.leases().len(), 3);
    assert!(
        !std::path::Path::new("/sys/class/net").join(&world.bridge).exists(),
        "the built-in bridge is not made"
    );
    world.call(&["stop", "crun", "--grace", "0"]).good();
    assert_eq!((machine.leases().len(), machine.kept().len()), (2, 2));
    assert!(get(address(world, "runsc"), PORT).is_some());
    let traces = world.traces();
    world.call(&["stop", "--all", "--grace", "0"]).good();
    traces.assert_gone(world);
    let calls = machine.calls();
    assert!(
        count(&calls, "DEL") == 3 && calls.iter().all(|call| call.contains("netns=net:[")),
        "while the namespace lives: {calls:?}"
    );
    machine.assert_nothing_attached();
}

/// The tables that `iptables` and `ip6tables` make where there are none.
fn tables() -> Vec<String> {
    let listed = tool("nft", &["list", "tables"]);
    listed
        .lines()
        .filter(|line| line.starts_with("table ip ") || line.starts_with("table ip6 "))
        .map(str::to_owned)
        .collect()
}

/// Takes away the chains that portmap made for all pods, unless pods still have ports by them.
fn forget_portmap() {
    let saved = tool("iptables-save", &["-t", "nat"]);
    if saved.contains("-j CNI-DN-") {
        return;
    }
    for line in saved.lines().filter(|line| line.starts_with("-A") && line.contains("CNI-")) {
        tool("sh", &["-c", &format!("iptables -t nat -D {}", &line[3..])]);
    }
    for chain in saved.lines().filter_map(|line| line.strip_prefix(":CNI-")?.split(' ').next()) {
        tool("iptables", &["-t", "nat", "-X", &format!("CNI-{chain}")]);
    }
}

/// Debian's portmap writes rules of the machine; what it leaves for other pods is taken away here.
#[test]
fn ports_of_the_machine_lead_to_pods_by_debians_plugin() {
    struct Rules(Vec<String>);
    impl Drop for Rules {
        fn drop(&mut self) {
            for table in tables().into_iter().filter(|table| !self.0.contains(table)) {
                tool("sh", &["-c", &format!("nft delete {table}")]);
            }
            if self.0.iter().any(|table| table == "table ip nat") {
                forget_portmap();
            }
        }
    }
    let saved = || tool("iptables-save", &["-t", "nat"]);
    let rules = Rules(tables());
    let machine = Machine::new(&[json!({"type": "portmap", "capabilities": {"portMappings": true}, "snat": true})]);
    let world = &machine.world;
    let number: u16 = world.net.split('.').nth(2).unwrap().parse().unwrap();
    let port = |n: u16| 18_000 + number * 4 + n;
    world.detach(&ALL.map(|handler| {
        let mut serving = pod(handler, handler, &[app(SERVES)]);
        let at = ALL.iter().position(|h| *h == handler).unwrap() as u16;
        serving["spec"]["containers"][0]["ports"] = json!([{"containerPort": PORT, "hostPort": port(at)}]);
        serving
    }));
    for (handler, at) in ALL.iter().zip(0..) {
        assert!(until_get(Ipv4Addr::LOCALHOST, port(at)).starts_with(handler));
    }
    let ids = ALL.map(|handler| world.id_of(handler));
    assert!(ids.iter().all(|id| saved().contains(id.as_str())));
    world.call(&["stop", "--all", "--grace", "0"]).good();
    assert!(!ids.iter().any(|id| saved().contains(id.as_str())), "{}", saved());
    assert_eq!(get(Ipv4Addr::LOCALHOST, port(0)), None);
    machine.assert_nothing_attached();
    drop(rules);
}

#[test]
fn a_plugin_that_fails_is_told_in_a_sentence_and_leaves_nothing() {
    let machine = Machine::new(&[odd()]);
    let world = &machine.world;
    world.detach(&[pod("stays", "crun", &[app(SERVES)])]);
    let stays = address(world, "stays");
    until_get(stays, PORT);
    machine.calls();
    let rows = [
        (
            "refuses",
            "runc",
            "echo '{\"code\": 111, \"msg\": \"no more wires\"}'; exit 1",
            "refused ADD with code 111: no more wires",
        ),
        (
            "fails",
            "crun",
            "echo no more wires >&2; exit 3",
            "failed at ADD (exit status: 3): no more wires",
        ),
        ("babbles", "runsc", "echo garbage; exit 0", "answered ADD with what is no result"),
        ("dies", "crun", "kill -9 $$", "failed at ADD without a word: signal: 9"),
        ("forgets", "runc", "echo '{\"cniVersion\": \"1.0.0\"}'; exit 0", ""),
    ];
    let cases: String = rows
        .iter()
        .map(|(name, _, does, _)| format!("*K8S_POD_NAME={name}\\;*) {does};;\n"))
        .collect();
    machine.odd_does(&format!("[ $CNI_COMMAND = ADD ] && case \"$CNI_ARGS\" in\n{cases}esac"));
    let (code, report) = world.report(&rows.map(|(name, handler, _, _)| pod(name, handler, &[app("exit 0")])));
    assert_ne!(code, 0);
    for (name, _, _, told) in rows {
        let pod = pod_in(&report, name);
        assert_eq!(pod["phase"], "Failed", "{}", brief(&report));
        let want = match told {
            "" => format!("the CNI network test gave the pod default/{name} no address"),
            told => format!("the CNI plugin odd of the network test {told}"),
        };
        assert!(
            pod["message"].as_str().unwrap().contains(&want),
            "looked for {want:?} in: {}",
            pod["message"]
        );
    }
    let calls = machine.calls();
    assert!(
        count(&calls, "ADD") >= rows.len() && count(&calls, "DEL") >= count(&calls, "ADD"),
        "{calls:?}"
    );
    assert_eq!(
        (machine.leases().len(), machine.kept().len()),
        (1, 1),
        "the plugins before it are undone"
    );
    until("links are gone", || (machine.ports() == 1).then_some(()));
    assert!(get(stays, PORT).is_some(), "the other pod is unharmed");
}

#[test]
fn a_plugin_that_is_not_there_is_named_before_any_other_is_called() {
    let machine = Machine::new(&[json!({"type": "nobody"})]);
    let (code, report) = machine.world.report(&[pod("p", "runc", &[app("exit 0")])]);
    let want = "the CNI plugin nobody of the network test is not installed: no such file in ";
    assert!(code != 0 && brief(&report).contains(want), "{}", brief(&report));
    machine.assert_nothing_attached();
    assert!(!machine.world.dir.join("leases").exists());
}

/// DEL that fails is tried again; until then the pod is kept, and its address with it.
#[test]
fn a_pod_that_cannot_be_taken_off_is_kept_and_tried_again() {
    let machine = Machine::new(&[odd()]);
    let world = &machine.world;
    let mut run = Running(world.spawn(&["run", "-f", "-"], manifest(&[pod("p", "crun", &[app(WAITS)])]).as_bytes()));
    common::until_runs(world, &mut run, "p");
    // Its owner would go on trying for half a minute.
    common::signal(run.0.id(), Signal::KILL);
    until("the owner is dead", || run.0.try_wait().unwrap());
    machine.odd_does("[ $CNI_COMMAND = DEL ] && { echo '{\"code\": 11, \"msg\": \"later\"}'; exit 1; }");
    let answer = world.call(&["stop", "p", "--grace", "0"]);
    assert!(
        answer.code != Some(0) && answer.err.contains("the CNI plugin odd of the network test refused DEL"),
        "{answer:?}"
    );
    assert_eq!(machine.kept().len(), 1);
    assert!(
        world.call(&["ps"]).good().err.contains("refused DEL"),
        "it is told until it is done"
    );
    machine.odd_does("");
    assert!(world.call(&["ps"]).good().err.contains("is undone"));
    machine.assert_nothing_attached();
    assert!(world.pod_ids().is_empty());
}

#[test]
fn pods_are_taken_off_also_without_the_configuration_that_they_came_by() {
    let machine = Machine::new(&[odd()]);
    let world = &machine.world;
    world.detach(&ALL.map(|handler| pod(handler, handler, &[app(WAITS)])));
    machine.calls();
    fs::remove_file(machine.conflist()).unwrap();
    let (code, report) = world.report(&[pod("late", "crun", &[app("exit 0")])]);
    assert!(
        code != 0 && brief(&report).contains("/net.d has no CNI configuration, and no other network is to be used"),
        "{}",
        brief(&report)
    );
    world.call(&["stop", "crun", "--grace", "0"]).good();
    let calls = machine.calls();
    assert!(
        count(&calls, "DEL") == 1 && calls[0].contains("netns=net:["),
        "in the namespace while it lives: {calls:?}"
    );
    // One that cannot be read does not stand in the way either.
    fs::write(machine.conflist(), "{").unwrap();
    world.call(&["stop", "--all", "--grace", "0"]).good();
    let calls = machine.calls();
    assert!(
        count(&calls, "DEL") == 2 && calls.iter().all(|call| call.contains("netns=net:[")),
        "{calls:?}"
    );
    machine.assert_nothing_attached();
}

#[test]
fn after_everything_is_killed_the_next_command_takes_pods_off() {
    let machine = Machine::new(&[odd()]);
    let world = &machine.world;
    let mut run = Running(world.spawn(
        &["run", "-f", "-"],
        manifest(&ALL.map(|handler| pod(handler, handler, &[app(WAITS)]))).as_bytes(),
    ));
    for handler in ALL {
        common::until_runs(world, &mut run, handler);
    }
    let traces = world.traces();
    machine.calls();
    kill_all(world, &mut run);
    assert!(
        world.statuses().values().all(|status| status == "NotReady"),
        "{:?}",
        world.statuses()
    );
    traces.assert_ended(world);
    let calls = machine.calls();
    assert_eq!(count(&calls, "DEL"), 3, "{calls:?}");
    machine.assert_nothing_attached();
}

#[test]
fn pods_with_users_of_their_own_are_attached_too() {
    let machine = Machine::new(&[odd()]);
    let world = &machine.world;
    world.detach(&SHARED.map(|handler| {
        let mut serving = pod(handler, handler, &[app(SERVES)]);
        serving["spec"]["hostUsers"] = json!(false);
        serving
    }));
    for handler in SHARED {
        assert!(until_get(address(world, handler), PORT).starts_with(handler));
    }
    world.call(&["stop", "--all", "--grace", "0"]).good();
    machine.assert_nothing_attached();
}

#[test]
fn an_owner_killed_while_a_plugin_hangs_leaves_nothing_to_the_next_command() {
    for handler in SHARED {
        let machine = Machine::new(&[odd()]);
        let world = &machine.world;
        machine.odd_does("[ $CNI_COMMAND = ADD ] && { sh -c 'sleep 1000; true' odd-child; sleep 1000; }");
        let mut run = Running(world.spawn(&["run", "-f", "-"], manifest(&[pod("p", handler, &[app(WAITS)])]).as_bytes()));
        until("the plugin hangs", || {
            fs::read_to_string(world.dir.join("calls"))
                .ok()
                .filter(|calls| calls.starts_with("ADD"))
        });
        assert_eq!(machine.leases().len(), 1, "the one before it has given an address");
        let traces = world.traces();
        common::signal(run.0.id(), Signal::KILL);
        until("the owner is dead", || run.0.try_wait().unwrap());
        assert!(!world.statuses().contains_key("p"), "it never was");
        traces.assert_gone(world);
        let calls = machine.calls();
        assert_eq!(count(&calls, "DEL"), 1, "{calls:?}");
        machine.assert_nothing_attached();
        until("the plugin that hung is gone", || {
            machine.plugins_that_run().is_empty().then_some(())
        });
    }
}

#[test]
fn a_pod_whose_plugin_hangs_can_be_stopped() {
    let machine = Machine::new(&[odd()]);
    let world = &machine.world;
    world.detach(&[pod("stays", "runc", &[app(SERVES)])]);
    machine.calls();
    machine.odd_does(
        "[ $CNI_COMMAND = ADD ] && { while [ -e DIR/does ]; do sleep 0.1; done; }"
            .replace("DIR", &world.dir.display().to_string())
            .as_str(),
    );
    let mut run = Running(world.spawn(&["run", "-f", "-"], manifest(&[pod("p", "crun", &[app(WAITS)])]).as_bytes()));
    until("the plugin hangs", || {
        fs::read_to_string(world.dir.join("calls"))
            .ok()
            .filter(|calls| calls.starts_with("ADD"))
    });
    assert!(get(address(world, "stays"), PORT).is_some(), "the others are unharmed");
    let mut stop = Running(world.spawn(&["stop", "p", "--grace", "0"], b""));
    std::thread::sleep(std::time::Duration::from_millis(200));
    fs::remove_file(world.dir.join("does")).unwrap();
    assert!(until("stop ends", || stop.0.try_wait().unwrap()).success());
    until("the run ends", || run.0.try_wait().unwrap());
    let calls = machine.calls();
    assert!(count(&calls, "ADD") == 1 && count(&calls, "DEL") >= 1, "{calls:?}");
    assert_eq!((machine.leases().len(), machine.kept().len()), (1, 1));
}
