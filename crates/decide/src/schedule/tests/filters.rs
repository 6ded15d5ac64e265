//! The filters that look at one node alone, one row a rule, and the message.

use super::*;

/// What a cluster of this one node says of a pod with this spec.
fn said(more: Value, labels: Value, spec: Value) -> String {
    let mut snapshot = snapshot(vec![node("n1", labels, more)]);
    let pod = pod("p", json!({}), spec);
    reason(&mut snapshot, &pod, "n1")
}

#[test]
fn taints_and_tolerations() {
    const REFUSED: &str = "node(s) had untolerated taint(s)";
    let taint = |key: &str, value: &str, effect: &str| json!({"key": key, "value": value, "effect": effect});
    let rows = [
        // taints, tolerations, reason
        (json!([taint("a", "v", "NoSchedule")]), json!([]), REFUSED),
        (json!([taint("a", "v", "NoExecute")]), json!([]), REFUSED),
        (json!([taint("a", "v", "PreferNoSchedule")]), json!([]), ""),
        (json!([taint("a", "v", "NoSchedule")]), json!([{"key": "a", "value": "v"}]), ""),
        (
            json!([taint("a", "v", "NoSchedule")]),
            json!([{"key": "a", "operator": "Equal", "value": "w"}]),
            REFUSED,
        ),
        (
            json!([taint("a", "v", "NoSchedule")]),
            json!([{"key": "b", "operator": "Exists"}]),
            REFUSED,
        ),
        (
            json!([taint("a", "v", "NoSchedule")]),
            json!([{"key": "a", "operator": "Exists", "effect": "NoExecute"}]),
            REFUSED,
        ),
        (
            json!([taint("a", "v", "NoSchedule")]),
            json!([{"key": "a", "operator": "Exists", "effect": "NoSchedule"}]),
            "",
        ),
        (
            json!([taint("a", "v", "NoSchedule"), taint("b", "", "NoExecute")]),
            json!([{"key": "a", "operator": "Exists"}]),
            REFUSED,
        ),
        (
            json!([taint("a", "v", "NoSchedule"), taint("b", "", "NoExecute")]),
            json!([{"operator": "Exists"}]),
            "",
        ),
        (
            json!([taint("a", "v", "NoSchedule")]),
            json!([{"key": "a", "operator": "Lt", "value": "v"}]),
            REFUSED,
        ),
    ];
    for (taints, tolerations, expected) in rows {
        let row = format!("{taints} {tolerations}");
        assert_eq!(
            said(json!({"spec": {"taints": taints}}), json!({}), json!({"tolerations": tolerations})),
            expected,
            "{row}"
        );
    }
}

#[test]
fn cordons_names_and_handlers() {
    let handlers = |names: &[&str]| json!({"status": {"runtimeHandlers": names.iter().map(|n| json!({"name": n})).collect::<Vec<_>>()}});
    let rows = [
        (
            json!({"spec": {"unschedulable": true}}),
            json!({}),
            "",
            "node(s) were unschedulable",
        ),
        (
            json!({"spec": {"unschedulable": true}}),
            json!({"tolerations": [{"key": "node.kubernetes.io/unschedulable", "operator": "Exists"}]}),
            "",
            "",
        ),
        (
            json!({}),
            json!({"nodeName": "n2"}),
            "",
            "node(s) didn't match the requested node name",
        ),
        (json!({}), json!({"nodeName": "n1"}), "", ""),
        (json!({}), json!({}), "kata-qemu", ""),
        (handlers(&["", "runc", "kata-qemu"]), json!({}), "kata-qemu", ""),
        (
            handlers(&["", "runc"]),
            json!({}),
            "kata-qemu",
            r#"node(s) did not offer runtime handler "kata-qemu""#,
        ),
        (handlers(&["runc"]), json!({}), "", ""),
    ];
    for (more, spec, handler, expected) in rows {
        let mut snapshot = snapshot(vec![node("n1", json!({}), more.clone())]);
        let pod = pod("p", json!({}), spec.clone());
        let request = Request {
            handler,
            ..Request::new(&pod)
        };
        let outcome = snapshot.report(&request).remove(0).outcome;
        assert_eq!(outcome.err().unwrap_or_default().join(", "), expected, "{more} {spec} {handler}");
    }
}

#[test]
fn node_selectors_and_every_operator_of_affinity() {
    const REFUSED: &str = "node(s) didn't match Pod's node affinity/selector";
    let terms = |terms: Value| json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}});
    let one = |key: &str, operator: &str, values: Value| {
        terms(json!([{"matchExpressions": [{"key": key, "operator": operator, "values": values}]}]))
    };
    let field =
        |operator: &str, values: Value| terms(json!([{"matchFields": [{"key": "metadata.name", "operator": operator, "values": values}]}]));
    let rows = [
        (json!({"nodeSelector": {"disk": "ssd"}}), true),
        (json!({"nodeSelector": {"disk": "hdd"}}), false),
        (json!({"nodeSelector": {"disk": "ssd", "gpu": ""}}), false),
        (one("disk", "In", json!(["hdd", "ssd"])), true),
        (one("disk", "In", json!(["hdd"])), false),
        (one("gpu", "In", json!(["a"])), false),
        (one("disk", "NotIn", json!(["hdd"])), true),
        (one("disk", "NotIn", json!(["ssd"])), false),
        (one("gpu", "NotIn", json!(["a"])), true),
        (one("disk", "Exists", json!([])), true),
        (one("gpu", "Exists", json!([])), false),
        (one("disk", "DoesNotExist", json!([])), false),
        (one("gpu", "DoesNotExist", json!([])), true),
        (one("cores", "Gt", json!(["7"])), true),
        (one("cores", "Gt", json!(["8"])), false),
        (one("cores", "Lt", json!(["9"])), true),
        (one("cores", "Lt", json!(["8"])), false),
        (one("gpu", "Gt", json!(["0"])), false),
        (one("disk", "Gt", json!(["0"])), false),
        (one("cores", "Gt", json!(["x"])), false),
        (one("cores", "Gt", json!(["1", "2"])), false),
        (one("disk", "Near", json!(["ssd"])), false),
        // Requirements of a term must all hold, of terms one.
        (
            terms(json!([{"matchExpressions": [{"key": "disk", "operator": "Exists"}, {"key": "gpu", "operator": "Exists"}]}])),
            false,
        ),
        (
            terms(
                json!([{"matchExpressions": [{"key": "gpu", "operator": "Exists"}]}, {"matchExpressions": [{"key": "disk", "operator": "Exists"}]}]),
            ),
            true,
        ),
        (terms(json!([{}])), false),
        (terms(json!([])), false),
        (field("In", json!(["n1"])), true),
        (field("NotIn", json!(["n1"])), false),
        (field("NotIn", json!(["n2"])), true),
        // The selector holds beside affinity.
        (
            json!({"nodeSelector": {"disk": "hdd"}, "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchExpressions": [{"key": "disk", "operator": "Exists"}]}]}}}}),
            false,
        ),
    ];
    for (spec, fits) in rows {
        let expected = if fits { "" } else { REFUSED };
        assert_eq!(
            said(json!({}), json!({"disk": "ssd", "cores": "8"}), spec.clone()),
            expected,
            "{spec}"
        );
    }
}

#[test]
fn host_ports() {
    let ports = |list: Value| json!({"containers": [{"name": "c", "image": "i", "ports": list}]});
    let port = |number: i32, address: Option<&str>, protocol: Option<&str>| {
        let mut port = json!({"containerPort": 80, "hostPort": number});
        address.iter().for_each(|a| port["hostIP"] = json!(a));
        protocol.iter().for_each(|p| port["protocol"] = json!(p));
        port
    };
    let rows = [
        // taken, wanted, fits
        (port(80, None, None), port(80, None, None), false),
        (port(80, None, None), port(81, None, None), true),
        (port(80, None, Some("TCP")), port(80, None, Some("UDP")), true),
        (port(80, Some("127.0.0.1"), None), port(80, Some("127.0.0.2"), None), true),
        (port(80, Some("127.0.0.1"), None), port(80, Some("127.0.0.1"), None), false),
        (port(80, Some("0.0.0.0"), None), port(80, Some("127.0.0.1"), None), false),
        (port(80, Some("127.0.0.1"), None), port(80, Some("0.0.0.0"), None), false),
        (port(80, Some("127.0.0.1"), None), port(80, None, None), false),
        (port(0, None, None), port(0, None, None), true),
    ];
    for (taken, wanted, fits) in rows {
        let mut snapshot = snapshot(vec![node("n1", json!({}), json!({}))]);
        snapshot.place(pod("there", json!({}), ports(json!([taken]))), "n1").unwrap();
        let coming = pod("p", json!({}), ports(json!([wanted])));
        let expected = if fits {
            ""
        } else {
            "node(s) didn't have free ports for the requested pod ports"
        };
        assert_eq!(reason(&mut snapshot, &coming, "n1"), expected, "{taken} {wanted}");
        snapshot.remove("default", "there").unwrap();
        assert_eq!(reason(&mut snapshot, &coming, "n1"), "", "once it is free");
    }
    // An init container that ends takes no port; a sidecar does.
    let init =
        |policy: Value| json!({"initContainers": [{"name": "i", "image": "i", "restartPolicy": policy, "ports": [port(80, None, None)]}]});
    for (policy, expected) in [
        (json!(null), ""),
        (json!("Always"), "node(s) didn't have free ports for the requested pod ports"),
    ] {
        let mut snapshot = snapshot(vec![node("n1", json!({}), json!({}))]);
        snapshot.place(pod("there", json!({}), init(policy)), "n1").unwrap();
        assert_eq!(
            reason(&mut snapshot, &pod("p", json!({}), ports(json!([port(80, None, None)]))), "n1"),
            expected
        );
    }
}

#[test]
fn resources_with_overhead() {
    let rows = [
        (requesting(json!({"cpu": "4"})), ""),
        (requesting(json!({"cpu": "4001m"})), "Insufficient cpu"),
        (
            json!({"containers": requesting(json!({"cpu": "4"}))["containers"], "overhead": {"cpu": "1m"}}),
            "Insufficient cpu",
        ),
        (json!({"overhead": {"memory": "9Gi"}}), "Insufficient memory"),
        (
            requesting(json!({"cpu": "5", "memory": "9Gi", "ephemeral-storage": "101Gi"})),
            "Insufficient cpu, Insufficient ephemeral-storage, Insufficient memory",
        ),
        (requesting(json!({"example.com/gpu": "1"})), "Insufficient example.com/gpu"),
        (requesting(json!({"example.com/gpu": "0"})), ""),
        (requesting(json!({"example.com/disk": "3"})), ""),
        (requesting(json!({"example.com/disk": "4"})), "Insufficient example.com/disk"),
        (requesting(json!({"hugepages-2Mi": "2Mi"})), "Insufficient hugepages-2Mi"),
        (requesting(json!({"cpu": "99999999999E"})), "Insufficient cpu"),
    ];
    for (spec, expected) in rows {
        let more = json!({"status": {"allocatable": {"cpu": "4", "memory": "8Gi", "ephemeral-storage": "100Gi", "example.com/disk": "3", "pods": "1"}}});
        assert_eq!(said(more, json!({}), spec.clone()), expected, "{spec}");
    }
    let mut full = snapshot(vec![node(
        "n1",
        json!({}),
        json!({"status": {"allocatable": {"cpu": "2", "pods": "1"}}}),
    )]);
    assert_eq!(run(&mut full, &hungry("a", "1500m")), "n1");
    assert_eq!(reason(&mut full, &pod("b", json!({}), json!({})), "n1"), "Too many pods");
    assert_eq!(reason(&mut full, &hungry("b", "1"), "n1"), "Insufficient cpu, Too many pods");
}

/// Sums of hostile requests are held, and let go exactly.
#[test]
fn huge_requests_neither_wrap_nor_stay() {
    let mut snapshot = snapshot(vec![node("n1", json!({}), json!({}))]);
    for name in ["a", "b", "c"] {
        snapshot.place(hungry(name, "9000000000000000"), "n1").unwrap();
    }
    assert_eq!(reason(&mut snapshot, &hungry("p", "1m"), "n1"), "Insufficient cpu");
    ["a", "b", "c"]
        .iter()
        .for_each(|name| drop(snapshot.remove("default", name).unwrap()));
    assert_eq!(reason(&mut snapshot, &hungry("p", "4"), "n1"), "");
}

#[test]
fn the_message_is_upstreams() {
    let taint = json!({"spec": {"taints": [{"key": "a", "effect": "NoSchedule"}]}});
    let cluster = |more: Vec<Value>| {
        snapshot(
            more.into_iter()
                .enumerate()
                .map(|(i, m)| node(&format!("n{i:02}"), json!({"disk": "ssd"}), m))
                .collect(),
        )
    };
    let pinned = |names: Value| {
        let terms: Vec<_> = names
            .as_array()
            .unwrap()
            .iter()
            .map(|n| json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [n]}]}))
            .collect();
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}})
    };
    let contradicting = json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchFields": [
        {"key": "metadata.name", "operator": "In", "values": ["n00"]}, {"key": "metadata.name", "operator": "In", "values": ["n01"]}]}]}}}});
    const GATED: &str = "Scheduling is blocked due to non-empty scheduling gates";
    let gated = json!({"schedulingGates": [{"name": "example.com/wait"}]});
    let mut many = vec![json!({}); 10];
    many.extend(vec![taint.clone(); 2]);
    let rows = [
        (vec![], json!({}), "no nodes available to schedule pods"),
        (vec![], gated.clone(), GATED),
        (vec![json!({})], gated, GATED),
        (
            vec![json!({})],
            requesting(json!({"cpu": "3"})),
            "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.",
        ),
        (
            vec![json!({})],
            requesting(json!({"cpu": "9"})),
            "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.",
        ),
        (
            vec![taint.clone(), json!({}), json!({})],
            requesting(json!({"cpu": "3"})),
            "0/3 nodes are available: 1 node(s) had untolerated taint(s), 2 Insufficient cpu. no new claims to deallocate, preemption: 0/3 nodes are available: 1 Preemption is not helpful for scheduling, 2 No preemption victims found for incoming pod.",
        ),
        // Sorted as text: 10 before 2.
        (
            many,
            requesting(json!({"cpu": "9", "memory": "9Gi"})),
            "0/12 nodes are available: 10 Insufficient cpu, 10 Insufficient memory, 2 node(s) had untolerated taint(s). no new claims to deallocate, preemption: 0/12 nodes are available: 12 Preemption is not helpful for scheduling.",
        ),
        (
            vec![json!({}), json!({}), json!({})],
            json!({"containers": requesting(json!({"cpu": "3"}))["containers"], "affinity": pinned(json!(["n00", "gone"]))["affinity"]}),
            "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't satisfy plugin(s) [NodeAffinity]. no new claims to deallocate, preemption: 0/3 nodes are available: 1 No preemption victims found for incoming pod, 2 Preemption is not helpful for scheduling.",
        ),
        (
            vec![json!({}), json!({})],
            contradicting,
            "0/2 nodes are available: pod affinity terms conflict. not found",
        ),
        (
            vec![json!({})],
            json!({"containers": requesting(json!({"cpu": "3"}))["containers"], "preemptionPolicy": "Never"}),
            "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: not eligible due to preemptionPolicy=Never.",
        ),
        (
            vec![json!({})],
            json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "zone", "labelSelector": {"matchExpressions": [{"key": "a", "operator": "Near"}]}}]}}}),
            r#"0/1 nodes are available: parsing pod: "Near" is not a valid label selector operator. not found"#,
        ),
    ];
    for (more, spec, expected) in rows {
        let mut snapshot = cluster(more);
        // 2 of 4 cpus are taken everywhere.
        let names: Vec<String> = snapshot.nodes().iter().map(|n| n.metadata.name.clone()).collect();
        for name in names {
            snapshot.place(hungry(&format!("on-{name}"), "2"), &name).unwrap();
        }
        let coming = pod("p", json!({}), spec);
        assert_eq!(run(&mut snapshot, &coming), expected);
        assert_eq!(run(&mut snapshot, &coming), expected, "asked again");
    }
}

#[test]
fn a_failure_is_not_remembered_once_something_changed() {
    let mut snapshot = snapshot(vec![node("n1", json!({}), json!({}))]);
    snapshot.place(hungry("there", "3"), "n1").unwrap();
    assert!(run(&mut snapshot, &hungry("p", "2")).starts_with("0/1 nodes"));
    snapshot.remove("default", "there").unwrap();
    assert_eq!(run(&mut snapshot, &hungry("p", "2")), "n1");
}

#[test]
fn pods_and_nodes_are_placed_once() {
    let mut snapshot = snapshot(vec![node("n1", json!({}), json!({}))]);
    snapshot.place(hungry("a", "1"), "n1").unwrap();
    let again = snapshot.place(hungry("a", "1"), "n1").unwrap_err().to_string();
    assert_eq!(again, r#"pod default/a is on node "n1" already; remove it there first"#);
    assert_eq!(
        snapshot.place(hungry("b", "1"), "n2").unwrap_err().to_string(),
        r#"node "n2" is not known; give it with the other nodes"#
    );
    assert_eq!(snapshot.pods_on("n1").count(), 1);
    let twins = vec![node("n1", json!({}), json!({})), node("n1", json!({}), json!({}))];
    assert_eq!(
        Snapshot::new(twins, &[], ALL).unwrap_err().to_string(),
        r#"node "n1" is given twice; remove one"#
    );
}

/// What is remembered of one pod is not said of another that differs in one thing.
#[test]
fn pods_that_differ_are_told_apart() {
    let nodes = || {
        let tainted =
            json!({"spec": {"taints": [{"key": "t", "effect": "NoSchedule"}]}, "status": {"runtimeHandlers": [{"name": "kata"}]}});
        vec![
            node("n1", json!({"zone": "a"}), tainted),
            node(
                "n2",
                json!({"zone": "b"}),
                json!({"status": {"runtimeHandlers": [{"name": "runsc"}]}}),
            ),
        ]
    };
    let tolerating = json!({"tolerations": [{"operator": "Exists"}]});
    let asked = [
        (json!({}), ""),
        (json!({}), "kata"),
        (json!({}), "runsc"),
        (tolerating.clone(), ""),
        (tolerating, "kata"),
        (json!({"nodeName": "n1"}), ""),
        (json!({"nodeName": "n2"}), ""),
        (json!({"nodeSelector": {"topology.kubernetes.io/zone": "a"}}), ""),
        (requesting(json!({"cpu": "5"})), ""),
        (
            json!({"containers": requesting(json!({"cpu": "5"}))["containers"], "preemptionPolicy": "Never"}),
            "",
        ),
    ];
    let mut one = snapshot(nodes());
    for _ in 0..2 {
        for (spec, handler) in &asked {
            let pod = pod("p", json!({}), spec.clone());
            let request = Request {
                handler,
                ..Request::new(&pod)
            };
            assert_eq!(one.decide(&request), snapshot(nodes()).decide(&request), "{spec} {handler}");
        }
    }
}
