//! Where the gate takes environment variables from.

use std::collections::BTreeMap;

/// The environment variables, for settings and key material; tests pass a map.
pub trait Environment: Send + Sync {
    /// The variable's value, `None` when it is not set.
    ///
    /// A value that is not Unicode is returned with replacement characters: it was given, and whoever reads it says
    /// what is wrong with it.
    fn var(&self, name: &str) -> Option<String>;

    /// The variable's value without surrounding white space, `None` when it is not set or nothing is left.
    fn setting(&self, name: &str) -> Option<String> {
        let value = self.var(name)?;
        let trimmed = value.trim();
        (!trimmed.is_empty()).then(|| trimmed.to_owned())
    }
}

/// The environment of the process.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemEnvironment;

impl Environment for SystemEnvironment {
    fn var(&self, name: &str) -> Option<String> {
        // A name that no variable can have would panic inside the standard library.
        if name.is_empty() || name.contains(['=', '\0']) {
            return None;
        }
        std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
    }
}

impl Environment for BTreeMap<String, String> {
    fn var(&self, name: &str) -> Option<String> {
        self.get(name).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_no_variable_can_have_are_unset() {
        for name in ["", "A=B", "A\0B", "GAIT_TEST_OF_AN_UNSET_VARIABLE"] {
            assert_eq!(SystemEnvironment.var(name), None, "{name:?}");
        }
    }

    #[test]
    fn a_blank_setting_is_none() {
        let environment = BTreeMap::from([
            ("BLANK".to_owned(), " \t".to_owned()),
            ("PATH".to_owned(), " /x ".to_owned()),
        ]);
        assert_eq!(environment.setting("BLANK"), None);
        assert_eq!(environment.setting("PATH").as_deref(), Some("/x"));
        assert_eq!(environment.var("PATH").as_deref(), Some(" /x "));
    }
}
