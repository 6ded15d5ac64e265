//! The server's options, from the configuration.

use crate::settings::Settings;
use anyhow::{Context, Result, bail};
use cofferdam_cri_server::{CgroupDriver, Options};
use cofferdam_telemetry::Telemetry;

/// What `[cri]` comes to.
pub(super) fn options(settings: &Settings, telemetry: Telemetry) -> Result<Options> {
    let cri = &settings.loaded.table.settings.cri;
    let socket = cri.socket.as_ref().map_or_else(|| settings.layout.state.join("cri.sock"), |s| s.value.clone());
    if socket.as_os_str().len() > crate::settings::places::LONGEST_SOCKET {
        let from = cri.socket.as_ref().map(|s| format!("{}: ", s.origin)).unwrap_or_default();
        bail!(
            "{from}cri.socket: {} is longer than the {} bytes that a socket's path may have; choose a shorter one",
            socket.display(),
            crate::settings::places::LONGEST_SOCKET
        );
    }
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
    if let Some(most) = &cri.max_exec_output {
        options.max_exec_output = usize::try_from(most.value).unwrap_or(usize::MAX);
    }
    options.telemetry = Some(telemetry);
    Ok(options)
}
