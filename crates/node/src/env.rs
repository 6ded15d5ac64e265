//! A container's environment, command and arguments, by the rules of the kubelet
//! (`pkg/kubelet/kubelet_pods.go`, `makeEnvironmentVariables`): first whole config maps and
//! secrets, then the variables in order, each of which may refer to those before it. Names keep
//! the order in which they first appeared; the last value of a name stands.

use crate::expansion::expand;
use crate::fields;
use crate::setup::{Machine, Objects};
use base64::Engine as _;
use cofferdam_model::objects::{ConfigMap, Secret};
use cofferdam_model::pod::{Container, EnvFrom, EnvSource, Pod};
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

/// What a pod's environment may draw on.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// The pod.
    pub pod: &'a Pod,
    /// Config maps and secrets.
    pub objects: &'a Objects,
    /// The machine.
    pub machine: &'a Machine,
    /// The pod's addresses; in the machine's network, the machine's.
    pub pod_ips: &'a [IpAddr],
}

/// A container's resolved environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// Names and values.
    pub vars: Vec<(String, String)>,
    /// Sentences about names that were skipped.
    pub warnings: Vec<String>,
}

/// Why an environment could not be made: one sentence, upstream's where upstream has one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct EnvError(pub String);

impl Environment {
    fn set(&mut self, places: &mut HashMap<String, usize>, name: &str, value: String) {
        match places.get(name) {
            Some(&at) => self.vars[at].1 = value,
            None => {
                places.insert(name.to_owned(), self.vars.len());
                self.vars.push((name.to_owned(), value));
            }
        }
    }

    /// Replaces `$(NAME)` in a `subPathExpr`, where every name must be known (`pkg/kubelet/container/helpers.go`,
    /// `ExpandContainerVolumeMounts`).
    pub(crate) fn expand_known(&self, text: &str) -> Result<String, EnvError> {
        let missing = std::cell::RefCell::new(BTreeSet::new());
        let lookup = |name: &str| {
            let found = self.vars.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
            // An empty one would silently mount another folder.
            if found.is_none_or(str::is_empty) {
                missing.borrow_mut().insert(name.to_owned());
            }
            found
        };
        let expanded = expand(text, lookup).map_err(|e| EnvError(format!("subPathExpr: {e}")))?;
        let missing = missing.into_inner();
        if missing.is_empty() {
            return Ok(expanded);
        }
        let missing: Vec<String> = missing.into_iter().collect();
        Err(EnvError(format!("missing value for {}", missing.join(", "))))
    }

    /// Replaces `$(NAME)` in each text of a command.
    pub fn expand_all(&self, texts: &[String]) -> Result<Vec<String>, EnvError> {
        let vars: HashMap<&str, &str> = self
            .vars
            .iter()
            .map(|(n, v)| (n.as_str(), v.as_str()))
            .collect();
        texts
            .iter()
            .map(|text| {
                expand(text, |name| vars.get(name).copied())
                    .map_err(|e| EnvError(format!("command: {e}")))
            })
            .collect()
    }
}

/// Resolves the environment of `container`.
pub fn environment(sources: Sources<'_>, container: &Container) -> Result<Environment, EnvError> {
    let mut env = Environment::default();
    let mut places = HashMap::new();
    for from in &container.env_from {
        add_whole_object(sources, from, &mut env, &mut places)?;
    }
    for var in &container.env {
        let value =
            match (var.value.as_deref(), &var.value_from) {
                (Some(text), _) if !text.is_empty() => {
                    let lookup =
                        |name: &str| places.get(name).map(|&at: &usize| env.vars[at].1.as_str());
                    Some(expand(text, lookup).map_err(|err| {
                        EnvError(format!("environment variable {}: {err}", var.name))
                    })?)
                }
                (_, Some(source)) => from_source(sources, container, source)?,
                _ => Some(String::new()),
            };
        if let Some(value) = value {
            env.set(&mut places, &var.name, value);
        }
    }
    Ok(env)
}

fn add_whole_object(
    sources: Sources<'_>,
    from: &EnvFrom,
    env: &mut Environment,
    places: &mut HashMap<String, usize>,
) -> Result<(), EnvError> {
    let namespace = sources.pod.metadata.namespace_or_default();
    let (what, name, entries) = if let Some(reference) = &from.config_map_ref {
        let optional = reference.optional == Some(true);
        let Some(map) = config_map(sources, &reference.name, optional)? else {
            return Ok(());
        };
        let entries: Vec<_> = map
            .data
            .iter()
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        ("configMap", &reference.name, entries)
    } else if let Some(reference) = &from.secret_ref {
        let optional = reference.optional == Some(true);
        let Some(secret) = secret(sources, &reference.name, optional)? else {
            return Ok(());
        };
        let keys: BTreeSet<_> = secret
            .data
            .keys()
            .chain(secret.string_data.keys())
            .collect();
        let mut entries = Vec::with_capacity(keys.len());
        for key in keys {
            entries.push((key.clone(), secret_text(secret, key)?.unwrap_or_default()));
        }
        ("secret", &reference.name, entries)
    } else {
        return Err(EnvError(
            "an entry of envFrom has neither configMapRef nor secretRef; give it one".into(),
        ));
    };
    let mut skipped = Vec::new();
    for (key, value) in entries {
        let key = format!("{}{key}", from.prefix.as_deref().unwrap_or_default());
        if valid_name(&key) {
            env.set(places, &key, value);
        } else {
            skipped.push(key);
        }
    }
    if !skipped.is_empty() {
        env.warnings.push(format!(
            "Keys [{}] from the EnvFrom {what} {namespace}/{name} were skipped since they are considered invalid environment variable names.",
            skipped.join(", ")
        ));
    }
    Ok(())
}

/// Kubernetes 1.34 takes every printable ASCII character but `=` (KEP-4369).
fn valid_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|b| (b' '..=b'~').contains(&b) && b != b'=')
}

/// `None`: the variable is left out, as what it names is optional and missing.
fn from_source(
    sources: Sources<'_>,
    container: &Container,
    source: &EnvSource,
) -> Result<Option<String>, EnvError> {
    let namespace = sources.pod.metadata.namespace_or_default();
    let missing_key = |kind: &str, name: &str, key: &str, optional: Option<bool>| match optional {
        Some(true) => Ok(None),
        _ => Err(EnvError(format!(
            "couldn't find key {key} in {kind} {namespace}/{name}"
        ))),
    };
    if let Some(field) = &source.field_ref {
        return fields::of_container(sources, &field.field_path).map(Some);
    }
    if let Some(reference) = &source.resource_field_ref {
        return fields::resource(sources.pod, sources.machine, Some(container), reference).map(Some);
    }
    if let Some(key) = &source.config_map_key_ref {
        let Some(map) = config_map(sources, &key.name, key.optional == Some(true))? else {
            return Ok(None);
        };
        return match map.data.get(&key.key) {
            Some(value) => Ok(Some(value.clone())),
            None => missing_key("ConfigMap", &key.name, &key.key, key.optional),
        };
    }
    if let Some(key) = &source.secret_key_ref {
        let Some(secret) = secret(sources, &key.name, key.optional == Some(true))? else {
            return Ok(None);
        };
        return match secret_text(secret, &key.key)? {
            Some(value) => Ok(Some(value)),
            None => missing_key("Secret", &key.name, &key.key, key.optional),
        };
    }
    Ok(Some(String::new()))
}

fn config_map<'a>(
    sources: Sources<'a>,
    name: &str,
    optional: bool,
) -> Result<Option<&'a ConfigMap>, EnvError> {
    match sources
        .objects
        .config_map(sources.pod.metadata.namespace_or_default(), name)
    {
        None if !optional => Err(EnvError(format!("configmap {name:?} not found"))),
        found => Ok(found),
    }
}

fn secret<'a>(
    sources: Sources<'a>,
    name: &str,
    optional: bool,
) -> Result<Option<&'a Secret>, EnvError> {
    match sources
        .objects
        .secret(sources.pod.metadata.namespace_or_default(), name)
    {
        None if !optional => Err(EnvError(format!("secret {name:?} not found"))),
        found => Ok(found),
    }
}

/// The bytes of one key of a secret; `stringData` wins over `data`, as when an API server stores it.
pub(crate) fn secret_bytes(secret: &Secret, key: &str) -> Result<Option<Vec<u8>>, EnvError> {
    if let Some(text) = secret.string_data.get(key) {
        return Ok(Some(text.clone().into_bytes()));
    }
    secret
        .data
        .get(key)
        .map(|data| decode(data, "secret", &secret.metadata.name, key))
        .transpose()
}

/// Bytes of a value written in base64; line breaks are allowed, as Go's decoder allows them.
pub(crate) fn decode(data: &str, kind: &str, name: &str, key: &str) -> Result<Vec<u8>, EnvError> {
    let compact: String = data.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    base64::engine::general_purpose::STANDARD
        .decode(compact)
        .map_err(|err| {
            EnvError(format!(
                "key {key} of {kind} {name:?} is not base64 ({err}); encode it with `base64`"
            ))
        })
}

fn secret_text(secret: &Secret, key: &str) -> Result<Option<String>, EnvError> {
    let Some(bytes) = secret_bytes(secret, key)? else {
        return Ok(None);
    };
    String::from_utf8(bytes).map(Some).map_err(|_| {
        let name = &secret.metadata.name;
        EnvError(format!("key {key} of secret {name:?} is not UTF-8 text, so it cannot be an environment variable; mount it as a file"))
    })
}

#[cfg(test)]
#[path = "env_tests.rs"]
mod tests;
