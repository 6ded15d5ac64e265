//! Every sentence that a manifest can be refused or warned with, beside the manifest.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
use common::tell;

/// A pod with lines of a spec before its containers, and lines of its container.
fn pod(spec: &str, container: &str) -> String {
    let indent = |text: &str, by: &str| {
        text.lines()
            .map(|l| format!("{by}{l}\n"))
            .collect::<String>()
    };
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\nspec:\n{}  containers:\n  - name: app\n    image: busybox\n{}",
        indent(spec, "  "),
        indent(container, "    ")
    )
}

#[test]
fn yaml() {
    insta::assert_snapshot!(tell(&[
        ("not closed", "apiVersion: v1\nkind: [Pod\n"),
        ("tab", "apiVersion: v1\nkind: Pod\nmetadata:\n\tname: web\n"),
        ("no separator", "{\"kind\": \"Pod\"}\n{\"kind\": \"Pod\"}\n"),
        ("ends early", "a: \"b"),
        (
            "lost line",
            "kind: RuntimeClass\n    name: native  # as before\n    runtimeHandler: runc\n"
        ),
        ("colon in a value", "kind: Pod\nnote: a: b\n"),
        (
            "duplicate key",
            "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nkind: Pod\n"
        ),
        (
            "duplicate key in JSON",
            "{\"kind\": \"Pod\", \"kind\": \"Pod\"}"
        ),
        ("boolean key", "kind: ConfigMap\ndata:\n  on: x\n"),
        ("number key", "kind: ConfigMap\ndata:\n  1.10: x\n"),
        ("octal key", "kind: ConfigMap\ndata:\n  010: x\n"),
        ("null key", "kind: ConfigMap\ndata:\n  ~: x\n"),
        ("mapping as key", "? {a: b}\n: c\n"),
        ("alias as key", "a: &x y\n*x : c\n"),
        ("tag", "kind: !Pod x\n"),
        ("binary tag", "kind: !!binary aGk=\n"),
        ("tag on a mapping", "metadata: !!omap {a: b}\n"),
        ("unknown alias", "kind: *pod\n"),
        ("alias in itself", "a: &x [*x]\n"),
        ("merge of a text", "a:\n  <<: b\n"),
        ("no object", "- a\n- b\n"),
        ("text only", "hello\n"),
        ("hostile name", "apiVersion: v1\nkind: \"Po\\u001b[31md\"\n"),
    ]));
}

#[test]
fn bounds() {
    let deep = "[".repeat(70) + &"]".repeat(70);
    let blocks: String = (0..70).map(|i| format!("{}a:\n", " ".repeat(i))).collect();
    let by_alias: String = (0..40).fold("a0: &a0 [x]\n".to_owned(), |t, i| {
        t + &format!("a{}: &a{} [[*a{i}]]\n", i + 1, i + 1)
    });
    let bomb: String = (0..30).fold("a0: &a0 x\n".to_owned(), |t, i| {
        t + &format!("a{0}: &a{0} [*a{i}, *a{i}]\n", i + 1)
    });
    let merge_bomb: String = (0..30).fold("a0: &a0 {k0: x}\n".to_owned(), |t, i| {
        t + &format!("a{0}: &a{0} {{<<: [*a{i}, *a{i}], k{0}: x}}\n", i + 1)
    });
    let large = format!(
        "a: &a {}\nb: [{}]\n",
        "x".repeat(1_000_000),
        "*a,".repeat(100)
    );
    for (name, text, sentence) in [
        (
            "deep",
            deep.as_str(),
            "f.yaml:1:65: lists and mappings are nested more than 64 deep; flatten them",
        ),
        (
            "deep blocks",
            &blocks,
            "f.yaml:65:65: lists and mappings are nested more than 64 deep; flatten them",
        ),
        (
            "deep by aliases",
            &by_alias,
            "f.yaml:33:13: lists and mappings are nested more than 64 deep; flatten them",
        ),
        (
            "many by aliases",
            &bomb,
            "f.yaml:20:11: the text holds more than 2000000 values or 67108864 bytes once its aliases are followed; split it",
        ),
        (
            "many by merges",
            &merge_bomb,
            "f.yaml:18:11: the text holds",
        ),
        ("large by aliases", &large, "f.yaml:2:206: the text holds"),
    ] {
        let errors = cofferdam_manifest::decode("f.yaml", text).unwrap_err();
        assert_eq!(errors.len(), 1, "{name}");
        let told = errors[0].to_string();
        assert!(told.starts_with(sentence), "{name}: {told}");
    }
    let long = "#".repeat(cofferdam_manifest::MAX_TEXT + 1);
    let errors = cofferdam_manifest::decode("f.yaml", &long).unwrap_err();
    assert_eq!(
        errors[0].to_string(),
        "f.yaml:1:1: the text has 33554433 bytes, but at most 33554432 are read; split it into several files"
    );
    assert!(cofferdam_manifest::decode("f.yaml", &long[1..]).is_ok());
}

#[test]
fn many_mistakes_are_cut() {
    let fields: String = (0..1000).map(|i| format!("x{i}: 1\n")).collect();
    let errors = cofferdam_manifest::decode("f.yaml", &pod(&fields, "")).unwrap_err();
    assert_eq!(errors.len(), cofferdam_manifest::MAX_ERRORS);
    let items: String = (0..1000).map(|i| format!("- {{apiVersion: apps/v1beta2, kind: Deployment, metadata: {{name: d{i}}}, spec: {{selector: {{matchLabels: {{a: b}}}}, template: {{metadata: {{labels: {{a: b}}}}, spec: {{containers: [{{name: a, image: b}}]}}}}}}}}\n")).collect();
    let decoded = cofferdam_manifest::decode(
        "f.yaml",
        &format!("apiVersion: v1\nkind: List\nitems:\n{items}"),
    )
    .unwrap();
    assert_eq!(decoded.objects.len(), 1000);
    assert_eq!(decoded.warnings.len(), cofferdam_manifest::MAX_WARNINGS + 1);
    assert_eq!(
        decoded.warnings.last().unwrap().text,
        "there are more warnings, which are not shown"
    );
}

#[test]
fn kinds() {
    insta::assert_snapshot!(tell(&[
        ("no kind", "apiVersion: v1\nmetadata: {name: web}\n"),
        ("no apiVersion", "kind: Pod\nmetadata: {name: web}\n"),
        ("number for apiVersion", "apiVersion: 1\nkind: Pod\n"),
        ("wrong apiVersion", "apiVersion: v2\nkind: Pod\n"),
        ("wrong group", "apiVersion: v1\nkind: Deployment\n"),
        ("class in core", "apiVersion: v1\nkind: RuntimeClass\n"),
        ("typing mistake", "apiVersion: v1\nkind: Pdo\n"),
        ("lower case", "apiVersion: apps/v1\nkind: deployment\n"),
        ("not yet", "apiVersion: v1\nkind: Service\n"),
        (
            "third party",
            "apiVersion: kyverno.io/v1\nkind: ClusterPolicy\nmetadata: {name: a}\nspec: {rules: []}\n"
        ),
        (
            "near, but of another group",
            "apiVersion: example.com/v1\nkind: Pods\n"
        ),
        ("neither", "kind: Thing\n"),
        ("list of text", "apiVersion: v1\nkind: List\nitems: text\n"),
        (
            "list with a field",
            "apiVersion: v1\nkind: List\nitem: []\n"
        ),
        (
            "list of lists and mistakes",
            "apiVersion: v1\nkind: List\nitems:\n- kind: List\n  apiVersion: v1\n  items: [{apiVersion: v1, kind: Job}]\n- 1\n- null\n"
        ),
        (
            "twins",
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n"
        ),
    ]));
}

#[test]
fn fields() {
    insta::assert_snapshot!(tell(&[
        ("text for a list", &pod("", "ports: \"80\"")),
        ("list for text", &pod("", "workingDir: [a]")),
        ("number for text", &pod("", "command: [sleep, 3600]")),
        ("boolean for text", &pod("", "args: [yes]")),
        (
            "text for a number",
            &pod("terminationGracePeriodSeconds: \"5\"", "")
        ),
        (
            "fraction for a number",
            &pod("terminationGracePeriodSeconds: 1.5", "")
        ),
        ("text for a boolean", &pod("hostNetwork: \"true\"", "")),
        ("mapping for a boolean", &pod("hostNetwork: {}", "")),
        ("text for a mapping", &pod("securityContext: strict", "")),
        ("null in a list", &pod("", "args: [null]")),
        ("null in a map", &pod("nodeSelector: {disk: }", "")),
        (
            "list for a quantity",
            &pod("", "resources: {limits: {cpu: [1]}}")
        ),
        (
            "no quantity",
            &pod("", "resources: {limits: {memory: 1 GB}}")
        ),
        ("number too low", &pod("activeDeadlineSeconds: 0", "")),
        (
            "number too high",
            &pod("", "ports: [{containerPort: 99999}]")
        ),
        (
            "number far too high",
            &pod("terminationGracePeriodSeconds: 99999999999999999999", "")
        ),
        ("negative", &pod("terminationGracePeriodSeconds: -1", "")),
        (
            "missing",
            "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers:\n  - name: app\n"
        ),
        ("all missing", "apiVersion: v1\nkind: Pod\n"),
        (
            "no name",
            "apiVersion: v1\nkind: Pod\nmetadata: {}\nspec: {containers: [{name: a, image: b}]}\n"
        ),
        (
            "typing mistake",
            "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  contianers: []\n"
        ),
        ("wrong case", &pod("runtimeclassname: gvisor", "")),
        ("unknown", &pod("", "flavour: mild")),
        ("hostile key", &pod("\"a\\u001b[2J\": 1", "")),
        (
            "not yet",
            &pod(
                "readinessGates:\n  - {conditionType: a}",
                "volumeDevices: [{name: a, devicePath: /b}]"
            )
        ),
        (
            "not yet, a value",
            &pod(
                "os: {name: windows}",
                ""
            )
        ),
        (
            "not yet, but harmless",
            &pod(
                "schedulerName: default-scheduler\nreadinessGates: []\npriority: 0\naffinity: {}\nephemeralContainers: []\nhostnameOverride: \"\"\nnodeName: null",
                ""
            )
        ),
        (
            "not yet, and not harmless",
            &pod(
                "hostnameOverride: a\npriority: 1\nschedulerName: mine\nephemeralContainers: [{name: d, image: b}]",
                ""
            )
        ),
        (
            "no such word",
            &pod("restartPolicy: always", "imagePullPolicy: Sometimes")
        ),
        (
            "no such medium",
            &pod("volumes: [{name: a, emptyDir: {medium: memory}}]", "")
        ),
        (
            "lost indentation",
            "apiVersion: v1\nkind: Pod\nmetadata:\nname: web\nspec:\nruntimeClassName: gvisor\ncontainers:\n- name: app\nimage: busybox\n"
        ),
        (
            "lost indentation of one field",
            &pod("securityContext:\nrunAsUser: 1000", "")
        ),
    ]));
}

#[test]
fn formats() {
    insta::assert_snapshot!(tell(&[
        (
            "pod name",
            "apiVersion: v1\nkind: Pod\nmetadata: {name: ../web}\nspec: {containers: [{name: a, image: b}]}\n"
        ),
        (
            "namespace name",
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: a.b}\n"
        ),
        (
            "generated name",
            "apiVersion: v1\nkind: Pod\nmetadata: {generateName: Web-}\nspec: {containers: [{name: a, image: b}]}\n"
        ),
        (
            "label",
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: a, labels: {a b: c, d: e f}}\n"
        ),
        (
            "image",
            &pod("", "env: []").replace("busybox", "\" busybox\"")
        ),
        ("environment", &pod("", "env: [{name: A=B, value: x}]")),
        (
            "field path",
            &pod(
                "",
                "env: [{name: A, valueFrom: {fieldRef: {fieldPath: status.phase}}}]"
            )
        ),
        (
            "port name",
            &pod("", "ports: [{containerPort: 80, name: HTTP}]")
        ),
        ("address", &pod("dnsConfig: {nameservers: [dns]}", "")),
        (
            "sysctl",
            &pod("securityContext: {sysctls: [{name: x, value: \"1\"}]}", "")
        ),
        (
            "paths",
            &pod(
                "volumes:\n- {name: a, hostPath: {path: ../etc}}\n- {name: b, configMap: {name: c, items: [{key: k, path: ../k}]}}",
                "volumeMounts: [{name: a, mountPath: data, subPath: /x}]"
            )
        ),
        (
            "empty resolver option",
            &pod("dnsConfig: {options: [{name: \"\"}]}", "")
        ),
    ]));
}

#[test]
fn pods() {
    insta::assert_snapshot!(tell(&[
        (
            "no containers",
            "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: []}\n"
        ),
        (
            "two of a name",
            &pod("initContainers: [{name: app, image: b}]", "")
        ),
        (
            "two volumes of a name",
            &pod("volumes: [{name: a}, {name: a}]", "")
        ),
        (
            "two sources",
            &pod(
                "volumes: [{name: a, emptyDir: {}, secret: {secretName: s}}]",
                ""
            )
        ),
        (
            "two keys at a path",
            &pod(
                "volumes: [{name: a, secret: {secretName: s, items: [{key: a, path: x}, {key: b, path: x}]}}]",
                ""
            )
        ),
        (
            "no such volume",
            &pod("", "volumeMounts: [{name: a, mountPath: /a}]")
        ),
        (
            "mounted twice",
            &pod(
                "volumes: [{name: a}]",
                "volumeMounts: [{name: a, mountPath: /a}, {name: a, mountPath: /a/}]"
            )
        ),
        (
            "two ports of a name",
            &pod(
                "",
                "ports: [{name: a, containerPort: 1}, {name: a, containerPort: 2}]"
            )
        ),
        (
            "host port twice",
            &pod(
                "",
                "ports: [{hostPort: 8, containerPort: 1}, {hostPort: 8, containerPort: 2}]"
            )
        ),
        (
            "host port differs",
            &pod(
                "hostNetwork: true",
                "ports: [{hostPort: 8, containerPort: 1}]"
            )
        ),
        (
            "value and source",
            &pod(
                "",
                "env: [{name: A, value: x, valueFrom: {fieldRef: {fieldPath: metadata.name}}}]"
            )
        ),
        (
            "no source",
            &pod(
                "",
                "env: [{name: A, valueFrom: {}}]\nenvFrom: [{prefix: x}]"
            )
        ),
        (
            "two sources of environment",
            &pod(
                "",
                "envFrom: [{configMapRef: {name: a}, secretRef: {name: b}}]"
            )
        ),
        (
            "empty hook",
            &pod(
                "",
                "lifecycle: {preStop: {}, postStart: {exec: {command: []}}}"
            )
        ),
        (
            "hook by TCP",
            &pod("", "lifecycle: {preStop: {tcpSocket: {port: 80}}}")
        ),
        (
            "restart policy of a container",
            &pod("", "restartPolicy: Always")
        ),
        (
            "hook of an init container",
            &pod(
                "initContainers: [{name: i, image: b, lifecycle: {preStop: {sleep: {seconds: 1}}}}]",
                ""
            )
        ),
        (
            "shared and host processes",
            &pod("hostPID: true\nshareProcessNamespace: true", "")
        ),
        ("no resolvers", &pod("dnsPolicy: None", "")),
        (
            "too many resolvers",
            &pod(
                "dnsConfig: {nameservers: [1.1.1.1, 1.1.1.2, 1.1.1.3, 1.1.1.4]}",
                ""
            )
        ),
        (
            "sysctl twice",
            &pod(
                "securityContext: {sysctls: [{name: net.ipv4.ip_forward, value: \"1\"}, {name: net/ipv4/ip_forward, value: \"0\"}]}",
                ""
            )
        ),
        (
            "seccomp",
            &pod(
                "securityContext: {seccompProfile: {type: Localhost}}",
                "securityContext: {seccompProfile: {type: Unconfined, localhostProfile: a.json}}"
            )
        ),
        (
            "privileged without privileges",
            &pod(
                "",
                "securityContext: {privileged: true, allowPrivilegeEscalation: false}"
            )
        ),
        (
            "annotations",
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\n  annotations:\n    container.apparmor.security.beta.kubernetes.io/a: localhost/x\n    seccomp.security.alpha.kubernetes.io/pod: runtime/default\n    kubernetes.io/egress-bandwidth: \"1\"\n    kubernetes.io/ingress-bandwidth: 1M\n    io.kubernetes.cri-o.userns-mode: auto\n    io.kubernetes.cri-o.TrustedSandbox: \"false\"\nspec: {containers: [{name: a, image: b}]}\n"
        ),
        (
            "nothing here",
            &pod("serviceAccount: me", "")
        ),
    ]));
}

#[test]
fn objects() {
    let deployment = |spec: &str| {
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: d}}\nspec:\n  template:\n    metadata: {{labels: {{app: d}}}}\n    spec: {{restartPolicy: Always, containers: [{{name: a, image: b}}]}}\n{spec}"
        )
    };
    insta::assert_snapshot!(tell(&[
        ("no selector", &deployment("")),
        ("empty selector", &deployment("  selector: {}\n")),
        (
            "wrong selector",
            &deployment("  selector: {matchLabels: {app: e}}\n")
        ),
        (
            "selector by expressions",
            &deployment("  selector: {matchExpressions: [{key: app, operator: Exists}]}\n")
        ),
        (
            "too many replicas",
            &deployment("  selector: {matchLabels: {app: d}}\n  replicas: 100000\n")
        ),
        (
            "one restart policy",
            &deployment("  selector: {matchLabels: {app: d}}\n").replace("Always", "Never")
        ),
        (
            "rollouts",
            &deployment(
                "  selector: {matchLabels: {app: d}}\n  strategy: {type: Recreate}\n  paused: true\n"
            )
        ),
        (
            "in its template",
            &deployment("  selector: {matchLabels: {app: d}}\n")
                .replace("image: b}", "image: b, imag: c}")
        ),
        (
            "secret",
            "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata:\n  a: hunter2!\n  b: 12345\n  ../c: aGk=\nstringData: {x: yes}\n"
        ),
        (
            "binary data",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {a: x}\nbinaryData: {a: aGk=}\n"
        ),
        (
            "data of numbers",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata: {port: 80}\n"
        ),
        (
            "class with old and new handler",
            "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {name: c}\nhandler: runc\nspec: {runtimeHandler: runc}\n"
        ),
        (
            "class in a namespace",
            "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata: {name: c, namespace: d}\nhandler: runc\n"
        ),
        (
            "pod security",
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n  labels:\n    pod-security.kubernetes.io/enforce: restricted\n    pod-security.kubernetes.io/enforce-version: latest\n    pod-security.kubernetes.io/enforced: baseline\n"
        ),
        (
            "pod security, harmless",
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n  labels:\n    pod-security.kubernetes.io/enforce: privileged\n    pod-security.kubernetes.io/warn: restricted\n"
        ),
        (
            "limit of a wrong thing",
            "apiVersion: v1\nkind: LimitRange\nmetadata: {name: l}\nspec: {limits: [{type: container}]}\n"
        ),
        (
            "scopes",
            "apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: q}\nspec: {hard: {pods: 1}, scopes: [PriorityClass], scopeSelector: {matchExpressions: [{}]}}\n"
        ),
    ]));
}

#[test]
fn old_forms() {
    let deployment = "kind: Deployment\nmetadata:\n  name: sandboxed-web\nspec:\n  replicas: 2\n  template:\n    metadata:\n      labels:\n        app: web\n    spec:\n      runtimeClassName: sandboxed\n      containers:\n      - name: web\n        image: busybox\n        args: [\"yes\", \"8080\"]\n";
    insta::assert_snapshot!(tell(&[
        (
            "first form",
            "kind: RuntimeClass\nmetadata:\n  name: sandboxed\nspec:\n  runtimeHandler: gvisor\n"
        ),
        (
            "alpha",
            "apiVersion: node.k8s.io/v1alpha1\nkind: RuntimeClass\nmetadata:\n  name: sandboxed\nspec:\n  runtimeHandler: runsc\n  overhead: {podFixed: {cpu: 10m}}\n  scheduling: {nodeSelector: {gvisor: \"true\"}}\n"
        ),
        (
            "beta",
            "apiVersion: node.k8s.io/v1beta1\nkind: RuntimeClass\nmetadata:\n  name: sandboxed\nhandler: runsc\n"
        ),
        (
            "first form under today's apiVersion",
            "apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata:\n  name: a\nspec: {runtimeHandler: runc}\n"
        ),
        (
            "first form, misspelt",
            "kind: RuntimeClass\nmetadata:\n  name: a\nspec: {runtimeHandlr: runc}\n"
        ),
        (
            "deployment of extensions",
            &format!("apiVersion: extensions/v1beta1\n{deployment}")
        ),
        (
            "deployment of apps/v1beta2",
            &format!("apiVersion: apps/v1beta2\n{deployment}")
        ),
        (
            "with a mistake",
            "apiVersion: node.k8s.io/v1alpha1\nkind: RuntimeClass\nmetadata: {name: a}\nspec: {runtimeHandler: 5}\n"
        ),
    ]));
}
