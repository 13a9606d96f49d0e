//! The binary: parses arguments, runs a command, turns its outcome into an exit code.

#[cfg(feature = "fast-alloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    castoff::cli::run().into()
}
