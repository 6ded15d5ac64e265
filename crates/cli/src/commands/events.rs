//! `cofferdam events`: what happened to pods, stage by stage.

use crate::account::Account;
use crate::args::{Global, Output};
use crate::commands::pods::text;
use crate::settings::Settings;
use crate::show::{self, Colour, paint};
use anyhow::{Result, bail};
use clap::Args;
use cofferdam_engine::Engine;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// Examples of the command.
pub(crate) const HELP: &str = "\
Examples:
  cofferdam events
  cofferdam events web --types Warning
  cofferdam events --for pod/web --watch";

/// How often it is looked for new ones.
const LOOK: Duration = Duration::from_millis(300);

/// Options of `events`.
#[derive(Debug, Clone, Args)]
pub(crate) struct EventsArgs {
    /// Pod: NAME, NAMESPACE/NAME or the beginning of its id; all where absent
    pod: Option<String>,
    /// The same, as kubectl takes it: pod/NAME
    #[arg(long = "for", value_name = "pod/NAME", conflicts_with = "pod")]
    of: Option<String>,
    /// Only these types: Normal, Warning
    #[arg(long, value_delimiter = ',', ignore_case = true, value_parser = ["Normal", "Warning"])]
    types: Vec<String>,
    /// Only warnings
    #[arg(long, conflicts_with = "types")]
    warnings: bool,
    /// Go on until Ctrl-C
    #[arg(short, long)]
    watch: bool,
    /// Format
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

impl EventsArgs {
    /// The pod that is meant, where one is.
    fn wanted(&self) -> Result<Option<&str>> {
        match (&self.pod, &self.of) {
            (Some(pod), _) => Ok(Some(pod)),
            (None, None) => Ok(None),
            (None, Some(of)) => match of.strip_prefix("pods/").or_else(|| of.strip_prefix("pod/")) {
                Some(name) => Ok(Some(name)),
                None => bail!("--for {of:?}: only pods have events here; write it as pod/NAME"),
            },
        }
    }

    fn shows(&self, event: &Value) -> bool {
        let kind = if event["warning"] == true { "Warning" } else { "Normal" };
        let all = self.types.is_empty() && !self.warnings;
        all || (self.warnings && kind == "Warning") || self.types.iter().any(|t| t.eq_ignore_ascii_case(kind))
    }
}

/// Prints the events of one pod, or of all, in the order in which they happened.
pub(crate) fn events(global: &Global, args: &EventsArgs) -> Result<u8> {
    let settings = Settings::read(global).insist()?;
    let engine = settings.open()?;
    let all = look(&engine, args)?;
    if !args.watch {
        match args.output {
            Output::Json => show::json(&all)?,
            Output::Table if all.is_empty() => show::say("Nothing happened here that is remembered."),
            Output::Table => print(&all, true),
        }
        return Ok(0);
    }
    let (mut seen, mut new, mut first) = (BTreeSet::new(), all, true);
    loop {
        new.retain(|event| seen.insert(event.to_string()));
        match args.output {
            // A line each, as programs follow a stream.
            Output::Json => new.iter().for_each(show::say),
            Output::Table if !new.is_empty() => {
                print(&new, first);
                first = false;
            }
            Output::Table => {}
        }
        std::thread::sleep(LOOK);
        // A pod that was watched and is gone has nothing new.
        new = look(&engine, args).unwrap_or_default();
    }
}

fn look(engine: &Engine, args: &EventsArgs) -> Result<Vec<Value>> {
    let accounts = match args.wanted()? {
        Some(wanted) => vec![Account::of(engine, wanted)?],
        None => Account::all(engine)?,
    };
    let mut all: Vec<Value> = accounts.iter().flat_map(of_pod).filter(|e| args.shows(e)).collect();
    all.sort_by_key(|e| e["at"].as_i64());
    Ok(all)
}

fn print(events: &[Value], header: bool) {
    let mut table = show::table(&["last seen", "type", "reason", "pod", "message"]);
    for event in events {
        let pod = format!("{}/{}", text(event, "namespace"), text(event, "pod"));
        let [age, kind, reason, message] = cells(event);
        table.add_row([age, kind, reason, pod, message]);
    }
    let text = table.to_string();
    show::say(if header { text.as_str() } else { text.split_once('\n').map_or("", |(_, rows)| rows) });
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
    [age, kind, text(event, "reason").to_owned(), show::harmless(text(event, "message"))]
}
