//! Docker's `config.json`, podman's `auth.json` and the older `.dockercfg` (docker/cli's
//! cli/config/configfile, containers-auth.json(5)).

use crate::auth::credential::{Credential, normalise_key};
use crate::error::{Error, Result, clean};
use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Nothing larger is such a file.
const MAX_BYTES: usize = 1 << 20;

/// What a docker `config.json` says of credentials.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DockerConfig {
    /// Those that it holds.
    pub credentials: Vec<Credential>,
    /// The helper for each registry, without `docker-credential-`.
    pub helpers: BTreeMap<String, String>,
    /// The helper for all others.
    pub store: Option<String>,
}

#[derive(Deserialize)]
struct Document {
    #[serde(default)]
    auths: Option<BTreeMap<String, Entry>>,
    #[serde(default, rename = "credHelpers")]
    helpers: Option<BTreeMap<String, String>>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

/// Reads a docker `config.json`. `from` is what credentials and errors say where they are from.
///
/// # Errors
/// It is no such file, or an `auth` in it cannot be decoded.
pub fn parse_docker_config(bytes: &[u8], from: &str) -> Result<DockerConfig> {
    let document: Document = json(bytes, from)?;
    let helpers = document.helpers.unwrap_or_default();
    let store = document.store.filter(|store| !store.is_empty());
    for helper in helpers.values().chain(store.as_ref()) {
        // It becomes a part of a program's name.
        if helper.is_empty() || !helper.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
            let reason = format!("{:?} is not the name of a credential helper", clean(helper, 60));
            return Err(Error::Credentials {
                from: from.to_owned(),
                reason,
            });
        }
    }
    let helpers = helpers.into_iter().map(|(key, helper)| (normalise_key(&key), helper)).collect();
    Ok(DockerConfig {
        credentials: entries(document.auths.unwrap_or_default(), from)?,
        helpers,
        store,
    })
}

/// Reads either form, as what people put into Secrets is either.
pub(crate) fn parse_either(bytes: &[u8], from: &str) -> Result<DockerConfig> {
    let config = parse_docker_config(bytes, from)?;
    if config != DockerConfig::default() {
        return Ok(config);
    }
    // The newer form without credentials has other keys, which are no entries, or entries without secrets.
    let credentials = match json::<BTreeMap<String, Entry>>(bytes, from) {
        Ok(older) => entries(older, from)?,
        Err(_) => Vec::new(),
    };
    Ok(DockerConfig { credentials, ..config })
}

/// Reads the older `.dockercfg`: entries with nothing around them.
///
/// # Errors
/// As for [`parse_docker_config`].
pub fn parse_dockercfg(bytes: &[u8], from: &str) -> Result<Vec<Credential>> {
    entries(json(bytes, from)?, from)
}

fn json<T: serde::de::DeserializeOwned>(bytes: &[u8], from: &str) -> Result<T> {
    let wrong = |reason: String| Error::Credentials {
        from: from.to_owned(),
        reason,
    };
    if bytes.len() > MAX_BYTES {
        return Err(wrong("it is larger than 1 MiB, which no such file is".to_owned()));
    }
    // A struct is read from a list as well, which is nowhere meant.
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        return Err(wrong("it is a list where an object is due: mend it, or log in again".to_owned()));
    }
    // serde_json's own words may quote a value, which may be a secret; kind and place do not.
    serde_json::from_slice(bytes).map_err(|error| {
        let kind = if error.is_data() {
            "has a value of a wrong type"
        } else {
            "is not JSON"
        };
        wrong(format!(
            "it {kind} at line {}, column {}: mend it, or log in again",
            error.line(),
            error.column()
        ))
    })
}

fn entries(map: BTreeMap<String, Entry>, from: &str) -> Result<Vec<Credential>> {
    let mut credentials = Vec::new();
    for (key, entry) in map {
        credentials.extend(credential(&key, entry, from)?);
    }
    Ok(credentials)
}

/// What an entry holds: a token where there is one, else username and password; nothing in the empty
/// entries that stand for what a helper keeps.
fn credential(key: &str, entry: Entry, from: &str) -> Result<Option<Credential>> {
    let some = |text: Option<String>| text.filter(|text| !text.is_empty());
    if let Some(token) = some(entry.registrytoken) {
        return Ok(Some(Credential::registry_token(key, &token, from)));
    }
    if let Some(token) = some(entry.identitytoken) {
        return Ok(Some(Credential::identity_token(key, &token, from)));
    }
    if let Some(auth) = some(entry.auth) {
        let Some((username, password)) = decode(&auth) else {
            let reason = format!(
                "the \"auth\" of {:?} is not the base64 of user:password: log in again",
                clean(key, 100)
            );
            return Err(Error::Credentials {
                from: from.to_owned(),
                reason,
            });
        };
        return Ok(Some(Credential::password(key, &username, &password, from)));
    }
    match (some(entry.username), some(entry.password)) {
        (Some(username), Some(password)) => Ok(Some(Credential::password(key, &username, &password, from))),
        (None, None) => Ok(None),
        _ => {
            let reason = format!("{:?} has only one of \"username\" and \"password\": log in again", clean(key, 100));
            Err(Error::Credentials {
                from: from.to_owned(),
                reason,
            })
        }
    }
}

/// Base64 with or without its padding, then user, colon, password.
fn decode(auth: &str) -> Option<(String, String)> {
    let config = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let engine = GeneralPurpose::new(&base64::alphabet::STANDARD, config);
    let text = String::from_utf8(engine.decode(auth.trim()).ok()?).ok()?;
    let (username, password) = text.split_once(':')?;
    // Docker pads with NUL.
    Some((username.to_owned(), password.trim_end_matches('\0').to_owned()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn parse(text: &str) -> Result<DockerConfig> {
        parse_docker_config(text.as_bytes(), "f")
    }

    #[test]
    fn every_form_of_entry_is_read() {
        let password = |username: &str, password: &str| Some(Credential::password("q", username, password, "f"));
        for (entry, wanted) in [
            (r#"{"auth":"dTpw"}"#, password("u", "p")),
            (r#"{"auth":"dTpwOnE="}"#, password("u", "p:q")),
            (r#"{"auth":"dTpwOnE"}"#, password("u", "p:q")),
            (r#"{"auth":"dTpwAAA="}"#, password("u", "p")),
            (r#"{"auth":"dTpw","username":"x","password":"y","email":"z"}"#, password("u", "p")),
            (r#"{"username":"x","password":"y"}"#, password("x", "y")),
            (
                r#"{"auth":"dTpw","identitytoken":"t"}"#,
                Some(Credential::identity_token("q", "t", "f")),
            ),
            (
                r#"{"registrytoken":"t","identitytoken":"s"}"#,
                Some(Credential::registry_token("q", "t", "f")),
            ),
            (r#"{}"#, None),
            (r#"{"auth":""}"#, None),
        ] {
            assert_eq!(
                parse(&format!(r#"{{"auths":{{"q":{entry}}}}}"#)).unwrap().credentials,
                Vec::from_iter(wanted.clone()),
                "{entry}"
            );
            assert_eq!(
                parse_dockercfg(format!(r#"{{"q":{entry}}}"#).as_bytes(), "f").unwrap(),
                Vec::from_iter(wanted),
                "{entry}"
            );
        }
    }

    #[test]
    fn helpers_are_read_by_registry() {
        let config =
            parse(r#"{"credHelpers":{"https://index.docker.io/v1/":"a","gcr.io":"gcloud"},"credsStore":"pass","HttpHeaders":{}}"#).unwrap();
        assert_eq!(
            config.helpers,
            BTreeMap::from([("docker.io".to_owned(), "a".to_owned()), ("gcr.io".to_owned(), "gcloud".to_owned())])
        );
        assert_eq!(config.store.as_deref(), Some("pass"));
        assert_eq!(parse(r#"{"auths":null,"credsStore":""}"#).unwrap(), DockerConfig::default());
    }

    #[test]
    fn what_cannot_be_read_is_said_without_the_secret() {
        for (text, words) in [
            ("", "not JSON at line 1"),
            (" []", "a list"),
            ("3", "wrong type"),
            (r#"{"auths":{"q":{"auth":"c2VjcmV0"}}}"#, "user:password"),
            (r#"{"auths":{"q":{"auth":"secret!!"}}}"#, "user:password"),
            (r#"{"auths":{"q":{"password":"secret"}}}"#, "only one"),
            (r#"{"auths":{"q":"secret"}}"#, "wrong type"),
            (r#"{"auths":"secret"}"#, "wrong type"),
            (r#"{"credsStore":"../secret"}"#, "credential helper"),
            (r#"{"credHelpers":{"q":"a/b"}}"#, "credential helper"),
            (r#"{"credHelpers":{"q":""}}"#, "credential helper"),
            (&"[".repeat(2 << 20), "larger"),
            (&format!("{{\"x\":{}", "[".repeat(10_000)), "not JSON"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(words) && error.contains("of f "), "{error}");
            assert!(!error.contains("secret") || error.contains("../secret"), "{error}");
        }
    }

    #[test]
    fn a_secret_cannot_have_helpers_run() {
        let only = Credential::from_docker_config(br#"{"credsStore":"pass","auths":{"q":{}}}"#, "secret default/x").unwrap_err();
        assert!(only.to_string().contains("docker-credential-pass"), "{only}");
        let both = Credential::from_docker_config(br#"{"credsStore":"pass","auths":{"q":{"auth":"dTpw"}}}"#, "x").unwrap();
        assert_eq!(both, [Credential::password("q", "u", "p", "x")]);
        assert_eq!(Credential::from_docker_config(b"{}", "x").unwrap(), []);
    }

    #[test]
    fn the_older_form_is_known_without_being_told() {
        let older = Credential::from_docker_config(br#"{"https://q/v1/":{"auth":"dTpw","email":"x"}}"#, "x").unwrap();
        assert_eq!(older, [Credential::password("q", "u", "p", "x")]);
        assert!(Credential::from_docker_config(br#"{"q":{"auth":"!"}}"#, "x").is_err());
        for newer in [
            r#"{"auths":{}}"#,
            r#"{"psFormat":"x","proxies":{"default":{}}}"#,
            r#"{"HttpHeaders":{"User-Agent":"x"}}"#,
        ] {
            assert_eq!(Credential::from_docker_config(newer.as_bytes(), "x").unwrap(), [], "{newer}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _ = parse_docker_config(&bytes, "f");
            let _ = parse_dockercfg(&bytes, "f");
        }
    }
}
