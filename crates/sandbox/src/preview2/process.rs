//! `wasi:cli`, `wasi:clocks`, `wasi:random`.

use wasmtime::Result;
use wasmtime::component::Resource;
use wasmtime_wasi::p2::bindings::cli::{
    environment, exit, stderr, stdin, stdout, terminal_input, terminal_output, terminal_stderr,
    terminal_stdin, terminal_stdout,
};
use wasmtime_wasi::p2::bindings::clocks::{monotonic_clock, wall_clock};
use wasmtime_wasi::p2::bindings::random::{insecure, insecure_seed, random};
use wasmtime_wasi::p2::bindings::sync::io::poll::Pollable;
use wasmtime_wasi::p2::bindings::sync::io::streams::{InputStream, OutputStream};

use super::streams::{Awaited, Sink, Source};
use super::{MAX_MOVED, own};
use crate::stop::Stop;
use crate::world::{Printer, TICK, World};

const NANOS: u64 = 1_000_000_000;

/// Nanoseconds since 1970 as preview 2 has them.
pub const fn datetime(nanos: u64) -> wall_clock::Datetime {
    wall_clock::Datetime {
        seconds: nanos / NANOS,
        nanoseconds: (nanos % NANOS) as u32,
    }
}

impl environment::Host for World {
    fn get_environment(&mut self) -> Result<Vec<(String, String)>> {
        let text = self
            .env
            .iter()
            .map(|(name, value)| name.len() + value.len());
        self.account.moves(text.sum::<usize>() as u64)?;
        Ok(self.env.clone())
    }

    fn get_arguments(&mut self) -> Result<Vec<String>> {
        let text = self.args.iter().map(String::len);
        self.account.moves(text.sum::<usize>() as u64)?;
        Ok(self.args.clone())
    }

    fn initial_cwd(&mut self) -> Result<Option<String>> {
        Ok(Some("/".to_owned()))
    }
}

impl exit::Host for World {
    fn exit(&mut self, status: std::result::Result<(), ()>) -> Result<()> {
        Err(Stop::Exit(i32::from(status.is_err())).into())
    }

    fn exit_with_code(&mut self, code: u8) -> Result<()> {
        Err(Stop::Exit(code.into()).into())
    }
}

impl stdin::Host for World {
    fn get_stdin(&mut self) -> Result<Resource<InputStream>> {
        Ok(own(&self.table.push(Source::Stdin)?))
    }
}

impl stdout::Host for World {
    fn get_stdout(&mut self) -> Result<Resource<OutputStream>> {
        Ok(own(&self.table.push(Sink::Print(Printer::Stdout))?))
    }
}

impl stderr::Host for World {
    fn get_stderr(&mut self) -> Result<Resource<OutputStream>> {
        Ok(own(&self.table.push(Sink::Print(Printer::Stderr))?))
    }
}

impl terminal_input::Host for World {}
impl terminal_output::Host for World {}

impl terminal_input::HostTerminalInput for World {
    fn drop(&mut self, terminal: Resource<terminal_input::TerminalInput>) -> Result<()> {
        self.table.delete(terminal)?;
        Ok(())
    }
}

impl terminal_output::HostTerminalOutput for World {
    fn drop(&mut self, terminal: Resource<terminal_output::TerminalOutput>) -> Result<()> {
        self.table.delete(terminal)?;
        Ok(())
    }
}

impl terminal_stdin::Host for World {
    fn get_terminal_stdin(&mut self) -> Result<Option<Resource<terminal_stdin::TerminalInput>>> {
        Ok(None)
    }
}

impl terminal_stdout::Host for World {
    fn get_terminal_stdout(&mut self) -> Result<Option<Resource<terminal_stdout::TerminalOutput>>> {
        Ok(None)
    }
}

impl terminal_stderr::Host for World {
    fn get_terminal_stderr(&mut self) -> Result<Option<Resource<terminal_stderr::TerminalOutput>>> {
        Ok(None)
    }
}

impl wall_clock::Host for World {
    fn now(&mut self) -> Result<wall_clock::Datetime> {
        Ok(datetime(self.clock.read_wall()))
    }

    fn resolution(&mut self) -> Result<wall_clock::Datetime> {
        Ok(datetime(TICK))
    }
}

impl monotonic_clock::Host for World {
    fn now(&mut self) -> Result<u64> {
        Ok(self.clock.read())
    }

    fn resolution(&mut self) -> Result<u64> {
        Ok(TICK)
    }

    fn subscribe_instant(&mut self, instant: u64) -> Result<Resource<Pollable>> {
        self.push_pollable(Awaited::Instant(instant))
    }

    fn subscribe_duration(&mut self, duration: u64) -> Result<Resource<Pollable>> {
        self.push_pollable(Awaited::Instant(self.clock.now().saturating_add(duration)))
    }
}

impl World {
    fn random_bytes(&mut self, count: u64) -> Result<Vec<u8>> {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        if count > MAX_MOVED {
            return Err(wasmtime::Error::msg("too many random bytes at once"));
        }
        self.account.hashes(count as u64)?;
        let mut bytes = vec![0; count];
        self.random.fill(&mut bytes);
        Ok(bytes)
    }
}

impl random::Host for World {
    fn get_random_bytes(&mut self, count: u64) -> Result<Vec<u8>> {
        self.random_bytes(count)
    }

    fn get_random_u64(&mut self) -> Result<u64> {
        Ok(self.random.u64())
    }
}

impl insecure::Host for World {
    fn get_insecure_random_bytes(&mut self, count: u64) -> Result<Vec<u8>> {
        self.random_bytes(count)
    }

    fn get_insecure_random_u64(&mut self) -> Result<u64> {
        Ok(self.random.u64())
    }
}

impl insecure_seed::Host for World {
    fn insecure_seed(&mut self) -> Result<(u64, u64)> {
        Ok((self.random.u64(), self.random.u64()))
    }
}
