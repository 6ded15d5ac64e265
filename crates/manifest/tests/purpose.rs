//! What is read to be run, and what to be checked only.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use cofferdam_manifest::{Object, ObjectKind, Purpose, decode, decode_for};

fn pod(spec: &str, container: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: web}}\nspec:\n{spec}  containers:\n  - name: app\n    image: busybox\n{container}  - name: log\n    image: busybox\n{container}"
    )
}

/// The objects, and the warnings one a line.
fn checked(text: &str) -> (Vec<Object>, Vec<String>) {
    let decoded = decode_for("f.yaml", text, Purpose::Check).unwrap_or_else(|e| panic!("{}", e[0]));
    (decoded.objects, decoded.warnings.iter().map(ToString::to_string).collect())
}

#[test]
fn what_says_where_a_pod_is_placed_is_read_for_a_check_and_refused_in_a_run() {
    let rows = [
        ("priorityClassName: high", "spec.priorityClassName"),
        ("priority: 7", "spec.priority"),
        ("preemptionPolicy: Never", "spec.preemptionPolicy"),
        ("schedulingGates: [{name: example.com/g}]", "spec.schedulingGates"),
    ];
    for (line, path) in rows {
        let text = pod(&format!("  {line}\n"), "");
        let errors = decode("f.yaml", &text).unwrap_err();
        assert_eq!(
            errors[0].to_string(),
            format!("f.yaml:5:3: Pod \"web\": {path} is not supported yet; remove it, or run this pod on a cluster")
        );
        let (objects, warnings) = checked(&text);
        assert_eq!(warnings, [""; 0], "{line}");
        let ObjectKind::Pod(pod) = &objects[0].kind else { panic!() };
        let read = serde_json::to_value(&pod.spec).unwrap();
        assert!(!read[path.trim_start_matches("spec.")].is_null(), "{read}");
    }
    // What asks for nothing is harmless in a run.
    assert!(
        decode(
            "f.yaml",
            &pod(
                "  priority: 0\n  preemptionPolicy: PreemptLowerPriority\n  schedulingGates: []\n",
                ""
            )
        )
        .is_ok()
    );
}

#[test]
fn what_is_not_looked_at_is_told_once_and_the_rest_is_read() {
    let probe = "    volumeDevices: [{name: d, devicePath: /d}]\n";
    let claim = "  volumes: [{name: v, persistentVolumeClaim: {claimName: c}}]\n";
    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\n";
    let text = format!(
        "{}---\n{service}---\n{}---\n{service}",
        pod(claim, probe),
        pod("  os: {name: windows}\n", probe).replace("web", "two")
    );
    let (objects, warnings) = checked(&text);
    assert_eq!(objects.len(), 2);
    assert_eq!(
        warnings,
        [
            "f.yaml:5:23: Pod \"web\": spec.volumes[0].persistentVolumeClaim is not looked at, here and wherever else it stands; a run refuses it",
            "f.yaml:9:5: Pod \"web\": spec.containers[0].volumeDevices is not looked at, here and wherever else it stands; a run refuses it",
            "f.yaml:15:7: kind Service (v1) is not looked at, here and wherever else it stands; a run refuses it",
            "f.yaml:22:14: Pod \"two\": spec.os.name: windows is not looked at, here and wherever else it stands; a run refuses it",
        ]
    );
    assert!(decode("f.yaml", &text).is_err());
}

#[test]
fn what_kubernetes_does_not_know_is_an_error_in_both() {
    let texts = [
        pod("  runtimeClas: x\n", ""),
        pod("  nodeSelector: high\n", ""),
        "apiVersion: v1\nkind: Pods\nmetadata: {name: p}\n".to_owned(),
        "a: [\n".to_owned(),
    ];
    for text in texts {
        assert!(decode("f.yaml", &text).is_err());
        assert!(decode_for("f.yaml", &text, Purpose::Check).is_err(), "{text}");
    }
}
