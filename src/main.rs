//! The binary: parses arguments, runs a command, turns its outcome into an exit code.

use castoff as _;

fn main() {}
