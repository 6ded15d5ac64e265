//! The command line.

use crate::help;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Runs every Kubernetes pod in the enclosure that its RuntimeClass names, and never in a weaker one.
#[derive(Debug, Parser)]
#[command(name = "cofferdam", version, about, arg_required_else_help = true, after_help = help::ALL)]
pub(crate) struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub(crate) global: Global,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Default of `--config`.
pub(crate) const CONFIG: &str = "/etc/cofferdam/config.toml";

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Configuration file; its drop-ins are in conf.d beside it
    #[arg(long, global = true, value_name = "FILE", default_value = CONFIG)]
    pub(crate) config: PathBuf,
    /// What outlives a reboot [default: /var/lib/cofferdam]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) root: Option<PathBuf>,
    /// What need not outlive a reboot [default: /run/cofferdam]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
}

/// How to print.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// A shell that can complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the pods of manifests
    #[command(after_help = help::RUN)]
    Run(RunArgs),
    /// Tell what becomes of manifests and where their pods land, running nothing
    #[command(after_help = crate::commands::check::HELP)]
    Check(crate::commands::check::CheckArgs),
    /// Run the same pod once under every handler, and show what differs and what each costs
    #[command(after_help = crate::commands::attempt::HELP)]
    Try(crate::commands::attempt::TryArgs),
    /// List the pods of this machine
    #[command(after_help = help::PS)]
    Ps {
        /// Those too that are over, with their exit codes, until `stop` removes them
        #[arg(short, long)]
        all: bool,
        /// Format
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Show one pod: how long each stage of its start took, what happened, and why
    #[command(after_help = "Examples:\n  cofferdam describe web\n  cofferdam describe default/web -o json")]
    Describe {
        /// Pods: NAME, NAMESPACE/NAME or the beginning of the id; those too that are over
        #[arg(required = true)]
        pods: Vec<String>,
        /// Format
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Name what is wrong with this machine or a pod, and how to put it right
    #[command(after_help = help::DOCTOR)]
    Doctor(DoctorArgs),
    /// List what happened to pods
    #[command(after_help = crate::commands::events::HELP)]
    Events(crate::commands::events::EventsArgs),
    /// Print what a container wrote
    #[command(after_help = crate::commands::logs::HELP)]
    Logs(crate::commands::logs::LogsArgs),
    /// Run a command in a container
    #[command(after_help = help::EXEC)]
    Exec {
        /// Pod: NAME, NAMESPACE/NAME or the beginning of its id
        pod: String,
        /// Container; the first where absent
        #[arg(short, long)]
        container: Option<String>,
        /// Pass standard input on
        #[arg(short = 'i', long)]
        stdin: bool,
        /// Allocate a terminal
        #[arg(short = 't', long)]
        tty: bool,
        /// Command and arguments
        #[arg(last = true, required = true)]
        command: Vec<String>,
    },
    /// Take part in what a running container reads and writes
    #[command(after_help = crate::commands::attach::HELP)]
    Attach(crate::commands::attach::AttachArgs),
    /// Add a container of another image to a running pod, to look at it from inside
    #[command(after_help = crate::commands::debug::HELP)]
    Debug(crate::commands::debug::DebugArgs),
    /// Change the resources of a running pod's containers in place
    #[command(after_help = crate::commands::resize::HELP)]
    Resize(crate::commands::resize::ResizeArgs),
    /// Copy files into a container and out of it
    #[command(name = "cp", after_help = crate::commands::copy::HELP)]
    Copy(crate::commands::copy::CopyArgs),
    /// Let ports of this machine lead into a pod
    #[command(name = "port-forward", after_help = crate::commands::forward::HELP)]
    PortForward(crate::commands::forward::ForwardArgs),
    /// Show what pods use, and apart what their enclosures cost
    #[command(after_help = crate::commands::top::HELP)]
    Top(crate::commands::top::TopArgs),
    /// Wait until pods are as wanted
    #[command(after_help = crate::commands::wait::HELP)]
    Wait(crate::commands::wait::WaitArgs),
    /// Stop pods and remove all that is theirs
    #[command(after_help = help::STOP)]
    Stop(StopArgs),
    /// Serve a kubelet: the CRI runtime of a node
    #[command(after_help = crate::commands::cri::HELP)]
    Cri,
    /// Make this node ready for `cri`: systemd unit, configuration, crictl, and the kubelet on demand
    #[command(after_help = crate::commands::install::HELP)]
    Install(crate::commands::install::InstallArgs),
    /// Put back what `install` found
    #[command(after_help = crate::commands::install::UNINSTALL)]
    Uninstall(crate::commands::install::UninstallArgs),
    /// Pull, load, list, check and remove images
    #[command(after_help = crate::commands::image::HELP)]
    Image {
        /// What to do
        #[command(subcommand)]
        command: crate::commands::image::ImageCommand,
    },
    /// Print the merged configuration, and where each value came from
    #[command(after_help = help::CONFIG)]
    Config {
        /// Format
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// List the handlers, each proved or with the reason why not
    #[command(after_help = help::HANDLERS)]
    Handlers {
        /// Format
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Show every handler of this machine side by side, then what is refused
    #[command(after_help = help::DEMO)]
    Demo {
        /// Manifest of the pods that run
        #[arg(long, value_name = "FILE")]
        pods: Option<PathBuf>,
        /// Manifest of the pods that are refused
        #[arg(long, value_name = "FILE")]
        refused: Option<PathBuf>,
    },
    /// Measure container runtimes beside each other, over CRI
    #[command(after_help = crate::commands::bench::HELP)]
    Bench(crate::commands::bench::BenchArgs),
    /// Print a script that completes commands and options in a shell
    #[command(after_help = help::COMPLETION)]
    Completion {
        /// Shell
        shell: Shell,
    },
    /// Write manual pages into a folder
    #[command(after_help = help::MAN)]
    Man {
        /// Folder, made where it is not there
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
    /// Keep pods that `run --detach` started
    #[command(hide = true)]
    Supervise,
}

/// Options of `run`.
#[derive(Debug, Clone, Args)]
pub(crate) struct RunArgs {
    /// Manifests: files, folders, or - for standard input
    #[arg(short, long = "filename", required = true, value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Return when the pods run
    #[arg(short, long)]
    pub(crate) detach: bool,
    /// Format
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Output,
    /// How many pods are started at once
    #[arg(long, default_value_t = 8, value_name = "N")]
    pub(crate) parallel: usize,
}

/// Options of `stop`.
#[derive(Debug, Clone, Args)]
pub(crate) struct StopArgs {
    /// Pods: NAME, NAMESPACE/NAME or the beginning of the id
    #[arg(required_unless_present = "all")]
    pub(crate) pods: Vec<String>,
    /// All pods, and the bridge
    #[arg(long, conflicts_with = "pods")]
    pub(crate) all: bool,
    /// Seconds between SIGTERM and SIGKILL; the pod's own where absent
    #[arg(long, value_name = "SECONDS")]
    pub(crate) grace: Option<u64>,
    /// Those too that a kubelet keeps, and would start anew
    #[arg(long)]
    pub(crate) force: bool,
}

/// Options of `doctor`.
#[derive(Debug, Clone, Args)]
pub(crate) struct DoctorArgs {
    /// Pod: NAME, NAMESPACE/NAME or the beginning of its id, those too that are over; this machine where absent
    pub(crate) pod: Option<String>,
    /// Manifests: their classes are what the pod's class is now, and their pods are asked why they are not admitted
    #[arg(short, long = "filename", value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,
    /// Ask about a pod of the cluster of this kubeconfig
    #[arg(long, value_name = "FILE", conflicts_with = "files")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The context in the kubeconfig; without --kubeconfig, in the one that kubectl takes
    #[arg(long, value_name = "NAME", conflicts_with = "files")]
    pub(crate) context: Option<String>,
    /// Format
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Output,
}
