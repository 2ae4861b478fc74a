//! WASI preview 2: the interfaces of components, as translations onto the guest's [`World`].
//!
//! The traits are generated from the WIT of `wasi:cli/command`. A handle names an entry of the world's resource table;
//! the types of the generated code that stand for resources are never made, only our own.

mod files;
mod process;
mod streams;

use wasmtime::component::{HasSelf, Linker, Resource};
use wasmtime_wasi::p2::bindings::{self, sync};
use wasmtime_wasi::sockets::{WasiSockets, WasiSocketsCtxView};

use crate::world::World;

/// Most bytes moved by one call, whatever the guest asks for.
const MAX_MOVED: usize = 64 << 10;

/// Links all of `wasi:cli/command`, sockets included, of which none can be opened.
pub fn add_to_linker(linker: &mut Linker<World>) -> wasmtime::Result<()> {
    add_io(linker)?;
    add_process(linker)?;
    add_sockets(linker)
}

fn add_io(l: &mut Linker<World>) -> wasmtime::Result<()> {
    type Own = HasSelf<World>;
    sync::io::error::add_to_linker::<World, Own>(l, called)?;
    sync::io::poll::add_to_linker::<World, Own>(l, called)?;
    sync::io::streams::add_to_linker::<World, Own>(l, called)?;
    sync::filesystem::types::add_to_linker::<World, Own>(l, called)?;
    bindings::filesystem::preopens::add_to_linker::<World, Own>(l, called)
}

fn add_process(l: &mut Linker<World>) -> wasmtime::Result<()> {
    use bindings::{cli, clocks, random};
    type Own = HasSelf<World>;
    clocks::wall_clock::add_to_linker::<World, Own>(l, called)?;
    clocks::monotonic_clock::add_to_linker::<World, Own>(l, called)?;
    random::random::add_to_linker::<World, Own>(l, called)?;
    random::insecure::add_to_linker::<World, Own>(l, called)?;
    random::insecure_seed::add_to_linker::<World, Own>(l, called)?;
    cli::exit::add_to_linker::<World, Own>(l, called)?;
    cli::environment::add_to_linker::<World, Own>(l, called)?;
    cli::stdin::add_to_linker::<World, Own>(l, called)?;
    cli::stdout::add_to_linker::<World, Own>(l, called)?;
    cli::stderr::add_to_linker::<World, Own>(l, called)?;
    cli::terminal_input::add_to_linker::<World, Own>(l, called)?;
    cli::terminal_output::add_to_linker::<World, Own>(l, called)?;
    cli::terminal_stdin::add_to_linker::<World, Own>(l, called)?;
    cli::terminal_stdout::add_to_linker::<World, Own>(l, called)?;
    cli::terminal_stderr::add_to_linker::<World, Own>(l, called)
}

fn add_sockets(l: &mut Linker<World>) -> wasmtime::Result<()> {
    use bindings::sockets;
    sync::sockets::tcp::add_to_linker::<World, WasiSockets>(l, network)?;
    sync::sockets::udp::add_to_linker::<World, WasiSockets>(l, network)?;
    sync::sockets::udp_create_socket::add_to_linker::<World, WasiSockets>(l, network)?;
    sockets::tcp_create_socket::add_to_linker::<World, WasiSockets>(l, network)?;
    sockets::instance_network::add_to_linker::<World, WasiSockets>(l, network)?;
    sockets::network::add_to_linker::<World, WasiSockets>(l, &Default::default(), network)?;
    sockets::ip_name_lookup::add_to_linker::<World, WasiSockets>(l, network)
}

/// The world, with a call counted: every call comes through here.
const fn called(world: &mut World) -> &mut World {
    world.account.called();
    world
}

const fn network(world: &mut World) -> WasiSocketsCtxView<'_> {
    world.account.called();
    WasiSocketsCtxView {
        ctx: &mut world.sockets,
        table: &mut world.table,
    }
}

/// A handle of the generated code, as the handle of our own entry behind it.
fn own<Generated, Own: 'static>(handle: &Resource<Generated>) -> Resource<Own>
where
    Generated: 'static,
{
    Resource::new_own(handle.rep())
}
