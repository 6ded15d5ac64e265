//! Security settings, host namespaces and names: one row a rule.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
use cofferdam_manifest::decode;
use common::hold;

#[test]
fn profiles() {
    let app_armor = |profile: &str| format!("securityContext: {{appArmorProfile: {profile}}}");
    let at = "spec.containers[0].securityContext.appArmorProfile";
    let rows = [
        ("{type: RuntimeDefault}", String::new()),
        ("{type: Localhost, localhostProfile: mine}", String::new()),
        (
            "{type: Localhost}",
            format!("{at} is Localhost, which needs localhostProfile, the name of a loaded profile"),
        ),
        (
            "{type: Localhost, localhostProfile: ''}",
            format!("{at} is Localhost, which needs localhostProfile, the name of a loaded profile"),
        ),
        (
            "{type: Localhost, localhostProfile: ' a'}",
            format!("{at}.localhostProfile must not have blanks around it"),
        ),
        (
            "{type: Unconfined, localhostProfile: a}",
            format!("{at}.localhostProfile has a meaning only where type is Localhost; remove it"),
        ),
        (
            "{type: X}",
            format!("{at}.type is X, but must be one of Unconfined, RuntimeDefault, Localhost"),
        ),
        ("{}", format!("{at}.type is missing; add it")),
    ];
    for (profile, sentence) in rows {
        hold(&[("", &app_armor(profile), &sentence)]);
        hold(&[(&app_armor(profile), "", &sentence.replace("containers[0].", ""))]);
    }
    let long = format!("{{type: Localhost, localhostProfile: {}}}", "a".repeat(5000));
    hold(&[(
        "",
        &app_armor(&long),
        &format!("{at}.localhostProfile has 5000 bytes, but at most 4095 are used"),
    )]);
}

#[test]
fn settings() {
    hold(&[
        (
            "securityContext: {seLinuxOptions: {user: u, role: r, type: t, level: s0}, fsGroupChangePolicy: OnRootMismatch, supplementalGroupsPolicy: Strict}",
            "",
            "",
        ),
        ("hostUsers: false", "securityContext: {procMount: Unmasked}", ""),
        (
            "",
            "securityContext: {procMount: Unmasked}",
            "spec.containers[0].securityContext.procMount is Unmasked, which needs hostUsers: false in the pod's spec; add it, or remove this",
        ),
        (
            "",
            "securityContext: {procMount: None}",
            "spec.containers[0].securityContext.procMount is None, but must be one of Default, Unmasked",
        ),
        (
            "securityContext: {supplementalGroupsPolicy: strict}",
            "",
            "spec.securityContext.supplementalGroupsPolicy is strict, but must be one of Merge, Strict; did you mean Strict?",
        ),
        (
            "",
            "securityContext: {allowPrivilegeEscalation: false, capabilities: {add: [CAP_SYS_ADMIN]}}",
            "spec.containers[0].securityContext.allowPrivilegeEscalation cannot be false where CAP_SYS_ADMIN is added; change one",
        ),
        (
            "securityContext: {windowsOptions: {hostProcess: true}}",
            "",
            "spec.securityContext.windowsOptions is not supported: pods run on Linux here; remove it",
        ),
        ("securityContext: {seLinuxChangePolicy: Recursive}", "", ""),
        (
            "hostNetwork: true\nsecurityContext: {sysctls: [{name: net/core/somaxconn, value: '1'}]}",
            "",
            "spec.securityContext.sysctls[0].name is \"net/core/somaxconn\", which is the machine's where hostNetwork is true; remove one",
        ),
        (
            "hostIPC: true\nsecurityContext: {sysctls: [{name: kernel.shmmax, value: '1'}]}",
            "",
            "spec.securityContext.sysctls[0].name is \"kernel.shmmax\", which is the machine's where hostIPC is true; remove one",
        ),
        (
            "hostIPC: true\nsecurityContext: {sysctls: [{name: net.core.somaxconn, value: '1'}]}",
            "",
            "",
        ),
    ]);
}

#[test]
fn host_users() {
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        hold(&[
            (&format!("hostUsers: true\n{field}: true"), "", ""),
            (
                &format!("hostUsers: false\n{field}: true"),
                "",
                &format!("spec.{field} cannot be true where hostUsers is false; remove one"),
            ),
        ]);
    }
}

#[test]
fn names() {
    let long = "s".repeat(40);
    hold(&[
        (
            "hostAliases: [{ip: 10.0.0.1, hostnames: [a, b.c]}]\nsubdomain: web\nsetHostnameAsFQDN: true\nimagePullSecrets: [{name: s}]\ndnsPolicy: ClusterFirstWithHostNet\nos: {name: linux}",
            "",
            "",
        ),
        (
            "hostAliases: [{ip: host}]",
            "",
            "spec.hostAliases[0].ip is \"host\", but must be an IPv4 or IPv6 address",
        ),
        (
            "hostAliases: [{ip: ::1, hostnames: [a_b]}]",
            "",
            "spec.hostAliases[0].hostnames[0] is \"a_b\", but must be 1 to 253 lowercase letters, digits, '-' or '.', and begin and end with a letter or digit around every '.'",
        ),
        ("imagePullSecrets: [{}]", "", "spec.imagePullSecrets[0].name is missing; add it"),
        (
            "subdomain: A",
            "",
            "spec.subdomain is \"A\", but must be 1 to 63 lowercase letters, digits or '-', and begin and end with a letter or digit",
        ),
        (&format!("subdomain: {long}"), "", ""),
        (
            &format!("subdomain: {long}\nsetHostnameAsFQDN: true"),
            "",
            "spec.setHostnameAsFQDN makes a host name of 70 characters (HOSTNAME.SUBDOMAIN.NAMESPACE.svc.cluster.local), and Linux takes 64; shorten hostname or subdomain, or remove this",
        ),
        (
            "os: {name: windows}",
            "",
            "spec.os.name: windows is not supported yet; remove it, or run this pod on a cluster",
        ),
        ("os: {}", "", "spec.os.name is missing; add it"),
        (
            "ephemeralContainers: [{name: d, image: i}]",
            "",
            "spec.ephemeralContainers cannot be set on create; add such a container to the running pod with `cofferdam debug`",
        ),
        (
            "resourceClaims: [{name: gpu}]",
            "",
            "spec.resourceClaims is not supported: there is no dynamic resource allocation on one machine; ask for the device in limits, by its CDI name",
        ),
        (
            "",
            "env: [{name: A, valueFrom: {fileKeyRef: {path: a, key: b, volumeName: c}}}]",
            "spec.containers[0].env[0].valueFrom.fileKeyRef is not supported: Kubernetes 1.34 drops it unless a gate is set; put the values into a config map, or read the file in the container",
        ),
        (
            "",
            "env: [{name: A, valueFrom: {resourceFieldRef: {containerName: b, resource: limits.cpu}}}]",
            "spec.containers[0].env[0].valueFrom.resourceFieldRef.containerName is \"b\", but the pod has no container of that name",
        ),
    ]);
}

/// Annotations of Kubernetes before 1.30 are honoured as the field is.
#[test]
fn annotated_profiles() {
    let told = |value: &str, container: &str, security: &str| {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\n  annotations: {{container.apparmor.security.beta.kubernetes.io/{container}: '{value}'}}\nspec:\n  containers:\n  - {{name: app, image: b, securityContext: {{{security}}}}}\n"
        );
        let decoded = decode("f.yaml", &text);
        let all = decoded.map_or_else(
            |errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>(),
            |d| d.warnings.iter().map(ToString::to_string).collect(),
        );
        all.iter().map(|t| t.rsplit_once("\"] ").unwrap().1.to_owned()).collect::<Vec<_>>()
    };
    let old = "is the way of Kubernetes before 1.30; write securityContext.appArmorProfile instead";
    let rows = [
        ("runtime/default", "app", "", old),
        ("localhost/a", "app", "", old),
        ("unconfined", "app", "appArmorProfile: {type: Unconfined}", ""),
        (
            "localhost/a",
            "app",
            "appArmorProfile: {type: Unconfined}",
            "is \"localhost/a\", but appArmorProfile says otherwise; remove this annotation",
        ),
        ("unconfined", "b", "", "is of \"b\", but the pod has no container of that name"),
        (
            "local",
            "app",
            "",
            "is \"local\", but must be runtime/default, unconfined or localhost/NAME",
        ),
        (
            "localhost/",
            "app",
            "",
            "is \"localhost/\", but must be runtime/default, unconfined or localhost/NAME",
        ),
    ];
    for (value, container, security, sentence) in rows {
        let expected: Vec<&str> = Some(sentence).filter(|s| !s.is_empty()).into_iter().collect();
        assert_eq!(told(value, container, security), expected, "{value} {container} {security}");
    }
}
