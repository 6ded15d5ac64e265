//! `cofferdam handlers`: each handler, proved or with the reason why not.

use crate::args::{Global, Output};
use crate::settings::Settings;
use crate::show::{self, Colour, paint};
use anyhow::Result;

/// Proves and lists the handlers.
pub(crate) fn handlers(global: &Global, output: Output) -> Result<u8> {
    let settings = Settings::read(global).insist()?;
    settings.warn();
    let engine = settings.open()?;
    let all = engine.handler_statuses();
    if output == Output::Json {
        show::json(&all)?;
        return Ok(0);
    }
    let mut table = show::table(&["handler", "driver", "binary", "version", "proved", "features"]);
    for handler in &all {
        let proved = if handler.unproved.is_none() { paint("yes", Colour::Good) } else { paint("no", Colour::Bad) };
        let features: Vec<_> = handler.features.iter().filter(|(_, on)| **on).map(|(name, _)| name.as_str()).collect();
        table.add_row([
            if handler.default { format!("{} (default)", handler.name) } else { handler.name.clone() },
            handler.driver.clone(),
            handler.binary.as_ref().map_or_else(|| "-".into(), |b| b.display().to_string()),
            handler.version.clone().unwrap_or_else(|| "-".into()),
            proved,
            if features.is_empty() { "-".into() } else { features.join(",") },
        ]);
    }
    show::say(table);
    for handler in &all {
        if let Some(reason) = &handler.unproved {
            show::say(format_args!("{}: {reason}", handler.name));
        }
    }
    Ok(0)
}
