//! Manifests: which kinds are taken, and that one is of the kind that it is said to be.

use crate::error::{Error, Result, clean};
use serde::Deserialize;
use serde::de::IgnoredAny;

/// The kinds that are asked for, the indexes first.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, \
application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";

const INDEXES: [&str; 2] = [
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
];
const MANIFESTS: [&str; 2] = [
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// A manifest or an index, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// One of the OCI and Docker schema 2 kinds; what the answer's Content-Type and the document say, which
    /// must agree.
    pub media_type: String,
    /// `sha256:…` of the bytes; where it was asked for by digest, that one.
    pub digest: String,
    /// The bytes that the digest is of.
    pub bytes: Vec<u8>,
    /// The host that it came from.
    pub from: String,
}

#[derive(Deserialize)]
struct Peek {
    #[serde(default, rename = "schemaVersion")]
    schema: Option<u64>,
    #[serde(default, rename = "mediaType")]
    media_type: Option<String>,
    #[serde(default)]
    manifests: Option<IgnoredAny>,
    #[serde(default)]
    layers: Option<IgnoredAny>,
    #[serde(default)]
    config: Option<IgnoredAny>,
    #[serde(default, rename = "fsLayers")]
    fs_layers: Option<IgnoredAny>,
}

/// The kind of a document. One that could be read as two kinds is refused, since two readers could take
/// it for two images (CVE-2021-41190).
pub(crate) fn media_type(bytes: &[u8], content_type: Option<&str>, host: &str, what: &str) -> Result<String> {
    let protocol = |reason: String| Error::Protocol {
        host: host.to_owned(),
        what: what.to_owned(),
        reason,
    };
    let said = content_type
        .map(|text| text.split(';').next().unwrap_or("").trim().to_ascii_lowercase())
        .unwrap_or_default();
    let schema1 = || Error::Schema1 {
        host: host.to_owned(),
        what: what.to_owned(),
    };
    if said.starts_with("application/vnd.docker.distribution.manifest.v1+") {
        return Err(schema1());
    }
    // A struct is read from a list as well, which is nowhere meant.
    let is_object = bytes.trim_ascii_start().first() == Some(&b'{');
    let peek = if is_object {
        serde_json::from_slice::<Peek>(bytes).ok()
    } else {
        None
    };
    let peek = peek.ok_or_else(|| protocol("it is not the JSON of a manifest".to_owned()))?;
    if peek.schema == Some(1) || peek.fs_layers.is_some() {
        return Err(schema1());
    }
    let inside = peek.media_type.filter(|kind| !kind.is_empty());
    let specific = said.starts_with("application/vnd.");
    if let Some(inside) = inside.as_ref().filter(|inside| specific && **inside != said) {
        return Err(protocol(format!(
            "it says that it is {:?}, but was sent as {:?}",
            clean(inside, 100),
            clean(&said, 100)
        )));
    }
    let kind = if specific { said } else { inside.unwrap_or(said) };
    let (is_index, is_manifest) = (INDEXES.contains(&kind.as_str()), MANIFESTS.contains(&kind.as_str()));
    let (has_index, has_manifest) = (peek.manifests.is_some(), peek.layers.is_some() || peek.config.is_some());
    match (is_index, is_manifest) {
        (false, false) => Err(Error::MediaType {
            host: host.to_owned(),
            what: what.to_owned(),
            media_type: clean(&kind, 100),
        }),
        (true, _) if has_manifest || !has_index => Err(protocol("it is said to be an index, but does not have just manifests".to_owned())),
        (_, true) if has_index || !has_manifest => Err(protocol(
            "it is said to be a manifest, but does not have just config and layers".to_owned(),
        )),
        _ => Ok(kind),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_taken_only_when_everything_agrees() {
        let (oci, docker) = (MANIFESTS[0], MANIFESTS[1]);
        let index = INDEXES[0];
        let body = r#""config":{},"layers":[]"#;
        for (content_type, document, wanted) in [
            (oci, format!("{{{body}}}"), Ok(oci)),
            (oci, format!(r#"{{"mediaType":"{oci}",{body}}}"#), Ok(oci)),
            (&*format!("{docker}; charset=utf-8"), format!("{{{body}}}"), Ok(docker)),
            ("application/json", format!(r#"{{"mediaType":"{docker}",{body}}}"#), Ok(docker)),
            ("", format!(r#"{{"mediaType":"{index}","manifests":[]}}"#), Ok(index)),
            (INDEXES[1], r#"{"manifests":[]}"#.to_owned(), Ok(INDEXES[1])),
            (oci, format!(r#"{{"mediaType":"{docker}",{body}}}"#), Err("but was sent as")),
            (oci, format!(r#"{{{body},"manifests":[]}}"#), Err("does not have just config")),
            (index, format!(r#"{{{body},"manifests":[]}}"#), Err("does not have just manifests")),
            (index, "{}".to_owned(), Err("does not have just manifests")),
            (oci, "{}".to_owned(), Err("does not have just config")),
            (oci, r#"{"config":{},"config":{}}"#.to_owned(), Err("not the JSON")),
            (oci, "[".repeat(100_000), Err("not the JSON")),
            (oci, format!(r#"{{"config":{}}}"#, "[".repeat(100_000)), Err("not the JSON")),
            (oci, String::new(), Err("not the JSON")),
            (oci, "[2]".to_owned(), Err("not the JSON")),
            (
                "application/vnd.docker.distribution.manifest.v1+prettyjws",
                "{}".to_owned(),
                Err("schema 1"),
            ),
            (
                "application/json",
                r#"{"schemaVersion":1,"fsLayers":[]}"#.to_owned(),
                Err("schema 1"),
            ),
            (
                "application/vnd.oci.artifact.manifest.v1+json",
                "{}".to_owned(),
                Err("only OCI and Docker schema 2"),
            ),
            ("text/html", format!("{{{body}}}"), Err("only OCI and Docker schema 2")),
        ] {
            let got = media_type(document.as_bytes(), Some(content_type), "h", "x");
            match (got, wanted) {
                (Ok(kind), Ok(wanted)) => assert_eq!(kind, wanted),
                (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
                (got, wanted) => assert_eq!(got.map_err(|error| error.to_string()).as_deref(), Ok(wanted.unwrap_or("an error"))),
            }
        }
    }
}
