//! The content of a pod's `/etc/resolv.conf` (resolv.conf(5)).

use crate::{Error, Result};
use std::fmt;
use std::net::IpAddr;

/// What the C library uses at most (`MAXNS`), and so what Kubernetes allows.
const MAX_SERVERS: usize = 3;
/// Bounds of Kubernetes' validation: `MaxDNSSearchPaths`, `MaxDNSSearchListChars`.
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_CHARS: usize = 2048;
const MAX_OPTIONS: usize = 64;
const MAX_WORD: usize = 255;

/// Resolver settings, as they stand in a CRI request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// Servers.
    pub servers: Vec<String>,
    /// Search domains.
    pub searches: Vec<String>,
    /// Options, `name` or `name:value`.
    pub options: Vec<String>,
}

/// A file and what a person should know of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvConf {
    /// Its text.
    pub text: String,
    /// What was left out, and why.
    pub warnings: Vec<Warning>,
}

/// Something that was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// The machine's server listens on its loopback, which no pod reaches.
    LoopbackServer(String),
    /// No server is left: the pod resolves no names.
    NoServer,
    /// More than may be used: how many, of what.
    TooMany {
        /// `nameserver`, `search domain` or `option`.
        what: &'static str,
        /// How many were left out.
        dropped: usize,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LoopbackServer(server) => {
                write!(f, "the machine's nameserver {server} is on its loopback, where no pod reaches it: left out")
            }
            Self::NoServer => f.write_str("no nameserver is left for the pod: it resolves no names; give it dnsConfig.nameservers"),
            Self::TooMany { what, dropped } => write!(f, "{dropped} of the pod's {what}s are beyond what may be used: left out"),
        }
    }
}

/// Makes the file. Settings that hold anything are the whole of it; else it is the machine's
/// (`host`) without servers on the machine's loopback. Where those were all, `systemd`, the text
/// of `/run/systemd/resolve/resolv.conf` where it is there, takes its place.
pub fn resolv_conf(
    host: &str,
    systemd: Option<&str>,
    settings: Option<&Settings>,
) -> Result<ResolvConf> {
    let mut warnings = Vec::new();
    let mut chosen = match settings {
        Some(given) if *given != Settings::default() => {
            check(given)?;
            given.clone()
        }
        _ => of_machine(host, systemd, &mut warnings),
    };
    bound(&mut chosen, &mut warnings);
    if chosen.servers.is_empty() {
        warnings.push(Warning::NoServer);
    }
    Ok(ResolvConf {
        text: write(&chosen),
        warnings,
    })
}

fn of_machine(host: &str, systemd: Option<&str>, warnings: &mut Vec<Warning>) -> Settings {
    let (found, loopback) = reachable(parse(host));
    if !found.servers.is_empty() || loopback.is_empty() {
        warnings.extend(loopback.into_iter().map(Warning::LoopbackServer));
        return found;
    }
    if let Some((upstream, _)) = systemd.map(parse).map(reachable)
        && !upstream.servers.is_empty()
    {
        // Nothing is lost: these are the servers that the one on the loopback asks.
        return upstream;
    }
    warnings.extend(loopback.into_iter().map(Warning::LoopbackServer));
    found
}

/// Takes out the servers that no pod reaches.
fn reachable(mut settings: Settings) -> (Settings, Vec<String>) {
    let on_loopback =
        |s: &String| address(s).is_some_and(|ip| ip.is_loopback() || ip.is_unspecified());
    let (loopback, rest) = settings.servers.into_iter().partition(on_loopback);
    settings.servers = rest;
    (settings, loopback)
}

/// An IPv6 address may carry a zone (`fe80::1%eth0`).
fn address(server: &str) -> Option<IpAddr> {
    server.split('%').next()?.parse().ok()
}

/// What of a file the C library would take; the last `search` or `domain` line counts.
fn parse(text: &str) -> Settings {
    let mut settings = Settings::default();
    for line in text.lines().filter(|l| !l.starts_with(['#', ';'])) {
        let mut words = line
            .split_ascii_whitespace()
            .filter(|w| w.len() <= MAX_WORD && !w.contains(char::is_control));
        let keyword = words.next();
        let words = words
            .take_while(|w| !w.starts_with(['#', ';']))
            .map(str::to_owned);
        match keyword {
            Some("nameserver") => settings
                .servers
                .extend(words.take(1).filter(|w| address(w).is_some())),
            Some("search") => settings.searches = words.collect(),
            Some("domain") => settings.searches = words.take(1).collect(),
            Some("options") => settings.options.extend(words),
            _ => {}
        }
    }
    settings
}

/// Refuses what would become another line, or no setting at all.
fn check(settings: &Settings) -> Result<()> {
    let refuse = |what, value: &str, rule| {
        Err(Error::Text {
            what,
            value: value.chars().take(64).collect(),
            rule,
        })
    };
    if let Some(bad) = settings
        .servers
        .iter()
        .find(|s| s.parse::<IpAddr>().is_err())
    {
        return refuse("nameserver", bad, "use an IP address");
    }
    let word = |s: &String| {
        !s.is_empty()
            && s.len() <= MAX_WORD
            && !s.contains(|c: char| c.is_whitespace() || c.is_control())
    };
    if let Some(bad) = settings
        .searches
        .iter()
        .find(|s| !word(s) || s.starts_with(['#', ';']))
    {
        return refuse(
            "search domain",
            bad,
            "use a domain name of at most 255 bytes",
        );
    }
    if let Some(bad) = settings
        .options
        .iter()
        .find(|s| !word(s) || s.starts_with(['#', ';']))
    {
        return refuse(
            "resolver option",
            bad,
            "use `name` or `name:value` without spaces",
        );
    }
    Ok(())
}

fn bound(settings: &mut Settings, warnings: &mut Vec<Warning>) {
    let mut cut = |what, list: &mut Vec<String>, keep: usize| {
        if list.len() > keep {
            warnings.push(Warning::TooMany {
                what,
                dropped: list.len() - keep,
            });
            list.truncate(keep);
        }
    };
    cut("nameserver", &mut settings.servers, MAX_SERVERS);
    let mut chars = 0;
    let fitting = settings.searches.iter().take_while(|s| {
        chars += s.len() + 1;
        chars <= MAX_SEARCH_CHARS + 1
    });
    let fitting = fitting.count().min(MAX_SEARCHES);
    cut("search domain", &mut settings.searches, fitting);
    cut("option", &mut settings.options, MAX_OPTIONS);
}

fn write(settings: &Settings) -> String {
    let mut text = String::new();
    if !settings.searches.is_empty() {
        text += &format!("search {}\n", settings.searches.join(" "));
    }
    for server in &settings.servers {
        text += &format!("nameserver {server}\n");
    }
    if !settings.options.is_empty() {
        text += &format!("options {}\n", settings.options.join(" "));
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn of(host: &str, systemd: Option<&str>) -> (String, Vec<Warning>) {
        let made = resolv_conf(host, systemd, None).unwrap();
        (made.text, made.warnings)
    }

    #[test]
    fn the_machines_settings_without_its_loopback() {
        let stub = "127.0.0.53".to_owned();
        for (host, systemd, text, warnings) in [
            ("nameserver 1.1.1.1\n", None, "nameserver 1.1.1.1\n", vec![]),
            (
                "# c\n;c\ndomain old\nsearch a.b c.d\nnameserver 127.0.0.53\nnameserver 8.8.8.8 # x\noptions edns0 trust-ad\n",
                Some("nameserver 9.9.9.9\n"),
                "search a.b c.d\nnameserver 8.8.8.8\noptions edns0 trust-ad\n",
                vec![Warning::LoopbackServer(stub.clone())],
            ),
            (
                "nameserver 127.0.0.53\nsearch x\n",
                Some("search up\nnameserver 9.9.9.9\nnameserver fe80::1%eth0\n"),
                "search up\nnameserver 9.9.9.9\nnameserver fe80::1%eth0\n",
                vec![],
            ),
            (
                "nameserver 127.0.0.53\n",
                None,
                "",
                vec![Warning::LoopbackServer(stub.clone()), Warning::NoServer],
            ),
            (
                "nameserver 127.0.0.53\n",
                Some("nameserver ::1\n"),
                "",
                vec![Warning::LoopbackServer(stub), Warning::NoServer],
            ),
            (
                "nameserver nonsense\nnameserver\n\n\tbogus line\n",
                None,
                "",
                vec![Warning::NoServer],
            ),
            (
                "nameserver 1.0.0.1\nnameserver 1.0.0.2\nnameserver 1.0.0.3\nnameserver 1.0.0.4\n",
                None,
                "nameserver 1.0.0.1\nnameserver 1.0.0.2\nnameserver 1.0.0.3\n",
                vec![Warning::TooMany {
                    what: "nameserver",
                    dropped: 1,
                }],
            ),
        ] {
            assert_eq!(of(host, systemd), (text.to_owned(), warnings), "{host:?}");
        }
    }

    #[test]
    fn given_settings_are_the_whole() {
        let list = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        let given = Settings {
            servers: list(&["10.96.0.10"]),
            searches: list(&["ns.svc.cluster.local", "svc.cluster.local"]),
            options: list(&["ndots:5"]),
        };
        let made = resolv_conf("nameserver 1.1.1.1\n", None, Some(&given)).unwrap();
        assert_eq!(
            made.text,
            "search ns.svc.cluster.local svc.cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n"
        );
        // Nothing given is the machine's.
        let made = resolv_conf("nameserver 1.1.1.1\n", None, Some(&Settings::default())).unwrap();
        assert_eq!(made.text, "nameserver 1.1.1.1\n");
        // A pod's own loopback is its own affair.
        let own = Settings {
            servers: list(&["127.0.0.1"]),
            ..Settings::default()
        };
        assert_eq!(
            resolv_conf("", None, Some(&own)).unwrap().text,
            "nameserver 127.0.0.1\n"
        );
    }

    #[test]
    fn a_value_cannot_become_another_line() {
        let with = |servers: &str, searches: &str, options: &str| {
            let list = |s: &str| if s == "-" { vec![] } else { vec![s.to_owned()] };
            resolv_conf(
                "",
                None,
                Some(&Settings {
                    servers: list(servers),
                    searches: list(searches),
                    options: list(options),
                }),
            )
        };
        for (a, b, c) in [
            ("x", "-", "-"),
            ("1.1.1.1\nnameserver 6.6.6.6", "-", "-"),
            ("-", "a b", "-"),
            ("-", "a\nb", "-"),
            ("-", "", "-"),
            ("-", "#a", "-"),
            ("-", "-", "x y"),
            ("-", "-", "x\ny"),
        ] {
            assert!(
                matches!(with(a, b, c), Err(Error::Text { .. })),
                "{a:?} {b:?} {c:?}"
            );
        }
        let long = vec!["d".repeat(100); 40];
        let made = resolv_conf(
            "",
            None,
            Some(&Settings {
                searches: long,
                ..Settings::default()
            }),
        )
        .unwrap();
        assert!(
            made.text.len() <= MAX_SEARCH_CHARS + 10,
            "{}",
            made.text.len()
        );
        assert_eq!(
            made.warnings,
            [
                Warning::TooMany {
                    what: "search domain",
                    dropped: 20
                },
                Warning::NoServer
            ]
        );
    }
}
