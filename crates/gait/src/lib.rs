//! Policy as code in front of every side effect: an [`Intent`] goes in, a signed [`Decision`] comes out, and only an
//! allowing decision yields the [`Permit`] without which the effect's own code does not run.
//!
//! ```text
//! Intent::parse / IntentDraft ─► Gate::decide ─► Decision ─► Permit ─► Permit::redeem ─► the effect
//! Policy::parse ─────────────────┘               └► SignedTrace ─► trace::verify (offline)
//! ```
//!
//! Formats, digests and verdicts are those of Gait 1.4. Whatever is unknown, unparsable, erroring or expired denies.
//!
//! ```
//! use gait::{Gate, Intent, Policy, SystemClock, starter};
//! use worldcompute_proof::SigningKey;
//!
//! let policy = Policy::parse(starter::donor_policy(&["scientific"]).as_bytes())?;
//! let gate = Gate::new(policy, SigningKey::generate()?, SystemClock::shared());
//! let intent = Intent::parse(br#"{
//!     "tool_name": "worldcompute.task.run",
//!     "targets": [{"kind": "other", "value": "class:scientific", "sensitivity": "public",
//!                  "endpoint_class": "other", "endpoint_domain": "public.class:scientific"}],
//!     "context": {"identity": "12D3KooW", "workspace": "worldcompute", "risk_class": "low"}
//! }"#)?;
//! let decision = gate.decide(&intent)?;
//! let allowed = decision.permit()?.redeem(&intent.digest())?;
//! assert_eq!(allowed.trace_id(), decision.trace().trace_id());
//! gait::trace::verify(decision.trace().bytes(), &gate.verifying_key())?;
//! # Ok::<(), worldcompute_fault::Fault>(())
//! ```

pub mod approval;
pub mod archive;
pub mod artefact;
pub mod broker;
pub mod clock;
pub mod context_envelope;
pub mod daemon;
mod decision;
pub mod delegation;
pub mod demo;
pub mod desk;
pub mod doctor;
pub mod duration;
pub mod environment;
mod evaluate;
pub mod evidence;
pub mod gate;
pub mod given;
pub mod guard;
pub mod hook;
mod host;
pub mod in_file;
pub mod intent;
pub mod inventory;
pub mod job;
mod json_stream;
pub mod keys;
pub mod kill_switch;
pub mod limits;
pub mod listen;
pub mod mcp;
pub mod mcp_trust;
pub mod oplog;
pub mod pack;
mod permit;
pub mod policy;
mod program;
pub mod project_config;
pub mod rate_limit;
mod record;
mod record_log;
pub mod registry;
pub mod regress;
pub mod run_session;
pub mod runpack;
pub mod scripts;
pub mod server;
pub mod session;
mod signature;
mod signatures;
mod sorter;
pub mod starter;
mod state_file;
pub mod surface;
mod text;
mod token;
pub mod trace;
mod verdict;
pub mod verifier;
mod version;
mod warm;
mod wire_time;
pub mod wrapper;

pub use clock::{Clock, SystemClock};
pub use context_envelope::ContextEnvelope;
pub use decision::Decision;
pub use environment::{Environment, SystemEnvironment};
pub use evaluate::{
    Broker, CallLimits, Evaluation, FreezeDecision, FreezeStatus, RateLimit, SandboxDecision,
    SandboxStatus, Scope, ScriptEvaluation, StepVerdict, Window,
};
pub use evidence::{Evidence, Prepared};
pub use gate::Gate;
pub use intent::{Intent, IntentDraft};
pub use inventory::Inventory;
pub use permit::{Permit, Redeemed};
pub use policy::Policy;
pub use trace::{SignedTrace, VerifiedTrace};
pub use verdict::Verdict;
pub use version::VERSION;
pub use wire_time::WireTime;
