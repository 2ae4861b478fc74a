//! Which build this is.

/// The version of this build: `GAIT_VERSION` of the build's environment, which a release sets.
pub const VERSION: &str = match option_env!("GAIT_VERSION") {
    Some(version) => version,
    None => "0.0.0-dev",
};
