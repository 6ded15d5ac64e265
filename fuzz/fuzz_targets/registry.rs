//! Any text as what registries and their configuration say: challenges, `hosts.toml`, docker's files of
//! credentials. What is read is within its bounds, and written down it is read as the same; the rest is
//! one printable line.
#![no_main]

use cofferdam_fuzz::one_line;
use cofferdam_registry::{HostEntry, HostsFile, parse_challenges, parse_docker_config, parse_dockercfg, parse_hosts};
use libfuzzer_sys::fuzz_target;
use std::fmt::Write as _;
use std::path::Path;

fn challenges(text: &str) {
    let read = parse_challenges(text);
    assert!(read.len() + read.iter().map(|c| c.parameters.len()).sum::<usize>() <= 32);
    let mut written = Vec::new();
    for challenge in &read {
        assert!(!challenge.scheme.is_empty() && challenge.scheme == challenge.scheme.to_ascii_lowercase());
        let parameter = |(name, value): &(String, String)| format!(r#"{name}="{}""#, value.replace('\\', r"\\").replace('"', r#"\""#));
        let parameters: Vec<_> = challenge.parameters.iter().map(parameter).collect();
        written.push(format!("{} {}", challenge.scheme, parameters.join(",")));
    }
    let written = written.join(", ");
    assert_eq!(parse_challenges(&written), read, "{text:?} is written as {written:?}");
}

/// A text as TOML has it, which is JSON but for one character.
fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap().replace('\u{7f}', "\\u007f")
}

fn url(entry: &HostEntry) -> Option<String> {
    let url = entry.url.as_ref()?;
    assert!(
        !url.host.is_empty() && url.host.bytes().all(|b| b.is_ascii_graphic() && b != b'@' && b != b'/'),
        "{:?}",
        url.host
    );
    assert!(!url.path.split('/').any(|part| part == ".."), "{:?}", url.path);
    Some(format!(
        "{}://{}{}",
        if url.plain_http { "http" } else { "https" },
        url.host,
        url.path
    ))
}

/// An entry's keys, and its headers as a table within the line.
fn write_entry(out: &mut String, entry: &HostEntry) {
    let path = |path: &Path| quoted(path.to_str().unwrap());
    let capabilities = [(entry.capabilities.pull, "\"pull\""), (entry.capabilities.resolve, "\"resolve\"")];
    let mut names: Vec<_> = capabilities.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect();
    names.push("\"push\"");
    let _ = writeln!(out, "override_path = true\ncapabilities = [{}]", names.join(", "));
    let _ = writeln!(out, "skip_verify = {}", entry.tls.skip_verify);
    let _ = writeln!(
        out,
        "ca = [{}]",
        entry.tls.ca.iter().map(|ca| path(ca)).collect::<Vec<_>>().join(", ")
    );
    if let Some((certificate, key)) = &entry.tls.client {
        let _ = writeln!(out, "client = [[{}, {}]]", path(certificate), path(key));
    }
    if let Some(timeout) = entry.dial_timeout {
        assert!(!timeout.is_zero());
        let _ = writeln!(out, "dial_timeout = \"{}ns\"", timeout.as_nanos());
    }
    let mut headers: Vec<(&str, Vec<String>)> = Vec::new();
    for (name, value) in &entry.headers {
        match headers.last_mut().filter(|(last, _)| last == name) {
            Some((_, values)) => values.push(quoted(value)),
            None => headers.push((name, vec![quoted(value)])),
        }
    }
    let headers: Vec<_> = headers
        .iter()
        .map(|(name, values)| format!("{} = [{}]", quoted(name), values.join(", ")))
        .collect();
    let _ = writeln!(out, "header = {{ {} }}", headers.join(", "));
}

fn write(file: &HostsFile) -> String {
    let mut out = String::new();
    if let Some(url) = url(&file.server) {
        let _ = writeln!(out, "server = {}", quoted(&url));
    }
    write_entry(&mut out, &file.server);
    for host in &file.hosts {
        let _ = writeln!(out, "[host.{}]", quoted(&url(host).unwrap()));
        write_entry(&mut out, host);
    }
    out
}

fn hosts(text: &str) {
    let path = Path::new("/etc/hosts.d/hosts.toml");
    match parse_hosts(text, path) {
        Ok(file) => {
            file.warnings.iter().for_each(one_line);
            assert!(file.hosts.len() <= 64);
            let mut urls: Vec<_> = file.hosts.iter().map(url).collect();
            urls.sort();
            // Two names may lead to one place, which as one key could stand there but once.
            if urls.windows(2).any(|pair| pair[0] == pair[1]) {
                return;
            }
            let written = write(&file);
            let again = parse_hosts(&written, path).unwrap_or_else(|e| panic!("{e}\n{written}"));
            assert_eq!((again.server, again.hosts), (file.server, file.hosts), "{written}");
        }
        Err(error) => one_line(error),
    }
}

fn credentials(text: &str) {
    match parse_docker_config(text.as_bytes(), "f") {
        Ok(config) => {
            for helper in config.helpers.values().chain(config.store.as_ref()) {
                // It becomes a part of a program's name.
                assert!(!helper.is_empty() && !helper.contains(['/', '\0', ' ']), "{helper:?}");
            }
        }
        Err(error) => one_line(error),
    }
    match parse_dockercfg(text.as_bytes(), "f") {
        Ok(older) => {
            let newer = parse_docker_config(format!("{{\"auths\":{text}}}").as_bytes(), "f").unwrap();
            assert_eq!(newer.credentials, older);
        }
        Err(error) => one_line(error),
    }
}

fuzz_target!(|text: &str| {
    challenges(text);
    hosts(text);
    credentials(text);
});
