//! `dbb` as built beside its tests: Cargo tells an integration test only of programs of its own package.

fn main() -> std::process::ExitCode {
    dbb::cli::main()
}
