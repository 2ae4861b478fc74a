//! `worldcompute store`: looking after the encrypted store of this node, while no daemon has it.

mod bundle;
mod certificate;
mod dialogue;
mod events;
mod keys;
mod seal;
mod walk;

use std::cell::Cell;
use std::process::ExitCode;

use serde::Serialize;
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_node::store::Store;
use worldcompute_node::{Config, Home, OpenHome, SiteView, Storage, StoreSite, is_absent};

use super::daemon::StopSignal;
use super::{Context, key_loss};
use crate::args::{SetupArgs, StoreCommand};

/// Runs one store command.
pub async fn run(context: &Context, command: StoreCommand) -> Result<ExitCode> {
    let config = Config::load(&context.home()?.config())?;
    let _telemetry = context.telemetry("error", None, &config)?;
    let mut stop = StopSignal::listen(false)?;
    stop.unless_told(dispatch(context, command)).await
}

async fn dispatch(context: &Context, command: StoreCommand) -> Result<ExitCode> {
    match command {
        StoreCommand::Init => init(context).await,
        StoreCommand::SetupTables(args) => set_up_tables(context, &args).await,
        StoreCommand::Status => status(context).await,
        StoreCommand::Verify(args) => walk::verify(context, &args).await,
        StoreCommand::VerifyChain => walk::verify_chain(context).await,
        StoreCommand::Events(args) => events::list(context, &args).await,
        StoreCommand::Export(args) => bundle::export(context, &args).await,
        StoreCommand::Import(args) => bundle::import(context, &args).await,
        StoreCommand::Rotate(args) => keys::rotate(context, &args).await,
        StoreCommand::Erase(args) => keys::erase(context, &args).await,
        StoreCommand::CheckCertificate(args) => certificate::check(context, &args).await,
        StoreCommand::Seal(args) => seal::seal(context, &args).await,
        StoreCommand::Reseal(args) => seal::reseal(context, &args).await,
        StoreCommand::Dialogue(command) => dialogue::run(context, command).await,
    }
}

/// The store of this home, which this process has to itself.
struct Held {
    home: OpenHome,
    site: StoreSite,
}

impl Held {
    /// Lays the home out where there is none.
    async fn new(home: &Home) -> Result<Self> {
        let site = Storage::Configured.site(home).await?.used_by(&operator());
        let opened = home.open(&Config::load(&home.config())?);
        let home = opened.map_err(|fault| match fault.category() {
            Category::StateContention => fault.hint(
                "a daemon has the home: stop it with 'worldcompute donor leave' or Ctrl-C, then repeat this",
            ),
            _ => fault,
        })?;
        Ok(Self { home, site })
    }

    /// One that is there.
    async fn existing(home: &Home) -> Result<Self> {
        if !home.is_enrolled() {
            return Err(no_node(home));
        }
        Self::new(home).await
    }

    /// The store, if it is there.
    async fn inspect(&self) -> Result<Store> {
        self.site.inspect(&self.home).await
    }

    /// The same, to be judged.
    async fn look(&self) -> Result<Store> {
        self.site.look(&self.home).await
    }
}

/// Whose keys the audit says are used: the system's number of the user at the command line.
fn operator() -> String {
    format!("cli-{}", rustix::process::getuid().as_raw())
}

fn no_node(home: &Home) -> Fault {
    let message = format!("there is no node in {}", home.root().display());
    Fault::new(Category::DependencyMissing, "store_not_set_up", message)
        .hint("make one with 'worldcompute store init', or name another home with --home")
}

/// What was made, or was there.
#[derive(Serialize)]
struct Made {
    store_id: String,
    /// Whether it was made just now.
    created: bool,
    /// Of a store that moved here, whether its audit goes on from the one before since now: `continued`, or the code of why
    /// not yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    audit: Option<String>,
    #[serde(flatten)]
    site: SiteView,
}

async fn init(context: &Context) -> Result<ExitCode> {
    let home = context.home()?;
    let attempts = Cell::new(0_u32);
    let made = key_loss::or_reset(context, &home, Storage::Configured, async || {
        attempts.set(attempts.get() + 1);
        let held = Held::new(&home).await?;
        let made = made(&held, async |held| held.site.open(&held.home).await).await?;
        // Only after a reset it is opened again.
        Ok(Made {
            created: made.created || attempts.get() > 1,
            ..made
        })
    });
    print_made(context, &made.await?)
}

async fn set_up_tables(context: &Context, args: &SetupArgs) -> Result<ExitCode> {
    let mut held = Held::new(&context.home()?).await?;
    if args.moves {
        held.site = held.site.moving();
    }
    let mut made = made(&held, async |held| held.site.set_up(&held.home).await).await?;
    made.audit = match held.site.continue_audits(&held.home).await {
        Ok(false) => None,
        Ok(true) => Some("continued".to_owned()),
        Err(fault) => Some(fault.code().to_owned()),
    };
    print_made(context, &made)
}

/// Makes the store by `make` unless it is there.
async fn made(held: &Held, make: impl AsyncFn(&Held) -> Result<Store>) -> Result<Made> {
    let found = held.inspect().await;
    let created = found.as_ref().is_err_and(is_absent);
    let store = match created {
        true => make(held).await?,
        false => found?,
    };
    let store_id = store.id().to_owned();
    store.close().await?;
    Ok(Made {
        store_id,
        created,
        audit: None,
        site: held.site.view(),
    })
}

fn print_made(context: &Context, made: &Made) -> Result<ExitCode> {
    context.output.data(made, |made| {
        let was = if made.created { "made" } else { "is there" };
        let id = format!("store    {} {was}", made.store_id);
        let audit = made.audit.as_ref().map(|audit| format!("audit    {audit}"));
        let lines = [vec![id], where_it_is(&made.site), Vec::from_iter(audit)];
        lines.concat().join("\n")
    })?;
    Ok(ExitCode::SUCCESS)
}

fn where_it_is(site: &SiteView) -> Vec<String> {
    vec![
        format!("backend  {}", site.backend),
        format!("at       {}", site.at),
        format!("table    {}", site.table),
        format!("keys     {}", site.keys),
        format!("key      {}", site.key),
    ]
}

/// How the store stands.
#[derive(Serialize)]
struct Status {
    /// `ready`, `in_use` (a daemon has it) or `absent`.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    store_id: Option<String>,
    #[serde(flatten)]
    site: SiteView,
    /// Bytes of a table in the home.
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    /// Events in the record of the keys.
    #[serde(skip_serializing_if = "Option::is_none")]
    audit_events: Option<u64>,
}

impl Status {
    fn new(state: &'static str, site: &StoreSite) -> Self {
        let file = site.file().and_then(|path| path.metadata().ok());
        Self {
            state,
            store_id: None,
            site: site.view(),
            bytes: file.map(|file| file.len()),
            audit_events: None,
        }
    }
}

async fn status(context: &Context) -> Result<ExitCode> {
    let home = context.home()?;
    let mut recorded = Ok(());
    let untold = async |state| {
        let site = Storage::Configured.site(&home).await?;
        Ok::<_, Fault>(Status::new(state, &site))
    };
    let status = match Held::existing(&home).await {
        Ok(held) => look(&held, &mut recorded).await?,
        Err(fault) if is_absent(&fault) => untold("absent").await?,
        Err(fault) if fault.category() == Category::StateContention => {
            context.output.note(fault.message());
            untold("in_use").await?
        }
        Err(fault) => return Err(fault),
    };
    context.output.data(&status, in_words)?;
    recorded.map(|()| ExitCode::SUCCESS)
}

/// How it stands; `recorded` says whether the end of every chain of the record is what it was.
async fn look(held: &Held, recorded: &mut Result<()>) -> Result<Status> {
    let store = match held.look().await {
        Err(fault) if is_absent(&fault) => return Ok(Status::new("absent", &held.site)),
        store => store?,
    };
    let checkpoint = store.audit_checkpoint().await;
    let events = checkpoint.as_ref().ok().map(|checkpoint| {
        let events = checkpoint.lanes.iter().map(|lane| lane.seq);
        events.fold(0, u64::saturating_add)
    });
    let status = Status {
        store_id: Some(store.id().to_owned()),
        audit_events: events,
        ..Status::new("ready", &held.site)
    };
    *recorded = checkpoint.map(drop).and(store.close().await);
    Ok(status)
}

fn in_words(status: &Status) -> String {
    let mut lines = vec![format!("state    {}", status.state)];
    lines.extend(status.store_id.iter().map(|id| format!("store    {id}")));
    lines.extend(where_it_is(&status.site));
    let counts = [("bytes", status.bytes), ("events", status.audit_events)];
    lines.extend(
        counts
            .iter()
            .filter_map(|(name, count)| Some(format!("{name:7}  {}", count.as_ref()?))),
    );
    lines.join("\n")
}
