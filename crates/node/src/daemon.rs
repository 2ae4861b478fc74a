//! The daemon: one process that is donor, submitter and relay, as its roles say. It wires the parts together and holds none
//! of their logic.

use std::cmp::Reverse;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use worldcompute_content::ContentStore;
use worldcompute_fault::{Category, Fault, Result};
use worldcompute_mesh::wire::Capacity;
use worldcompute_mesh::{Inbound, Mesh, MeshConfig, PeerInfo};
use worldcompute_preempt::Settings;
use worldcompute_proof::{Cid, PeerId};
use worldcompute_scheduler::donor_log::DonorLog;
use worldcompute_telemetry::LoadSampler;

use crate::added::{self, Added};
use crate::api::{AdminStatus, Ban, ClusterStatus, Control, Health, Load, Peer};
use crate::audit_watch::AuditWatch;
use crate::bans::{self, Bans};
use crate::blocking::blocking;
use crate::config::Config;
use crate::donor::{Donor, DonorParts};
use crate::home::{Home, OpenHome};
use crate::images::{self, Images};
use crate::listen;
use crate::policies::{gate, policy};
use crate::relay_book;
use crate::serve;
use crate::served::Served;
use crate::storage::{Storage, StoreSite};
use crate::submitter::{Submitter, SubmitterParts};
use crate::views;
use crate::web;

/// How long a node that can only be reached through relays waits for its first reservation.
const RESERVATION_PATIENCE: Duration = Duration::from_secs(60);

/// A node that has found nobody by then says so.
const ALONE_AFTER: Duration = Duration::from_secs(30);

/// What it then says.
const KNOWS_NOBODY: &str = "this node knows nobody: no relay is named or answers, and no other node is on the local \
     network; name a relay with --bootstrap, in config.toml or in WORLDCOMPUTE_BOOTSTRAP_SEEDS";

/// How often a donor tells the cluster what it can take.
const ANNOUNCE_EVERY: Duration = Duration::from_secs(10);

/// How often runs of silent submitters are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// How long the parts may take to end.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// What a node does for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles {
    relay: bool,
    donor: bool,
    announce: bool,
}

impl Roles {
    /// Relays for nodes that cannot be reached.
    pub const RELAY: Self = Self {
        relay: true,
        donor: false,
        announce: false,
    };
    /// Runs tasks of others.
    pub const DONOR: Self = Self {
        relay: false,
        donor: true,
        announce: true,
    };
    /// Hands out jobs, runs none.
    pub const SUBMITTER: Self = Self {
        relay: false,
        donor: false,
        announce: false,
    };
    /// Runs its own jobs, and nobody else's.
    pub const LOCAL: Self = Self {
        relay: false,
        donor: true,
        announce: false,
    };

    /// Who runs nothing but their own jobs is not in their own way.
    fn settle(self, mut config: Config) -> Config {
        if !self.announce {
            config.yields = Settings::never();
        }
        config
    }

    fn names(self) -> Vec<String> {
        let names = [
            (self.relay, "relay"),
            (self.donor, "donor"),
            (true, "submitter"),
        ];
        names
            .iter()
            .filter(|(on, _)| *on)
            .map(|(_, name)| (*name).to_owned())
            .collect()
    }
}

/// How to start a node.
pub struct NodeOptions {
    /// Where it lives.
    pub home: Home,
    /// The operator's choices.
    pub config: Config,
    /// What it does.
    pub roles: Roles,
    /// Whether the port must be the one in `config`, or may be any other when that is taken.
    pub exact_port: bool,
    /// Where its encrypted store is.
    pub storage: Storage,
}

/// A handle on a running node. Cheap to clone.
#[derive(Clone)]
pub struct Node(Arc<Inner>);

struct Inner {
    /// Held for its lock.
    _home: OpenHome,
    me: PeerId,
    roles: Roles,
    config: Config,
    mesh: Mesh,
    content: Arc<ContentStore>,
    added: Arc<Added>,
    images: Images,
    served: Arc<Served>,
    donor: Option<Donor>,
    submitter: Submitter,
    audit: Arc<AuditWatch>,
    load: Arc<LoadSampler>,
    started: Instant,
    stop: CancellationToken,
    known_relays: PathBuf,
    bans: Bans,
}

/// A node, and the tasks that keep it running.
pub struct Running {
    node: Node,
    tasks: TaskTracker,
}

impl Node {
    /// Starts a node: takes the home's lock, opens the store, joins the mesh, resumes what was under way, and listens on the
    /// control socket.
    ///
    /// # Errors
    /// `state_contention` for a home in use, `port_in_use`, WC-023 when no relay gave a circuit-only node an address.
    pub async fn start(options: NodeOptions) -> Result<Running> {
        let running = Self::start_unreached(options).await?;
        match running.node.until_reachable().await {
            Ok(()) => Ok(running),
            Err(fault) => running.stop().await.and(Err(fault)),
        }
    }

    /// The same without waiting for a relay's address: [`Node::until_reachable`] waits, and whoever is told to stop
    /// meanwhile can end the node in order.
    ///
    /// # Errors
    /// Those of [`Node::start`] but WC-023.
    pub async fn start_unreached(options: NodeOptions) -> Result<Running> {
        let site = options.storage.site(&options.home).await?.used_by("daemon");
        let home = options.home.open(&options.config)?;
        if options.roles == Roles::DONOR {
            home.mark_donor()?;
        }
        let banned = bans::read(&home.paths().banned())?;
        let (mesh, inbound) = join(&home, &options, &banned).await?;
        let control = Control::bind(home.paths().socket());
        let assembled = async {
            Ok((
                control?,
                assemble(home, &site, &options, mesh.clone(), banned).await?,
            ))
        };
        let (control, node) = match assembled.await {
            Ok(parts) => parts,
            Err(fault) => {
                mesh.shutdown().await;
                return Err(fault);
            }
        };
        let running = Running {
            tasks: TaskTracker::new(),
            node,
        };
        running.spawn(inbound, control);
        Ok(running)
    }

    /// Who this node is.
    pub fn peer_id(&self) -> &PeerId {
        &self.0.me
    }

    /// Where others reach it, `/p2p/<peer id>` included, the widest reach first.
    pub async fn reachable_at(&self) -> Result<Vec<String>> {
        let status = self.0.mesh.status().await?;
        let own = format!("/p2p/{}", self.0.me);
        let with_peer = |address: String| {
            if address.ends_with(&own) {
                address
            } else {
                address + &own
            }
        };
        let mut addresses: Vec<String> = status
            .listen
            .iter()
            .chain(&status.external)
            .map(ToString::to_string)
            .map(with_peer)
            .collect();
        addresses.sort_by_cached_key(|address| (Reverse(listen::reach(address)), address.clone()));
        addresses.dedup();
        Ok(addresses)
    }

    /// The donor in this node.
    ///
    /// # Errors
    /// `not_a_donor` when it is none.
    pub fn donor(&self) -> Result<&Donor> {
        self.0.donor.as_ref().ok_or_else(|| {
            Fault::new(
                Category::InvalidInput,
                "not_a_donor",
                "this node is not a donor",
            )
            .hint("start one with 'worldcompute donor join'")
        })
    }

    /// The submitter in this node.
    pub fn submitter(&self) -> &Submitter {
        &self.0.submitter
    }

    /// Who is shut out.
    pub fn bans(&self) -> &Bans {
        &self.0.bans
    }

    /// The images in this node.
    pub fn images(&self) -> &Images {
        &self.0.images
    }

    /// Keeps bytes under their name, for long enough to submit a job that takes them.
    pub async fn add_content(&self, bytes: Bytes) -> Result<Cid> {
        let content = self.0.content.clone();
        let put = blocking(move || {
            let held = content.hold(&Cid::raw(&bytes));
            content.put_as(held.cid(), &bytes)?;
            Ok(held)
        });
        let held = put.await?;
        let cid = *held.cid();
        self.0.added.spare(held, Instant::now());
        Ok(cid)
    }

    /// `GET /v1/health`.
    pub fn health(&self) -> Health {
        Health {
            status: "ok".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            peer_id: self.0.me,
        }
    }

    /// `GET /v1/admin/status`.
    pub async fn admin_status(&self) -> Result<AdminStatus> {
        let mesh = self.0.mesh.status().await?;
        let peers = self.0.mesh.peers().await;
        let load = self.0.load.sample();
        let jobs = self.0.submitter.counts().await?;
        Ok(AdminStatus {
            peer_id: self.0.me,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            roles: self.0.roles.names(),
            uptime_s: self.0.started.elapsed().as_secs(),
            time: Some(jiff::Timestamp::now().to_string()),
            listen: mesh.listen.iter().map(ToString::to_string).collect(),
            addresses: self.reachable_at().await?,
            connections: mesh.connections,
            dials: [
                ("success", mesh.dials.succeeded),
                ("timeout", mesh.dials.timed_out),
                ("transport_error", mesh.dials.transport_errors),
                ("denied", mesh.dials.denied),
                ("abandoned", mesh.dials.abandoned),
            ]
            .map(|(outcome, count)| (outcome.to_owned(), count))
            .into(),
            inbound: [
                ("accepted", mesh.inbound.accepted),
                ("busy", mesh.inbound.busy),
                ("malformed", mesh.inbound.malformed),
                ("blocked", mesh.inbound.blocked),
                ("failed", mesh.inbound.failed),
                ("connections_refused", mesh.inbound.connections_refused),
                ("reservations_refused", mesh.inbound.reservations_refused),
                ("circuits_refused", mesh.inbound.circuits_refused),
            ]
            .map(|(outcome, count)| (outcome.to_owned(), count))
            .into(),
            reservations: views::reservations(&mesh.reservations, &peers),
            banned: self.0.bans.list().await,
            tiers: views::tiers(&peers),
            load: Load {
                cpu: load.cpu,
                gpu: load.gpu,
                mem: load.mem,
            },
            jobs,
            store_audit_broken: self.0.audit.broken(),
        })
    }

    /// `GET /v1/cluster/status`.
    pub async fn cluster_status(&self) -> Result<ClusterStatus> {
        let status = self.0.mesh.status().await?;
        let peers: Vec<PeerInfo> = self
            .0
            .mesh
            .peers()
            .await
            .into_iter()
            .filter(is_present)
            .collect();
        let own = self.0.donor.iter().map(Donor::capacity);
        let donors: Vec<Capacity> = peers
            .iter()
            .filter_map(|peer| peer.capacity.clone())
            .chain(own)
            .collect();
        let merged = self.0.roles.relay || views::reaches_out(&status.reservations, &peers);
        Ok(ClusterStatus {
            peer_id: self.0.me,
            nodes: peers.len() + 1,
            donors: donors.len(),
            slots: donors
                .iter()
                .filter(|donor| !donor.paused)
                .map(|donor| donor.slots as usize)
                .sum(),
            reach: if merged { "merged" } else { "island" }.to_owned(),
            alone: (!merged && peers.is_empty() && self.joins()).then(|| KNOWS_NOBODY.to_owned()),
        })
    }

    /// `GET /v1/cluster/peers`.
    pub async fn cluster_peers(&self) -> Result<Vec<Peer>> {
        let peers = self.0.mesh.peers().await;
        Ok(peers.into_iter().map(views::peer).collect())
    }

    /// Whether it is of use only with others.
    fn joins(&self) -> bool {
        !self.0.roles.relay && self.0.roles != Roles::LOCAL
    }

    /// Says once, in the log, that nobody was found.
    async fn tell_if_alone(self) {
        tokio::select! {
            () = self.stopped() => return,
            () = tokio::time::sleep(ALONE_AFTER) => {}
        }
        if let Ok(ClusterStatus {
            alone: Some(advice),
            ..
        }) = self.cluster_status().await
        {
            tracing::warn!("{advice}");
        }
    }

    /// Asks the daemon to end.
    pub fn request_stop(&self) {
        self.0.stop.cancel();
    }

    /// Resolves once the daemon was asked to end.
    pub async fn stopped(&self) {
        self.0.stop.cancelled().await;
    }

    /// A node that listens on nothing is of no use before a relay has given it an address.
    ///
    /// # Errors
    /// WC-023 when none did in time.
    pub async fn until_reachable(&self) -> Result<()> {
        if !self.0.config.circuit_only || self.0.config.relays().is_empty() {
            return Ok(());
        }
        tokio::select! {
            reserved = self.0.mesh.reserved(RESERVATION_PATIENCE) => reserved.map(|_| ()),
            () = self.stopped() => Ok(()),
        }
    }
}

impl Running {
    /// The node.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Ends the node in order: runs are handed back, what is settled is written, connections are closed, the socket goes.
    pub async fn stop(self) -> Result<()> {
        let inner = &self.node.0;
        if let Some(donor) = &inner.donor {
            donor.hand_back().await;
        }
        let written = inner.submitter.stop().await;
        inner.stop.cancel();
        self.tasks.close();
        let ended = tokio::time::timeout(STOP_PATIENCE, self.tasks.wait()).await;
        inner.mesh.shutdown().await;
        let recorded = inner.audit.close().await;
        written.and(recorded).and(ended.map_err(|_| {
            Fault::new(
                Category::InternalFailure,
                "stop_timed_out",
                "the daemon did not end in time",
            )
        }))
    }

    fn spawn(&self, inbound: mpsc::Receiver<Inbound>, control: Control) {
        let node = &self.node;
        let serving = serve::Serving {
            content: node.0.content.clone(),
            served: node.0.served.clone(),
            donor: node.0.donor.clone(),
        };
        self.tasks
            .spawn(serve::inbound(inbound, serving, node.0.stop.clone()));
        self.tasks.spawn(serve_control(control, node.clone()));
        self.tasks.spawn(relay_book::keep(
            node.0.mesh.clone(),
            node.0.known_relays.clone(),
            node.0.stop.clone(),
        ));
        self.tasks.spawn(node.clone().tell_if_alone());
        self.tasks.spawn(added::keep_sweeping(
            node.0.added.clone(),
            node.0.stop.clone(),
        ));
        let audit = node.0.audit.clone();
        self.tasks.spawn(audit.keep_looking(node.0.stop.clone()));
        if let Some(donor) = node.0.donor.clone() {
            let announcing = node.0.roles.announce.then(|| node.0.mesh.clone());
            self.tasks
                .spawn(look_after(donor, announcing, node.0.stop.clone()));
        }
    }
}

async fn join(
    home: &OpenHome,
    options: &NodeOptions,
    banned: &[Ban],
) -> Result<(Mesh, mpsc::Receiver<Inbound>)> {
    let config = &options.config;
    let mut mesh = MeshConfig::new(home.key().clone());
    mesh.bootstrap = listen::parse(&config.relays())?;
    mesh.external = listen::parse_own(&config.external)?;
    mesh.known_relays = relay_book::read(&home.paths().known_relays());
    mesh.banned = banned.iter().map(|ban| ban.subject_id).collect();
    mesh.mdns = config.mdns;
    mesh.relay_server = options.roles.relay;
    mesh.reservation_duration = Duration::from_secs(config.reservation_s.into());
    mesh.upgrade_after = Duration::from_secs(config.upgrade_after_s.into());
    if !config.circuit_only {
        mesh.listen = listen::addresses(config.port, options.exact_port)?;
    }
    web::configure(&mut mesh, config, home.paths())?;
    Mesh::start(mesh).await
}

async fn assemble(
    home: OpenHome,
    site: &StoreSite,
    options: &NodeOptions,
    mesh: Mesh,
    banned: Vec<Ban>,
) -> Result<Node> {
    let paths = home.paths();
    let store = site.open(&home).await?;
    let content = Arc::new(images::content(paths, &options.config)?);
    let images = Images::with(paths, (*content).clone())?;
    let audit = AuditWatch::new(store.clone(), home.key().clone(), paths.audit_checkpoint());
    let load = Arc::new(LoadSampler::new());
    let donor = match options.roles.donor {
        true => Some(Donor::new(DonorParts {
            key: home.key().clone(),
            policy: policy(&paths.donor_policy())?,
            config: options.roles.settle(options.config.clone()),
            home: paths.clone(),
            content: content.clone(),
            log: DonorLog::open(&store).await?,
            mesh: mesh.clone(),
            load: load.clone(),
        })?),
        false => None,
    };
    let served = Arc::new(Served::default());
    let submitter = Submitter::start(SubmitterParts {
        key: home.key().clone(),
        gate: Arc::new(gate(&home, &paths.submitter_policy())?),
        store,
        content: content.clone(),
        served: served.clone(),
        mesh: mesh.clone(),
        donor: donor.clone(),
        evidence: paths.evidence(),
        retention: options.config.retention(),
    })
    .await?;
    Ok(Node(Arc::new(Inner {
        me: home.key().peer_id(),
        known_relays: home.paths().known_relays(),
        bans: Bans::new(home.paths().banned(), mesh.clone(), banned),
        _home: home,
        roles: options.roles,
        config: options.config.clone(),
        mesh,
        content,
        added: Arc::default(),
        images,
        served,
        donor,
        submitter,
        audit,
        load,
        started: Instant::now(),
        stop: CancellationToken::new(),
    })))
}

/// Serves the control socket until the daemon ends; a socket that cannot be served ends the daemon.
async fn serve_control(control: Control, node: Node) {
    let stop = node.0.stop.clone();
    if let Err(fault) = control.serve(node, stop.clone()).await {
        tracing::error!(
            code = fault.code(),
            reason = fault.message(),
            "control socket lost"
        );
        stop.cancel();
    }
}

/// Announces a donor's capacity, and ends runs whose submitters have gone silent.
async fn look_after(donor: Donor, announcing: Option<Mesh>, stop: CancellationToken) {
    let mut announce = tokio::time::interval(ANNOUNCE_EVERY);
    let mut sweep = tokio::time::interval(SWEEP_EVERY);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = sweep.tick() => donor.end_abandoned(),
            _ = announce.tick() => {
                if let Some(mesh) = &announcing {
                    mesh.announce(donor.capacity()).await;
                }
            }
            () = donor.yielding_changed() => announce.reset_immediately(),
        }
    }
}

/// A peer counts while it is connected, and a donor behind a relay as long as it announces itself.
pub fn is_present(peer: &PeerInfo) -> bool {
    peer.connected
        || peer.capacity.is_some()
            && peer
                .last_seen
                .elapsed()
                .is_ok_and(|age| age < ANNOUNCE_EVERY * 3)
}
