//! feedsme on the command line.

fn main() -> std::process::ExitCode {
    feedsme::cli::main()
}
