//! The command line's grammar: flags, help texts and examples. It holds no logic.

mod image;
mod store;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum, ValueHint};
use clap_complete::Shell;
use worldcompute_node::api::{DEFAULT_PAGE, MAX_PAGE};
use worldcompute_proof::PeerId;

use crate::demo::picture::MAX_TILES;

pub use self::image::{ImageCommand, ImageImportArgs};
pub use self::store::{
    CertificateArgs, DialogueCommand, EraseArgs, EventsArgs, ExportArgs, ImportArgs, ResealArgs,
    RotateArgs, SealArgs, SetupArgs, StoreCommand, WalkArgs,
};

/// What `--version` says, behind the program's name.
pub const VERSION: &str = if cfg!(feature = "production") {
    concat!(env!("CARGO_PKG_VERSION"), " (production)")
} else {
    concat!(env!("CARGO_PKG_VERSION"), " (dev)")
};

/// Run work on machines you do not own, and prove afterwards what ran, where, and who says so.
#[derive(Debug, Parser)]
#[command(name = "worldcompute", version = VERSION, propagate_version = false, disable_help_subcommand = true)]
#[command(
    after_help = "Examples:\n  worldcompute demo\n  worldcompute donor join\n  worldcompute job run module.wasm -- 1 2 3\n  worldcompute verify evidence/01j..."
)]
pub struct Cli {
    // The variable is read with the default: which of the three it was matters to a relay.
    /// Home of the node [default: worldcompute in the platform's data directory] [env: WORLDCOMPUTE_HOME]
    #[arg(long, global = true, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub home: Option<PathBuf>,

    /// Print JSON for machines
    #[arg(long, global = true)]
    pub json: bool,

    /// What to log, e.g. info or worldcompute_mesh=debug
    #[arg(
        long,
        global = true,
        env = "WORLDCOMPUTE_LOG",
        hide_env_values = true,
        value_name = "FILTER"
    )]
    pub log: Option<String>,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the whole system at work on this machine: a relay, two donors, one picture
    Demo(DemoArgs),
    /// Run a relay through which nodes behind firewalls are reached
    Relay(RelayArgs),
    /// Offer this machine to others
    #[command(
        subcommand,
        after_help = "Examples:\n  worldcompute donor join\n  worldcompute donor status"
    )]
    Donor(DonorCommand),
    /// Hand work to the cluster
    #[command(
        subcommand,
        after_help = "Examples:\n  worldcompute job run examples/hello/hello.wat\n  worldcompute job submit examples/mandelbrot/job.yaml --watch"
    )]
    Job(JobCommand),
    /// Container images, for jobs to run
    #[command(
        subcommand,
        after_help = "Examples:\n  worldcompute image import layout/\n  worldcompute image list"
    )]
    Image(ImageCommand),
    /// Look at the cluster
    #[command(subcommand, after_help = "Example:\n  worldcompute cluster status")]
    Cluster(ClusterCommand),
    /// Check a receipt or an evidence bundle, offline
    Verify(VerifyArgs),
    /// Look after the node
    #[command(subcommand, after_help = "Example:\n  worldcompute admin status")]
    Admin(AdminCommand),
    /// Try what this machine can run, and say what is missing
    #[command(after_help = "Example:\n  worldcompute doctor --json")]
    Doctor,
    /// Look after the encrypted store, while no daemon runs
    #[command(
        subcommand,
        after_help = "Examples:\n  worldcompute store init\n  worldcompute store verify"
    )]
    Store(StoreCommand),
    /// Print a completion script for a shell
    #[command(
        after_help = "Example:\n  worldcompute completions bash > ~/.local/share/bash-completion/completions/worldcompute"
    )]
    Completions {
        /// Which shell
        shell: Shell,
    },
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  worldcompute demo\n  worldcompute demo --json\n  worldcompute demo --keep"
)]
pub struct DemoArgs {
    /// Leave the cluster up until Ctrl-C, and say how to talk to it
    #[arg(long)]
    pub keep: bool,

    /// Where the picture and the evidence go [default: demo/<time> in the platform's data directory]
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub out: Option<PathBuf>,

    /// Into how many tiles, each a task, the picture is cut
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_TILES)))]
    pub tiles: u32,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  worldcompute relay\n  worldcompute relay --port 4001\n  worldcompute relay --wss-listen\n  worldcompute relay --wss-listen --tls-cert chain.pem --tls-key key.pem --external /dns4/relay.example/tcp/443/tls/ws\n\nWithout --home, a relay keeps its home beside the node's, so that both can run on one machine."
)]
pub struct RelayArgs {
    #[command(flatten)]
    pub listen: ListenArgs,

    /// For how long a reservation is granted; nodes renew it at three quarters of that [default: 120]
    #[arg(long, value_name = "S")]
    pub reservation_s: Option<u32>,

    #[command(flatten)]
    pub process: ProcessArgs,
}

/// Where a node listens and whom it joins.
#[derive(Debug, Args)]
pub struct ListenArgs {
    /// TCP and UDP port to listen on; 0 takes any free one [default: 19999, or any free one when that is taken]
    #[arg(long, value_name = "PORT")]
    pub port: Option<u16>,

    /// Multiaddrs of relays or peers to join through, with /p2p/<peer id>
    #[arg(long, value_name = "ADDR", value_delimiter = ',')]
    pub bootstrap: Vec<String>,

    /// Join nobody but those who are named, not the relays that this build knows
    #[arg(long)]
    pub no_default_relays: bool,

    /// Do not look for peers on the local network
    #[arg(long)]
    pub no_mdns: bool,

    /// Addresses under which others reach this node: a public name, a forwarded port
    #[arg(long, value_name = "ADDR", value_delimiter = ',')]
    pub external: Vec<String>,

    /// Listen for WebSocket over TLS too, which passes where nothing but the web does [default port: 443]
    #[arg(long, value_name = "PORT", num_args = 0..=1, default_missing_value = "443")]
    pub wss_listen: Option<u16>,

    /// PEM chain to show there [default: one of this node's own, which its address names]
    #[arg(long, value_name = "FILE", requires = "tls_key", value_hint = ValueHint::FilePath)]
    pub tls_cert: Option<PathBuf>,

    /// PEM key of that chain
    #[arg(long, value_name = "FILE", requires = "tls_cert", value_hint = ValueHint::FilePath)]
    pub tls_key: Option<PathBuf>,

    #[command(flatten)]
    pub trust: TrustArgs,
}

/// Whom a node believes: what shows it a certificate, and who tells it what a name stands for.
#[derive(Debug, Args)]
pub struct TrustArgs {
    /// DANGEROUS: take certificates of boxes on the way that this machine trusts; such connections are marked
    #[arg(long)]
    pub allow_ssl_inspection: bool,

    /// Look up names by DNS over HTTPS alone; send nothing to port 53
    #[arg(long)]
    pub doh_only: bool,

    /// Resolvers over HTTPS, as name@ip or name@ip:port [default: those of Cloudflare and Google]
    #[arg(long, value_name = "NAME@IP", value_delimiter = ',')]
    pub doh: Vec<String>,

    /// PEM file of authorities that may vouch for them, beside the public ones
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub doh_authorities: Option<PathBuf>,
}

/// How a daemon's process behaves.
#[derive(Debug, Args)]
pub struct ProcessArgs {
    /// End when standard input closes, so that the process never outlives its parent
    #[arg(long, hide = true)]
    pub end_with_stdin: bool,
}

#[derive(Debug, Subcommand)]
pub enum DonorCommand {
    /// Make this node's identity
    #[command(after_help = "Example:\n  worldcompute donor enroll")]
    Enroll,
    /// Join the cluster and run its tasks until Ctrl-C
    #[command(
        after_help = "Examples:\n  worldcompute donor join\n  worldcompute donor join --bootstrap /ip4/203.0.113.7/tcp/19999/p2p/12D3Koo... --circuit-only\n  worldcompute donor join --consent scientific,rendering --daemon"
    )]
    Join(JoinArgs),
    /// What the donor is doing
    #[command(after_help = "Example:\n  worldcompute donor status --json")]
    Status,
    /// Take no new tasks until resumed
    #[command(after_help = "Example:\n  worldcompute donor pause")]
    Pause,
    /// Take tasks again
    #[command(after_help = "Example:\n  worldcompute donor resume")]
    Resume,
    /// Finish what runs, leave the cluster, end the daemon, and remove what it had as a donor
    #[command(
        after_help = "Examples:\n  worldcompute donor leave\n  worldcompute donor leave --all --json"
    )]
    Leave(LeaveArgs),
    /// Print the daemon's log
    #[command(after_help = "Example:\n  worldcompute donor logs --lines 100 --follow")]
    Logs(LogsArgs),
}

#[derive(Debug, Args)]
pub struct LeaveArgs {
    /// Remove everything of the node: also its identity, configuration, jobs, evidence, images and logs
    #[arg(long)]
    pub all: bool,
}

#[derive(Debug, Args)]
pub struct JoinArgs {
    #[command(flatten)]
    pub listen: ListenArgs,

    #[command(flatten)]
    pub process: ProcessArgs,

    /// Listen on nothing but circuits through the bootstrap relays
    #[arg(long, requires = "bootstrap", conflicts_with_all = ["port", "wss_listen"])]
    pub circuit_only: bool,

    /// Classes of work to run: scientific, public-good-ml, rendering, indexing, self-improvement, general
    #[arg(long, value_name = "CLASS", value_delimiter = ',')]
    pub consent: Vec<String>,

    /// Tasks to run at once [default: one per core]
    #[arg(long, value_name = "N")]
    pub slots: Option<usize>,

    /// Return once the daemon is up, and leave it running
    #[arg(long, conflicts_with = "end_with_stdin")]
    pub daemon: bool,
}

#[derive(Debug, Args)]
pub struct LogsArgs {
    /// How many lines from the end
    #[arg(long, default_value_t = 50)]
    pub lines: usize,

    /// Print new lines as they come, until Ctrl-C
    #[arg(long)]
    pub follow: bool,
}

#[derive(Debug, Subcommand)]
pub enum JobCommand {
    /// Submit a job
    #[command(
        after_help = "Examples:\n  worldcompute job submit examples/mandelbrot/job.yaml --watch\n  worldcompute job submit job.yaml --dry-run"
    )]
    Submit(SubmitArgs),
    /// Run a module, print its output, exit with its code
    #[command(
        after_help = "Examples:\n  worldcompute job run examples/hello/hello.wat\n  worldcompute job run module.wasm -- 1 2 3\n  worldcompute job run --local module.wasm < input\n\nThe running daemon hands it to the cluster; with --local, or where no daemon runs, this process runs it in its own sandbox."
    )]
    Run(RunArgs),
    /// How a job stands
    #[command(
        after_help = "Examples:\n  worldcompute job status 01j...\n  worldcompute job status 01j... --watch"
    )]
    Status(JobStatusArgs),
    /// Fetch what a job made
    #[command(
        after_help = "Examples:\n  worldcompute job results 01j...\n  worldcompute job results 01j... --task 3 --name stderr\n  worldcompute job results 01j... --output out/"
    )]
    Results(ResultsArgs),
    /// End a job
    #[command(after_help = "Example:\n  worldcompute job cancel 01j...")]
    Cancel {
        /// The job's id
        id: String,
    },
    /// The latest jobs of this node, oldest first
    #[command(
        after_help = "Examples:\n  worldcompute job list\n  worldcompute job list --limit 20 --before 01J..."
    )]
    List(ListArgs),
}

#[derive(Debug, Args)]
pub struct ListArgs {
    /// How many
    #[arg(long, value_name = "N", default_value_t = DEFAULT_PAGE, value_parser = page_size)]
    pub limit: usize,

    /// Only jobs older than this one
    #[arg(long, value_name = "ID")]
    pub before: Option<String>,
}

fn page_size(text: &str) -> Result<usize, String> {
    let size = text
        .parse()
        .ok()
        .filter(|size| (1..=MAX_PAGE).contains(size));
    size.ok_or_else(|| format!("give a number from 1 to {MAX_PAGE}"))
}

#[derive(Debug, Args)]
pub struct SubmitArgs {
    /// The manifest: YAML, JSON, or a signed wire form
    #[arg(value_hint = ValueHint::FilePath)]
    pub manifest: PathBuf,

    /// Follow the job until it ends
    #[arg(long)]
    pub watch: bool,

    /// Check the manifest, print what would be submitted, and stop
    #[arg(long, conflicts_with = "watch")]
    pub dry_run: bool,
}

#[derive(Debug, Args)]
pub struct RunArgs {
    /// The module: .wasm, a component, or .wat
    #[arg(value_hint = ValueHint::FilePath)]
    pub module: PathBuf,

    /// Arguments for the module
    #[arg(last = true)]
    pub args: Vec<String>,

    /// Run in this process, whether or not a daemon runs
    #[arg(long)]
    pub local: bool,

    /// Environment variables for the module
    #[arg(long = "env", value_name = "NAME=VALUE")]
    pub env: Vec<String>,

    /// Longest run, e.g. 30s or 5m
    #[arg(long, value_name = "TIME", default_value = "5m")]
    pub max_wall_time: String,

    /// Largest memory, e.g. 256Mi
    #[arg(long, value_name = "SIZE", default_value = "256Mi")]
    pub memory: String,

    /// Class of the work, for the donor's consent
    #[arg(long, value_name = "CLASS", default_value = "general")]
    pub class: String,
}

#[derive(Debug, Args)]
pub struct JobStatusArgs {
    /// The job's id
    pub id: String,

    /// Follow it until it ends
    #[arg(long)]
    pub watch: bool,
}

#[derive(Debug, Args)]
pub struct ResultsArgs {
    /// The job's id
    pub id: String,

    /// Which task of an array; all of them, in order, unless said
    #[arg(long)]
    pub task: Option<u32>,

    /// Which output: stdout, stderr, or a name of the manifest
    #[arg(long, default_value = "stdout")]
    pub name: String,

    /// Write to this file instead of standard output; a directory takes one file a task
    #[arg(long, value_name = "PATH", value_hint = ValueHint::AnyPath)]
    pub output: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum ClusterCommand {
    /// The cluster in one line
    #[command(after_help = "Example:\n  worldcompute cluster status")]
    Status,
    /// Every peer this node knows
    #[command(after_help = "Example:\n  worldcompute cluster peers")]
    Peers,
}

#[derive(Debug, Subcommand)]
pub enum AdminCommand {
    /// The node's addresses, reservations, load and jobs
    #[command(
        after_help = "Examples:\n  worldcompute admin status --json\n  worldcompute admin status --focus relays"
    )]
    Status {
        /// Only this part of it, with all that is known: the relays that keep an address for this node
        #[arg(long, value_name = "PART")]
        focus: Option<Focus>,
    },
    /// Shut a peer out: this node neither speaks to it nor hears it, until it is let in again
    #[command(
        after_help = "Example:\n  worldcompute admin ban --subject-id 12D3Koo... --reason floods-the-relay\n\nA ban is this node's alone, is kept in its home (banned.json), and is shown by 'worldcompute admin status'."
    )]
    Ban {
        /// Whom, as 'worldcompute cluster peers' shows it
        #[arg(long, value_name = "PEER_ID")]
        subject_id: PeerId,
        /// Why, for whoever reads the list
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Let a peer in again that was banned
    #[command(after_help = "Example:\n  worldcompute admin unban --subject-id 12D3Koo...")]
    Unban {
        /// Whom
        #[arg(long, value_name = "PEER_ID")]
        subject_id: PeerId,
    },
    /// Find out what this network blocks, and which way to a relay works
    #[command(
        after_help = "Examples:\n  worldcompute admin firewall-diagnose\n  worldcompute admin firewall-diagnose --bootstrap /ip4/203.0.113.7/tcp/19999/p2p/12D3Koo... --duration-s 10 --json\n\nIt ends as soon as everything is known. A daemon that runs is not touched.\nExit status: 0 a relay keeps an address for this machine, whatever is blocked; 65 none does."
    )]
    FirewallDiagnose(DiagnoseArgs),
}

#[derive(Debug, Args)]
pub struct DiagnoseArgs {
    /// The most seconds that it may take
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub duration_s: u64,

    /// Relays to try, beside those of config.toml and the environment, with /p2p/<peer id>
    #[arg(long, value_name = "ADDR", value_delimiter = ',')]
    pub bootstrap: Vec<String>,

    /// Where the evidence goes, as phase1/firewall-traversal/<time>
    #[arg(long, value_name = "DIR", default_value = "evidence", value_hint = ValueHint::DirPath)]
    pub out: PathBuf,

    #[command(flatten)]
    pub trust: TrustArgs,
}

/// A part of a node's status.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Focus {
    // What it is the help of the flag says: with a text of its own, all of the help would take its long form.
    Relays,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  worldcompute verify ~/.local/share/worldcompute/evidence/01j...\n  worldcompute verify receipts/00003.json --executor 12D3Koo...\n  worldcompute verify --re-execute receipts/00003.json\n\nExit status: 0 proven, 1 not."
)]
pub struct VerifyArgs {
    /// A bundle's directory; one receipt, decision or manifest; a runpack, pack, session or session chain
    #[arg(value_hint = ValueHint::AnyPath)]
    pub file: PathBuf,

    /// The submitter you expect
    #[arg(long, value_name = "PEER_ID")]
    pub submitter: Option<PeerId>,

    /// The executors you expect
    #[arg(long, value_name = "PEER_ID", value_delimiter = ',')]
    pub executor: Vec<PeerId>,

    /// The key of the gate you expect, for what a gate made: base64 in a file, as 'gait keys init' writes it
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub public_key: Option<PathBuf>,

    /// Refuse a pack that nobody signed
    #[arg(long)]
    pub require_signature: bool,

    /// Run the task of a receipt again, here, if this home's donor policy allows it, and compare
    #[arg(long)]
    pub re_execute: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_grammar_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_help_has_examples_that_are_command_lines() {
        let peer = "12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN";
        let mut commands = vec![Cli::command()];
        while let Some(command) = commands.pop() {
            let shown = command.get_after_help().map(ToString::to_string);
            let shown = shown.unwrap_or_default().replace("12D3Koo...", peer);
            let lines = shown
                .lines()
                .filter(|line| line.starts_with("  worldcompute "));
            // What a shell would take for itself is not the program's.
            let examples: Vec<_> = lines
                .filter_map(|line| line.split(['<', '>']).next())
                .collect();
            assert!(!examples.is_empty(), "{}: {shown}", command.get_name());
            for example in examples {
                let read = Cli::try_parse_from(example.split_whitespace());
                assert!(read.is_ok(), "{example}");
            }
            commands.extend(command.get_subcommands().cloned());
        }
    }
}
