//! `cofferdam events`: what happened to pods, stage by stage.

use crate::account::Account;
use crate::args::{Global, Output};
use crate::commands::pods::text;
use crate::settings::Settings;
use crate::show::{self, Colour, paint};
use anyhow::Result;
use serde_json::{Value, json};

/// Prints the events of one pod, or of all, in the order in which they happened.
pub(crate) fn events(global: &Global, wanted: Option<&str>, warnings: bool, output: Output) -> Result<u8> {
    let settings = Settings::read(global).insist()?;
    let engine = settings.open()?;
    let accounts = match wanted {
        Some(wanted) => vec![Account::of(&engine, wanted)?],
        None => Account::all(&engine)?,
    };
    let mut all: Vec<Value> = accounts.iter().flat_map(of_pod).filter(|e| !warnings || e["warning"] == true).collect();
    all.sort_by_key(|e| e["at"].as_i64());
    match output {
        Output::Json => show::json(&all)?,
        Output::Table if all.is_empty() => show::say("Nothing happened here that is remembered."),
        Output::Table => {
            let mut table = show::table(&["last seen", "type", "reason", "pod", "message"]);
            for event in &all {
                let pod = format!("{}/{}", text(event, "namespace"), text(event, "pod"));
                let [age, kind, reason, message] = cells(event);
                table.add_row([age, kind, reason, pod, message]);
            }
            show::say(table);
        }
    }
    Ok(0)
}

fn of_pod(account: &Account) -> Vec<Value> {
    let named = |event: &Value| {
        let mut event = event.clone();
        event["namespace"] = account.view["namespace"].clone();
        event["pod"] = account.view["name"].clone();
        event["uid"] = account.view["uid"].clone();
        event
    };
    account.events.iter().map(named).collect()
}

/// Age, type, reason and message of an event.
pub(crate) fn cells(event: &Value) -> [String; 4] {
    let age = show::age(event["at"].as_i64().unwrap_or_default());
    let age = match event["count"].as_u64() {
        Some(count) if count > 1 => format!("{age} (x{count})"),
        _ => age,
    };
    let kind = if event["warning"] == json!(true) { paint("Warning", Colour::Bad) } else { "Normal".to_owned() };
    [age, kind, text(event, "reason").to_owned(), text(event, "message").to_owned()]
}
