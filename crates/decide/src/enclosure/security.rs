//! Users, groups, capabilities, profiles, kernel settings.

use super::Feature;
use super::find::{of_context, of_contexts};
use cofferdam_model::pod::Pod;

pub(super) static FEATURES: &[Feature] = &[
    Feature::works("run-as", "`runAsUser`, `runAsGroup`, `runAsNonRoot`", |pod| {
        let of_pod = of_context(pod, "runAsUser", |c| c.run_as_user.is_some())
            .into_iter()
            .chain(of_context(pod, "runAsGroup", |c| c.run_as_group.is_some()))
            .chain(of_context(pod, "runAsNonRoot", |c| c.run_as_non_root.is_some()));
        let of_containers = of_contexts(pod, "runAsUser", |c| c.run_as_user.is_some())
            .into_iter()
            .chain(of_contexts(pod, "runAsGroup", |c| c.run_as_group.is_some()))
            .chain(of_contexts(pod, "runAsNonRoot", |c| c.run_as_non_root.is_some()));
        of_pod.chain(of_containers).collect()
    })
    .spec("securityContext: {runAsUser: 1000, runAsGroup: 2000, runAsNonRoot: true}")
    .script("test \"$(id -u):$(id -g)\" = 1000:2000"),
    Feature::works("groups", "`supplementalGroups` and their policy", |pod| {
        let policy = of_context(pod, "supplementalGroupsPolicy", |c| c.supplemental_groups_policy.is_some());
        of_context(pod, "supplementalGroups", |c| !c.supplemental_groups.is_empty())
            .into_iter()
            .chain(policy)
            .collect()
    })
    .spec("securityContext: {runAsUser: 1000, supplementalGroups: [3000], supplementalGroupsPolicy: Strict}")
    .script("id -G | tr ' ' '\\n' | grep -x 3000"),
    Feature::works("fs-group", "`fsGroup` and its policy", |pod| {
        let policy = of_context(pod, "fsGroupChangePolicy", |c| c.fs_group_change_policy.is_some());
        of_context(pod, "fsGroup", |c| c.fs_group.is_some())
            .into_iter()
            .chain(policy)
            .collect()
    })
    .spec("securityContext: {runAsUser: 1000, fsGroup: 3000, fsGroupChangePolicy: OnRootMismatch}\nvolumes:\n- name: data\n  emptyDir: {}")
    .container("volumeMounts:\n- {name: data, mountPath: /data}")
    .script("touch /data/mine\ntest \"$(stat -c %g /data/mine)\" = 3000"),
    Feature::works("capabilities", "capabilities", |pod| {
        of_contexts(pod, "capabilities", |c| c.capabilities.is_some())
    })
    .container("securityContext: {capabilities: {drop: [ALL], add: [CHOWN]}}")
    .script("grep -x 'CapEff:.0000000000000001' /proc/self/status"),
    Feature::works("privileged", "`privileged`", |pod| {
        of_contexts(pod, "privileged", |c| c.privileged == Some(true))
    })
    .container("securityContext: {privileged: true}")
    .script("if grep -x 'CapEff:.00000000a80425fb' /proc/self/status; then exit 1; fi"),
    Feature::works("no-new-privileges", "`allowPrivilegeEscalation: false`", |pod| {
        of_contexts(pod, "allowPrivilegeEscalation", |c| c.allow_privilege_escalation == Some(false))
    })
    .container("securityContext: {allowPrivilegeEscalation: false}")
    // gVisor's status has no such line.
    .script("if grep -q NoNewPrivs /proc/self/status; then grep -x 'NoNewPrivs:.1' /proc/self/status; fi"),
    Feature::works("read-only-root", "`readOnlyRootFilesystem`", |pod| {
        of_contexts(pod, "readOnlyRootFilesystem", |c| c.read_only_root_filesystem == Some(true))
    })
    .container("securityContext: {readOnlyRootFilesystem: true}")
    .script("if touch /x; then exit 1; fi"),
    Feature::works("seccomp-runtime-default", "seccomp `RuntimeDefault` and `Unconfined`", |pod| {
        of_seccomp(pod, &["RuntimeDefault", "Unconfined"])
    })
    .spec("securityContext: {seccompProfile: {type: RuntimeDefault}}")
    .script("if unshare -U true; then exit 1; fi"),
    Feature::works("seccomp-localhost", "seccomp `Localhost`", |pod| of_seccomp(pod, &["Localhost"]))
        .needs("a profile of this name in the folder of profiles")
        .spec("securityContext: {seccompProfile: {type: Localhost, localhostProfile: test.json}}")
        // The profile of the tests forbids it.
        .script("if mkdir /tmp/made; then exit 1; fi"),
    Feature::works("app-armor-unconfined", "AppArmor `Unconfined`", |pod| {
        of_app_armor(pod, &["Unconfined"])
    })
    .spec("securityContext: {appArmorProfile: {type: Unconfined}}"),
    Feature::works("app-armor-runtime-default", "AppArmor `RuntimeDefault`", |pod| {
        of_app_armor(pod, &["RuntimeDefault"])
    })
    .not_in_gvisor("gVisor cannot apply AppArmor profiles; remove appArmorProfile")
    .not_in_vm("a profile of the machine is not in the virtual machine's kernel; remove appArmorProfile")
    .needs("a kernel with AppArmor")
    .spec("securityContext: {appArmorProfile: {type: RuntimeDefault}}"),
    Feature::works("app-armor-localhost", "AppArmor `Localhost`", |pod| {
        of_app_armor(pod, &["Localhost"])
    })
    .not_in_gvisor("gVisor cannot apply AppArmor profiles; remove appArmorProfile")
    .not_in_vm("a profile of the machine is not in the virtual machine's kernel; remove appArmorProfile")
    .needs("a kernel with AppArmor, and the profile loaded")
    .spec("securityContext: {appArmorProfile: {type: Localhost, localhostProfile: cofferdam-test}}")
    .script("grep cofferdam-test /proc/self/attr/current"),
    Feature::works("se-linux", "SELinux labels", |pod| {
        let of_pod = of_context(pod, "seLinuxOptions", |c| c.se_linux_options.is_some());
        let of_containers = of_contexts(pod, "seLinuxOptions", |c| c.se_linux_options.is_some());
        of_pod.into_iter().chain(of_containers).collect()
    })
    .not_in_gvisor("gVisor cannot apply SELinux labels; remove seLinuxOptions")
    .not_in_vm("a virtual machine's kernel has no SELinux; remove seLinuxOptions")
    .needs("a kernel with SELinux")
    .spec("securityContext: {seLinuxOptions: {level: 's0:c1,c2'}}")
    .script("grep c1,c2 /proc/self/attr/current"),
    Feature::works("proc-mount", "an unmasked /proc (`procMount: Unmasked`)", |pod| {
        of_contexts(pod, "procMount", |c| c.proc_mount.as_deref() == Some("Unmasked"))
    })
    .not_in_gvisor("it needs hostUsers: false, which gVisor does not have; remove procMount")
    .spec("hostUsers: false")
    .container("securityContext: {procMount: Unmasked}")
    .script("if grep ' /proc/kcore ' /proc/mounts; then exit 1; fi"),
    Feature::works("sysctls", "kernel settings (`sysctls`)", |pod| {
        let context = pod.spec.security_context.as_ref();
        let all = context.iter().flat_map(|c| &c.sysctls).enumerate();
        all.map(|(at, _)| format!("spec.securityContext.sysctls[{at}]")).collect()
    })
    .not_in_gvisor("gVisor has no kernel settings that could be set; remove it from securityContext.sysctls")
    .spec("securityContext: {sysctls: [{name: net.ipv4.ip_unprivileged_port_start, value: '80'}]}")
    .script("test \"$(cat /proc/sys/net/ipv4/ip_unprivileged_port_start)\" = 80"),
];

fn of_seccomp(pod: &Pod, kinds: &[&str]) -> Vec<String> {
    let is = |profile: &Option<cofferdam_model::pod::SeccompProfile>| profile.as_ref().is_some_and(|p| kinds.contains(&p.kind.as_str()));
    let of_pod = of_context(pod, "seccompProfile", |c| is(&c.seccomp_profile));
    let of_containers = of_contexts(pod, "seccompProfile", |c| is(&c.seccomp_profile));
    of_pod.into_iter().chain(of_containers).collect()
}

fn of_app_armor(pod: &Pod, kinds: &[&str]) -> Vec<String> {
    let is = |profile: &Option<cofferdam_model::pod::AppArmorProfile>| profile.as_ref().is_some_and(|p| kinds.contains(&p.kind.as_str()));
    let of_pod = of_context(pod, "appArmorProfile", |c| is(&c.app_armor_profile));
    let of_containers = of_contexts(pod, "appArmorProfile", |c| is(&c.app_armor_profile));
    of_pod.into_iter().chain(of_containers).collect()
}
