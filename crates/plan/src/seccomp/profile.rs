//! Profiles of the machine's administrator.

use super::{ARCHITECTURES, Target, architectures, errno, known};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Greatest size of a profile, bytes.
pub const MAX_PROFILE: u64 = 1 << 20;
/// Most rules of a profile, most names of one, and longest name.
const MAX_RULES: usize = 4096;
const MAX_NAMES: usize = 4096;
const MAX_NAME: usize = 64;
/// Most conditions of a rule (`config-linux.md` has six arguments, each may come twice).
const MAX_ARGS: usize = 12;
/// Greatest error number that the kernel returns from a filter.
const MAX_ERRNO: u32 = 4095;

/// Actions of `config-linux.md`, "Seccomp".
const ACTIONS: [&str; 9] = [
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_TRAP",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
];
const OPERATORS: [&str; 7] = [
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
    "SCMP_CMP_MASKED_EQ",
];
const FLAGS: [&str; 4] = [
    "SECCOMP_FILTER_FLAG_TSYNC",
    "SECCOMP_FILTER_FLAG_LOG",
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
];

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Profile {
    default_action: String,
    default_errno_ret: Option<u32>,
    /// containers/common: the error's name.
    default_errno: Option<String>,
    #[serde(default)]
    arch_map: Vec<ArchMap>,
    #[serde(default)]
    architectures: Vec<String>,
    #[serde(default)]
    flags: Vec<String>,
    listener_path: Option<String>,
    listener_metadata: Option<String>,
    #[serde(default)]
    syscalls: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ArchMap {
    architecture: String,
    sub_architectures: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    /// Docker's older form.
    name: Option<String>,
    names: Option<Vec<String>>,
    action: String,
    errno_ret: Option<u32>,
    errno: Option<String>,
    args: Option<Vec<Arg>>,
    #[serde(rename = "comment")]
    _comment: Option<String>,
    includes: Option<Filter>,
    excludes: Option<Filter>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Arg {
    index: u32,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Filter {
    caps: Option<Vec<String>>,
    arches: Option<Vec<String>>,
    min_kernel: Option<String>,
}

/// Reads a profile of at most [`MAX_PROFILE`] bytes and resolves its conditions for a container. An
/// error is the rest of a sentence that begins with the profile's path.
pub fn localhost(text: &[u8], target: &Target<'_>) -> Result<Value, String> {
    if text.len() as u64 > MAX_PROFILE {
        return Err(format!("is larger than {MAX_PROFILE} bytes"));
    }
    let profile: Profile = serde_json::from_slice(text).map_err(|e| format!("is not a seccomp profile: {}", e.to_string().replace(char::is_control, "?")))?;
    let mut out = Map::new();
    out.insert(
        "defaultAction".into(),
        json!(one_of(&ACTIONS, &profile.default_action, "defaultAction")?),
    );
    if let Some(number) = error_number(profile.default_errno_ret, profile.default_errno.as_deref(), "defaultErrnoRet")? {
        out.insert("defaultErrnoRet".into(), json!(number));
    }
    let architectures = chosen_architectures(&profile, target.architecture)?;
    if !architectures.is_empty() {
        out.insert("architectures".into(), json!(architectures));
    }
    for flag in &profile.flags {
        one_of(&FLAGS, flag, "flags")?;
    }
    if !profile.flags.is_empty() {
        out.insert("flags".into(), json!(profile.flags));
    }
    listener(&profile, &mut out)?;
    if profile.syscalls.len() > MAX_RULES {
        return Err(format!("has more than {MAX_RULES} rules"));
    }
    let mut rules = Vec::new();
    for (at, rule) in profile.syscalls.iter().enumerate() {
        let place = format!("syscalls[{at}]");
        let resolved = resolve(rule, &place)?;
        if applies(rule, target, &place)? {
            rules.push(resolved);
        }
    }
    out.insert("syscalls".into(), Value::Array(rules));
    Ok(Value::Object(out))
}

/// `SCMP_ACT_NOTIFY` hands calls to a program of the machine, which must be named.
fn listener(profile: &Profile, out: &mut Map<String, Value>) -> Result<(), String> {
    let notifies = profile.default_action == "SCMP_ACT_NOTIFY" || profile.syscalls.iter().any(|r| r.action == "SCMP_ACT_NOTIFY");
    match &profile.listener_path {
        Some(path) if path.starts_with('/') => out.insert("listenerPath".into(), json!(path)),
        Some(path) => return Err(format!("has the listenerPath {path:?}, which must be absolute")),
        None if notifies => return Err("uses SCMP_ACT_NOTIFY and has no listenerPath".into()),
        None => None,
    };
    if let Some(metadata) = &profile.listener_metadata {
        out.insert("listenerMetadata".into(), json!(metadata));
    }
    Ok(())
}

fn chosen_architectures(profile: &Profile, machine: &str) -> Result<Vec<String>, String> {
    let check = |name: &String| {
        let plain = name.len() <= MAX_NAME
            && name
                .strip_prefix("SCMP_ARCH_")
                .is_some_and(|n| n.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'));
        if plain {
            Ok(())
        } else {
            Err(format!(
                "names the architecture {name:?}, which begins with SCMP_ARCH_ where it is one"
            ))
        }
    };
    profile.architectures.iter().try_for_each(check)?;
    for map in &profile.arch_map {
        check(&map.architecture)?;
        map.sub_architectures.iter().flatten().try_for_each(check)?;
    }
    match (profile.architectures.is_empty(), profile.arch_map.is_empty()) {
        (false, false) => Err("has both architectures and archMap; leave one".into()),
        (false, true) => Ok(profile.architectures.clone()),
        (true, true) => Ok(vec![]),
        (true, false) => {
            let native = architectures(machine).first().copied().unwrap_or_default();
            let found = profile.arch_map.iter().find(|m| m.architecture == native);
            let all = |m: &ArchMap| {
                std::iter::once(&m.architecture)
                    .chain(m.sub_architectures.iter().flatten())
                    .cloned()
                    .collect()
            };
            Ok(found.map(all).unwrap_or_default())
        }
    }
}

fn resolve(rule: &Rule, place: &str) -> Result<Value, String> {
    let names = match (&rule.name, &rule.names) {
        (Some(name), None) => vec![name.clone()],
        (Some(name), Some(names)) if names.is_empty() => vec![name.clone()],
        (None, Some(names)) if !names.is_empty() => names.clone(),
        (Some(_), Some(_)) => return Err(format!("has both name and names at {place}; leave one")),
        (None, _) => return Err(format!("names no system call at {place}")),
    };
    let plain = |n: &String| !n.is_empty() && n.len() <= MAX_NAME && n.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    if let Some(bad) = names.iter().find(|n| !plain(n)) {
        return Err(format!("has {:?} at {place}, which cannot be a system call", clip(bad)));
    }
    let args = rule.args.as_deref().unwrap_or_default();
    if names.len() > MAX_NAMES || args.len() > MAX_ARGS {
        return Err(format!("has more than {MAX_NAMES} names or {MAX_ARGS} args at {place}"));
    }
    let mut value = json!({"names": names, "action": one_of(&ACTIONS, &rule.action, &format!("{place}.action"))?});
    if let Some(number) = error_number(rule.errno_ret, rule.errno.as_deref(), &format!("{place}.errnoRet"))? {
        value["errnoRet"] = json!(number);
    }
    if !args.is_empty() {
        let arg = |a: &Arg| {
            if a.index > 5 {
                return Err(format!("has the argument index {} at {place}; a system call has 0 to 5", a.index));
            }
            Ok(
                json!({"index": a.index, "value": a.value, "valueTwo": a.value_two, "op": one_of(&OPERATORS, &a.op, &format!("{place}.args.op"))?}),
            )
        };
        value["args"] = Value::Array(args.iter().map(arg).collect::<Result<_, _>>()?);
    }
    Ok(value)
}

/// Whether a rule is for this container, by moby's rules: all `includes` must hold, no `excludes` may.
/// Capabilities of `includes` must all be there; one of `excludes` is enough.
fn applies(rule: &Rule, target: &Target<'_>, place: &str) -> Result<bool, String> {
    let architecture = known(target.architecture).map_or(target.architecture, |(_, go, ..)| go);
    let old = |filter: &Filter| match filter.min_kernel.as_deref().filter(|v| !v.is_empty()) {
        None => Ok(None),
        Some(text) => min_kernel(text)
            .map(|wanted| Some(target.kernel < wanted))
            .ok_or_else(|| format!("has the minKernel {:?} at {place}; it is written as 4.8", clip(text))),
    };
    let list = |names: &Option<Vec<String>>| names.clone().filter(|n| !n.is_empty());
    let has = |name: &String| target.capabilities.contains(name);
    let check = |filter: &Filter| {
        let wrong = filter
            .arches
            .iter()
            .flatten()
            .find(|a| !ARCHITECTURES.iter().any(|(_, go, ..)| go == a) && !OTHER_ARCHES.contains(&a.as_str()));
        wrong.map_or(Ok(()), |a| {
            Err(format!(
                "has the architecture {:?} at {place}; Go's names are used there, as amd64",
                clip(a)
            ))
        })
    };
    if let Some(includes) = &rule.includes {
        check(includes)?;
        let arch = list(&includes.arches).is_none_or(|a| a.iter().any(|a| a == architecture));
        let caps = list(&includes.caps).is_none_or(|c| c.iter().all(has));
        if !arch || !caps || old(includes)? == Some(true) {
            return Ok(false);
        }
    }
    if let Some(excludes) = &rule.excludes {
        check(excludes)?;
        let arch = list(&excludes.arches).is_some_and(|a| a.iter().any(|a| a == architecture));
        let caps = list(&excludes.caps).is_some_and(|c| c.iter().any(has));
        if arch || caps || old(excludes)? == Some(false) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Go's names of architectures that we do not run on, and that profiles name; `x86` and `x32` are
/// Docker's own.
const OTHER_ARCHES: [&str; 14] = [
    "x86",
    "x32",
    "mips",
    "mips64",
    "mips64n32",
    "mipsle",
    "mipsel",
    "mips64le",
    "mipsel64",
    "mipsel64n32",
    "ppc",
    "ppc64",
    "s390",
    "riscv",
];

/// `4.8`, as moby parses it: two numbers.
fn min_kernel(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn error_number(number: Option<u32>, name: Option<&str>, place: &str) -> Result<Option<u32>, String> {
    let named = match name.filter(|n| !n.is_empty()) {
        None => None,
        Some(name) => {
            Some(errno::number(name).ok_or_else(|| format!("has the error {:?} beside {place}; see errno(3) for the names", clip(name)))?)
        }
    };
    match (number, named) {
        (Some(a), Some(b)) if a != b => Err(format!("says {a} and {b} for {place}; leave one")),
        (Some(n), _) | (None, Some(n)) if n > MAX_ERRNO => Err(format!("has {n} for {place}; error numbers end at {MAX_ERRNO}")),
        (number, named) => Ok(number.or(named)),
    }
}

fn one_of<'a>(known: &[&'a str], given: &str, place: &str) -> Result<&'a str, String> {
    known
        .iter()
        .find(|k| **k == given)
        .copied()
        .ok_or_else(|| format!("has {:?} for {place}; it is one of {}", clip(given), known.join(", ")))
}

fn clip(text: &str) -> String {
    text.chars().take(MAX_NAME).collect()
}

#[cfg(test)]
#[path = "profile_tests.rs"]
mod tests;
