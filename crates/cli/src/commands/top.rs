//! `cofferdam top`: what pods use, container by container, and apart what the enclosure itself costs.

use crate::args::{Global, Output};
use crate::commands::pods;
use crate::settings::Settings;
use crate::show;
use anyhow::Result;
use clap::Args;
use cofferdam_engine::Engine;
use cofferdam_model::cri::{ContainerStats, PodStats, SandboxState, SandboxStatus};
use serde::Serialize;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Examples of the command.
pub(crate) const HELP: &str = "\
Examples:
  cofferdam top                  every pod: its containers and its enclosure
  cofferdam top web --watch      again every two seconds
  cofferdam top --sort-by memory
  cofferdam top -o json | jq '.[] | {name, enclosure}'

CPU is measured over the half second before; memory is the working set, as kubectl top has it.";

/// Over how long CPU is measured.
const WINDOW: Duration = Duration::from_millis(500);
/// Pause between two pictures.
const PAUSE: Duration = Duration::from_millis(1500);

/// Options of `top`.
#[derive(Debug, Clone, Args)]
pub(crate) struct TopArgs {
    /// Pods: NAME, NAMESPACE/NAME or the beginning of the id; all where absent
    pods: Vec<String>,
    /// One line a pod
    #[arg(long)]
    no_containers: bool,
    /// Go on until Ctrl-C
    #[arg(short, long)]
    watch: bool,
    /// The greatest first
    #[arg(long, value_enum, value_name = "WHAT")]
    sort_by: Option<Key>,
    /// Format
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,
}

/// What pods are sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Key {
    Cpu,
    Memory,
}

/// What something uses. `None` is what cannot be told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Use {
    /// Thousandths of a CPU.
    cpu_millis: Option<u64>,
    /// Working set, bytes.
    memory_bytes: Option<u64>,
    /// Processes.
    pids: Option<u64>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct OfContainer {
    name: String,
    #[serde(flatten)]
    uses: Use,
}

/// A pod.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    namespace: String,
    name: String,
    handler: String,
    /// All of it.
    #[serde(flatten)]
    total: Use,
    containers: Vec<OfContainer>,
    /// The monitor, and the sentry and its gofers or the machine.
    enclosure: Use,
}

/// One look at a pod.
struct Look {
    at: Instant,
    pod: PodStats,
    containers: Vec<ContainerStats>,
}

/// Prints what pods use.
pub(crate) fn top(global: &Global, args: &TopArgs) -> Result<u8> {
    let engine = Settings::read(global).insist()?.open()?;
    loop {
        let rows = measure(&engine, args)?;
        print(&rows, args)?;
        if !args.watch {
            return Ok(0);
        }
        std::thread::sleep(PAUSE);
    }
}

fn measure(engine: &Engine, args: &TopArgs) -> Result<Vec<Row>> {
    let pods: Vec<SandboxStatus> = match args.pods.as_slice() {
        [] => engine
            .list_sandboxes()?
            .into_iter()
            .filter(|p| p.state == SandboxState::Ready)
            .collect(),
        wanted => wanted.iter().map(|name| pods::find(engine, name)).collect::<Result<_>>()?,
    };
    // One that ends between the looks is left away, as kubectl has it.
    let first: Vec<_> = pods.into_iter().filter_map(|pod| Some((look(engine, &pod)?, pod))).collect();
    std::thread::sleep(WINDOW);
    let mut rows: Vec<Row> = first
        .into_iter()
        .filter_map(|(before, pod)| Some(row(&pod, &before, &look(engine, &pod)?)))
        .collect();
    match args.sort_by {
        Some(Key::Cpu) => rows.sort_by_key(|r| std::cmp::Reverse(r.total.cpu_millis)),
        Some(Key::Memory) => rows.sort_by_key(|r| std::cmp::Reverse(r.total.memory_bytes)),
        None => rows.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name))),
    }
    Ok(rows)
}

fn look(engine: &Engine, pod: &SandboxStatus) -> Option<Look> {
    let containers = engine.container_stats(&pod.id).ok()?;
    Some(Look {
        at: Instant::now(),
        pod: engine.pod_stats(&pod.id).ok()?,
        containers,
    })
}

fn row(pod: &SandboxStatus, before: &Look, now: &Look) -> Row {
    let micros = now.at.duration_since(before.at).as_micros().max(1) as u64;
    let millis = |then: u64, now: u64| now.saturating_sub(then) / micros;
    let containers: Vec<OfContainer> = now
        .containers
        .iter()
        .map(|c| {
            let then = before.containers.iter().find(|b| b.name == c.name).and_then(|b| b.cpu_nanos);
            let cpu_millis = then.zip(c.cpu_nanos).map(|(then, now)| millis(then, now));
            OfContainer {
                name: c.name.clone(),
                uses: Use {
                    cpu_millis,
                    memory_bytes: c.memory_working_set,
                    pids: c.pids,
                },
            }
        })
        .collect();
    let total = millis(before.pod.cpu_nanos, now.pod.cpu_nanos);
    // What is no container's is the enclosure's; where a container cannot be told, neither can that.
    let of_containers = containers.iter().map(|c| c.uses.cpu_millis).sum::<Option<u64>>();
    Row {
        namespace: pod.config.namespace.clone(),
        name: pod.config.name.clone(),
        handler: pod.handler.clone(),
        total: Use {
            cpu_millis: Some(total),
            memory_bytes: Some(now.pod.memory_working_set),
            pids: Some(now.pod.pids),
        },
        enclosure: Use {
            cpu_millis: of_containers.map(|of| total.saturating_sub(of)),
            memory_bytes: Some(now.pod.enclosure_memory),
            pids: None,
        },
        containers,
    }
}

fn print(rows: &[Row], args: &TopArgs) -> Result<()> {
    if args.output == Output::Json {
        return show::json(&rows);
    }
    if args.watch && std::io::stdout().is_terminal() {
        // From the top left, over what was there.
        let _ = write!(std::io::stdout().lock(), "\x1b[H\x1b[J");
    }
    if rows.is_empty() {
        show::say("No pods run here.");
        return Ok(());
    }
    let mut table = show::table(&[
        "namespace",
        "pod",
        "container",
        "handler",
        "cpu(cores)",
        "memory(bytes)",
        "processes",
    ]);
    for row in rows {
        let mut line = |container: &str, uses: &Use| {
            let [cpu, memory, pids] = cells(uses);
            table.add_row([
                row.namespace.clone(),
                row.name.clone(),
                container.to_owned(),
                row.handler.clone(),
                cpu,
                memory,
                pids,
            ]);
        };
        if args.no_containers {
            line("(all)", &row.total);
        } else {
            row.containers.iter().for_each(|c| line(&c.name, &c.uses));
        }
        line("(enclosure)", &row.enclosure);
    }
    show::say(table);
    Ok(())
}

/// `12m`, `34.5Mi`.
fn cells(uses: &Use) -> [String; 3] {
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    [
        or_dash(uses.cpu_millis.map(|m| format!("{m}m"))),
        or_dash(uses.memory_bytes.map(show::bytes)),
        or_dash(uses.pids.map(|p| p.to_string())),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(at: Instant, pod: u64, containers: &[Option<u64>]) -> Look {
        let of = |(i, cpu_nanos): (usize, &Option<u64>)| ContainerStats {
            name: format!("c{i}"),
            cpu_nanos: *cpu_nanos,
            memory_working_set: Some(20 << 20),
            pids: Some(2),
        };
        Look {
            at,
            pod: PodStats {
                cpu_nanos: pod,
                memory_working_set: 50 << 20,
                enclosure_memory: 5 << 20,
                pids: 4,
                ..PodStats::default()
            },
            containers: containers.iter().enumerate().map(of).collect(),
        }
    }

    fn pod() -> SandboxStatus {
        SandboxStatus {
            id: cofferdam_model::PodId::from_bytes([0; 16]),
            config: Default::default(),
            handler: "crun".into(),
            state: SandboxState::Ready,
            reason: None,
            created_at: 0,
            ip: None,
            ips: vec![],
            stages: vec![],
        }
    }

    #[test]
    fn what_is_no_containers_is_the_enclosures() {
        let (then, second) = (Instant::now(), Duration::from_secs(1));
        let before = look(then, 1_000_000_000, &[Some(100_000_000), Some(0)]);
        let now = look(then + second, 2_000_000_000, &[Some(500_000_000), Some(350_000_000)]);
        let row = row(&pod(), &before, &now);
        assert_eq!(row.total.cpu_millis, Some(1000));
        assert_eq!(
            row.containers.iter().map(|c| c.uses.cpu_millis).collect::<Vec<_>>(),
            [Some(400), Some(350)]
        );
        assert_eq!((row.enclosure.cpu_millis, row.enclosure.memory_bytes), (Some(250), Some(5 << 20)));
        assert_eq!(cells(&row.total), ["1000m", "50.0Mi", "4"]);
    }

    #[test]
    fn what_an_enclosure_does_not_tell_is_not_made_up() {
        let then = Instant::now();
        let row = row(&pod(), &look(then, 0, &[None]), &look(then + WINDOW, 1, &[None]));
        assert_eq!(row.enclosure.cpu_millis, None);
        assert_eq!(cells(&row.containers[0].uses), ["-", "20.0Mi", "2"]);
    }
}
