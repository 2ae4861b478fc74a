//! The process that becomes the program: enters the image, drops to its user, and is replaced.

use std::convert::Infallible;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, setrlimit};
use worldcompute_guest::{HEADER, MAX_RUN, Message, Reader, RunRequest};

use super::user::{self, User};
use super::{FAILURE, ROOT, Result, cannot, cannot_at, control_group, image_file, privileges};

/// What a shell returns for a program that it cannot start. The agent goes by what is in [`FAILURE`].
const NOT_STARTED: u8 = 127;

/// Reads the request from standard input and becomes what it names; leaves the reason in [`FAILURE`] where it cannot.
pub fn run() -> ExitCode {
    // Opened while it can be seen; closed when this process is replaced.
    let failure = File::create(FAILURE);
    let Err(why) = become_program();
    match failure.and_then(|mut file| file.write_all(why.as_bytes())) {
        Ok(()) => {}
        Err(error) => eprintln!("agent: {why} ({error})"),
    }
    ExitCode::from(NOT_STARTED)
}

fn become_program() -> Result<Infallible> {
    let run = read_request()?;
    control_group::join()?;
    rustix::process::setsid().map_err(cannot("start a session"))?;
    rustix::process::chroot(ROOT).map_err(cannot("enter the image"))?;
    std::env::set_current_dir("/").map_err(cannot("enter the image"))?;
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let user = user::find(&run.user)?;
    enter_folder(&run.cwd)?;
    rustix::stdio::dup2_stdin(input(&run.stdin)?).map_err(cannot("open standard input"))?;
    limit(Resource::Nofile, run.open_files.into())?;
    limit(Resource::Core, 0)?;
    privileges::bound()?;
    become_user(&user)?;
    privileges::drop_others()?;
    exec(&run, &user)
}

fn read_request() -> Result<RunRequest> {
    let mut bytes = Vec::new();
    let limit = (HEADER + MAX_RUN) as u64;
    std::io::stdin()
        .lock()
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(cannot("read the request"))?;
    let frame = Reader::of_host()
        .read(&mut bytes.as_slice())
        .map_err(cannot("read the request"))?;
    match frame.map(Message::try_from) {
        Some(Ok(Message::Run(run))) => Ok(*run),
        _ => Err("no request on standard input".to_owned()),
    }
}

fn enter_folder(path: &str) -> Result<()> {
    if path.is_empty() {
        return Ok(());
    }
    fs::create_dir_all(path).map_err(cannot_at("make", path))?;
    std::env::set_current_dir(path).map_err(cannot_at("enter", path))
}

/// What the program reads, as root of the image sees it: the program itself need not be let to open it.
fn input(path: &str) -> Result<File> {
    match path {
        "" => File::open("/dev/null").map_err(cannot("open /dev/null")),
        path => image_file::open("/", path).map_err(cannot_at("open", path)),
    }
}

fn limit(resource: Resource, most: u64) -> Result<()> {
    let limit = Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    setrlimit(resource, limit).map_err(cannot("limit a resource"))
}

/// The user last: what comes before needs the rights that go with it.
fn become_user(user: &User) -> Result<()> {
    rustix::thread::set_thread_groups(&user.groups).map_err(cannot("set the groups"))?;
    rustix::thread::set_thread_res_gid(user.gid, user.gid, user.gid)
        .map_err(cannot("set the group"))?;
    rustix::thread::set_thread_res_uid(user.uid, user.uid, user.uid).map_err(cannot("set the user"))
}

fn exec(run: &RunRequest, user: &User) -> Result<Infallible> {
    let [program, args @ ..] = run.argv.as_slice() else {
        return Err("no program is named".to_owned());
    };
    let mut command = Command::new(program);
    command.args(args).env_clear().env("HOME", &user.home);
    command.envs(run.env.iter().map(|(name, value)| (name, value)));
    Err(cannot_at("run", program)(command.exec()))
}
