//! Fields are found again where they stand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use cofferdam_manifest::{Object, Places, decode};

fn objects(text: &str) -> Vec<Object> {
    decode("f.yaml", text).unwrap_or_else(|e| panic!("{}", e[0])).objects
}

/// `line:column` of each field of the object `at`.
fn found(text: &str, at: usize, fields: &[&str]) -> Vec<String> {
    let objects = objects(text);
    let mut places = Places::new(text);
    let of = |field: &&str| {
        let place = places.of_pod(&objects[at], field);
        assert_eq!(&*place.source, "f.yaml");
        format!("{}:{}", place.line, place.column)
    };
    fields.iter().map(of).collect()
}

const POD: &str = "# a comment
apiVersion: v1
kind: Pod
metadata:
  name: web
  annotations:
    example.com/a.b: x
    example.com/a: z
spec:
  runtimeClassName: gvisor
  overhead: {cpu: 1, memory: 1Mi}
  nodeSelector:
    a: ssd
    a.b[c]: linux
    a.b: linux
  tolerations:
  - key: a
    operator: Exists
  - {key: b,
     operator: Exists}
  resources: {limits: {cpu: 1}}
  containers:
  - name: app
    image: busybox
    resources:
      limits:
        cpu: \"1\"
        example.com/gpu: 1
  - name: log
    image: busybox
    args: [a,
           b]
";

/// One row a way to name a field.
#[test]
fn fields_of_a_pod() {
    let rows = [
        // values, and the keys of lists and mappings
        ("metadata.name", "5:9"),
        ("spec", "9:1"),
        ("spec.runtimeClassName", "10:21"),
        ("spec.overhead", "11:3"),
        ("spec.overhead[memory]", "11:30"),
        ("spec.nodeSelector", "12:3"),
        ("spec.containers", "22:3"),
        ("spec.containers[1]", "29:5"),
        ("spec.containers[1].args[1]", "32:12"),
        ("spec.containers[0].resources.limits", "26:7"),
        ("spec.containers[0].resources.limits[cpu]", "27:14"),
        // keys with dots, slashes and brackets, in brackets or not
        ("spec.nodeSelector[a.b[c]]", "14:13"),
        ("spec.containers[0].resources.limits[example.com/gpu]", "28:26"),
        ("spec.containers[0].resources.limits.example.com/gpu", "28:26"),
        ("metadata.annotations[example.com/a.b]", "7:22"),
        ("metadata.annotations[example.com/a]", "8:20"),
        ("metadata.annotations.example.com/a.b", "7:22"),
        ("spec.nodeSelector.a.b", "15:10"),
        ("spec.tolerations[0].key", "17:10"),
        ("spec.tolerations[1].operator", "20:16"),
        // what is not there is where its nearest parent is
        ("spec.containers[0].resources.requests[cpu]", "25:5"),
        ("spec.containers[7].name", "22:3"),
        ("spec.containers[x].name", "22:3"),
        ("spec.containers[1].resources.limits[cpu]", "29:5"),
        ("spec.initContainers[0].name", "9:1"),
        ("spec.nodeSelector[a.c]", "12:3"),
        ("metadata.namespace", "4:1"),
        ("status", "2:1"),
        ("", "2:1"),
        // paths that upstream makes up
        ("spec.overhead.limits[cpu]", "11:19"),
        ("spec.resources.containers[0][cpu].limits", "27:14"),
    ];
    let fields: Vec<&str> = rows.iter().map(|r| r.0).collect();
    let expected: Vec<&str> = rows.iter().map(|r| r.1).collect();
    assert_eq!(found(POD, 0, &fields), expected);
}

/// Paths of upstream's own type, which differ from what is written.
#[test]
fn fields_that_upstream_keeps_elsewhere() {
    let pod = "apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  hostPID: true
  hostIPC: true
  containers: [{name: a, image: b}]
";
    assert_eq!(found(pod, 0, &["spec.HostPID", "spec.HostIPC"]), ["5:12", "6:12"]);
    let shared = pod.replace("  hostPID: true\n", "  shareProcessNamespace: true\n");
    assert_eq!(found(&shared, 0, &["spec.securityContext.shareProcessNamespace"]), ["5:26"]);
}

#[test]
fn fields_of_a_class_in_todays_form_and_the_first() {
    let today = "apiVersion: node.k8s.io/v1
kind: RuntimeClass
metadata: {name: c}
handler: runsc
overhead:
  podFixed:
    cpu: -1
scheduling:
  nodeSelector: {a: b}
  tolerations:
  - key: x
  - key: x
";
    let fields = [
        "handler",
        "overhead",
        "overhead.limits[cpu]",
        "scheduling.nodeSelector",
        "scheduling.tolerations[1]",
        "scheduling.tolerations.tolerations[1].key",
        "metadata.name",
    ];
    assert_eq!(found(today, 0, &fields), ["4:10", "5:1", "7:10", "9:3", "12:5", "12:10", "3:18"]);
    let first = "kind: RuntimeClass
metadata: {name: c}
spec:
  runtimeHandler: runsc
  overhead: {podFixed: {cpu: -1}}
";
    assert_eq!(
        found(first, 0, &["handler", "overhead.limits[cpu]", "metadata.name"]),
        ["4:19", "5:30", "2:18"]
    );
}

#[test]
fn fields_of_a_deployments_pods_stand_in_its_template() {
    let text = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata:
      labels: {app: web}
      annotations:
        a/b: c
    spec:
      runtimeClassName: x
      containers:
      - name: app
        image: busybox
";
    let fields = [
        "spec.runtimeClassName",
        "spec.containers[0].image",
        "metadata.annotations[a/b]",
        "metadata.name",
        "metadata.namespace",
        "spec.overhead",
    ];
    assert_eq!(found(text, 0, &fields), ["12:25", "15:16", "10:14", "3:18", "3:34", "11:5"]);
    // Asked as the Deployment, it has fields of its own.
    let objects = objects(text);
    let place = Places::new(text).of(&objects[0], "spec.selector");
    assert_eq!((place.line, place.column), (5, 3));
}

/// Every object of these texts, with the line of its name.
#[test]
fn every_document_and_item_is_found() {
    let pod =
        |name: &str| format!("{{apiVersion: v1, kind: Pod, metadata: {{name: {name}}}, spec: {{containers: [{{name: c, image: i}}]}}}}");
    let block =
        |name: &str| format!("apiVersion: v1\nkind: Pod\nmetadata:\n  name: {name}\nspec: {{containers: [{{name: c, image: i}}]}}\n");
    let list = |items: &[String]| {
        format!(
            "apiVersion: v1\nkind: List\nitems:\n{}",
            items.iter().map(|i| format!("- {i}\n")).collect::<String>()
        )
    };
    let nested = format!(
        "apiVersion: v1\nkind: List\nitems: [{},\n {{apiVersion: v1, kind: List, items: [\n{}]}}]\n",
        pod("a"),
        pod("b")
    );
    let rows: Vec<(&str, String, &[usize])> = vec![
        ("no marker", block("a"), &[4]),
        (
            "three",
            format!("{}---\n{}---\n{}", block("a"), block("b"), block("c")),
            &[4, 10, 16],
        ),
        (
            "a marker first, comments, empty documents",
            format!("# x\n---\n# y\n---\n\n{}\n# z\n---\n---\n{}", block("a"), block("b")),
            &[9, 18],
        ),
        ("on the marker's line", format!("--- {}\n--- {}\n", pod("a"), pod("b")), &[1, 2]),
        (
            "document ends",
            format!("{}...\n{}...\n---\n{}...\n", block("a"), "# only\n", block("b")),
            &[4, 13],
        ),
        (
            "directives",
            format!("%YAML 1.2\n---\n{}...\n%YAML 1.2\n---\n{}", block("a"), block("b")),
            &[6, 14],
        ),
        (
            "carriage returns",
            format!("{}---\n{}", block("a"), block("b")).replace('\n', "\r\n"),
            &[4, 10],
        ),
        (
            "only carriage returns",
            format!("{}---\n{}", block("a"), block("b")).replace('\n', "\r"),
            &[4, 10],
        ),
        ("byte order mark", format!("\u{feff}{}---\n{}", block("a"), block("b")), &[4, 10]),
        (
            "indented from the first line",
            format!(
                "  {}---\n  {}",
                block("a").trim_end().replace('\n', "\n  ") + "\n",
                block("b").trim_end().replace('\n', "\n  ")
            ),
            &[4, 10],
        ),
        ("a list", list(&[pod("a"), pod("b")]), &[4, 5]),
        ("lists in lists", nested, &[3, 5]),
        (
            "wide letters",
            format!("# é漢\n{}---\n# 漢漢漢漢\n{}", block("a"), block("b")),
            &[5, 12],
        ),
        (
            "anchors",
            format!(
                "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: m\n  labels: &l {{a: b}}\n  annotations: *l\n---\n{}",
                block("b")
            ),
            &[4, 11],
        ),
    ];
    for (name, text, lines) in rows {
        let objects = objects(&text);
        assert_eq!(objects.len(), lines.len(), "{name}");
        // Forwards, and back again, so that the kept document is not what makes it right.
        let order: Vec<usize> = (0..objects.len()).chain((0..objects.len()).rev()).collect();
        let mut places = Places::new(&text);
        for at in order {
            let object = &objects[at];
            assert_eq!(places.of(object, "nothing"), object.place, "{name}");
            let found = places.of(object, "metadata.name");
            assert_eq!(found.line, lines[at], "{name} {at}");
            assert_ne!(found, object.place, "{name} {at}");
        }
    }
}

#[test]
fn an_alias_stands_where_its_anchor_does() {
    let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: &l {x: z}}\nspec:\n  nodeSelector: *l\n  containers: [{name: c, image: i}]\n";
    assert_eq!(found(text, 0, &["spec.nodeSelector", "spec.nodeSelector[x]"]), ["5:3", "3:36"]);
}

#[test]
fn another_text_gives_the_objects_own_place() {
    let object = &objects(POD)[0];
    for text in ["", "a: b\n", "\n\n- x\n", "a: [\n", &POD.replacen("comment\n", "comment\n\n", 1)] {
        assert_eq!(Places::new(text).of(object, "spec.containers[0].name"), object.place);
    }
}
