//! Reading a `hosts.toml`.

use super::duration::go_duration;
use super::{Capabilities, TlsFiles};
use crate::error::{Error, Result, clean};
use crate::reference::is_host;
use http::Uri;
use std::path::{Path, PathBuf};
use std::time::Duration;
use toml_edit::{Item, TableLike, Value};
use toml_parser::lexer::TokenKind;

/// Hosts that one file may name.
const MAX_HOSTS: usize = 64;
/// Parts that a key may have: `host."https://mirror".header.name` has four.
const MAX_KEY_PARTS: usize = 8;

/// A `hosts.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostsFile {
    /// The hosts in the order of the file.
    pub hosts: Vec<HostEntry>,
    /// The server, which is asked last; without a URL it is the registry itself.
    pub server: HostEntry,
    /// What means nothing here, one sentence each.
    pub warnings: Vec<String>,
}

/// One host of a `hosts.toml`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostEntry {
    /// Where it is.
    pub url: Option<HostUrl>,
    /// What it may be asked; all where nothing is said.
    pub capabilities: Capabilities,
    /// TLS, with absolute paths.
    pub tls: TlsFiles,
    /// Headers for every request.
    pub headers: Vec<(String, String)>,
    /// For connecting.
    pub dial_timeout: Option<Duration>,
}

/// Where a host is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostUrl {
    /// `http://` rather than `https://`.
    pub plain_http: bool,
    /// Host, and port where one is named.
    pub host: String,
    /// What stands before the repository.
    pub path: String,
}

/// Reads a `hosts.toml`; relative paths in it are relative to the folder of `path`.
///
/// # Errors
/// It is not TOML, or a value is not what it must be; the error has the line. A key that is not known is
/// a warning, since containerd takes such a file as well.
pub fn parse_hosts(text: &str, path: &Path) -> Result<HostsFile> {
    let mut reader = Reader {
        path,
        text,
        warnings: Vec::new(),
    };
    if has_long_key(text) {
        return Err(reader.error(
            None,
            &format!("a key has more than {MAX_KEY_PARTS} parts, which no key of hosts.toml has"),
        ));
    }
    let document = toml_edit::Document::parse(text).map_err(|error| {
        let reason = format!("it is not TOML: {}", clean(error.message(), 200));
        reader.error(error.span().map(|span| span.start), &reason)
    })?;
    let root = document.as_table();
    let override_path = reader.flag(root, "override_path")?;
    let url = match reader.text_of(root, "server")? {
        Some(server) if !server.is_empty() => Some(reader.url(&server, root.get("server"), override_path)?),
        _ => None,
    };
    let server = reader.entry(root, url, &["server", "host"])?;
    let hosts = reader.hosts(root)?;
    Ok(HostsFile {
        hosts,
        server,
        warnings: reader.warnings,
    })
}

/// Whether a key has too many parts: the parser's own bounds on brackets and on parts multiply, and both
/// together could use up a thread's stack.
fn has_long_key(text: &str) -> bool {
    let mut parts = 1;
    toml_parser::Source::new(text).lex().any(|token| {
        match token.kind() {
            TokenKind::Dot => parts += 1,
            TokenKind::Whitespace
            | TokenKind::Atom
            | TokenKind::BasicString
            | TokenKind::LiteralString
            | TokenKind::MlBasicString
            | TokenKind::MlLiteralString => {}
            _ => parts = 1,
        }
        parts > MAX_KEY_PARTS
    })
}

struct Reader<'a> {
    path: &'a Path,
    text: &'a str,
    warnings: Vec<String>,
}

impl Reader<'_> {
    fn line(&self, offset: usize) -> usize {
        let before = self.text.as_bytes().get(..offset.min(self.text.len())).unwrap_or_default();
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    }

    fn error(&self, offset: Option<usize>, reason: &str) -> Error {
        Error::Hosts {
            path: self.path.to_owned(),
            line: offset.map(|offset| self.line(offset)),
            reason: reason.to_owned(),
        }
    }

    fn wrong(&self, item: Option<&Item>, reason: &str) -> Error {
        self.error(item.and_then(Item::span).map(|span| span.start), reason)
    }

    fn warn(&mut self, offset: Option<usize>, what: &str) {
        let line = offset.map(|offset| format!(":{}", self.line(offset))).unwrap_or_default();
        self.warnings.push(format!("{}{line}: {what}", self.path.display()));
    }

    fn hosts(&mut self, root: &dyn TableLike) -> Result<Vec<HostEntry>> {
        let Some(item) = root.get("host") else { return Ok(Vec::new()) };
        let table = item
            .as_table_like()
            .ok_or_else(|| self.wrong(Some(item), "host must be tables: [host.\"https://mirror\"]"))?;
        if table.len() > MAX_HOSTS {
            return Err(self.wrong(Some(item), &format!("it names more than {MAX_HOSTS} hosts")));
        }
        let mut hosts = Vec::new();
        for (name, item) in table.iter() {
            let Some(entry) = item.as_table_like() else {
                return Err(self.wrong(Some(item), &format!("host.{:?} must be a table", clean(name, 100))));
            };
            let override_path = self.flag(entry, "override_path")?;
            let url = self.url(name, Some(item), override_path)?;
            hosts.push(self.entry(entry, Some(url), &[])?);
        }
        Ok(hosts)
    }

    fn entry(&mut self, table: &dyn TableLike, url: Option<HostUrl>, more: &[&str]) -> Result<HostEntry> {
        let known = [
            "capabilities",
            "ca",
            "client",
            "skip_verify",
            "header",
            "override_path",
            "dial_timeout",
        ];
        for (key, item) in table.iter() {
            if !known.contains(&key) && !more.contains(&key) {
                let offset = table
                    .key(key)
                    .and_then(toml_edit::Key::span)
                    .or_else(|| item.span())
                    .map(|span| span.start);
                self.warn(
                    offset,
                    &format!("the key {:?} is not known here and changes nothing", clean(key, 60)),
                );
            }
        }
        let tls = TlsFiles {
            ca: self.ca(table)?,
            client: self.client(table)?,
            skip_verify: self.flag(table, "skip_verify")?,
        };
        if url.as_ref().is_some_and(|url| url.plain_http) && tls != TlsFiles::default() {
            let offset = table
                .get("ca")
                .or(table.get("client"))
                .or(table.get("skip_verify"))
                .and_then(Item::span)
                .map(|span| span.start);
            self.warn(
                offset,
                "ca, client and skip_verify change nothing for a host that is named by http://",
            );
        }
        Ok(HostEntry {
            url,
            capabilities: self.capabilities(table)?,
            tls,
            headers: self.headers(table)?,
            dial_timeout: self.dial_timeout(table)?,
        })
    }

    fn flag(&self, table: &dyn TableLike, key: &str) -> Result<bool> {
        match table.get(key) {
            None => Ok(false),
            Some(item) => item
                .as_bool()
                .ok_or_else(|| self.wrong(Some(item), &format!("{key} must be true or false"))),
        }
    }

    fn text_of(&self, table: &dyn TableLike, key: &str) -> Result<Option<String>> {
        match table.get(key) {
            None => Ok(None),
            Some(item) => match item.as_str() {
                Some(text) => Ok(Some(text.to_owned())),
                None => Err(self.wrong(Some(item), &format!("{key} must be a string"))),
            },
        }
    }

    /// A string or a list of strings.
    fn texts(&self, item: &Item, key: &str) -> Result<Vec<String>> {
        let wrong = || self.wrong(Some(item), &format!("{key} must be a string or a list of strings"));
        if let Some(text) = item.as_str() {
            return Ok(vec![text.to_owned()]);
        }
        let list = item.as_array().ok_or_else(wrong)?;
        list.iter()
            .map(|value| value.as_str().map(str::to_owned).ok_or_else(wrong))
            .collect()
    }

    fn capabilities(&self, table: &dyn TableLike) -> Result<Capabilities> {
        let all = Capabilities { pull: true, resolve: true };
        let Some(item) = table.get("capabilities") else { return Ok(all) };
        let names = match item.as_array() {
            Some(_) => self.texts(item, "capabilities")?,
            None => return Err(self.wrong(Some(item), "capabilities must be a list of strings")),
        };
        if names.is_empty() {
            return Ok(all);
        }
        let mut found = Capabilities {
            pull: false,
            resolve: false,
        };
        for name in names {
            match name.to_lowercase().as_str() {
                "pull" => found.pull = true,
                "resolve" => found.resolve = true,
                "push" | "referrers" => {}
                other => {
                    let reason = format!(
                        "the capability {:?} is not known: pull, resolve, push or referrers",
                        clean(other, 60)
                    );
                    return Err(self.wrong(Some(item), &reason));
                }
            }
        }
        Ok(found)
    }

    fn absolute(&self, file: &str) -> PathBuf {
        self.path.parent().unwrap_or(Path::new("/")).join(file)
    }

    fn ca(&self, table: &dyn TableLike) -> Result<Vec<PathBuf>> {
        let Some(item) = table.get("ca") else { return Ok(Vec::new()) };
        Ok(self.texts(item, "ca")?.iter().map(|file| self.absolute(file)).collect())
    }

    /// A file with certificate and key, a list of one such, or a list of one pair.
    fn client(&self, table: &dyn TableLike) -> Result<Option<(PathBuf, PathBuf)>> {
        let Some(item) = table.get("client") else { return Ok(None) };
        let wrong = || {
            self.wrong(
                Some(item),
                "client must be a file, a list of one file, or a list of one [certificate, key]",
            )
        };
        let both = |file: &str| (self.absolute(file), self.absolute(file));
        if let Some(file) = item.as_str() {
            return Ok(Some(both(file)));
        }
        let list = item.as_array().ok_or_else(wrong)?;
        if list.len() > 1 {
            return Err(self.wrong(
                Some(item),
                "client names several certificates, of which only one can be used: name one",
            ));
        }
        match list.get(0) {
            None => Ok(None),
            Some(Value::String(file)) => Ok(Some(both(file.value()))),
            Some(Value::Array(pair)) => match (pair.len(), pair.get(0).and_then(Value::as_str), pair.get(1).and_then(Value::as_str)) {
                (2, Some(certificate), Some(key)) => Ok(Some((self.absolute(certificate), self.absolute(key)))),
                _ => Err(wrong()),
            },
            Some(_) => Err(wrong()),
        }
    }

    fn headers(&self, table: &dyn TableLike) -> Result<Vec<(String, String)>> {
        let Some(item) = table.get("header") else { return Ok(Vec::new()) };
        let map = item
            .as_table_like()
            .ok_or_else(|| self.wrong(Some(item), "header must be a table"))?;
        let mut headers = Vec::new();
        for (name, item) in map.iter() {
            let shown = clean(name, 60);
            // These say where a message goes and ends, or are what this client says itself.
            let ours = [
                "host",
                "connection",
                "content-length",
                "transfer-encoding",
                "range",
                "accept-encoding",
            ];
            if http::HeaderName::from_bytes(name.as_bytes()).is_err() || ours.contains(&name.to_lowercase().as_str()) {
                return Err(self.wrong(Some(item), &format!("the header {shown:?} cannot be set: leave it out")));
            }
            for value in self.texts(item, &format!("header {shown:?}"))? {
                if http::HeaderValue::from_str(&value).is_err() {
                    return Err(self.wrong(
                        Some(item),
                        &format!("the value of the header {shown:?} has characters that no header may have"),
                    ));
                }
                headers.push((name.to_owned(), value));
            }
        }
        Ok(headers)
    }

    fn dial_timeout(&self, table: &dyn TableLike) -> Result<Option<Duration>> {
        let Some(text) = self.text_of(table, "dial_timeout")? else {
            return Ok(None);
        };
        if text.is_empty() {
            return Ok(None);
        }
        match go_duration(&text) {
            Some(timeout) if timeout > Duration::ZERO => Ok(Some(timeout)),
            _ => Err(self.wrong(
                table.get("dial_timeout"),
                "dial_timeout must be a duration over zero such as \"5s\" or \"500ms\"",
            )),
        }
    }

    fn url(&self, text: &str, item: Option<&Item>, override_path: bool) -> Result<HostUrl> {
        let wrong = |why: &str| self.wrong(item, &format!("{:?} is not the URL of a registry: {why}", clean(text, 100)));
        let full = if text.contains("://") {
            text.to_owned()
        } else {
            format!("https://{text}")
        };
        let uri: Uri = full.parse().map_err(|_| wrong("it must be https://host[:port][/path]"))?;
        let plain_http = match uri.scheme_str() {
            Some("https") => false,
            Some("http") => true,
            _ => return Err(wrong("it must begin by https:// or http://")),
        };
        let host = uri.authority().map(|authority| authority.as_str()).filter(|host| is_host(host));
        let host = host.ok_or_else(|| wrong("it must name a host, and neither a user nor a password"))?;
        if uri.query().is_some() || full.contains('#') {
            return Err(wrong("it must have neither ? nor #"));
        }
        let mut path = String::new();
        for part in uri.path().split('/').filter(|part| !part.is_empty() && *part != ".") {
            if part == ".." {
                return Err(wrong("its path must not go up"));
            }
            path.push('/');
            path.push_str(part);
        }
        if !override_path && !path.ends_with("/v2") {
            path.push_str("/v2");
        }
        Ok(HostUrl {
            plain_http,
            host: host.to_owned(),
            path,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn parse(text: &str) -> Result<HostsFile> {
        parse_hosts(text, Path::new("/etc/x/hosts.toml"))
    }

    #[test]
    fn a_whole_file() {
        let file = parse(
            r#"
server = "https://registry.example"

[host."https://z.example:5000/proxy/"]
  capabilities = ["pull", "Resolve"]
  ca = ["a.pem", "/abs/b.pem"]
  client = [["c.cert", "c.key"]]
  skip_verify = true
  dial_timeout = "1m1.5s"
  [host."https://z.example:5000/proxy/".header]
    x-one = "1"
    x-two = ["2", "3"]

[host."http://a.example/exact"]
  capabilities = ["push"]
  override_path = true

[host."b.example/v2"]
"#,
        )
        .unwrap();
        assert!(file.warnings.is_empty(), "{:?}", file.warnings);
        let [z, a, b] = file.hosts.as_slice() else {
            panic!("{:?}", file.hosts)
        };
        let url = |plain_http, host: &str, path: &str| {
            Some(HostUrl {
                plain_http,
                host: host.to_owned(),
                path: path.to_owned(),
            })
        };
        assert_eq!(z.url, url(false, "z.example:5000", "/proxy/v2"));
        assert_eq!(z.capabilities, Capabilities { pull: true, resolve: true });
        assert_eq!(z.tls.ca, [PathBuf::from("/etc/x/a.pem"), PathBuf::from("/abs/b.pem")]);
        assert_eq!(z.tls.client, Some(("/etc/x/c.cert".into(), "/etc/x/c.key".into())));
        assert!(z.tls.skip_verify);
        assert_eq!(z.dial_timeout, Some(Duration::from_millis(61_500)));
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        assert_eq!(z.headers, [header("x-one", "1"), header("x-two", "2"), header("x-two", "3")]);
        assert_eq!(a.url, url(true, "a.example", "/exact"));
        assert_eq!(
            a.capabilities,
            Capabilities {
                pull: false,
                resolve: false
            }
        );
        assert_eq!(b.url, url(false, "b.example", "/v2"));
        assert_eq!(file.server.url, url(false, "registry.example", "/v2"));
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, line, words) in [
            ("server = 3", 1, "server must be a string"),
            ("\nserver = 'ftp://x'", 2, ""),
            ("server = 'httpx://x'", 1, "https:// or http://"),
            ("server = 'https://'", 1, "https://host"),
            ("server = 'https://u:p@x'", 1, "neither a user"),
            ("server = 'https://x?y'", 1, "neither ? nor #"),
            ("server = 'https://x#y'", 1, "neither ? nor #"),
            ("server = 'https://x/../y'", 1, "must not go up"),
            ("capabilities = 'pull'", 1, "list"),
            ("capabilities = ['fly']", 1, "\"fly\" is not known"),
            ("ca = 1", 1, "ca must be"),
            ("ca = [1]", 1, "ca must be"),
            ("client = ['a', 'b']", 1, "only one"),
            ("client = [['a']]", 1, "client must be"),
            ("client = [[1, 2]]", 1, "client must be"),
            ("client = 1", 1, "client must be"),
            ("skip_verify = 'yes'", 1, "true or false"),
            ("override_path = 1", 1, "true or false"),
            ("header = 1", 1, "table"),
            ("[header]\nx = 1", 2, "string or a list"),
            ("[header]\n'x y' = '1'", 2, "cannot be set"),
            ("[header]\nHost = 'x'", 2, "cannot be set"),
            ("[header]\nx = \"a\\nb\"", 2, "no header may have"),
            ("dial_timeout = '5'", 1, "duration"),
            ("dial_timeout = '0s'", 1, "duration"),
            ("dial_timeout = '-5s'", 1, "duration"),
            ("dial_timeout = '999999h'", 1, "duration"),
            ("dial_timeout = 5", 1, "string"),
            ("host = 1", 1, "tables"),
            ("[host]\nx = 1", 2, "table"),
            ("[[host]]\n", 1, "tables"),
            ("a = 1\na = 2", 2, "not TOML"),
        ] {
            match parse(text).unwrap_err() {
                Error::Hosts { line: at, reason, .. } => {
                    assert_eq!(at, Some(line), "{text}: {reason}");
                    assert!(reason.contains(words), "{text}: {reason}");
                }
                other => panic!("{text}: {other}"),
            }
        }
    }

    #[test]
    fn what_means_nothing_is_told() {
        for (text, words) in [
            ("\nservre = 'x'", ":2: the key \"servre\" is not known"),
            ("[host.'https://a']\npulls = 1", ":2: the key \"pulls\" is not known"),
            (
                "[host.'http://a']\nskip_verify = true",
                ":2: ca, client and skip_verify change nothing",
            ),
        ] {
            let warnings = parse(text).unwrap().warnings;
            assert!(warnings.len() == 1 && warnings[0].contains(words), "{text}: {warnings:?}");
        }
    }

    #[test]
    fn monsters_are_refused() {
        let deep = format!("{}x{}", "[".repeat(5000), "]".repeat(5000));
        let long = format!("[{}]", vec!["a"; 5000].join("."));
        let many: String = (0..100).map(|i| format!("[host.'https://h{i}']\n")).collect();
        for text in [format!("a = {deep}"), long, many] {
            assert!(parse(&text).is_err());
        }
        // Each bound of the parser is kept, their product is not.
        let product = format!("{}1{}", "{a.a.a.a.a.a.a.a.a = ".repeat(60), "}".repeat(60));
        let error = parse(&format!("x = {product}")).unwrap_err().to_string();
        assert!(error.contains("more than 8 parts"), "{error}");
        assert!(parse("[a.b.c.d.e.f.g.h]").is_ok());
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "(\\[|\\]|host|server|\\.|\"|'|https://|=|\n| |x|ca|1|\\{|\\}|,|header|µ){0,40}") {
            let _ = parse(&text);
        }
    }
}
