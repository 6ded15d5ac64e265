//! The image configuration: how to run what is in the layers.

use crate::digest::Digest;
use crate::platform::Platform;
use serde::Deserialize;
use std::collections::BTreeMap;

/// What the image says about running it; fields as in the OCI image specification's `config.md`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageConfig {
    /// Begins the argument vector.
    pub entrypoint: Vec<String>,
    /// Continues it, where the container gives no arguments.
    pub cmd: Vec<String>,
    /// Environment in order; a variable without `=` has an empty value.
    pub env: Vec<(String, String)>,
    /// `user[:group]`, names or numbers; empty is 0. See [`crate::Store::user`].
    pub user: String,
    /// Working directory; empty is `/`.
    pub working_dir: String,
    /// Signal that asks the process to end, as `SIGTERM` or a number; empty is SIGTERM.
    pub stop_signal: String,
    /// Paths that the image wants as volumes, sorted.
    pub volumes: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// What it runs on.
    pub platform: Platform,
    /// When it was made, RFC 3339, as the image says; empty where it does not.
    pub created: String,
}

#[derive(Deserialize)]
struct Document {
    #[serde(flatten)]
    platform: Platform,
    #[serde(default)]
    created: Option<String>,
    #[serde(default)]
    config: Option<Inner>,
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    diff_ids: Option<Vec<Digest>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct Inner {
    #[serde(default)]
    user: Option<String>,
    #[serde(default)]
    env: Option<Vec<String>>,
    #[serde(default)]
    entrypoint: Option<Vec<String>>,
    #[serde(default)]
    cmd: Option<Vec<String>>,
    #[serde(default)]
    volumes: Option<BTreeMap<String, serde::de::IgnoredAny>>,
    #[serde(default)]
    working_dir: Option<String>,
    #[serde(default)]
    labels: Option<BTreeMap<String, String>>,
    #[serde(default)]
    stop_signal: Option<String>,
}

/// The configuration, and the digests of the unpacked layers, lowest first.
pub(crate) fn parse(data: &[u8]) -> Result<(ImageConfig, Vec<Digest>), String> {
    let document: Document = serde_json::from_slice(data)
        .map_err(|e| format!("the configuration cannot be read: {e}"))?;
    if document.rootfs.kind != "layers" {
        return Err(format!(
            "the configuration's rootfs has type {:?}, and only \"layers\" is known",
            document.rootfs.kind
        ));
    }
    let inner = document.config.unwrap_or_default();
    let pair = |text: String| match text.split_once('=') {
        Some((name, value)) => (name.to_owned(), value.to_owned()),
        None => (text, String::new()),
    };
    let config = ImageConfig {
        entrypoint: inner.entrypoint.unwrap_or_default(),
        cmd: inner.cmd.unwrap_or_default(),
        env: inner
            .env
            .unwrap_or_default()
            .into_iter()
            .map(pair)
            .collect(),
        user: inner.user.unwrap_or_default(),
        working_dir: inner.working_dir.unwrap_or_default(),
        stop_signal: inner.stop_signal.unwrap_or_default(),
        volumes: inner.volumes.unwrap_or_default().into_keys().collect(),
        labels: inner.labels.unwrap_or_default(),
        platform: document.platform,
        created: document.created.unwrap_or_default(),
    };
    let all = config.entrypoint.iter().chain(&config.cmd).chain([
        &config.user,
        &config.working_dir,
        &config.stop_signal,
    ]);
    let all = all.chain(config.env.iter().flat_map(|(name, value)| [name, value]));
    if all.into_iter().any(|text| text.contains('\0')) {
        return Err("the configuration has a NUL in a text that a process would get".into());
    }
    Ok((config, document.rootfs.diff_ids.unwrap_or_default()))
}

/// Names a layer together with all below it: `ChainID` of the image specification's `config.md`.
pub(crate) fn chain(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff_id in diff_ids {
        let next = match chain.last() {
            None => diff_id.clone(),
            Some(below) => Digest::of(format!("{below} {diff_id}").as_bytes()),
        };
        chain.push(next);
    }
    chain
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn nulls_and_absence_are_empty() {
        for config in [
            r#""config":null,"#,
            r#""config":{"Env":null,"Cmd":null,"Volumes":null,"Labels":null},"#,
            "",
        ] {
            let text = format!(
                r#"{{"architecture":"amd64","os":"linux",{config}"rootfs":{{"type":"layers","diff_ids":null}}}}"#
            );
            let (config, diff_ids) = parse(text.as_bytes()).unwrap();
            assert_eq!(
                (config.env.len(), config.cmd.len(), diff_ids.len()),
                (0, 0, 0)
            );
            assert_eq!(config.platform.to_string(), "linux/amd64");
        }
    }

    #[test]
    fn what_a_process_gets_is_read_in_order() {
        let text = br#"{"os":"linux","architecture":"arm64","variant":"v8","config":{"Env":["B=1","A=x=y","C"],
            "Entrypoint":["/e"],"Cmd":["c"],"User":"1:2","Volumes":{"/v":{},"/a":{}},"StopSignal":"SIGQUIT"},
            "rootfs":{"type":"layers"},"history":[{}]}"#;
        let (config, _) = parse(text).unwrap();
        assert_eq!(
            config.env,
            [("B", "1"), ("A", "x=y"), ("C", "")].map(|(k, v)| (k.to_owned(), v.to_owned()))
        );
        assert_eq!(
            (
                config.volumes,
                config.user.as_str(),
                config.platform.variant.as_str()
            ),
            (vec!["/a".into(), "/v".into()], "1:2", "v8")
        );
    }

    #[test]
    fn what_cannot_be_run_is_refused() {
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"rootfs":{"type":"squashfs"}}"#,
            r#"{"rootfs":{"type":"layers","diff_ids":["sha256:../../x"]}}"#,
            r#"{"rootfs":{"type":"layers"},"config":{"Cmd":["a\u0000b"]}}"#,
        ] {
            assert!(parse(bad.as_bytes()).is_err(), "{bad}");
        }
        let deep = format!("{{\"x\":{}", "[".repeat(100_000));
        assert!(parse(deep.as_bytes()).is_err());
    }

    #[test]
    fn chains_are_those_of_the_specification() {
        let ids = [Digest::of(b"a"), Digest::of(b"b")];
        let chains = chain(&ids);
        assert_eq!(chains[0], ids[0]);
        assert_eq!(
            chains[1],
            Digest::of(format!("{} {}", ids[0], ids[1]).as_bytes())
        );
    }
}
