//! NRI, as `[cri.nri]` has it: enabled unless told otherwise, at upstream's paths, as containerd 2 has it.

use crate::settings::Settings;
use anyhow::{Context, Result};
use cofferdam_cri_server::{Hooks, NoHooks, Plugins};
use cofferdam_engine::Engine;
use cofferdam_handlers::NriSettings;
use cofferdam_nri::{Error, Level, Options};
use cofferdam_telemetry::Log;
use std::sync::Arc;
use std::time::Duration;

/// Starts NRI where it is wanted.
pub(super) fn start(settings: &Settings, engine: &Arc<Engine>, log: &Log) -> Result<Arc<dyn Hooks>> {
    let nri = &settings.loaded.table.settings.cri.nri;
    if nri.enabled.as_ref().is_some_and(|s| !s.value) {
        return Ok(Arc::new(NoHooks));
    }
    let options = options(nri, log.clone());
    let started = match Plugins::start(options.clone(), engine.clone(), log.clone()) {
        // Nobody asked for this socket: another runtime beside us has it, and plugins that are installed do without.
        Err(why @ (Error::Taken { .. } | Error::Socket { .. })) if nri.socket.is_none() && nri.enabled.is_none() => {
            let why = why.to_string();
            log.warn(
                "NRI plugins cannot connect; name another path with cri.nri.socket",
                &[("error", &why)],
            );
            Plugins::start(Options { socket: None, ..options }, engine.clone(), log.clone())
        }
        started => started,
    };
    Ok(Arc::new(
        started.context("NRI cannot be started; cri.nri.enabled = false does without")?,
    ))
}

fn options(nri: &NriSettings, log: Log) -> Options {
    let mut options = Options {
        log: Arc::new(move |level, text| match level {
            Level::Info => log.info(text, &[]),
            Level::Warn => log.warn(text, &[]),
        }),
        ..Options::default()
    };
    if let Some(socket) = &nri.socket {
        options.socket = Some(socket.value.clone());
    }
    for (setting, into) in [(&nri.plugin_dir, &mut options.plugin_dir), (&nri.conf_dir, &mut options.config_dir)] {
        if let Some(dir) = setting {
            into.clone_from(&dir.value);
        }
    }
    if let Some(required) = &nri.required {
        options.required.clone_from(&required.value);
    }
    for (setting, into) in [
        (&nri.registration_timeout_ms, &mut options.registration_timeout),
        (&nri.request_timeout_ms, &mut options.request_timeout),
    ] {
        if let Some(millis) = setting {
            *into = Duration::from_millis(millis.value);
        }
    }
    options
}
