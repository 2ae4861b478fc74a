//! What runs, where image and job are put together.

use worldcompute_fault::{Category, Fault, Result};

use crate::config::{self, ImageConfig};
use crate::users::{Identity, User};

/// Where programs are looked for, if neither image nor job say.
pub const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a job says otherwise than its image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Takes the place of the image's `Cmd`, as with `docker run IMAGE COMMAND`: the entrypoint stays in front of it.
    /// Empty: the image's own.
    pub command: Vec<String>,
    /// Are set beside the image's variables, or instead of those of the same name.
    pub env: Vec<(String, String)>,
}

/// A program and how it is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// The program and its arguments; never empty.
    pub argv: Vec<String>,
    /// Names and values; every name once.
    pub env: Vec<(String, String)>,
    /// As whom, to be looked up in the image.
    pub user: User,
    /// In which directory, absolute.
    pub cwd: String,
}

impl ImageConfig {
    /// What runs for a job: entrypoint and command, the image's environment with that of the job over it.
    ///
    /// # Errors
    /// `command_missing` where neither the image nor the job say what to run; `invalid_image_config` for words that no
    /// program can be given.
    pub fn process(&self, job: &Overrides) -> Result<Process> {
        let command = match job.command.as_slice() {
            [] => self.cmd.clone(),
            command => config::words("command", Some(command))?,
        };
        let argv = [self.entrypoint.clone(), command].concat();
        if argv.first().is_none_or(String::is_empty) {
            return Err(nothing_to_run());
        }
        Ok(Process {
            argv,
            env: self.environment(&job.env),
            user: self.user.clone(),
            cwd: self.cwd.clone(),
        })
    }

    /// Of a name that is there twice the last value counts, in the place of the first.
    fn environment(&self, job: &[(String, String)]) -> Vec<(String, String)> {
        let mut env: Vec<(String, String)> = Vec::new();
        for (name, value) in self.env.iter().chain(job) {
            set(&mut env, name, value);
        }
        if !env.iter().any(|(name, _)| name == "PATH") {
            set(&mut env, "PATH", DEFAULT_PATH);
        }
        env
    }
}

impl Process {
    /// The environment once it is known who runs it: `HOME` is that of the account, unless it is set.
    pub fn env_of(&self, who: &Identity) -> Vec<(String, String)> {
        let mut env = self.env.clone();
        if !env.iter().any(|(name, _)| name == "HOME") {
            set(&mut env, "HOME", &who.home);
        }
        env
    }
}

fn set(env: &mut Vec<(String, String)>, name: &str, value: &str) {
    match env.iter_mut().find(|(own, _)| own == name) {
        Some((_, own)) => value.clone_into(own),
        None => env.push((name.to_owned(), value.to_owned())),
    }
}

fn nothing_to_run() -> Fault {
    let message = "neither the image nor the job say what to run";
    Fault::new(Category::InvalidInput, "command_missing", message).hint("give the job a command")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(ToString::to_string).collect()
    }

    fn image(entrypoint: &[&str], cmd: &[&str], env: &[&str]) -> ImageConfig {
        let document = serde_json::json!({
            "architecture": "amd64", "os": "linux",
            "rootfs": { "type": "layers", "diff_ids": [] },
            "config": { "Entrypoint": entrypoint, "Cmd": cmd, "Env": env, "User": "app", "WorkingDir": "/srv" },
        });
        ImageConfig::parse(document.to_string().as_bytes()).unwrap()
    }

    fn argv(image: &ImageConfig, command: &[&str]) -> Vec<String> {
        let job = Overrides {
            command: words(command),
            ..Overrides::default()
        };
        image.process(&job).unwrap().argv
    }

    #[test]
    fn a_jobs_command_takes_the_place_of_cmd_and_never_of_the_entrypoint() {
        let both = image(&["/bin/sh", "-c"], &["echo image"], &[]);
        assert_eq!(argv(&both, &[]), words(&["/bin/sh", "-c", "echo image"]));
        assert_eq!(
            argv(&both, &["echo job"]),
            words(&["/bin/sh", "-c", "echo job"])
        );
        assert_eq!(
            argv(&image(&[], &["ls"], &[]), &["id", "-u"]),
            words(&["id", "-u"])
        );
        assert_eq!(argv(&image(&["top"], &[], &[]), &[]), words(&["top"]));
    }

    #[test]
    fn an_image_that_runs_nothing_needs_a_command() {
        for nothing in [image(&[], &[], &[]), image(&[""], &["x"], &[])] {
            let fault = nothing.process(&Overrides::default()).unwrap_err();
            assert_eq!(fault.code(), "command_missing");
        }
        assert_eq!(argv(&image(&[], &[], &[]), &["true"]), words(&["true"]));
    }

    #[test]
    fn a_jobs_variables_are_set_over_those_of_the_image_and_every_name_once() {
        let image = image(&[], &["env"], &["A=1", "B=x=y", "A=2", "C="]);
        let job = Overrides {
            env: vec![
                ("B".to_owned(), "job".to_owned()),
                ("D".to_owned(), String::new()),
            ],
            ..Overrides::default()
        };
        let process = image.process(&job).unwrap();
        let pairs = [
            ("A", "2"),
            ("B", "job"),
            ("C", ""),
            ("D", ""),
            ("PATH", DEFAULT_PATH),
        ];
        assert_eq!(
            process.env,
            pairs.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
        assert_eq!(
            (process.cwd.as_str(), process.user.to_string().as_str()),
            ("/srv", "app")
        );
    }

    #[test]
    fn home_is_that_of_the_account_unless_it_is_set() {
        let who = Identity {
            uid: 5,
            gid: 5,
            groups: vec![],
            home: "/home/app".to_owned(),
        };
        let home = |env: &[&str]| {
            let process = image(&[], &["env"], env)
                .process(&Overrides::default())
                .unwrap();
            let env = process.env_of(&who);
            env.into_iter().find(|(name, _)| name == "HOME").unwrap().1
        };
        assert_eq!(home(&[]), "/home/app");
        assert_eq!(home(&["HOME=/data"]), "/data");
    }

    #[test]
    fn a_command_that_no_program_can_be_given_is_refused() {
        let image = image(&[], &["ls"], &[]);
        for command in [
            vec!["a\0b".to_owned()],
            vec!["x".to_owned(); config::MAX_WORDS + 1],
        ] {
            let job = Overrides {
                command,
                ..Overrides::default()
            };
            assert_eq!(
                image.process(&job).unwrap_err().code(),
                "invalid_image_config"
            );
        }
    }
}
