//! `worldcompute job run`: one module, its output on standard output, its exit code as our own.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Read};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;
use worldcompute_fault::{Fault, Result, WcCode};
use worldcompute_node::api::{Client, JobView, MAX_CONTENT_BYTES, Submitted};
use worldcompute_node::{Config, Home, Node, NodeOptions, Roles, Running, Storage};
use worldcompute_proof::Cid;

use super::daemon::{self, StopSignal};
use super::donor::is_running;
use super::manifest::{self, Prepared};
use super::{Context, job, key_loss};
use crate::args::RunArgs;

/// How long to wait for a donor that could take the module.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a module on the cluster of the running daemon, or in this process.
pub async fn run(context: &Context, args: RunArgs) -> Result<ExitCode> {
    let work = Work::read(&args)?;
    let mut stop = StopSignal::listen(false)?;
    let client = context.client()?;
    if !args.local && stop.unless_told(is_running(&client)).await? {
        return on(context, &client, work, &mut stop).await;
    }
    let home = local_home(context, args.local)?;
    let _telemetry = context.telemetry("warn", None, &Config::load(&home.config())?)?;
    let storage = match args.local {
        true => Storage::InHome,
        false => Storage::Configured,
    };
    let local = key_loss::or_reset(context, &home, storage, async || {
        start_local(&home, storage).await
    })
    .await?;
    let ended = on(context, &Client::new(home.socket()), work, &mut stop).await;
    local.stop().await?;
    ended
}

/// What is to be run: the manifest a user would have written, and the bytes it names.
struct Work {
    document: Vec<u8>,
    objects: Vec<Vec<u8>>,
}

impl Work {
    /// Reads the module and standard input before anything is started.
    fn read(args: &RunArgs) -> Result<Self> {
        let module = manifest::read(&args.module, MAX_CONTENT_BYTES as u64)?;
        let name = file_name(&args.module);
        let mut command = vec![name.clone()];
        command.extend(args.args.iter().cloned());
        let mut spec = json!({
            "wasm": format!("cid:{}", Cid::raw(&module)),
            "command": command,
            "env": environment(&args.env)?,
            "resources": { "memory": args.memory },
            "max_wall_time": args.max_wall_time,
            "acceptable_use_classes": [args.class],
        });
        let mut objects = vec![module];
        if let (Some(input), Some(spec)) = (standard_input()?, spec.as_object_mut()) {
            spec.insert(
                "stdin".to_owned(),
                json!(format!("cid:{}", Cid::raw(&input))),
            );
            objects.push(input);
        }
        let document = json!({ "apiVersion": "worldcompute/v1", "kind": "Job", "metadata": { "name": slug(&name) }, "spec": spec });
        Ok(Self {
            document: document.to_string().into_bytes(),
            objects,
        })
    }

    async fn hand_over(self, client: &Client) -> Result<Submitted> {
        for object in self.objects {
            client.add_content(object).await?;
        }
        let prepared = Prepared::from_document(&self.document, Path::new(""))?;
        prepared.hand_over(client, Some(PATIENCE)).await
    }
}

/// With `--local` a home of its own, since the user's may be a running daemon's.
fn local_home(context: &Context, local: bool) -> Result<Home> {
    let home = context.home()?;
    Ok(if local {
        Home::at(home.root().join("local"))
    } else {
        home
    })
}

/// A node of this process that talks to nobody and runs what it is given.
async fn start_local(home: &Home, storage: Storage) -> Result<Running> {
    let config = Config {
        bootstrap: vec![],
        default_relays: false,
        mdns: false,
        circuit_only: true,
        ..Config::load(&home.config())?
    };
    Node::start(NodeOptions {
        home: home.clone(),
        config,
        roles: Roles::LOCAL,
        exact_port: false,
        storage,
    })
    .await
}

async fn on(
    context: &Context,
    client: &Client,
    work: Work,
    stop: &mut StopSignal,
) -> Result<ExitCode> {
    let submitted = stop.unless_told(work.hand_over(client)).await?;
    let ended = tokio::select! {
        ended = job::follow(client, &submitted.job_id, |_| {}) => ended?,
        () = stop.told() => {
            client.cancel(&submitted.job_id).await?;
            return Err(interrupted(&submitted.job_id));
        }
    };
    for (name, bytes) in [("stdout", true), ("stderr", false)] {
        if let Ok(text) = client.result(&ended.job_id, 0, name).await {
            if bytes {
                context.output.bytes(&text)?
            } else {
                context.output.error_bytes(&text)?
            }
        }
    }
    exit_of(&ended)
}

fn file_name(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn environment(pairs: &[String]) -> Result<BTreeMap<String, String>> {
    let mut variables = BTreeMap::new();
    for pair in pairs {
        let (name, value) = pair
            .split_once('=')
            .ok_or_else(|| Fault::usage(format!("--env {pair:?} is not NAME=VALUE")))?;
        if variables
            .insert(name.to_owned(), value.to_owned())
            .is_some()
        {
            return Err(Fault::usage(format!("--env names {name:?} twice")));
        }
    }
    Ok(variables)
}

/// What was piped in; nothing when a person types.
fn standard_input() -> Result<Option<Vec<u8>>> {
    let input = std::io::stdin();
    if input.is_terminal() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    input
        .lock()
        .take(MAX_CONTENT_BYTES as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Fault::io("read standard input", &error))?;
    if bytes.len() > MAX_CONTENT_BYTES {
        return Err(Fault::wc(
            WcCode::InvalidManifest,
            format!("standard input is larger than {MAX_CONTENT_BYTES} bytes"),
        ));
    }
    Ok(Some(bytes).filter(|bytes| !bytes.is_empty()))
}

/// A job's name made of a file's.
fn slug(name: &str) -> String {
    let slug: String = name
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        })
        .collect();
    let slug = slug.trim_matches('-');
    if slug.is_empty() {
        "module".to_owned()
    } else {
        slug.chars().take(63).collect()
    }
}

fn exit_of(job: &JobView) -> Result<ExitCode> {
    match (job.exit_code, &job.error) {
        (Some(code), _) => Ok(ExitCode::from(low_byte(code))),
        (None, Some(error)) => Err(Fault::from_problem(error.clone())),
        (None, None) => Err(Fault::wc(
            WcCode::Internal,
            job.reason
                .clone()
                .unwrap_or_else(|| format!("the job is {}", job.status)),
        )),
    }
}

/// A process has eight bits for its exit status, a guest thirty-two. What is not 0 there is not 0 here.
fn low_byte(code: i32) -> u8 {
    match code.to_le_bytes() {
        [0, rest @ ..] if rest != [0; 3] => 1,
        [low, ..] => low,
    }
}

fn interrupted(job: &str) -> Fault {
    daemon::interrupted(format!("interrupted; job {job} was cancelled"))
        .hint("run it again, or submit it with 'worldcompute job submit' to leave it running")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jobs_name_is_a_slug_of_the_file() {
        assert_eq!(slug("Hello World.wasm"), "hello-world-wasm");
        assert_eq!(slug("---"), "module");
    }

    #[test]
    fn a_guest_that_failed_never_looks_like_one_that_succeeded() {
        for (code, status) in [
            (0, 0),
            (3, 3),
            (255, 255),
            (256, 1),
            (259, 3),
            (-1, 255),
            (i32::MIN, 1),
        ] {
            assert_eq!(low_byte(code), status, "{code}");
        }
    }

    #[test]
    fn an_environment_without_equals_is_a_usage_error() {
        assert_eq!(environment(&["A".to_owned()]).unwrap_err().exit_code(), 2);
        assert_eq!(environment(&["A=b=c".to_owned()]).unwrap()["A"], "b=c");
    }

    #[test]
    fn a_variable_that_is_given_twice_is_a_usage_error() {
        let twice = ["A=1", "B=", "A=1"].map(String::from);
        assert_eq!(environment(&twice).unwrap_err().exit_code(), 2);
        assert_eq!(environment(&twice[..2]).unwrap().len(), 2);
    }
}
