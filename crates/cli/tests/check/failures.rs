//! What nothing can be checked with.

use crate::{Folder, GVISOR, node, pod};

#[test]
fn what_is_at_fault_is_told() {
    let folder = Folder::new(&[
        ("pods.yaml", &pod("web", "")),
        ("nodes.yaml", &node("n1", 2, "", "", &[])),
        ("class.yaml", GVISOR),
        ("empty.yaml", "---\n"),
        (
            "broken.yaml",
            "kind: Node\napiVersion: v1\nmetadata: {name: n1}\nspec: {taints: none}\n",
        ),
    ]);
    let rows = [
        ("-f none.yaml", "none.yaml cannot be read: No such file or directory (os error 2)"),
        ("-f empty.yaml", "the manifests hold no objects: there is nothing to check"),
        (
            "-f pods.yaml --nodes none.yaml",
            "none.yaml cannot be read: No such file or directory (os error 2)",
        ),
        ("-f pods.yaml --nodes .", ". is a folder; name a file in it"),
        (
            "-f pods.yaml --nodes pods.yaml",
            "pods.yaml has no Node in it; print the nodes with kubectl get nodes -o json",
        ),
        (
            "-f pods.yaml --nodes broken.yaml",
            "broken.yaml:4:16: spec.taints: expected sequence start; print the objects anew with kubectl get -o json",
        ),
        (
            "-f pods.yaml --nodes nodes.yaml --nodes nodes.yaml",
            "node \"n1\" is given twice; remove one",
        ),
        (
            "-f pods.yaml --drain n1",
            "--drain n1: there are no nodes; give them with --nodes FILE or --kubeconfig FILE",
        ),
        (
            "-f pods.yaml --explain web",
            "--explain web: there are no nodes; give them with --nodes FILE or --kubeconfig FILE",
        ),
        (
            "-f pods.yaml --nodes nodes.yaml --explain wbe",
            "--explain wbe: there is no such pod in the manifests; did you mean \"web\"?",
        ),
        (
            "-f pods.yaml --add-class pods.yaml",
            "pods.yaml:1:1: Pod \"web\": only RuntimeClasses are added by --add-class; give this with -f",
        ),
        (
            "-f pods.yaml --kubeconfig none",
            "the kubeconfig none cannot be used: No such file or directory (os error 2); mend it, or name another kubeconfig or context",
        ),
    ];
    for (words, saying) in rows {
        folder.check(words).fails(saying);
    }
    let told = folder.check("-f pods.yaml --nodes nodes.yaml --kubeconfig config");
    assert!(told.code == Some(120) && told.err.contains("cannot be used with"), "{told:?}");
    assert_eq!(
        folder.check_input("-f pods.yaml --nodes -", &node("n1", 2, "", "", &[])).code,
        Some(0)
    );
}

#[test]
fn more_pods_than_memory_is_for_are_refused() {
    let one = |n: usize| {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: d{n}}}\nspec: {{replicas: 1000, selector: {{matchLabels: {{a: b}}}}, template: {{metadata: {{labels: {{a: b}}}}, spec: {{containers: [{{name: c, image: i}}]}}}}}}\n---\n"
        )
    };
    let many: String = (0..201).map(one).collect();
    let folder = Folder::new(&[("pods.yaml", &many)]);
    folder
        .check("-f pods.yaml")
        .fails("the manifests ask for 201000 pods, but at most 200000 are checked at once; name fewer files");
}

#[test]
fn a_pod_that_is_not_admitted_is_not_explained() {
    let folder = Folder::new(&[
        ("pods.yaml", &pod("web", "  runtimeClassName: none\n")),
        ("nodes.yaml", &node("n1", 2, "", "", &[])),
    ]);
    let told = folder.check("-f pods.yaml --nodes nodes.yaml --explain default/web");
    told.prints_lines(
        121,
        &["note: --explain default/web: the pod is not admitted, so that no node is asked"],
    );
    folder
        .check("-f pods.yaml --nodes nodes.yaml --explain other/web")
        .fails("--explain other/web: there is no such pod in the manifests; did you mean \"web\"?");
}

#[test]
fn a_configuration_with_errors_stops_nothing() {
    let class = GVISOR.to_owned() + &pod("web", "  runtimeClassName: gvisor\n");
    let folder = Folder::new(&[("pods.yaml", &class), ("config.toml", "]")]);
    std::fs::write(folder.dir.path().join("config.toml"), "]").unwrap();
    folder.check("-f pods.yaml").prints_lines(
        0,
        &["note: whether this machine has the handlers is not known, as its configuration has errors: see cofferdam config"],
    );
}

#[test]
fn no_text_of_a_file_speaks_to_the_terminal() {
    let nodes = node("\"n\\u001b]0;x\\u0007\"", 2, "", "", &[]);
    let folder = Folder::new(&[("pods.yaml", &pod("web", "")), ("nodes.yaml", &nodes)]);
    let told = folder.check("-f pods.yaml --nodes nodes.yaml -v --explain web");
    assert!(told.code == Some(0) && told.out.contains("n ]0;x "), "{told:?}");
    assert!(told.out.chars().all(|c| c == '\n' || !c.is_control()), "{told:?}");
}
