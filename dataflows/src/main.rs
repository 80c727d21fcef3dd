//! `dbb`: see `dbb --help`.

fn main() -> std::process::ExitCode {
    dbb::cli::main()
}
