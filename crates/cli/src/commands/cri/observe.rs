//! What the daemon tells of itself, as `[cri]` has it: `docs/observability.md`.

use crate::settings::Settings;
use anyhow::{Context, Result, anyhow};
use cofferdam_telemetry::{Level, LogFormat, Options, Telemetry};
use std::os::fd::AsFd;

/// Starts metrics, spans and log lines.
pub(super) fn start(settings: &Settings) -> Result<Telemetry> {
    let cri = &settings.loaded.table.settings.cri;
    let listen = cri.metrics_address.as_ref().filter(|s| s.value != "off");
    let listen = listen
        .map(|s| s.value.parse().with_context(|| format!("{}: metrics_address", s.origin)))
        .transpose()?;
    let otlp = cri.otlp_endpoint.as_ref().filter(|s| s.value != "off").map(|s| s.value.clone());
    // The configuration was checked: what stands here is one of the names.
    let otlp_protocol = cri.otlp_protocol.as_ref().map(|s| s.value.parse()).transpose()?;
    let options = Options {
        version: env!("CARGO_PKG_VERSION").into(),
        listen,
        otlp,
        otlp_protocol,
        format: format(cri.log_format.as_ref().map(|s| s.value.as_str()), is_journal()),
        level: level(cri.log_level.as_ref().map(|s| s.value.as_str())),
        ..Options::default()
    };
    // The sentence has its cause in it.
    let telemetry = Telemetry::start(options).map_err(|e| anyhow!("{e}"))?;
    if let Some(address) = telemetry.address() {
        telemetry
            .log()
            .info("metrics and health are served", &[("address", &address.to_string())]);
    }
    Ok(telemetry)
}

/// Text is as journald reads it where that listens.
fn format(setting: Option<&str>, journal: bool) -> LogFormat {
    match (setting, journal) {
        (Some("json"), _) => LogFormat::Json,
        (_, true) => LogFormat::Journal,
        (_, false) => LogFormat::Text,
    }
}

/// `trace` is as much as there is: every call.
fn level(setting: Option<&str>) -> Level {
    match setting {
        Some("trace") => Level::Debug,
        Some(name) => name.parse().unwrap_or_default(),
        None => Level::default(),
    }
}

/// Whether standard error goes to journald: `$JOURNAL_STREAM` has its device and inode (systemd.exec(5)).
fn is_journal() -> bool {
    let Ok(told) = std::env::var("JOURNAL_STREAM") else { return false };
    let stat = rustix::fs::fstat(std::io::stderr().as_fd());
    stat.is_ok_and(|stat| told == format!("{}:{}", stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_become_formats_and_levels() {
        for (setting, journal, wanted) in [
            (None, false, LogFormat::Text),
            (None, true, LogFormat::Journal),
            (Some("text"), true, LogFormat::Journal),
            (Some("json"), true, LogFormat::Json),
        ] {
            assert_eq!(format(setting, journal), wanted, "{setting:?} {journal}");
        }
        for (setting, wanted) in [
            (None, Level::Info),
            (Some("error"), Level::Error),
            (Some("trace"), Level::Debug),
            (Some("debug"), Level::Debug),
        ] {
            assert_eq!(level(setting), wanted, "{setting:?}");
        }
    }
}
