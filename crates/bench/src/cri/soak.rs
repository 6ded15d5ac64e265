//! Many pods up and down, and what the daemon holds before, early and after.

use super::driver::{Bench, many};
use super::error::Error;
use super::report::{Better, Handler, Row, name};
use super::{memory, pod};
use std::time::Duration;

/// Until what ended is gone from the daemon, too.
const REST: Duration = Duration::from_secs(2);

/// Each runtime in turn; rows of what its daemon holds.
pub(super) async fn handler(bench: &Bench<'_>, handler: &str, count: usize) -> Result<Handler, Error> {
    let at_once = bench.options.at_once.min(count);
    let recipe = bench.recipe(handler);
    // A tenth first: what grows until then is caches and threads that stay.
    let early = (count / 10).max(at_once);
    let moments = [("before", 0), ("early", early), ("after", count)];
    let mut rows: Vec<Row> = Vec::new();
    for (key, what, unit) in [
        ("memory", "memory of the daemon, PSS", "MiB"),
        ("descriptors", "its descriptors", ""),
        ("threads", "its threads", ""),
    ] {
        rows.extend(moments.iter().map(|(when, pods)| Row {
            key,
            what: format!("{what}, {when} ({pods} pods)"),
            unit,
            better: Better::Less,
            values: vec![],
        }));
    }
    for peer in &bench.peers {
        (bench.tell)(&format!("{}: {count} pods up and down in {}", name(handler), peer.name));
        let mut done = 0;
        for (index, (_, until)) in moments.iter().enumerate() {
            while done < *until {
                let now = (until - done).min(at_once * 4);
                let (_, ups) = many(peer, &recipe, now, at_once.min(now)).await?;
                for up in &ups {
                    pod::down(peer, up).await?;
                }
                done += now;
            }
            tokio::time::sleep(REST).await;
            let memory = peer
                .daemon
                .and_then(|pid| memory::look(pid, &[], &[]))
                .map(|m| m.daemon as f64 / f64::from(1 << 20));
            let (descriptors, threads) = peer.daemon.and_then(memory::held).map(|(d, t)| (d as f64, t as f64)).unzip();
            for (group, value) in [memory, descriptors, threads].into_iter().enumerate() {
                if let Some(row) = rows.get_mut(group * moments.len() + index) {
                    row.values.push(value);
                }
            }
        }
    }
    Ok(Handler {
        name: handler.into(),
        rows,
        verbs: vec![],
        stages: vec![],
        references: vec![],
    })
}
