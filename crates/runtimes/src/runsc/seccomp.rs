//! Seccomp profiles as gVisor takes them (`--oci-seccomp`, `runsc/specutils/seccomp`): the sentry
//! applies them to the system calls that it answers. It knows five actions, one error (EPERM) for all
//! rules, and its own architecture.

use serde_json::{Value, json};

const ACTIONS: [&str; 5] = [
    "SCMP_ACT_KILL",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_ALLOW",
];
const EPERM: u64 = 1;
const ENOSYS: u64 = 38;

/// The profile as gVisor can honour it, or why it cannot.
///
/// One rule is changed: profiles answer clone3 with ENOSYS, so that the C library takes clone, whose
/// flags a filter sees. With gVisor's EPERM no thread would start, so clone3 is allowed: the namespaces
/// that it can make are the sentry's own, not the machine's. A profile that denies clone3 with another
/// error means the denial, and gets it.
pub(super) fn adapt(mut profile: Value) -> Result<Value, String> {
    let default = profile["defaultAction"].as_str().unwrap_or_default().to_owned();
    check("defaultAction", &default, profile["defaultErrnoRet"].as_u64())?;
    if profile["listenerPath"].is_string() {
        return Err("gVisor hands no system calls to a listener; remove listenerPath from the seccomp profile".into());
    }
    if let Some(flag) = profile["flags"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|f| **f != "SECCOMP_FILTER_FLAG_TSYNC")
    {
        return Err(format!("gVisor knows no {flag}; remove it from the seccomp profile's flags"));
    }
    for rule in profile["syscalls"].as_array_mut().into_iter().flatten() {
        let falls_back = rule["action"] == "SCMP_ACT_ERRNO" && rule["errnoRet"] == ENOSYS && rule.get("args").is_none();
        if rule["names"] == json!(["clone3"]) && falls_back {
            *rule = json!({"names": ["clone3"], "action": "SCMP_ACT_ALLOW"});
            continue;
        }
        let names = rule["names"][0].as_str().unwrap_or_default().to_owned();
        check(&names, rule["action"].as_str().unwrap_or_default(), rule["errnoRet"].as_u64())?;
    }
    Ok(profile)
}

fn check(place: &str, action: &str, errno: Option<u64>) -> Result<(), String> {
    if !ACTIONS.contains(&action) {
        return Err(format!(
            "gVisor knows no {action}, which the seccomp profile has for {place}; it knows {}",
            ACTIONS.join(", ")
        ));
    }
    match errno.filter(|errno| *errno != EPERM && action == "SCMP_ACT_ERRNO") {
        Some(errno) => Err(format!(
            "gVisor answers a denied system call with EPERM alone, and the seccomp profile has error {errno} for {place}"
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use cofferdam_plan::seccomp::{Target, runtime_default};

    #[test]
    fn our_own_profile_is_taken_and_threads_still_start() {
        let capabilities = cofferdam_plan::spec::capabilities(false, &[], &[]).unwrap();
        let target = Target {
            architecture: "x86_64",
            kernel: (6, 1),
            capabilities: &capabilities,
        };
        let (given, found) = (runtime_default(&target), adapt(runtime_default(&target)).unwrap());
        let rules = |profile: &Value| profile["syscalls"].as_array().unwrap().clone();
        let changed: Vec<_> = rules(&given)
            .into_iter()
            .zip(rules(&found))
            .filter(|(a, b)| a != b)
            .map(|(_, b)| b)
            .collect();
        assert_eq!(changed, [json!({"names": ["clone3"], "action": "SCMP_ACT_ALLOW"})]);
    }

    #[test]
    fn what_gvisor_would_do_otherwise_is_refused() {
        let with = |rule: Value| json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
        let rows = [
            (json!({"defaultAction": "SCMP_ACT_LOG"}), "knows no SCMP_ACT_LOG"),
            (
                json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38}),
                "error 38 for defaultAction",
            ),
            (
                json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/x"}),
                "remove listenerPath",
            ),
            (
                json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG"]}),
                "knows no \"SECCOMP_FILTER_FLAG_LOG\"",
            ),
            (
                with(json!({"names": ["mkdir"], "action": "SCMP_ACT_KILL_PROCESS"})),
                "knows no SCMP_ACT_KILL_PROCESS",
            ),
            (
                with(json!({"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13})),
                "error 13 for mkdir",
            ),
        ];
        for (profile, wanted) in rows {
            let found = adapt(profile);
            assert!(found.clone().unwrap_err().contains(wanted), "{found:?}");
        }
        for taken in [
            with(json!({"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1})),
            with(json!({"names": ["mkdir"], "action": "SCMP_ACT_ALLOW", "errnoRet": 9})),
            with(json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO"})),
            with(json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1})),
        ] {
            assert_eq!(adapt(taken.clone()), Ok(taken));
        }
    }
}
