//! The kubelet's side: which runtime it is told to use, in the three files in which kubeadm says so.
//!
//! `/var/lib/kubelet/kubeadm-flags.env` (flags, which win), `/var/lib/kubelet/config.yaml`
//! (`KubeletConfiguration.containerRuntimeEndpoint`) and `/var/lib/kubelet/instance-config.yaml`, from which
//! kubeadm of 1.32 and later writes the key anew (`cmd/kubeadm/app/phases/kubelet`).

use super::journal::{Prefix, Seen};
use anyhow::{Result, bail};
use std::path::PathBuf;

const FLAGS: &str = "/var/lib/kubelet/kubeadm-flags.env";
const CONFIG: &str = "/var/lib/kubelet/config.yaml";
const INSTANCE: &str = "/var/lib/kubelet/instance-config.yaml";
/// Keys of the configuration that name the runtime; the second only where images have a socket of their own.
const KEYS: [&str; 2] = ["containerRuntimeEndpoint", "imageServiceEndpoint"];
const FLAG_NAMES: [&str; 2] = ["--container-runtime-endpoint", "--image-service-endpoint"];

/// The runtime that the kubelet is told to use now; flags win.
pub(super) fn endpoint(prefix: &Prefix) -> Result<Option<String>> {
    let text = |path: &str| Ok::<_, anyhow::Error>(Seen::at(&prefix.join(path))?.text().unwrap_or_default().to_owned());
    if let Some(value) = flag_value(&text(FLAGS)?, FLAG_NAMES[0]) {
        return Ok(Some(value));
    }
    for path in [CONFIG, INSTANCE] {
        let found = text(path)?.lines().find_map(|line| key_value(line, KEYS[0]).map(str::to_owned));
        if let Some(value) = found.filter(|v| !v.is_empty()) {
            return Ok(Some(value));
        }
    }
    Ok(None)
}

/// The name of the node, where a flag says it.
pub(super) fn node_name(prefix: &Prefix) -> Result<Option<String>> {
    let seen = Seen::at(&prefix.join(FLAGS))?;
    let name = flag_value(seen.text().unwrap_or_default(), "--hostname-override");
    Ok(name.filter(|name| !name.is_empty()))
}

/// The files that must be changed for the kubelet to use `endpoint`, with what they are to hold.
pub(super) fn edits(prefix: &Prefix, endpoint: &str) -> Result<Vec<(PathBuf, String)>> {
    let mut all = Vec::new();
    let mut texts = Vec::new();
    for path in [FLAGS, CONFIG, INSTANCE] {
        match Seen::at(&prefix.join(path))? {
            Seen::Absent => {}
            seen => match seen.text() {
                Some(text) => texts.push((path, text.to_owned())),
                None => bail!("{path} is a link or is not UTF-8; name the runtime in it yourself"),
            },
        }
    }
    for (path, text) in &texts {
        let (edited, found) = if *path == FLAGS {
            edit_flags(text, endpoint)
        } else {
            edit_config(path, text, endpoint)?
        };
        if found {
            all.push((PathBuf::from(path), edited));
        }
    }
    if !all.is_empty() {
        return Ok(all);
    }
    // None says it: the configuration is where it belongs.
    let Some((_, text)) = texts.iter().find(|(path, _)| *path == CONFIG) else {
        bail!(
            "{CONFIG} is not there, so this is no node of kubeadm's: start the kubelet with --container-runtime-endpoint={endpoint} yourself"
        );
    };
    if text.trim_start().starts_with('{') || text.lines().skip(1).any(|line| line.trim_end() == "---") {
        bail!("{CONFIG} is no single YAML document; write containerRuntimeEndpoint: {endpoint} into it yourself");
    }
    let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    Ok(vec![(CONFIG.into(), format!("{text}{end}{}: {endpoint}\n", KEYS[0]))])
}

/// Replaces the values of the flags that name a runtime, and says whether there is one.
fn edit_flags(text: &str, endpoint: &str) -> (String, bool) {
    let (mut out, mut found) = (text.to_owned(), false);
    for name in FLAG_NAMES {
        let mut from = 0;
        while let Some((start, end)) = find_flag(&out, name, from) {
            out.replace_range(start..end, endpoint);
            from = start + endpoint.len();
            found = true;
        }
    }
    (out, found)
}

/// Where the value of a flag stands, from a byte on: after `=` or one blank.
fn find_flag(text: &str, name: &str, from: usize) -> Option<(usize, usize)> {
    let at = from + text.get(from..)?.find(name)?;
    let start = at + name.len();
    match text.as_bytes().get(start) {
        Some(b'=' | b' ') => {}
        // A longer name.
        _ => return find_flag(text, name, start),
    }
    let start = start + 1;
    let rest = text.get(start..)?;
    let length = rest.find([' ', '"', '\'', '\n']).unwrap_or(rest.len());
    Some((start, start + length))
}

fn flag_value(text: &str, name: &str) -> Option<String> {
    let (start, end) = find_flag(text, name, 0)?;
    text.get(start..end).map(str::to_owned)
}

/// Replaces the values of the keys that name a runtime, and says whether there is one.
fn edit_config(path: &str, text: &str, endpoint: &str) -> Result<(String, bool)> {
    let (mut out, mut found) = (String::with_capacity(text.len() + 64), false);
    for line in text.split_inclusive('\n') {
        let key = KEYS.iter().find(|key| key_value(line, key).is_some());
        match key {
            Some(key) if key_value(line, key).is_some_and(|v| v.starts_with(['|', '>', '&', '*'])) => {
                bail!("{path}: the value of {key} is written in a way that is not understood; write {endpoint} there yourself");
            }
            // An empty one stays: images then come over the runtime's socket.
            Some(key) if *key == KEYS[1] && key_value(line, key) == Some("") => out.push_str(line),
            Some(key) => {
                found = true;
                out.push_str(&format!("{key}: {endpoint}\n"));
            }
            None => out.push_str(line),
        }
    }
    Ok((out, found))
}

/// The value of a key at the beginning of a line of YAML, without quotes and comment.
fn key_value<'a>(line: &'a str, key: &str) -> Option<&'a str> {
    let line = line.trim_end();
    let bare = line.strip_prefix(key).or_else(|| {
        ['"', '\'']
            .iter()
            .find_map(|q| line.strip_prefix(*q)?.strip_prefix(key)?.strip_prefix(*q))
    });
    let value = bare?.trim_start().strip_prefix(':')?;
    if !value.is_empty() && !value.starts_with([' ', '\t']) {
        return None;
    }
    let value = value.split(" #").next().unwrap_or_default().trim();
    Some(value.trim_matches(['"', '\'']))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const NEW: &str = "unix:///run/cofferdam/cri.sock";

    fn at(files: &[(&str, &str)]) -> (tempfile::TempDir, Prefix) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("var/lib/kubelet")).unwrap();
        for (path, text) in files {
            std::fs::write(dir.path().join(path.trim_start_matches('/')), text).unwrap();
        }
        let prefix = Prefix::new(Some(dir.path())).unwrap();
        (dir, prefix)
    }

    #[test]
    fn every_place_that_names_a_runtime_is_changed_and_nothing_else() {
        for (path, before, after) in [
            (
                FLAGS,
                "KUBELET_KUBEADM_ARGS=\"--container-runtime-endpoint=unix:///run/containerd/containerd.sock --node-ip=1.2.3.4\"\n",
                format!("KUBELET_KUBEADM_ARGS=\"--container-runtime-endpoint={NEW} --node-ip=1.2.3.4\"\n"),
            ),
            (
                FLAGS,
                "A=\"--container-runtime-endpoint unix:///x --v=2\"",
                format!("A=\"--container-runtime-endpoint {NEW} --v=2\""),
            ),
            (
                FLAGS,
                "A=\"--image-service-endpoint=unix:///x --container-runtime-endpoint=unix:///x\"\n",
                format!("A=\"--image-service-endpoint={NEW} --container-runtime-endpoint={NEW}\"\n"),
            ),
            (
                CONFIG,
                "kind: X\ncontainerRuntimeEndpoint: \"unix:///x\" # here\nz: 1\n",
                format!("kind: X\ncontainerRuntimeEndpoint: {NEW}\nz: 1\n"),
            ),
            (
                CONFIG,
                "\"containerRuntimeEndpoint\": unix:///x\nimageServiceEndpoint: ''\n",
                format!("containerRuntimeEndpoint: {NEW}\nimageServiceEndpoint: ''\n"),
            ),
            (CONFIG, "kind: X\n", format!("kind: X\ncontainerRuntimeEndpoint: {NEW}\n")),
            (CONFIG, "kind: X", format!("kind: X\ncontainerRuntimeEndpoint: {NEW}\n")),
            (
                CONFIG,
                "containerRuntimeEndpoint: \"\"\n",
                format!("containerRuntimeEndpoint: {NEW}\n"),
            ),
            (
                INSTANCE,
                "containerRuntimeEndpoint: unix:///x\n",
                format!("containerRuntimeEndpoint: {NEW}\n"),
            ),
        ] {
            let (_dir, prefix) = at(&[(path, before)]);
            let all = edits(&prefix, NEW).unwrap();
            assert_eq!(all, [(PathBuf::from(path), after)], "{before}");
        }
    }

    #[test]
    fn what_it_uses_now_is_found() {
        let (_dir, prefix) = at(&[
            (FLAGS, "A=\"--node-ip=1\"\n"),
            (CONFIG, "containerRuntimeEndpoint: unix:///var/run/crio/crio.sock\n"),
        ]);
        assert_eq!(endpoint(&prefix).unwrap().unwrap(), "unix:///var/run/crio/crio.sock");
        let (_dir, prefix) = at(&[
            (FLAGS, "A=\"--container-runtime-endpoint=unix:///a\"\n"),
            (CONFIG, "containerRuntimeEndpoint: unix:///b\n"),
        ]);
        assert_eq!(endpoint(&prefix).unwrap().unwrap(), "unix:///a", "a flag wins");
        let (_dir, prefix) = at(&[]);
        assert_eq!(endpoint(&prefix).unwrap(), None);
        assert_eq!(node_name(&prefix).unwrap(), None);
        let (_dir, prefix) = at(&[(FLAGS, "A=\"--hostname-override=worker-1 --v=2\"\n")]);
        assert_eq!(node_name(&prefix).unwrap().unwrap(), "worker-1");
    }

    #[test]
    fn what_is_not_understood_is_not_changed() {
        for (files, saying) in [
            (&[][..], "no node of kubeadm's"),
            (&[(FLAGS, "A=\"--v=2\"\n")], "no node of kubeadm's"),
            (&[(CONFIG, "{\"kind\": \"X\"}")], "no single YAML document"),
            (&[(CONFIG, "kind: X\n---\nkind: Y\n")], "no single YAML document"),
            (&[(CONFIG, "containerRuntimeEndpoint: >-\n  unix:///x\n")], "not understood"),
        ] {
            let (_dir, prefix) = at(files);
            let error = edits(&prefix, NEW).unwrap_err().to_string();
            assert!(error.contains(saying), "{files:?}: {error}");
        }
    }
}
