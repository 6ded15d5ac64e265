#![allow(clippy::unwrap_used)]

use super::*;
use std::collections::BTreeSet;

fn read(text: &str, capabilities: &[&str], kernel: (u32, u32)) -> Result<Value, String> {
    let capabilities: BTreeSet<String> = capabilities.iter().map(|c| (*c).to_owned()).collect();
    localhost(
        text.as_bytes(),
        &Target {
            architecture: "x86_64",
            kernel,
            capabilities: &capabilities,
        },
    )
}

fn with_rule(rule: &str) -> String {
    format!(r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{rule}]}}"#)
}

#[test]
fn a_profile_of_dockers_form_is_resolved() {
    let text = r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":38,
        "archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]},
                   {"architecture":"SCMP_ARCH_AARCH64","subArchitectures":null}],
        "syscalls":[{"names":["read","write"],"action":"SCMP_ACT_ALLOW","args":null,"comment":"c","includes":{},"excludes":{}},
                    {"name":"clone","action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":2114060288,"op":"SCMP_CMP_MASKED_EQ"}]},
                    {"names":["clone3"],"action":"SCMP_ACT_ERRNO","errnoRet":38}]}"#;
    let wanted = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 38,
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "syscalls": [
            {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 2_114_060_288_u64, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]},
            {"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38},
        ],
    });
    assert_eq!(read(text, &[], (6, 1)).unwrap(), wanted);
    // What comes out is a profile too, in the specification's form, and stays as it is.
    assert_eq!(read(&wanted.to_string(), &[], (6, 1)).unwrap(), wanted);
}

#[test]
fn rules_are_kept_by_capability_architecture_and_kernel() {
    let rows = [
        (r#""includes":{"caps":["CAP_SYS_ADMIN"]}"#, false),
        (r#""includes":{"caps":["CAP_CHOWN"]}"#, true),
        (r#""includes":{"caps":["CAP_CHOWN","CAP_SYS_ADMIN"]}"#, false),
        (r#""excludes":{"caps":["CAP_CHOWN"]}"#, false),
        (r#""excludes":{"caps":["CAP_CHOWN","CAP_SYS_ADMIN"]}"#, false),
        (r#""excludes":{"caps":["CAP_SYS_ADMIN"]}"#, true),
        (r#""includes":{"arches":["amd64","arm64"]}"#, true),
        (r#""includes":{"arches":["s390x"]}"#, false),
        (r#""excludes":{"arches":["amd64"]}"#, false),
        (r#""excludes":{"arches":["s390","s390x"]}"#, true),
        (r#""includes":{"minKernel":"4.8"}"#, true),
        (r#""includes":{"minKernel":"5.10"}"#, true),
        (r#""includes":{"minKernel":"5.11"}"#, false),
        (r#""excludes":{"minKernel":"5.10"}"#, false),
        (r#""includes":{"arches":["amd64"],"caps":["CAP_SYS_ADMIN"]}"#, false),
        (r#""includes":{"caps":[],"arches":null},"excludes":{}"#, true),
    ];
    for (condition, kept) in rows {
        let text = with_rule(&format!(r#"{{"names":["bpf"],"action":"SCMP_ACT_ALLOW",{condition}}}"#));
        let found = read(&text, &["CAP_CHOWN"], (5, 10)).unwrap();
        assert_eq!(found["syscalls"].as_array().unwrap().len(), usize::from(kept), "{condition}");
    }
}

#[test]
fn errors_may_be_named_as_podman_has_them() {
    let text = r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrno":"ENOSYS","defaultErrnoRet":38,
        "syscalls":[{"names":["bpf"],"action":"SCMP_ACT_ERRNO","errno":"EPERM"}]}"#;
    let found = read(text, &[], (6, 1)).unwrap();
    assert_eq!(
        (&found["defaultErrnoRet"], &found["syscalls"][0]["errnoRet"]),
        (&json!(38), &json!(1))
    );
}

#[test]
fn what_cannot_be_honoured_is_refused_and_never_left_out() {
    let rows = [
        ("".to_owned(), "is not a seccomp profile"),
        ("[]".into(), "is not a seccomp profile"),
        ("{}".into(), "missing field `defaultAction`"),
        (
            r#"{"defaultAction":"SCMP_ACT_ERRNO","syscall":[]}"#.into(),
            "unknown field `syscall`",
        ),
        (r#"{"defaultAction":"ALLOW"}"#.into(), "has \"ALLOW\" for defaultAction"),
        (
            r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrnoRet":5000}"#.into(),
            "error numbers end at 4095",
        ),
        (r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrno":"EWHAT"}"#.into(), "EWHAT"),
        (
            r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrno":"EPERM","defaultErrnoRet":2}"#.into(),
            "says 2 and 1",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["amd64"]}"#.into(),
            "begins with SCMP_ARCH_",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ERRNO","architectures":["SCMP_ARCH_X86"],"archMap":[{"architecture":"SCMP_ARCH_X86_64"}]}"#
                .into(),
            "both architectures and archMap",
        ),
        (
            r#"{"defaultAction":"SCMP_ACT_ERRNO","flags":["SECCOMP_FILTER_FLAG_X"]}"#.into(),
            "for flags",
        ),
        (r#"{"defaultAction":"SCMP_ACT_NOTIFY"}"#.into(), "no listenerPath"),
        (
            r#"{"defaultAction":"SCMP_ACT_ALLOW","listenerPath":"a"}"#.into(),
            "must be absolute",
        ),
        (
            with_rule(r#"{"names":["a"],"name":"b","action":"SCMP_ACT_ALLOW"}"#),
            "both name and names at syscalls[0]",
        ),
        (with_rule(r#"{"names":[],"action":"SCMP_ACT_ALLOW"}"#), "names no system call"),
        (
            with_rule(r#"{"names":["a b"],"action":"SCMP_ACT_ALLOW"}"#),
            "cannot be a system call",
        ),
        (with_rule(r#"{"names":["a"],"action":"SCMP_ACT_MAYBE"}"#), "for syscalls[0].action"),
        (
            with_rule(r#"{"names":["a"],"action":"SCMP_ACT_ALLOW","args":[{"index":6,"value":0,"op":"SCMP_CMP_EQ"}]}"#),
            "argument index 6",
        ),
        (
            with_rule(r#"{"names":["a"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":-1,"op":"SCMP_CMP_EQ"}]}"#),
            "is not a seccomp profile",
        ),
        (
            with_rule(r#"{"names":["a"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":0,"op":"EQ"}]}"#),
            "for syscalls[0].args.op",
        ),
        (
            with_rule(r#"{"names":["a"],"action":"SCMP_ACT_ALLOW","includes":{"minKernel":"new"}}"#),
            "written as 4.8",
        ),
        (
            with_rule(r#"{"names":["a"],"action":"SCMP_ACT_ALLOW","includes":{"arches":["x86_64"]}}"#),
            "Go's names",
        ),
        (
            with_rule(r#"{"names":["a"],"action":"SCMP_ACT_ALLOW","includes":{"cap":["X"]}}"#),
            "unknown field `cap`",
        ),
        (" ".repeat(MAX_PROFILE as usize + 1), "is larger than"),
        ("[".repeat(100_000), "is not a seccomp profile"),
    ];
    for (text, wanted) in rows {
        let found = read(&text, &[], (6, 1));
        assert!(found.clone().unwrap_err().contains(wanted), "{}: {found:?}", clip(&text));
    }
    // A rule that does not apply is checked all the same.
    let text = with_rule(r#"{"names":["a"],"action":"X","includes":{"caps":["CAP_SYS_ADMIN"]}}"#);
    assert!(read(&text, &[], (6, 1)).is_err());
}

#[test]
fn no_damage_to_a_profile_is_more_than_an_error() {
    let text = r#"{"defaultAction":"SCMP_ACT_ERRNO","defaultErrno":"ENOSYS","archMap":[{"architecture":"SCMP_ARCH_X86_64"}],
        "syscalls":[{"names":["a"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":1,"op":"SCMP_CMP_EQ"}],"includes":{"minKernel":"4.8"}}]}"#;
    assert!(read(text, &[], (6, 1)).is_ok());
    for at in 0..text.len() {
        for byte in *b"\"{}[]0-.,\\\xff" {
            let mut bytes = text.as_bytes().to_vec();
            bytes[at] = byte;
            let none = BTreeSet::new();
            let target = Target {
                architecture: "x86_64",
                kernel: (6, 1),
                capabilities: &none,
            };
            let _ = localhost(&bytes, &target);
            let _ = localhost(&bytes[..at], &target);
        }
    }
}
