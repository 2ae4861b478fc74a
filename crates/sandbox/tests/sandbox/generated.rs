//! Modules that nobody wrote, by number: the same ones each time.

use std::sync::LazyLock;

use arbitrary::Unstructured;
use wasm_smith::{Config, Module};
use worldcompute_proof::Sha256;

/// Of how many bytes a module is made.
const DNA: u64 = 4096;

/// What the modules may import: calls that read and write memory, files, clocks and randomness.
static WASI: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let calls = [
        ("args_get", "i32 i32"),
        ("args_sizes_get", "i32 i32"),
        ("clock_time_get", "i32 i64 i32"),
        ("environ_get", "i32 i32"),
        ("fd_close", "i32"),
        ("fd_fdstat_get", "i32 i32"),
        ("fd_filestat_get", "i32 i32"),
        ("fd_filestat_set_size", "i32 i64"),
        ("fd_pread", "i32 i32 i32 i64 i32"),
        ("fd_prestat_dir_name", "i32 i32 i32"),
        ("fd_pwrite", "i32 i32 i32 i64 i32"),
        ("fd_read", "i32 i32 i32 i32"),
        ("fd_readdir", "i32 i32 i32 i64 i32"),
        ("fd_renumber", "i32 i32"),
        ("fd_seek", "i32 i64 i32 i32"),
        ("fd_write", "i32 i32 i32 i32"),
        ("path_create_directory", "i32 i32 i32"),
        ("path_filestat_get", "i32 i32 i32 i32 i32"),
        ("path_open", "i32 i32 i32 i32 i32 i64 i64 i32 i32"),
        ("path_rename", "i32 i32 i32 i32 i32 i32"),
        ("path_symlink", "i32 i32 i32 i32 i32"),
        ("poll_oneoff", "i32 i32 i32 i32"),
        ("random_get", "i32 i32"),
        ("sock_accept", "i32 i32 i32"),
    ];
    let imports = calls.map(|(name, parameters)| {
        format!(
            "(import \"wasi_snapshot_preview1\" \"{name}\" (func (param {parameters}) (result i32)))"
        )
    });
    wat::parse_str(format!("(module {})", imports.concat())).unwrap()
});

/// What a command exports.
static COMMAND: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let exports = "(memory (export \"memory\") 1) (func (export \"_start\"))";
    wat::parse_str(format!("(module {exports})")).unwrap()
});

/// A command that may use one of the proposals that this sandbox does without: most are refused.
pub fn any(seed: u64) -> Vec<u8> {
    let config = Config {
        exports: Some(COMMAND.clone()),
        compact_imports_enabled: false,
        gc_enabled: false,
        max_imports: 0,
        exceptions_enabled: seed.is_multiple_of(4),
        reference_types_enabled: seed % 4 == 1,
        threads_enabled: seed % 4 == 2,
        wide_arithmetic_enabled: seed % 4 == 3,
        ..Config::default()
    };
    generate(seed, config)
}

/// A command of what this sandbox takes. Every other one does without most of what traps, so that it comes further.
pub fn command(seed: u64) -> Vec<u8> {
    let config = Config {
        available_imports: Some(WASI.clone()),
        exports: Some(COMMAND.clone()),
        disallow_traps: seed.is_multiple_of(2),
        max_instructions: 400,
        max_memories: 3,
        // Most come into the world with what they may have, some with more.
        max_memory32_bytes: 4 << 20,
        max_memory64_bytes: 4 << 20,
        max_table_elements: 20_000,
        compact_imports_enabled: false,
        exceptions_enabled: false,
        gc_enabled: false,
        // They bring references to things outside, which come with the collector that this sandbox does without.
        reference_types_enabled: false,
        threads_enabled: false,
        wide_arithmetic_enabled: false,
        ..Config::default()
    };
    generate(seed, config)
}

fn generate(seed: u64, config: Config) -> Vec<u8> {
    let block =
        |index: u64| *Sha256::of([seed.to_be_bytes(), index.to_be_bytes()].concat()).as_bytes();
    let dna: Vec<u8> = (0..DNA / 32).flat_map(block).collect();
    let module = Module::new(config, &mut Unstructured::new(&dna));
    module.unwrap().to_bytes()
}
