//! The engine: from bytes to a program that can be started.

use wasmtime::component::{Component, Linker as ComponentLinker};
use wasmtime::{Config, Engine as Wasmtime, InstancePre, Linker, Module, Store};
use wasmtime_wasi::p2::bindings::sync::{Command, CommandPre};
use worldcompute_fault::{Fault, Result, WcCode};

use crate::inspect::{Kind, brief, inspect};
use crate::world::World;
use crate::{preview1, preview2};

/// Stack of a guest, in bytes. Guests run on threads with 2 MiB.
const STACK: usize = 512 << 10;
/// Most bytes of a compiled program.
const MAX_PROGRAM: usize = 256 << 20;
/// The function every module has to export.
const START: &str = "_start";

/// Compiles programs, and knows what they may import.
pub struct Engine {
    wasmtime: Wasmtime,
    modules: Linker<World>,
    components: ComponentLinker<World>,
    max_program: usize,
}

/// A compiled program, checked to find all that it imports and to have a beginning.
pub enum Program {
    Module(InstancePre<World>),
    Component(CommandPre<World>),
}

impl Engine {
    /// # Errors
    /// WC-007 on a machine that cannot run compiled WebAssembly.
    pub fn new() -> Result<Self> {
        let build = || -> wasmtime::Result<Self> {
            let wasmtime = Wasmtime::new(&deterministic())?;
            let mut modules = Linker::new(&wasmtime);
            preview1::add_to_linker(&mut modules)?;
            let mut components = ComponentLinker::new(&wasmtime);
            preview2::add_to_linker(&mut components)?;
            Ok(Self {
                wasmtime,
                modules,
                components,
                max_program: MAX_PROGRAM,
            })
        };
        build().map_err(|error| {
            Fault::wc(
                WcCode::SandboxUnavailable,
                format!("no WebAssembly engine: {error:#}"),
            )
        })
    }

    pub const fn wasmtime(&self) -> &Wasmtime {
        &self.wasmtime
    }

    /// Compiles a workload.
    ///
    /// # Errors
    /// WC-001 for anything that is not a valid program, imports more than WASI, or has no beginning, and for what is too
    /// large once it is compiled.
    pub fn compile(&self, workload: &[u8]) -> Result<Program> {
        let (kind, binary) = inspect(workload)?;
        let program = match kind {
            Kind::Module => self.compile_module(&binary),
            Kind::Component => self.compile_component(&binary),
        };
        let program = program.map_err(|error| {
            Fault::wc(WcCode::InvalidManifest, format!("the workload cannot be run: {}", brief(&error)))
                .hint("build it as a command for wasm32-wasip1 or wasm32-wasip2, importing nothing but WASI")
        })?;
        match program.size() {
            size if size > self.max_program => Err(too_large(size, self.max_program)),
            _ => Ok(program),
        }
    }

    fn compile_module(&self, binary: &[u8]) -> wasmtime::Result<Program> {
        let module = Module::from_binary(&self.wasmtime, binary)?;
        let start = module
            .get_export(START)
            .and_then(|export| export.func().cloned());
        let is_command =
            start.is_some_and(|start| start.params().len() == 0 && start.results().len() == 0);
        if !is_command {
            wasmtime::bail!("it exports no function `{START}` without parameters and results");
        }
        Ok(Program::Module(self.modules.instantiate_pre(&module)?))
    }

    fn compile_component(&self, binary: &[u8]) -> wasmtime::Result<Program> {
        let component = Component::from_binary(&self.wasmtime, binary)?;
        let ready = self.components.instantiate_pre(&component)?;
        Ok(Program::Component(CommandPre::new(ready)?))
    }
}

impl Program {
    /// Runs the program to its end and returns its exit code.
    ///
    /// # Errors
    /// A [`crate::stop::Stop`] or a trap.
    pub fn call(&self, store: &mut Store<World>) -> wasmtime::Result<i32> {
        match self {
            Self::Module(module) => {
                let instance = module.instantiate(&mut *store)?;
                instance
                    .get_typed_func::<(), ()>(&mut *store, START)?
                    .call(store, ())?;
                Ok(0)
            }
            Self::Component(command) => {
                let command: Command = command.instantiate(&mut *store)?;
                let result = command.wasi_cli_run().call_run(store)?;
                Ok(i32::from(result.is_err()))
            }
        }
    }

    /// Bytes of the compiled code.
    pub fn size(&self) -> usize {
        let image = match self {
            Self::Module(module) => module.module().image_range(),
            Self::Component(command) => command.instance_pre().component().image_range(),
        };
        (image.end as usize).saturating_sub(image.start as usize)
    }
}

fn too_large(size: usize, most: usize) -> Fault {
    Fault::wc(
        WcCode::InvalidManifest,
        format!("the workload has {size} bytes when it is compiled, {most} is the most"),
    )
    .hint("split the module into several jobs")
}

/// Whatever WebAssembly leaves to the implementation is decided here, so that every machine decides alike.
fn deterministic() -> Config {
    let mut config = Config::new();
    config
        .cranelift_nan_canonicalization(true)
        .relaxed_simd_deterministic(true)
        .consume_fuel(true)
        .epoch_interruption(true)
        .max_wasm_stack(STACK)
        // Only asynchronous components need it, and there are none.
        .concurrency_support(false)
        // An exit is a trap as well: do not walk the stack for it.
        .wasm_backtrace_max_frames(None)
        .generate_address_map(false)
        .native_unwind_info(false);
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &[u8] = b"(module (func (export \"_start\")))";

    #[test]
    fn a_program_may_be_so_large_when_it_is_compiled_and_no_larger() {
        let mut engine = Engine::new().unwrap();
        let size = engine.compile(SMALL).unwrap().size();
        assert!((1..MAX_PROGRAM).contains(&size), "{size}");
        engine.max_program = size;
        engine.compile(SMALL).unwrap();
        engine.max_program = size - 1;
        let fault = engine.compile(SMALL).err().unwrap();
        assert_eq!(fault.number(), Some(WcCode::InvalidManifest));
        assert!(fault.message().contains("when it is compiled"), "{fault}");
    }
}
