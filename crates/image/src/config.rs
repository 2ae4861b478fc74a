//! What an image says to run (image spec, "Image Configuration").

use jiff::Timestamp;
use oci_spec::image::{Config, ImageConfiguration};
use worldcompute_fault::{Fault, Result};
use worldcompute_proof::{Sha256, parse_json_within};

use crate::blob::parse_digest;
use crate::platform::Platform;
use crate::refusal::{excerpt, invalid};
use crate::users::User;

/// The largest configuration, in bytes.
pub const MAX_CONFIG_BYTES: u64 = 4 << 20;
/// The most words of a command, and the most variables of an environment.
pub const MAX_WORDS: usize = 4_096;
/// The longest of these, in bytes: what Linux hands to a program (`MAX_ARG_STRLEN`, the final NUL not counted).
pub const MAX_WORD_BYTES: usize = (128 << 10) - 1;
/// The longest path of a working directory, in bytes (`PATH_MAX`, the final NUL not counted).
pub const MAX_PATH_BYTES: usize = 4_095;
/// The longest time of making that is taken, in bytes: one to the nanosecond has 35.
pub const MAX_CREATED_BYTES: usize = 64;

/// The configuration of an image. What is not here is ignored: history, labels, volumes, exposed ports, health checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageConfig {
    /// What it runs on.
    pub platform: Platform,
    /// The digests of the layers, unpacked, the lowest first.
    pub diff_ids: Vec<Sha256>,
    /// Words before the command.
    pub entrypoint: Vec<String>,
    /// The command, unless a job says another.
    pub cmd: Vec<String>,
    /// Variables, in order, names and values.
    pub env: Vec<(String, String)>,
    /// As whom.
    pub user: User,
    /// In which directory, absolute.
    pub cwd: String,
    /// By which signal it is to be stopped, as the image spells it.
    pub stop_signal: Option<String>,
    /// When it was made, RFC 3339 in UTC. What an image says that is no time is not taken.
    pub created: Option<String>,
}

impl ImageConfig {
    /// Reads a configuration.
    ///
    /// # Errors
    /// `invalid_json`; `invalid_image_config`, which names the field.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let value = parse_json_within(bytes, MAX_CONFIG_BYTES as usize)?;
        let read: ImageConfiguration = serde_json::from_value(value)
            .map_err(|error| wrong("it lacks what the format asks for").caused_by(error))?;
        let config = read.config().clone().unwrap_or_default();
        Ok(Self {
            platform: platform(&read)?,
            diff_ids: diff_ids(&read)?,
            entrypoint: words("Entrypoint", config.entrypoint().as_deref())?,
            cmd: words("Cmd", config.cmd().as_deref())?,
            env: environment(&config)?,
            user: User::parse(config.user().as_deref().unwrap_or_default())?,
            cwd: directory(
                "WorkingDir",
                config.working_dir().as_deref().unwrap_or_default(),
            )?,
            stop_signal: config.stop_signal().clone(),
            created: read.created().as_deref().and_then(timestamp),
        })
    }
}

fn platform(read: &ImageConfiguration) -> Result<Platform> {
    let (os, architecture) = (read.os().to_string(), read.architecture().to_string());
    let variant = read
        .variant()
        .as_deref()
        .filter(|variant| !variant.is_empty());
    let variant = variant
        .map(|variant| format!("/{variant}"))
        .unwrap_or_default();
    format!("{os}/{architecture}{variant}").parse()
}

fn timestamp(text: &str) -> Option<String> {
    let text = Some(text).filter(|text| text.len() <= MAX_CREATED_BYTES)?;
    text.parse::<Timestamp>().ok().map(|time| time.to_string())
}

fn diff_ids(read: &ImageConfiguration) -> Result<Vec<Sha256>> {
    if read.rootfs().typ() != "layers" {
        return Err(wrong("rootfs.type is not layers"));
    }
    read.rootfs()
        .diff_ids()
        .iter()
        .map(|digest| parse_digest(digest))
        .collect()
}

fn environment(config: &Config) -> Result<Vec<(String, String)>> {
    let variables = words("Env", config.env().as_deref())?;
    let pair = |variable: String| match variable.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(wrong(&format!(
            "Env holds {}, which is no NAME=value",
            excerpt(&variable)
        ))),
    };
    variables.into_iter().map(pair).collect()
}

pub(crate) fn words(field: &str, words: Option<&[String]>) -> Result<Vec<String>> {
    let words = words.unwrap_or_default();
    if words.len() > MAX_WORDS {
        return Err(wrong(&format!(
            "{field} has {} entries: {MAX_WORDS} is the most",
            words.len()
        )));
    }
    words
        .iter()
        .try_for_each(|word| check_word(field, word, MAX_WORD_BYTES))?;
    Ok(words.to_vec())
}

/// An absolute path; `/` where none is said.
pub(crate) fn directory(field: &str, path: &str) -> Result<String> {
    check_word(field, path, MAX_PATH_BYTES)?;
    match path {
        "" => Ok("/".to_owned()),
        path if path.starts_with('/') => Ok(path.to_owned()),
        path => Err(wrong(&format!(
            "{field} is {}, which is not absolute",
            excerpt(path)
        ))),
    }
}

/// No NUL passes: a system call would end there, and whoever checked the word would have checked another.
fn check_word(field: &str, word: &str, limit: usize) -> Result<()> {
    if word.len() > limit {
        return Err(wrong(&format!(
            "{field} holds {} bytes in one piece: {limit} is the most",
            word.len()
        )));
    }
    match word.contains('\0') {
        true => Err(wrong(&format!("{field} holds a NUL byte"))),
        false => Ok(()),
    }
}

fn wrong(why: &str) -> Fault {
    invalid(
        "invalid_image_config",
        format!("the image's configuration: {why}"),
    )
    .hint("build the image again, or correct what is named")
}
