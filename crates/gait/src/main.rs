//! `gait`: the command line of the gate. Its commands parse flags, call the library and print; they hold no logic.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
