//! `cofferdam config`: the merged configuration, and where each value came from.

use crate::args::{Global, Output};
use crate::settings::Settings;
use crate::show;
use crate::EXIT_ERROR;
use anyhow::Result;

/// Prints the merged configuration; errors and warnings go to standard error.
pub(crate) fn config(global: &Global, output: Output) -> Result<u8> {
    let settings = Settings::read(global);
    match output {
        Output::Table => show::say(cofferdam_handlers::render(&settings.loaded.table).trim_end()),
        Output::Json => show::json(&settings.loaded.table)?,
    }
    for warning in &settings.loaded.table.warnings {
        show::tell(format_args!("cofferdam: {warning}"));
    }
    for error in &settings.loaded.errors {
        show::tell(format_args!("cofferdam: error: {error}"));
    }
    Ok(if settings.loaded.errors.is_empty() { 0 } else { EXIT_ERROR })
}
