//! The plugins of a network, called one after another: section 3 of the specification.

use crate::cache::INTERFACE;
use crate::config::{NetworkList, PluginConfig};
use crate::error::Failure;
use crate::plugin::{Call, find, run};
use crate::result::CniResult;
use crate::version::Version;
use crate::{Error, Result};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Whom a call is about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) id: &'a str,
    /// Path of the namespace; empty where it is gone.
    pub(crate) netns: &'a str,
    pub(crate) args: &'a [[String; 2]],
    pub(crate) capabilities: &'a Map<String, Value>,
}

/// A network whose plugins can be called.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Chain<'a> {
    pub(crate) list: &'a NetworkList,
    pub(crate) bin_dirs: &'a [PathBuf],
    pub(crate) timeout: Duration,
}

impl Chain<'_> {
    pub(crate) fn version(&self) -> Version {
        self.list.versions.last().copied().unwrap_or(Version::V0_1_0)
    }

    /// ADD, each plugin with the result of the one before. Also on failure it gives the last
    /// result that there was.
    pub(crate) fn add(&self, subject: Subject<'_>) -> (Option<CniResult>, Result<()>) {
        let mut result = None;
        for plugin in &self.list.plugins {
            let answer = self.call(plugin, "ADD", Some(subject), &self.previous(result.as_ref()));
            let parsed = answer.and_then(|bytes| {
                CniResult::parse(&bytes, self.version()).map_err(|reason| self.failed(plugin, Failure::Garbage { verb: "ADD", reason }))
            });
            match parsed {
                Ok(one) => result = Some(one),
                Err(e) => return (result, Err(e)),
            }
        }
        (result, Ok(()))
    }

    /// DEL, the last plugin first. One that fails does not keep the others from it; the first
    /// failure is told.
    pub(crate) fn del(&self, subject: Subject<'_>, result: Option<&CniResult>) -> Result<()> {
        let previous = if self.version() >= Version::V0_4_0 {
            self.previous(result)
        } else {
            Vec::new()
        };
        let mut outcome = Ok(());
        for plugin in self.list.plugins.iter().rev() {
            let done = self.call(plugin, "DEL", Some(subject), &previous);
            outcome = outcome.and(done.map(|_| ()));
        }
        outcome
    }

    pub(crate) fn check(&self, subject: Subject<'_>, result: Option<&CniResult>) -> Result<()> {
        let previous = self.previous(result);
        self.list
            .plugins
            .iter()
            .try_for_each(|plugin| self.call(plugin, "CHECK", Some(subject), &previous).map(|_| ()))
    }

    pub(crate) fn status(&self) -> Result<()> {
        for plugin in &self.list.plugins {
            if self.version() >= Version::V1_1_0 {
                self.call(plugin, "STATUS", None, &[])?;
            }
        }
        Ok(())
    }

    /// Whether all plugins are there.
    pub(crate) fn installed(&self) -> Result<()> {
        let look = |plugin: &PluginConfig| find(&plugin.kind, self.bin_dirs).map_err(|f| self.failed(plugin, f));
        self.list.plugins.iter().try_for_each(|plugin| look(plugin).map(|_| ()))
    }

    /// GC: the attachments that are still valid. All plugins are called; the first failure is told.
    pub(crate) fn gc(&self, valid: &BTreeSet<String>) -> Result<()> {
        let valid: Vec<Value> = valid.iter().map(|id| json!({"containerID": id, "ifname": INTERFACE})).collect();
        // The second name is that of the specification's first text, which libcni gives as well.
        let more = [("cni.dev/valid-attachments", json!(valid)), ("cni.dev/attachments", json!(valid))];
        let mut outcome = Ok(());
        for plugin in &self.list.plugins {
            outcome = outcome.and(self.call(plugin, "GC", None, &more).map(|_| ()));
        }
        outcome
    }

    /// The newest version of the configuration that every plugin says that it knows.
    pub(crate) fn negotiate(&self) -> Result<Version> {
        let mut left: BTreeSet<Version> = self.list.versions.iter().copied().collect();
        for plugin in &self.list.plugins {
            let known = self.versions(plugin)?;
            left.retain(|v| known.contains(v));
            if left.is_empty() {
                let words = |list: &[Version]| list.iter().map(Version::to_string).collect::<Vec<_>>().join(", ");
                return Err(Error::NoVersion {
                    network: self.list.name.clone(),
                    offered: words(&self.list.versions),
                    plugin: plugin.kind.clone(),
                    known: words(&known),
                });
            }
        }
        Ok(left.last().copied().unwrap_or(self.version()))
    }

    /// What a plugin answers to VERSION. One that does not know the verb is of before it.
    fn versions(&self, plugin: &PluginConfig) -> Result<Vec<Version>> {
        let bytes = match self.call(plugin, "VERSION", None, &[]) {
            Ok(bytes) => bytes,
            Err(e) if e.code().is_some() => return Ok(vec![Version::V0_1_0]),
            Err(e) => return Err(e),
        };
        let garbage = |reason: String| self.failed(plugin, Failure::Garbage { verb: "VERSION", reason });
        let value: Value = serde_json::from_slice(&bytes).map_err(|e| garbage(format!("it is no JSON: {e}")))?;
        let list = value
            .get("supportedVersions")
            .and_then(Value::as_array)
            .ok_or_else(|| garbage("it names no versions".into()))?;
        Ok(list.iter().filter_map(Value::as_str).filter_map(Version::parse).collect())
    }

    fn previous(&self, result: Option<&CniResult>) -> Vec<(&'static str, Value)> {
        result.map(|r| ("prevResult", r.to_json(self.version()))).into_iter().collect()
    }

    fn call(&self, plugin: &PluginConfig, verb: &'static str, subject: Option<Subject<'_>>, more: &[(&str, Value)]) -> Result<Vec<u8>> {
        let work = || {
            let path = find(&plugin.kind, self.bin_dirs)?;
            let input = self.input(plugin, verb, subject, more).to_string();
            let environment = self.environment(verb, subject);
            run(&Call {
                path: &path,
                verb,
                environment,
                input: input.as_bytes(),
                timeout: self.timeout,
            })
        };
        work().map_err(|failure| self.failed(plugin, failure))
    }

    /// The plugin's configuration, with what every plugin of a network shares and what this call adds.
    fn input(&self, plugin: &PluginConfig, verb: &str, subject: Option<Subject<'_>>, more: &[(&str, Value)]) -> Value {
        if verb == "VERSION" {
            return json!({"cniVersion": Version::NEWEST.as_str()});
        }
        let mut fields = plugin.fields.clone();
        fields.insert("name".into(), self.list.name.clone().into());
        fields.insert("cniVersion".into(), self.version().as_str().into());
        fields.extend(more.iter().map(|(key, value)| ((*key).to_owned(), value.clone())));
        if let Some(subject) = subject {
            let wanted = subject.capabilities.iter().filter(|(name, _)| plugin.capabilities.contains(*name));
            let wanted: Map<String, Value> = wanted.map(|(k, v)| (k.clone(), v.clone())).collect();
            if !wanted.is_empty() {
                fields.insert("runtimeConfig".into(), wanted.into());
            }
        }
        fields.into()
    }

    fn environment(&self, verb: &str, subject: Option<Subject<'_>>) -> Vec<(&'static str, OsString)> {
        let dirs: Vec<&std::ffi::OsStr> = self.bin_dirs.iter().map(|d| d.as_os_str()).collect();
        let mut environment = vec![("CNI_COMMAND", verb.into()), ("CNI_PATH", dirs.join(":".as_ref()))];
        let args = subject.map_or_else(String::new, |s| {
            s.args.iter().map(|[k, v]| format!("{k}={v}")).collect::<Vec<_>>().join(";")
        });
        // Old plugins want all of them to answer VERSION.
        let none = if verb == "VERSION" { "dummy" } else { "" };
        let (id, netns) = subject.map_or((none, none), |s| (s.id, s.netns));
        let interface = if subject.is_some() { INTERFACE } else { none };
        for (key, value) in [
            ("CNI_CONTAINERID", id),
            ("CNI_NETNS", netns),
            ("CNI_IFNAME", interface),
            ("CNI_ARGS", args.as_str()),
        ] {
            environment.push((key, value.into()));
        }
        environment
    }

    fn failed(&self, plugin: &PluginConfig, failure: Failure) -> Error {
        Error::Plugin {
            plugin: plugin.kind.clone(),
            network: self.list.name.clone(),
            failure: Box::new(failure),
        }
    }
}
