//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

/// Runs every Kubernetes pod in the enclosure that its RuntimeClass names, and never in a weaker one.
#[derive(Debug, Parser)]
#[command(name = "cofferdam", version, about, arg_required_else_help = true)]
pub(crate) struct Cli {
    /// Options of every command.
    #[command(flatten)]
    pub(crate) global: Global,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Options of every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Configuration file; its drop-ins are in conf.d beside it
    #[arg(long, global = true, value_name = "FILE", default_value = "/etc/cofferdam/config.toml")]
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

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the pods of manifests
    #[command(after_help = "Examples:\n  cofferdam run -f pods.yaml\n  cofferdam run -f manifests/ -f extra.yaml --detach\n  kubectl create deployment web --image=web --dry-run=client -o yaml | cofferdam run -f -")]
    Run(RunArgs),
    /// List the pods of this machine
    Ps {
        /// Format
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Print what a container wrote
    #[command(after_help = "Examples:\n  cofferdam logs web\n  cofferdam logs -f default/web -c app")]
    Logs {
        /// Pod: NAME, NAMESPACE/NAME or the beginning of its id
        pod: String,
        /// Container; needed where the pod has several
        #[arg(short, long)]
        container: Option<String>,
        /// Go on until the container ends
        #[arg(short, long)]
        follow: bool,
        /// Only the last lines
        #[arg(long, value_name = "LINES")]
        tail: Option<usize>,
        /// Each line with its time
        #[arg(long)]
        timestamps: bool,
    },
    /// Run a command in a container
    #[command(after_help = "Examples:\n  cofferdam exec web -- ls /\n  cofferdam exec -it web -- sh")]
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
    /// Stop pods and remove all that is theirs
    Stop {
        /// Pods: NAME, NAMESPACE/NAME or the beginning of the id
        #[arg(required_unless_present = "all")]
        pods: Vec<String>,
        /// All pods, and the bridge
        #[arg(long, conflicts_with = "pods")]
        all: bool,
        /// Seconds between SIGTERM and SIGKILL; the pod's own where absent
        #[arg(long, value_name = "SECONDS")]
        grace: Option<u64>,
    },
    /// Load, list and remove images
    Image {
        /// What to do
        #[command(subcommand)]
        command: ImageCommand,
    },
    /// Print the merged configuration, and where each value came from
    Config {
        /// Format
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// List the handlers, each proved or with the reason why not
    Handlers {
        /// Format
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Show every handler of this machine side by side, then what is refused
    Demo {
        /// Manifest of the pods that run
        #[arg(long, value_name = "FILE")]
        pods: Option<PathBuf>,
        /// Manifest of the pods that are refused
        #[arg(long, value_name = "FILE")]
        refused: Option<PathBuf>,
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

/// What to do with images.
#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    /// Load images from a docker archive or an OCI layout
    #[command(after_help = "Examples:\n  docker save web | cofferdam image load\n  cofferdam image load -i web.tar\n  cofferdam image load -i oci-layout-dir/")]
    Load {
        /// Archive or layout folder; standard input where absent
        #[arg(short, long, value_name = "FILE")]
        input: Option<PathBuf>,
        /// Name for an image that brings none, or in place of the name it brings
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
    },
    /// List images
    Ls {
        /// Format
        #[arg(short, long, value_enum, default_value_t)]
        output: Output,
    },
    /// Remove images
    Rm {
        /// Names or ids
        #[arg(required = true)]
        images: Vec<String>,
    },
}
