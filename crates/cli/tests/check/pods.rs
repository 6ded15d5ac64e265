//! What pods become, and what is said of their manifests.

use crate::{Folder, GVISOR, IN_GVISOR, asking, pod};

const TEAM: &str = "apiVersion: v1
kind: LimitRange
metadata: {name: range}
spec:
  limits:
    - {type: Container, default: {memory: 64Mi}}
---
apiVersion: v1
kind: ResourceQuota
metadata: {name: team}
spec:
  hard: {pods: 3, requests.cpu: 1}
---
";

fn deployment(name: &str, replicas: u32, spec: &str) -> String {
    let spec = asking("x", "500m", spec);
    let (_, spec) = spec.split_once("spec:\n").unwrap();
    let spec: String = spec.trim_end_matches("---\n").lines().map(|l| format!("    {l}\n")).collect();
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  replicas: {replicas}\n  selector: {{matchLabels: {{app: {name}}}}}\n  template:\n    metadata: {{labels: {{app: {name}}}}}\n    spec:\n{spec}---\n"
    )
}

#[test]
fn each_pod_is_a_row_and_the_rest_is_told_where_it_is_asked_for() {
    let pods = [TEAM, GVISOR, &asking("web", "250m", IN_GVISOR), &asking("plain", "100m", "")].concat();
    let folder = Folder::new(&[("pods.yaml", &pods)]);
    let table = "NAMESPACE  POD    CLASS   HANDLER  OVERHEAD               QOS        REQUESTS               LIMITS        RESULT
default    web    gvisor  runsc    cpu=250m,memory=120Mi  Burstable  cpu=500m,memory=184Mi  memory=184Mi  admitted
default    plain  -       -        -                      Burstable  cpu=100m,memory=64Mi   memory=64Mi   admitted
";
    let end = "
note: handler \"runsc\" (class gvisor) is configured on this machine; cofferdam handlers proves it

2 pods: 2 admitted
";
    folder.check("-f pods.yaml").prints(0, &format!("{table}{end}"));
    let blocks = "
default/web (pods.yaml:25:1)
  class          gvisor
  handler        runsc
  overhead       cpu=250m,memory=120Mi
  node selector  sandbox=gvisor
  tolerations    node.kubernetes.io/not-ready:NoExecute for 300s,node.kubernetes.io/unreachable:NoExecute for 300s,sandbox
  qos            Burstable
  requests       cpu=500m,memory=184Mi
  limits         memory=184Mi
  quota left     team: pods=2,requests.cpu=500m

default/plain (pods.yaml:33:1)
  handler        the default
  tolerations    node.kubernetes.io/not-ready:NoExecute for 300s,node.kubernetes.io/unreachable:NoExecute for 300s
  qos            Burstable
  requests       cpu=100m,memory=64Mi
  limits         memory=64Mi
  quota left     team: pods=1,requests.cpu=400m
";
    folder.check("-f pods.yaml -v").prints(0, &format!("{table}{blocks}{end}"));
    // From standard input, and a folder.
    let told = folder.check_input("-f -", &pods);
    told.prints(0, &format!("{table}{end}"));
    let folder = Folder::new(&[
        ("b.yaml", &asking("plain", "100m", "")),
        ("a.yaml", &[TEAM, GVISOR, &asking("web", "250m", IN_GVISOR)].concat()),
    ]);
    folder.check("-f .").prints(0, &format!("{table}{end}"));
}

#[test]
fn classes_alone_can_be_checked() {
    let folder = Folder::new(&[("class.yaml", GVISOR)]);
    folder.check("-f class.yaml").prints(
        0,
        "note: handler \"runsc\" (class gvisor) is configured on this machine; cofferdam handlers proves it

0 pods; 1 RuntimeClass, and nothing is wrong",
    );
}

#[test]
fn every_error_of_every_file_is_told_with_its_place() {
    let objects = "apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {name: kata}
handler: Kata.QEMU
overhead:
  podFixed: {cpu: -1}
scheduling:
  tolerations:
    - {key: a, operator: Sometimes}
---
apiVersion: v1
kind: LimitRange
metadata: {name: range}
spec:
  limits:
    - type: Container
      min: {cpu: 2}
      max: {cpu: 1}
---
apiVersion: v1
kind: ResourceQuota
metadata: {name: team}
spec:
  hard: {pods: -1}
";
    let pods = format!(
        "{}{}{}{}{}",
        pod("typo", "").replace("image", "imege"),
        pod("boxed", "  runtimeClassName: kata\n"),
        asking("much", "2", "").replace("cpu: 2}", "cpu: 2}, limits: {cpu: 1, memory: 0.5}, "),
        pod("over", "  overhead: {cpu: 1}\n"),
        "a: [\n",
    );
    let folder = Folder::new(&[("objects.yaml", objects), ("pods.yaml", &pods)]);
    let told = folder.check("-f objects.yaml -f pods.yaml");
    let (_, sentences) = told.out.split_once("\n\n").unwrap();
    assert_eq!(
        sentences,
        r#"objects.yaml:4:10: error: RuntimeClass.node.k8s.io "kata" is invalid: handler: Invalid value: "Kata.QEMU": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')
objects.yaml:6:19: error: RuntimeClass.node.k8s.io "kata" is invalid: overhead.limits[cpu]: Invalid value: "-1": must be greater than or equal to 0
objects.yaml:9:26: error: RuntimeClass.node.k8s.io "kata" is invalid: scheduling.tolerations.tolerations[0].operator: Unsupported value: "Sometimes": supported values: "Equal", "Exists"
objects.yaml:17:18: error: LimitRange "range" is invalid: spec.limits[0].min[cpu]: Invalid value: "2": min value 2 is greater than max value 1
objects.yaml:16:7: error: LimitRange "range" is invalid: spec.limits[0].defaultRequest[cpu]: Invalid value: "1": min value 2 is greater than default request value 1
objects.yaml:16:7: error: LimitRange "range" is invalid: spec.limits[0].default[cpu]: Invalid value: "2": min value 2 is greater than default value 1
objects.yaml:24:16: error: ResourceQuota "team" is invalid: spec.hard[pods]: Invalid value: "-1": must be greater than or equal to 0
pods.yaml:6:17: error: Pod "typo": unknown field spec.containers[0].imege; did you mean spec.containers[0].image?
pods.yaml:31:4: error: this is not valid YAML: unclosed bracket '['
pods.yaml:12:21: error: pods "boxed" is forbidden: pod rejected: RuntimeClass "kata" not found
    the RuntimeClass of this name has errors, which are told of it
pods.yaml:21:39: error: Pod "much" is invalid: spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1
pods.yaml:27:3: error: pods "over" is forbidden: pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead

3 pods: 3 refused; 5 objects are wrong
"#
    );
    assert_eq!(told.code, Some(121));
}

#[test]
fn what_was_meant_is_told() {
    let broken = GVISOR.replace("gvisor", "broken").replace("runsc", "Runsc");
    let kata = "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {name: kata}\nhandler: runscc\n---\n";
    let named = |class: &str| pod("web", &format!("  runtimeClassName: {class}\n"));
    let rows = [
        (named("gvisr"), "did you mean class \"gvisor\"?"),
        (named("nothing-like-it"), "the classes are gvisor, kata"),
        (named("broken"), "the RuntimeClass of this name has errors, which are told of it"),
    ];
    for (pod, hint) in rows {
        let text = [GVISOR, &broken, kata, &pod].concat();
        Folder::new(&[("pods.yaml", &text)])
            .check("-f pods.yaml")
            .prints_lines(121, &[&format!("    {hint}")]);
    }
    let here = Folder::new(&[("pods.yaml", &[kata, &named("kata")].concat())]).check("-f pods.yaml");
    here.prints_lines(
        0,
        &["note: handler \"runscc\" (class kata) is not configured on this machine; did you mean \"runsc\"?"],
    );
    let none = Folder::new(&[("pods.yaml", &named("kata"))]).check("-f pods.yaml");
    none.prints_lines(121, &["    there is no RuntimeClass here; give it with -f or --add-class"]);
}

#[test]
fn pods_to_which_the_same_happens_are_told_of_together() {
    let quota = TEAM.replace("pods: 3", "pods: 2");
    let text = quota + &deployment("web", 4, "");
    let told = Folder::new(&[("pods.yaml", &text)]).check("-f pods.yaml");
    told.prints(
        121,
        r#"NAMESPACE  POD                 CLASS  HANDLER  OVERHEAD  QOS        REQUESTS              LIMITS       RESULT
default    deployment/web (2)  -      -        -         Burstable  cpu=500m,memory=64Mi  memory=64Mi  admitted
default    deployment/web (2)  -      -        -         Burstable  cpu=500m              -            refused

pods.yaml:16:18: error: pods "web-vdgb8-4jlt5" is forbidden: exceeded quota: team, requested: pods=1,requests.cpu=500m, used: pods=2,requests.cpu=1, limited: pods=2,requests.cpu=1
    the same for 1 pod more: web-vdgb8-gbh9m

4 pods: 2 admitted, 2 refused"#,
    );
    let many: String = (0..500).map(|i| pod(&format!("p{i}"), "  runtimeClassName: gvisor\n")).collect();
    let told = Folder::new(&[("pods.yaml", &many)]).check("-f pods.yaml");
    let (_, sentences) = told.out.split_once("\n\n").unwrap();
    assert_eq!(
        sentences,
        "pods.yaml:5:21: error: pods \"p0\" is forbidden: pod rejected: RuntimeClass \"gvisor\" not found
    there is no RuntimeClass here; give it with -f or --add-class
    the same for 499 pods more: p1, p2, p3, …

500 pods: 500 refused
"
    );
}

#[test]
fn warnings_have_places_and_stop_nothing() {
    let text = [
        &GVISOR.replace("{sandbox: gvisor}", "{beta.kubernetes.io/os: linux}"),
        &pod("web", "  runtimeClassName: gvisor\n").replace("{name: web}", "{name: web, namespace: shop}"),
        "apiVersion: v1\nkind: Service\nmetadata: {name: s}\n",
    ]
    .concat();
    let told = Folder::new(&[("pods.yaml", &text)]).check("-f pods.yaml");
    let lines = [
        "pods.yaml:21:7: warning: kind Service (v1) is not looked at, here and wherever else it stands; a run refuses it",
        "pods.yaml:8:41: warning: RuntimeClass \"gvisor\": scheduling.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
        "pods.yaml:14:34: warning: Pod \"web\": metadata.namespace: namespaces \"shop\" not found in these manifests; a cluster refuses the pod unless it has that namespace",
        "pods.yaml:15:1: warning: Pod \"web\": spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use \"kubernetes.io/os\" instead",
    ];
    told.prints_lines(0, &lines);
}

#[test]
fn a_warning_of_one_replica_makes_no_row_of_its_own() {
    let text = deployment("web", 3, "").replace("{name: web}", "{name: web, namespace: shop}");
    let told = Folder::new(&[("pods.yaml", &text)]).check("-f pods.yaml");
    let lines = [
        "shop       deployment/web (3)  -      -        -         Burstable  cpu=500m  -       admitted",
        "pods.yaml:3:34: warning: Pod \"web-fsh4h-pcr72\": metadata.namespace: namespaces \"shop\" not found in these manifests; a cluster refuses the pod unless it has that namespace",
    ];
    told.prints_lines(0, &lines);
}

#[test]
fn the_same_pod_in_two_files_is_an_error_and_a_class_an_update() {
    let folder = Folder::new(&[
        ("a.yaml", &[GVISOR, &pod("web", "")].concat()),
        ("b.yaml", &[&GVISOR.replace("runsc", "kata"), &pod("web", "")[..]].concat()),
    ]);
    let told = folder.check("-f a.yaml -f b.yaml");
    let lines = [
        "b.yaml:4:10: error: RuntimeClass.node.k8s.io \"gvisor\" is invalid: handler: Invalid value: \"kata\": field is immutable",
        "b.yaml:12:1: error: Pod \"web\": the same object stands already at a.yaml:12:1; remove one or rename it",
        "1 pod: 1 admitted; 2 objects are wrong",
    ];
    told.prints_lines(121, &lines);
}
