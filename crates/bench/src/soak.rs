//! Many pods started and stopped in one engine: what grows, and what is left.

use crate::machine::rest;
use crate::ours::Ours;
use anyhow::{Result, bail};
use cofferdam_host::process::pss;
use std::fmt;
use std::path::Path;
use std::time::Instant;

/// What this process and its folders hold at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Held {
    /// Pods that were made until then.
    pods: usize,
    /// KiB of this process, PSS.
    memory: u64,
    descriptors: usize,
    threads: usize,
    /// Files and folders of the engine.
    files: usize,
    /// Cgroups of the engine.
    cgroups: usize,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pods, memory, descriptors, threads, files, cgroups } = self;
        write!(f, "{pods:>6} pods: {memory:>7} KiB, {descriptors:>3} descriptors, {threads:>3} threads, {files:>4} files, {cgroups:>3} cgroups")
    }
}

/// KiB that the memory may differ by from one look to another without anything growing: what the
/// allocator keeps of threads that ended.
const SLACK: u64 = 2048;

/// Makes and removes `count` pods, `at_once` side by side; an error where something grew between the
/// first tenth and the end.
pub(crate) fn soak(ours: &Ours, handler: &str, count: usize, at_once: usize) -> Result<()> {
    let tenth = (count / 10).max(at_once);
    let start = Instant::now();
    let mut first = None;
    let mut done = 0;
    while done < count {
        let now = tenth.min(count - done);
        ours.churn(handler, now, at_once)?;
        done += now;
        rest();
        let held = look(ours, done)?;
        println!("{held}");
        first.get_or_insert(held);
        if done >= count {
            println!("{:.1} pods/s up and down, {at_once} at once, handler {handler}", count as f64 / start.elapsed().as_secs_f64());
            return judge(first, held);
        }
    }
    Ok(())
}

fn judge(first: Option<Held>, last: Held) -> Result<()> {
    let Some(first) = first else { return Ok(()) };
    let grew = last.descriptors > first.descriptors
        || last.threads > first.threads
        || last.files > first.files
        || last.cgroups > first.cgroups
        || last.memory > first.memory + SLACK;
    if grew {
        bail!("something grew:\n{first}\n{last}");
    }
    println!("nothing grew");
    Ok(())
}

fn look(ours: &Ours, pods: usize) -> Result<Held> {
    let own = i32::try_from(std::process::id())?;
    let entries = |dir: &str| std::fs::read_dir(dir).map_or(0, Iterator::count);
    let files = ours.folders().iter().map(|dir| below(dir)).sum();
    Ok(Held {
        pods,
        memory: pss(own)?.unwrap_or(0) / 1024,
        descriptors: entries("/proc/self/fd"),
        threads: entries("/proc/self/task"),
        files,
        cgroups: cgroups(Path::new("/sys/fs/cgroup")),
    })
}

fn below(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|e| 1 + if e.file_type().is_ok_and(|t| t.is_dir()) { below(&e.path()) } else { 0 }).sum()
}

/// Cgroups below those that are called as ours is, in every hierarchy.
fn cgroups(root: &Path) -> usize {
    let mut hierarchies = vec![root.to_owned()];
    hierarchies.extend(std::fs::read_dir(root).into_iter().flatten().flatten().map(|e| e.path()));
    let ours = hierarchies.iter().map(|h| h.join(cofferdam_plan::layout::CGROUP_ROOT));
    ours.map(|dir| folders(&dir)).sum()
}

fn folders(dir: &Path) -> usize {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| 1 + folders(&e.path())).sum()
}
