//! What a program leaves behind: the files that the host asked for, one after another.

use std::io::Read;

use rustix::event::{PollFd, PollFlags};
use worldcompute_guest::{MAX_DATA, Message, OutputFile, Stream};

use super::control_group::Events;
use super::host::Host;
use super::{ROOT, Result, image_file};

/// Sends each, up to the first that cannot be given out. The program has ended, and what it started was killed.
pub fn send(outputs: &[OutputFile], host: &mut Host) -> Result<()> {
    if outputs.is_empty() {
        return Ok(());
    }
    wait_for_quiet(host)?;
    for output in outputs {
        if let Err(reason) = send_one(output, host)? {
            return host.send(&Message::NoFile { reason });
        }
    }
    Ok(())
}

/// What was killed may still be on its way out, and write.
fn wait_for_quiet(host: &mut Host) -> Result<()> {
    let mut events = Events::open()?;
    while events.populated()? {
        host.attend(Some(PollFd::new(&events, PollFlags::PRI)))?;
    }
    Ok(())
}

/// Outside, what is wrong with the host; inside, what is wrong with the file.
fn send_one(output: &OutputFile, host: &mut Host) -> Result<Result<()>> {
    let file = match image_file::open(ROOT, &output.path) {
        Ok(file) => file,
        Err(error) => return Ok(Err(error.to_string())),
    };
    // A byte past the limit tells the host that there are more.
    let mut rest = file.take(output.max_bytes.saturating_add(1));
    loop {
        let mut piece = vec![0; host.wait_for_credit(Stream::Files)?.min(MAX_DATA)];
        let read = match rest.read(&mut piece) {
            Ok(read) => read,
            Err(error) => return Ok(Err(error.to_string())),
        };
        piece.truncate(read);
        host.send_output(Stream::Files, piece)?;
        if read == 0 {
            return Ok(Ok(()));
        }
    }
}
