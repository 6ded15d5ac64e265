//! The server's options, from the configuration.

use crate::settings::Settings;
use crate::show;
use anyhow::{Context, Result};
use cofferdam_cri_server::{CgroupDriver, Options};
use cofferdam_handlers::table::Setting;

/// What `[cri]` comes to.
pub(super) fn options(settings: &Settings) -> Result<Options> {
    let cri = &settings.loaded.table.settings.cri;
    let socket = cri.socket.as_ref().map_or_else(|| settings.layout.state.join("cri.sock"), |s| s.value.clone());
    let mut options = Options::new(socket);
    if let Some(address) = &cri.streaming_address {
        options.streaming = address.value.parse().with_context(|| format!("{}: streaming_address", address.origin))?;
    }
    options.cgroup_driver = match cri.cgroup_driver.as_ref().map(|s| s.value.as_str()) {
        Some("systemd") => CgroupDriver::Systemd,
        Some("cgroupfs") => CgroupDriver::Cgroupfs,
        _ => CgroupDriver::detect(),
    };
    if let Some(images) = &cri.pinned_images {
        options.pinned_images.clone_from(&images.value);
    }
    for line in without_effect(settings) {
        show::tell(format_args!("cofferdam: warning: {line}"));
    }
    Ok(options)
}

/// What is asked for and not wired yet, a sentence each: nothing is passed over in silence.
fn without_effect(settings: &Settings) -> Vec<String> {
    fn place<T>(setting: &Option<Setting<T>>) -> Option<String> {
        setting.as_ref().map(|s| s.origin.to_string())
    }
    let (cri, nri) = (&settings.loaded.table.settings.cri, &settings.loaded.table.settings.cri.nri);
    let all = [
        ("metrics_address", place(&cri.metrics_address)),
        ("otlp_endpoint", place(&cri.otlp_endpoint)),
        ("log_format", place(&cri.log_format)),
        ("log_level", place(&cri.log_level)),
        ("max_exec_output", place(&cri.max_exec_output)),
        ("nri.enabled", place(&nri.enabled)),
        ("nri.socket", place(&nri.socket)),
        ("nri.plugin_dir", place(&nri.plugin_dir)),
        ("nri.conf_dir", place(&nri.conf_dir)),
        ("nri.required", place(&nri.required)),
        ("nri.registration_timeout_ms", place(&nri.registration_timeout_ms)),
        ("nri.request_timeout_ms", place(&nri.request_timeout_ms)),
    ];
    all.into_iter().filter_map(|(key, at)| Some(format!("{}: cri.{key} has no effect yet", at?))).collect()
}
