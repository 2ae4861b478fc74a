//! The numbered codes of the public API. Numbers are stable and additive only.

use crate::Category;

/// One row of the table: number, name, gRPC status, HTTP status, category.
macro_rules! codes {
    ($($name:ident = $number:literal, $slug:literal, $grpc:literal, $http:literal, $category:ident;)*) => {
        /// A numbered code, shown as `WC-001`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum WcCode {
            $(#[doc = concat!("`", $slug, "`: HTTP ", stringify!($http), ", gRPC ", stringify!($grpc), ".")]
            $name = $number,)*
        }

        impl WcCode {
            /// Every code, by number.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The name of the contract, e.g. `InvalidManifest`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }

            /// The name in snake_case, e.g. `invalid_manifest`.
            pub const fn slug(self) -> &'static str {
                match self { $(Self::$name => $slug,)* }
            }

            /// The gRPC status code.
            pub const fn grpc(self) -> i32 {
                match self { $(Self::$name => $grpc,)* }
            }

            /// The HTTP status.
            pub const fn http(self) -> u16 {
                match self { $(Self::$name => $http,)* }
            }

            /// The category a fault of this code has.
            pub const fn category(self) -> Category {
                match self { $(Self::$name => Category::$category,)* }
            }
        }
    };
}

codes! {
    InvalidManifest = 1, "invalid_manifest", 3, 400, InvalidInput;
    InsufficientCredits = 2, "insufficient_credits", 9, 402, PolicyBlocked;
    AcceptableUseViolation = 3, "acceptable_use_violation", 9, 403, PolicyBlocked;
    NoEligibleNodes = 4, "no_eligible_nodes", 9, 503, DependencyMissing;
    QuorumFailure = 5, "quorum_failure", 10, 409, VerificationFailed;
    TrustTierMismatch = 6, "trust_tier_mismatch", 9, 422, PolicyBlocked;
    SandboxUnavailable = 7, "sandbox_unavailable", 14, 503, DependencyMissing;
    PreemptionTimeout = 8, "preemption_timeout", 4, 504, StateContention;
    LedgerVerificationFailed = 9, "ledger_verification_failed", 10, 409, VerificationFailed;
    CoordinatorUnreachable = 10, "coordinator_unreachable", 14, 503, NetworkTransient;
    ResidencyConstraintViolation = 11, "residency_constraint_violation", 9, 422, PolicyBlocked;
    AttestationFailed = 12, "attestation_failed", 16, 401, VerificationFailed;
    RateLimited = 13, "rate_limited", 8, 429, StateContention;
    Unauthorized = 14, "unauthorized", 16, 401, VerificationFailed;
    Internal = 15, "internal", 13, 500, InternalFailure;
    Unavailable = 16, "unavailable", 14, 503, NetworkTransient;
    DeadlineExceeded = 17, "deadline_exceeded", 4, 504, NetworkTransient;
    NotFound = 18, "not_found", 5, 404, InvalidInput;
    AlreadyExists = 19, "already_exists", 6, 409, InvalidInput;
    PermissionDenied = 20, "permission_denied", 7, 403, PolicyBlocked;
    UnsupportedPlatform = 21, "unsupported_platform", 12, 501, DependencyMissing;
    DialFailureWithDetail = 22, "dial_failure_with_detail", 14, 503, NetworkTransient;
    ReservationAcquisitionFailed = 23, "reservation_acquisition_failed", 14, 503, NetworkTransient;
    ParaDiGMSNonconvergence = 24, "paradigms_nonconvergence", 10, 409, InternalFailure;
    AttestationRootMismatch = 25, "attestation_root_mismatch", 16, 401, VerificationFailed;
    PlaceholderDetected = 26, "placeholder_detected", 9, 422, PolicyBlocked;
}

impl WcCode {
    /// The number, 1 to 26.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The code with that number, `None` for a number of a later version.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|code| code.number() == number)
    }

    /// Reads `WC-001`: exactly three digits.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("WC-")?;
        let canonical = digits.len() == 3 && digits.bytes().all(|byte| byte.is_ascii_digit());
        canonical
            .then(|| digits.parse().ok())
            .flatten()
            .and_then(Self::from_number)
    }
}

impl std::fmt::Display for WcCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "WC-{:03}", self.number())
    }
}
