//! swtpm, a TPM in a process of its own, and somebody on the bus between it and us.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tss_esapi::handles::PcrHandle;
use tss_esapi::interface_types::algorithm::HashingAlgorithm;
use tss_esapi::interface_types::session_handles::AuthSession;
use tss_esapi::structures::{Digest, DigestValues};

use crate::tpm::Tpm;
use crate::tpm::chip::Chip;

/// The command code of `TPM2_Unseal`.
const UNSEAL: u32 = 0x15e;
/// The TPM library's sockets are inherited by whatever is started meanwhile, such as the emulator of another test. Held
/// open there, a connection would never end, and an emulator serves one at a time.
const CLOSE_ALL_AND_RUN: &str = r#"
for fd in /proc/$$/fd/*; do
    fd=${fd##*/}
    [ "$fd" -le 2 ] || eval "exec $fd>&-"
done
exec "$0" "$@"
"#;
/// How often ports are looked for.
const MAX_TRIES: usize = 100;

/// `false`, and a line that says why, where there is no emulator.
pub(super) fn is_there() -> bool {
    let found = Command::new("swtpm").arg("--version").output();
    match found {
        Ok(_) => true,
        Err(error) => {
            println!("skipped: swtpm does not run: {error} (package swtpm)");
            false
        }
    }
}

/// A TPM with a memory of its own.
pub(super) struct Emulator {
    state: TempDir,
    process: Pid,
    port: u16,
}

impl Emulator {
    pub(super) fn new() -> Self {
        let state = tempfile::tempdir().unwrap();
        let (process, port) = start(&state);
        Self {
            state,
            process,
            port,
        }
    }

    pub(super) const fn tpm(&self) -> Tpm {
        Tpm::Swtpm(self.port)
    }

    /// Switches it off and on: its registers start anew.
    pub(super) fn reboot(&mut self) {
        self.stop();
        (self.process, self.port) = start(&self.state);
    }

    /// What firmware does when it measures what it starts.
    pub(super) fn extend(&self, register: PcrHandle) {
        let mut chip = Chip::open(&self.tpm()).unwrap();
        let mut digests = DigestValues::new();
        let measured = Digest::try_from(vec![7; 32]).unwrap();
        digests.set(HashingAlgorithm::Sha256, measured);
        let extended = chip
            .context()
            .execute_with_session(Some(AuthSession::Password), |context| {
                context.pcr_extend(register, digests)
            });
        extended.unwrap();
    }

    fn stop(&self) {
        kill_process(self.process, Signal::KILL).unwrap();
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Two ports in a row that nobody else has: for commands, and for control.
pub(super) fn ports() -> (TcpListener, TcpListener) {
    for _ in 0..MAX_TRIES {
        let first = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let next = port_of(&first).checked_add(1);
        let second = next.and_then(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok());
        if let Some(second) = second {
            return (first, second);
        }
    }
    panic!("no two ports in a row are free");
}

pub(super) fn port_of(listener: &TcpListener) -> u16 {
    listener.local_addr().unwrap().port()
}

/// It goes to the background once it listens; somebody who took a port meanwhile is not waited for.
fn start(state: &TempDir) -> (Pid, u16) {
    let pid_file = state.path().join("pid");
    for _ in 0..MAX_TRIES {
        let (commands, control) = ports();
        let (port, control_port) = (port_of(&commands), port_of(&control));
        drop((commands, control));
        let at = |port| format!("type=tcp,bindaddr=127.0.0.1,port={port}");
        let started = Command::new("bash")
            .args(["-c", CLOSE_ALL_AND_RUN, "swtpm"])
            .args(["socket", "--tpm2", "--daemon"])
            .args(["--flags", "not-need-init,startup-clear"])
            .arg("--pid")
            .arg(format!("file={}", pid_file.display()))
            .arg("--tpmstate")
            .arg(format!("dir={}", state.path().display()))
            .args(["--server", &at(port)])
            .args(["--ctrl", &at(control_port)])
            .output()
            .unwrap();
        if started.status.success() {
            let pid = fs::read_to_string(&pid_file).unwrap();
            return (Pid::from_raw(pid.trim().parse().unwrap()).unwrap(), port);
        }
    }
    panic!("swtpm does not start");
}

/// Somebody on the bus: hears everything, and may change the answer to what matters most.
pub(super) struct Bus {
    port: u16,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Bus {
    pub(super) fn to(tpm: &Emulator, forges: bool) -> Self {
        let (commands, control) = ports();
        let bus = Self {
            port: port_of(&commands),
            heard: Arc::default(),
        };
        for (listener, port) in [(commands, tpm.port), (control, tpm.port + 1)] {
            let heard = bus.heard.clone();
            thread::spawn(move || {
                for client in listener.incoming() {
                    carry(client.unwrap(), port, &heard, forges);
                }
            });
        }
        bus
    }

    pub(super) const fn tpm(&self) -> Tpm {
        Tpm::Swtpm(self.port)
    }

    pub(super) fn heard(&self, secret: &[u8]) -> bool {
        let heard = self.heard.lock().unwrap();
        heard.windows(secret.len()).any(|window| window == secret)
    }
}

/// One connection, a command and its answer at a time.
fn carry(mut client: TcpStream, port: u16, heard: &Mutex<Vec<u8>>, forges: bool) {
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    let mut bytes = [0; 8192];
    while let Ok(length @ 1..) = client.read(&mut bytes) {
        let command = bytes[..length].to_vec();
        server.write_all(&command).unwrap();
        let Ok(length @ 1..) = server.read(&mut bytes) else {
            break;
        };
        let mut answer = bytes[..length].to_vec();
        if forges && command.get(6..10) == Some(&UNSEAL.to_be_bytes()) {
            *answer.last_mut().unwrap() ^= 1;
        }
        let mut heard = heard.lock().unwrap();
        heard.extend_from_slice(&command);
        heard.extend_from_slice(&answer);
        if client.write_all(&answer).is_err() {
            break;
        }
    }
    let _ = server.shutdown(Shutdown::Both);
}
