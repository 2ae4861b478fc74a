//! The ten categories of failure, and what follows from each.

use serde::{Deserialize, Serialize};

/// What kind of thing went wrong. Stable: a category is never renamed or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Category {
    /// The caller gave something that can never be accepted as it is.
    InvalidInput,
    /// A signature, digest or proof does not hold.
    VerificationFailed,
    /// A policy says no.
    PolicyBlocked,
    /// A policy says yes, once somebody has approved.
    ApprovalRequired,
    /// Something this machine or mesh needs is not there.
    DependencyMissing,
    /// A disk or a device refused.
    IoFailure,
    /// Somebody else holds it, or changed it first.
    StateContention,
    /// The network failed in a way that passes.
    NetworkTransient,
    /// The network failed in a way that stays.
    NetworkPermanent,
    /// A defect of this program.
    InternalFailure,
}

impl Category {
    /// Every category, in the order of the contract.
    pub const ALL: [Self; 10] = [
        Self::InvalidInput,
        Self::VerificationFailed,
        Self::PolicyBlocked,
        Self::ApprovalRequired,
        Self::DependencyMissing,
        Self::IoFailure,
        Self::StateContention,
        Self::NetworkTransient,
        Self::NetworkPermanent,
        Self::InternalFailure,
    ];

    /// The stable snake_case name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidInput => "invalid_input",
            Self::VerificationFailed => "verification_failed",
            Self::PolicyBlocked => "policy_blocked",
            Self::ApprovalRequired => "approval_required",
            Self::DependencyMissing => "dependency_missing",
            Self::IoFailure => "io_failure",
            Self::StateContention => "state_contention",
            Self::NetworkTransient => "network_transient",
            Self::NetworkPermanent => "network_permanent",
            Self::InternalFailure => "internal_failure",
        }
    }

    /// The category of that name, `None` for a name of a later version.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|category| category.as_str() == name)
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub const fn retryable(self) -> bool {
        matches!(self, Self::NetworkTransient | Self::StateContention)
    }

    /// The exit code of the `gait` binary.
    pub const fn gait_exit(self) -> u8 {
        match self {
            Self::InvalidInput => 6,
            Self::VerificationFailed => 2,
            Self::PolicyBlocked => 3,
            Self::ApprovalRequired => 4,
            Self::DependencyMissing => 7,
            Self::IoFailure
            | Self::StateContention
            | Self::NetworkTransient
            | Self::NetworkPermanent
            | Self::InternalFailure => 1,
        }
    }

    /// The HTTP status of a fault that has no number of its own.
    pub const fn http(self) -> u16 {
        match self {
            Self::InvalidInput => 400,
            Self::PolicyBlocked | Self::ApprovalRequired => 403,
            Self::StateContention => 409,
            Self::VerificationFailed => 422,
            Self::IoFailure | Self::InternalFailure => 500,
            Self::NetworkPermanent => 502,
            Self::DependencyMissing | Self::NetworkTransient => 503,
        }
    }

    /// The gRPC status of a fault that has no number of its own.
    pub const fn grpc(self) -> i32 {
        match self {
            Self::InvalidInput => 3,
            Self::PolicyBlocked => 7,
            Self::VerificationFailed | Self::ApprovalRequired | Self::DependencyMissing => 9,
            Self::StateContention => 10,
            Self::IoFailure | Self::InternalFailure => 13,
            Self::NetworkTransient | Self::NetworkPermanent => 14,
        }
    }

    /// The next action, for a fault that names none of its own.
    pub const fn hint(self) -> &'static str {
        match self {
            Self::InvalidInput => "check command usage and input schema",
            Self::VerificationFailed => "re-run verify after checking artifact integrity",
            Self::PolicyBlocked => "inspect reason_codes and adjust policy or intent",
            Self::ApprovalRequired => "provide a valid approval token and retry",
            Self::DependencyMissing => "install or configure the missing dependency and retry",
            Self::StateContention => "retry after contention subsides",
            Self::IoFailure
            | Self::NetworkTransient
            | Self::NetworkPermanent
            | Self::InternalFailure => "retry after checking local environment and logs",
        }
    }

    /// The closest category to an HTTP status, for an answer that names none.
    pub(crate) const fn of_http(status: u16) -> Self {
        match status {
            401 | 403 => Self::PolicyBlocked,
            408 | 429 | 502..=504 => Self::NetworkTransient,
            409 => Self::StateContention,
            400..=499 => Self::InvalidInput,
            _ => Self::InternalFailure,
        }
    }
}

impl std::fmt::Display for Category {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}
