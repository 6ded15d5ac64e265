#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use super::*;
use crate::testing::{container, object, pod, show};
use serde_json::{Value, json};

fn quota(spec: Value) -> ResourceQuota {
    object(json!({"metadata": {"name": "q"}, "spec": spec}))
}

fn whole(cpu: &str, memory: &str) -> Value {
    json!({"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": cpu, "memory": memory}})
}

/// The reason of the denial, or nothing.
fn reason(pod: &Pod, quota: &ResourceQuota, running: &[Pod]) -> String {
    let quotas = std::slice::from_ref(quota);
    let answer = check(pod, quotas, &Used::of(quotas, running)).map_or_else(|e| e.to_string(), |()| String::new());
    answer.trim_start_matches("pods \"p\" is forbidden: ").to_string()
}

#[test]
fn usage_counts_requests_limits_and_overhead() {
    let rows = [
        (json!({}), "count/pods=1,pods=1"),
        (
            json!({"containers": [container("a", whole("1", "1Gi"))]}),
            "count/pods=1,cpu=1,limits.cpu=1,limits.memory=1Gi,memory=1Gi,pods=1,requests.cpu=1,requests.memory=1Gi",
        ),
        // overhead: in requests always, in limits where there are any
        (
            json!({"containers": [container("a", json!({"limits": {"cpu": "1"}}))], "overhead": {"cpu": "250m", "memory": "120Mi"}}),
            "count/pods=1,cpu=250m,limits.cpu=1250m,memory=120Mi,pods=1,requests.cpu=250m,requests.memory=120Mi",
        ),
        (
            json!({"containers": [container("a", json!({"requests": {"ephemeral-storage": "1Gi"}, "limits": {"ephemeral-storage": "2Gi"}}))]}),
            "count/pods=1,ephemeral-storage=1Gi,limits.ephemeral-storage=2Gi,pods=1,requests.ephemeral-storage=1Gi",
        ),
        (
            json!({"containers": [container("a", json!({"requests": {"hugepages-2Mi": "4Mi", "example.com/gpu": "1"}}))]}),
            "count/pods=1,hugepages-2Mi=4Mi,pods=1,requests.example.com/gpu=1,requests.hugepages-2Mi=4Mi",
        ),
    ];
    for (spec, expected) in rows {
        assert_eq!(show(&usage(&pod(spec.clone()))), expected, "{spec}");
    }
}

#[test]
fn what_is_used_and_asked_must_fit() {
    let asking = |cpu: &str| pod(json!({"containers": [container("c", whole(cpu, "1Gi"))]}));
    let one = asking("1");
    let sandboxed = pod(json!({"containers": [container("c", whole("1", "1Gi"))], "overhead": {"cpu": "250m"}}));
    let rows = [
        (json!({"hard": {"cpu": "2"}}), &one, vec![one.clone()], ""),
        (
            json!({"hard": {"cpu": "2"}}),
            &one,
            vec![one.clone(), one.clone()],
            "exceeded quota: q, requested: cpu=1, used: cpu=2, limited: cpu=2",
        ),
        (json!({"hard": {"cpu": "1"}}), &one, vec![], ""),
        (
            json!({"hard": {"cpu": "900m"}}),
            &one,
            vec![],
            "exceeded quota: q, requested: cpu=1, used: cpu=0, limited: cpu=900m",
        ),
        (
            json!({"hard": {"requests.cpu": "500m", "limits.memory": "512Mi", "pods": "5"}}),
            &one,
            vec![],
            "exceeded quota: q, requested: limits.memory=1Gi,requests.cpu=1, used: limits.memory=0,requests.cpu=0, limited: limits.memory=512Mi,requests.cpu=500m",
        ),
        (
            json!({"hard": {"cpu": "1"}}),
            &sandboxed,
            vec![],
            "exceeded quota: q, requested: cpu=1250m, used: cpu=0, limited: cpu=1",
        ),
        (
            json!({"hard": {"cpu": "2"}}),
            &one,
            vec![sandboxed.clone()],
            "exceeded quota: q, requested: cpu=1, used: cpu=1250m, limited: cpu=2",
        ),
        (
            json!({"hard": {"pods": "1"}}),
            &one,
            vec![one.clone()],
            "exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1",
        ),
        (
            json!({"hard": {"count/pods": "0"}}),
            &one,
            vec![],
            "exceeded quota: q, requested: count/pods=1, used: count/pods=0, limited: count/pods=0",
        ),
        // what is not of pods is not looked at
        (json!({"hard": {"configmaps": "0"}}), &one, vec![], ""),
    ];
    for (spec, pod, running, expected) in rows {
        assert_eq!(reason(pod, &quota(spec.clone()), &running), expected, "{spec}");
    }
    let mut elsewhere = quota(json!({"hard": {"pods": "0"}}));
    elsewhere.metadata.namespace = Some("other".to_string());
    assert_eq!(reason(&one, &elsewhere, &[]), "");
    // What is asked in no amount fits even where more is used than there is.
    let idle = pod(json!({"containers": [container("c", whole("0", "1Gi"))]}));
    assert_eq!(reason(&idle, &quota(json!({"hard": {"cpu": "500m"}})), &[one]), "");
}

#[test]
fn containers_must_say_what_a_quota_limits() {
    let open = |names: &[&str]| -> Vec<Value> { names.iter().map(|n| container(n, json!({}))).collect() };
    let rows = [
        (
            json!({"containers": open(&["b", "a"])}),
            "limits.cpu",
            "failed quota: q: must specify limits.cpu for: a,b",
        ),
        (
            json!({"containers": open(&["c"]), "initContainers": open(&["i"])}),
            "cpu",
            "failed quota: q: must specify cpu for: c,i",
        ),
        (
            json!({"containers": [container("c", json!({"requests": {"cpu": "1"}}))], "initContainers": open(&["i"])}),
            "requests.cpu",
            "failed quota: q: must specify requests.cpu for: i",
        ),
        // overhead does not stand for a container's own word
        (
            json!({"containers": open(&["c"]), "overhead": {"cpu": "1"}}),
            "cpu",
            "failed quota: q: must specify cpu for: c",
        ),
        // ephemeral storage need not be said
        (json!({"containers": open(&["c"])}), "requests.ephemeral-storage", ""),
        (json!({"containers": open(&["c"])}), "pods", ""),
        // nor anything where the pod as a whole says it
        (
            json!({"containers": open(&["c"]), "resources": {"requests": {"cpu": "1"}}}),
            "cpu",
            "",
        ),
    ];
    for (spec, hard, expected) in rows {
        assert_eq!(
            reason(&pod(spec.clone()), &quota(json!({"hard": {hard: "10"}})), &[]),
            expected,
            "{spec}"
        );
    }
    let both = quota(json!({"hard": {"limits.cpu": "10", "limits.memory": "10Gi"}}));
    let halves = pod(json!({"containers": [container("a", json!({"limits": {"cpu": "1"}})), container("b", json!({}))]}));
    assert_eq!(
        reason(&halves, &both, &[]),
        "failed quota: q: must specify limits.cpu for: b; limits.memory for: a,b"
    );
}

#[test]
fn scopes_choose_pods() {
    let best_effort = pod(json!({}));
    let burstable = pod(json!({"containers": [container("c", json!({"requests": {"cpu": "1"}}))]}));
    let ending = pod(json!({"activeDeadlineSeconds": 5}));
    let high = pod(json!({"priorityClassName": "high"}));
    let near = |term: Value| {
        let term = json!({"topologyKey": "zone", "namespaces": term["namespaces"].as_array().cloned().unwrap_or_default(), "namespaceSelector": term["selector"]});
        pod(json!({"affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}}))
    };
    let far = |term: Value| {
        pod(
            json!({"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": term}]}}}),
        )
    };
    let scope = |name: &str| json!({"scopes": [name]});
    let expression = |name: &str, operator: &str, values: Value| json!({"scopeSelector": {"matchExpressions": [{"scopeName": name, "operator": operator, "values": values}]}});
    let rows = [
        (json!({}), &best_effort, true),
        (scope("BestEffort"), &best_effort, true),
        (scope("BestEffort"), &burstable, false),
        (scope("NotBestEffort"), &best_effort, false),
        (scope("NotBestEffort"), &burstable, true),
        (scope("Terminating"), &ending, true),
        (scope("Terminating"), &best_effort, false),
        (scope("NotTerminating"), &ending, false),
        (scope("NotTerminating"), &best_effort, true),
        (scope("PriorityClass"), &high, true),
        (scope("PriorityClass"), &best_effort, false),
        (scope("CrossNamespacePodAffinity"), &best_effort, false),
        (scope("CrossNamespacePodAffinity"), &near(json!({})), false),
        (scope("CrossNamespacePodAffinity"), &near(json!({"namespaces": ["a"]})), true),
        (scope("CrossNamespacePodAffinity"), &near(json!({"selector": {}})), true),
        (scope("CrossNamespacePodAffinity"), &far(json!({"namespaces": ["a"]})), true),
        (scope("CrossNamespacePodAffinity"), &far(json!({})), false),
        // Scopes of volume claims hold for no pod.
        (scope("VolumeAttributesClass"), &best_effort, false),
        (expression("BestEffort", "Exists", json!([])), &best_effort, true),
        (expression("BestEffort", "Exists", json!([])), &burstable, false),
        (expression("Terminating", "Exists", json!([])), &ending, true),
        (expression("NotTerminating", "Exists", json!([])), &ending, false),
        (
            expression("CrossNamespacePodAffinity", "Exists", json!([])),
            &near(json!({"namespaces": ["a"]})),
            true,
        ),
        (expression("PriorityClass", "Exists", json!([])), &high, true),
        (expression("PriorityClass", "Exists", json!([])), &best_effort, false),
        (expression("PriorityClass", "DoesNotExist", json!([])), &high, false),
        (expression("PriorityClass", "DoesNotExist", json!([])), &best_effort, true),
        (expression("PriorityClass", "In", json!(["low", "high"])), &high, true),
        (expression("PriorityClass", "In", json!(["low"])), &high, false),
        (expression("PriorityClass", "In", json!(["low"])), &best_effort, false),
        (expression("PriorityClass", "NotIn", json!(["low"])), &high, true),
        (expression("PriorityClass", "NotIn", json!(["high"])), &high, false),
        (expression("PriorityClass", "NotIn", json!(["high"])), &best_effort, true),
        // scopes and all expressions together
        (
            json!({"scopes": ["NotTerminating"], "scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "Exists"}]}}),
            &high,
            true,
        ),
        (
            json!({"scopes": ["Terminating"], "scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "Exists"}]}}),
            &high,
            false,
        ),
        (
            json!({"scopeSelector": {"matchExpressions": [{"scopeName": "PriorityClass", "operator": "Exists"}, {"scopeName": "NotBestEffort", "operator": "Exists"}]}}),
            &high,
            false,
        ),
    ];
    for (spec, pod, counted) in rows {
        let mut spec = spec;
        // A quota of pods does not go with a scope of volume claims, and is refused before it is asked.
        spec["hard"] = if spec["scopes"] == json!(["VolumeAttributesClass"]) {
            json!({"count/pods": "0"})
        } else {
            json!({"pods": "0"})
        };
        let expected = if counted {
            "exceeded quota: q, requested: pods=1, used: pods=0, limited: pods=0"
        } else {
            ""
        };
        assert_eq!(reason(pod, &quota(spec.clone()), &[]), expected, "{spec}");
        let quotas = [quota(spec.clone())];
        assert_eq!(left(pod, &quotas, &Used::default()).len(), usize::from(counted), "{spec}");
        assert_eq!(
            Used::of(&quotas, std::slice::from_ref(pod)).get(&quotas[0], "pods").is_zero(),
            !counted,
            "{spec}"
        );
    }
}

/// One row a rule of `ValidateResourceQuota`.
#[test]
fn what_a_quota_may_say() {
    const NAME_PART: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
    let with = |scopes: Value| json!({"hard": {"pods": "1"}, "scopes": scopes});
    let select = |expressions: Value| json!({"hard": {"pods": "1"}, "scopeSelector": {"matchExpressions": expressions}});
    let exists = |name: &str| json!({"scopeName": name, "operator": "Exists"});
    let path = "spec.scopeSelector.matchExpressions";
    let only_exists = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
    let rows: Vec<(Value, String)> = vec![
        (json!({}), String::new()),
        // names and amounts
        (
            json!({"hard": {"cpu": "1500m", "requests.memory": "1Gi", "hugepages-2Mi": "4Mi", "requests.hugepages-2Mi": "4Mi", "requests.example.com/gpu": "1", "count/deployments.apps": "3", "services.nodeports": "0"}}),
            String::new(),
        ),
        (json!({"hard": {"storage": "1"}}), "spec.hard[storage]: Invalid value: \"storage\": must be a standard resource for quota".into()),
        (
            json!({"hard": {"foo": "1"}}),
            "[spec.hard[foo]: Invalid value: \"foo\": must be a standard resource type or fully qualified, spec.hard[foo]: Invalid value: \"foo\": must be a standard resource for quota]".into(),
        ),
        (
            json!({"hard": {"a b": "1"}}),
            format!("[spec.hard[a b]: Invalid value: \"a b\": {NAME_PART}, spec.hard[a b]: Invalid value: \"a b\": must be a standard resource for quota]"),
        ),
        (json!({"hard": {"cpu": "-1"}}), "spec.hard[cpu]: Invalid value: \"-1\": must be greater than or equal to 0".into()),
        (json!({"hard": {"pods": "1500m"}}), "spec.hard[pods]: Invalid value: \"1500m\": must be an integer".into()),
        (json!({"hard": {"count/pods": "1500m"}}), "spec.hard[count/pods]: Invalid value: \"1500m\": must be an integer".into()),
        (json!({"hard": {"example.com/gpu": "1500m"}}), "spec.hard[example.com/gpu]: Invalid value: \"1500m\": must be an integer".into()),
        (json!({"hard": {"requests.example.com/gpu": "1500m"}}), String::new()),
        // scopes
        (with(json!(["Terminating", "NotBestEffort", "PriorityClass", "CrossNamespacePodAffinity"])), String::new()),
        (with(json!(["X"])), "spec.scopes: Invalid value: [\"X\"]: unsupported scope".into()),
        (with(json!(["BestEffort", "NotBestEffort"])), "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\"]: conflicting scopes".into()),
        (with(json!(["Terminating", "NotTerminating"])), "spec.scopes: Invalid value: [\"Terminating\",\"NotTerminating\"]: conflicting scopes".into()),
        (with(json!(["VolumeAttributesClass"])), "spec.scopes: Invalid value: [\"VolumeAttributesClass\"]: unsupported scope applied to resource".into()),
        (
            json!({"hard": {"cpu": "1"}, "scopes": ["BestEffort"]}),
            "spec.scopes: Invalid value: [\"BestEffort\"]: unsupported scope applied to resource".into(),
        ),
        (
            json!({"hard": {"secrets": "1", "pods": "1"}, "scopes": ["Terminating"]}),
            "spec.scopes: Invalid value: [\"Terminating\"]: unsupported scope applied to resource".into(),
        ),
        (
            json!({"hard": {"requests.ephemeral-storage": "1"}, "scopes": ["PriorityClass"]}),
            "spec.scopes: Invalid value: [\"PriorityClass\"]: unsupported scope applied to resource".into(),
        ),
        (json!({"hard": {"count/pods": "1", "requests.example.com/gpu": "1"}, "scopes": ["BestEffort"]}), String::new()),
        // selectors
        (select(json!([exists("PriorityClass"), exists("NotTerminating")])), String::new()),
        (select(json!([{"scopeName": "PriorityClass", "operator": "In", "values": ["a"]}])), String::new()),
        (select(json!([exists("X")])), format!("{path}.scopeName: Invalid value: \"X\": unsupported scope")),
        (
            json!({"hard": {"cpu": "1"}, "scopeSelector": {"matchExpressions": [exists("BestEffort")]}}),
            format!("{path}: Invalid value: {{\"MatchExpressions\":[{{\"ScopeName\":\"BestEffort\",\"Operator\":\"Exists\",\"Values\":null}}]}}: unsupported scope applied to resource"),
        ),
        (
            select(json!([{"scopeName": "BestEffort", "operator": "DoesNotExist"}])),
            format!("{path}.operator: Invalid value: \"DoesNotExist\": {only_exists}"),
        ),
        (
            select(json!([{"scopeName": "CrossNamespacePodAffinity", "operator": "In", "values": ["a"]}])),
            format!("{path}.operator: Invalid value: \"In\": {only_exists}"),
        ),
        (
            select(json!([{"scopeName": "PriorityClass", "operator": "NotIn"}])),
            format!("{path}.values: Required value: must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"),
        ),
        (
            select(json!([{"scopeName": "PriorityClass", "operator": "DoesNotExist", "values": ["a"]}])),
            format!("{path}.values: Invalid value: [\"a\"]: must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"),
        ),
        (
            select(json!([{"scopeName": "PriorityClass", "operator": "Is"}])),
            format!("{path}.operator: Invalid value: \"Is\": not a valid selector operator"),
        ),
        (select(json!([exists("BestEffort"), exists("NotBestEffort")])), format!("{path}: Invalid value: null: conflicting scopes")),
        (
            json!({"hard": {"pods": "1"}, "scopes": ["PriorityClass"], "scopeSelector": {"matchExpressions": [exists("Terminating"), exists("NotTerminating")]}}),
            format!("{path}: Invalid value: [\"PriorityClass\"]: conflicting scopes"),
        ),
    ];
    for (spec, expected) in rows {
        let quota = quota(spec.clone());
        let answer = validate(&quota).map_or_else(|e| e.to_string(), |()| String::new());
        assert_eq!(answer.trim_start_matches("ResourceQuota \"q\" is invalid: "), expected, "{spec}");
        // A quota that cannot be understood lets no pod in.
        if !expected.is_empty() {
            assert!(
                matches!(check(&pod(json!({})), &[quota], &Used::default()), Err(Denied::Invalid { .. })),
                "{spec}"
            );
        }
    }
    let nameless: ResourceQuota = object(json!({"spec": {}}));
    assert_eq!(
        validate(&nameless).unwrap_err().to_string(),
        "ResourceQuota \"\" is invalid: metadata.name: Required value: name or generateName is required"
    );
}

#[test]
fn every_quota_is_asked_what_it_must_know_before_any_for_room() {
    let full = quota(json!({"hard": {"pods": "0"}}));
    let mut strict = quota(json!({"hard": {"limits.cpu": "1"}}));
    strict.metadata.name = "strict".to_string();
    let denied = check(&pod(json!({})), &[full, strict], &Used::default()).unwrap_err();
    assert_eq!(
        denied.to_string(),
        "pods \"p\" is forbidden: failed quota: strict: must specify limits.cpu for: c"
    );
}

#[test]
fn what_a_cluster_states_is_used_and_what_it_leaves_out_is_unknown() {
    let quotas = [quota(
        json!({"hard": {"pods": "3", "requests.example.com/gpu": "1", "configmaps": "5"}}),
    )];
    let hard = quotas[0].spec.hard.clone();
    let mut used = Used::default();
    used.state(&quotas[0], hard.clone(), object(json!({"pods": "3"})));
    let told = |used: &Used| check(&pod(json!({})), &quotas, used).map_or_else(|e| e.to_string(), |()| String::new());
    assert_eq!(
        told(&used),
        "pods \"p\" is forbidden: status unknown for quota: q, resources: pods,requests.example.com/gpu"
    );
    used.state(
        &quotas[0],
        hard.clone(),
        object(json!({"pods": "3", "requests.example.com/gpu": "0"})),
    );
    assert_eq!(
        told(&used),
        "pods \"p\" is forbidden: exceeded quota: q, requested: pods=1, used: pods=3, limited: pods=3"
    );
    used.state(&quotas[0], hard, object(json!({"pods": "2", "requests.example.com/gpu": "0"})));
    assert_eq!(told(&used), "");
    assert_eq!(
        left(&pod(json!({})), &quotas, &used),
        [QuotaLeft {
            name: "q".into(),
            left: object(json!({"pods": "1", "requests.example.com/gpu": "1"}))
        }]
    );
    used.charge(&quotas, &pod(json!({})));
    used.charge(&quotas, &pod(json!({})));
    assert_eq!(
        show(&left(&pod(json!({})), &quotas, &used)[0].left),
        "pods=-1,requests.example.com/gpu=1"
    );
}

#[test]
fn a_clusters_status_counts_and_not_the_specification() {
    let quotas = [quota(json!({"hard": {"pods": "0"}}))];
    let told = |hard: Value, used: Value| {
        let mut stated = Used::default();
        stated.state(&quotas[0], object(hard), object(used));
        let left = left(&pod(json!({})), &quotas, &stated);
        (
            check(&pod(json!({})), &quotas, &stated).is_ok(),
            left.iter().map(|l| show(&l.left)).collect::<String>(),
        )
    };
    assert!(check(&pod(json!({})), &quotas, &Used::default()).is_err());
    // No controller has looked at it yet.
    assert_eq!(told(json!({}), json!({})), (true, String::new()));
    assert_eq!(told(json!({"pods": "2"}), json!({"pods": "1"})), (true, "pods=1".into()));
    assert_eq!(told(json!({"pods": "2"}), json!({})), (false, "pods=2".into()));
    assert_eq!(told(json!({"configmaps": "0"}), json!({})), (true, String::new()));
}

#[test]
fn usage_below_nothing_is_refused() {
    let negative = pod(json!({"containers": [container("c", json!({"requests": {"cpu": "-1"}}))]}));
    assert_eq!(
        reason(&negative, &quota(json!({"hard": {"pods": "9"}})), &[]),
        "quota usage is negative for resource(s): cpu,requests.cpu"
    );
}

#[test]
fn denials_name_their_field() {
    let rows = [
        (
            json!({"containers": [container("a", whole("1", "1Gi")), container("b", json!({}))]}),
            "cpu",
            "9",
            "spec.containers[1].resources",
        ),
        (
            json!({"containers": [container("a", whole("1", "1Gi"))], "initContainers": [container("i", json!({}))]}),
            "cpu",
            "9",
            "spec.initContainers[0].resources",
        ),
        (json!({}), "pods", "0", "metadata.name"),
        (
            json!({"containers": [container("a", json!({"requests": {"memory": "1Gi"}})), container("b", whole("1", "1Gi"))]}),
            "requests.memory",
            "1",
            "spec.containers[0].resources.requests[memory]",
        ),
        (
            json!({"containers": [container("a", whole("1", "1Gi"))]}),
            "limits.cpu",
            "0",
            "spec.containers[0].resources.limits[cpu]",
        ),
        (
            json!({"containers": [container("a", whole("1", "1Gi"))]}),
            "cpu",
            "0",
            "spec.containers[0].resources.requests[cpu]",
        ),
        (
            json!({"resources": {"requests": {"cpu": "1"}}}),
            "cpu",
            "0",
            "spec.resources.requests[cpu]",
        ),
        (
            json!({"overhead": {"ephemeral-storage": "1Gi"}}),
            "ephemeral-storage",
            "0",
            "spec.runtimeClassName",
        ),
        (
            json!({"containers": [container("a", json!({"requests": {"example.com/gpu": "1"}}))]}),
            "requests.example.com/gpu",
            "0",
            "spec.containers[0].resources.requests[example.com/gpu]",
        ),
    ];
    for (spec, resource, hard, field) in rows {
        let denied = check(&pod(spec.clone()), &[quota(json!({"hard": {resource: hard}}))], &Used::default()).unwrap_err();
        let causes = denied.causes();
        assert_eq!(causes.len(), 1);
        assert_eq!(causes[0].field, field, "{spec} {resource}");
    }
}

#[test]
fn charging_adds_up() {
    let quotas = [quota(json!({"hard": {"cpu": "10", "pods": "3"}}))];
    let one = pod(json!({"containers": [container("c", whole("1", "1Gi"))]}));
    let mut used = Used::of(&quotas, &[one.clone(), one.clone()]);
    used.charge(&quotas, &one);
    assert_eq!(used.get(&quotas[0], "cpu").to_string(), "3");
    assert_eq!(used.get(&quotas[0], "pods").to_string(), "3");
    assert!(used.get(&quotas[0], "memory").is_zero());
    assert_eq!(used, Used::of(&quotas, &[one.clone(), one.clone(), one]));
}
