//! The measurements. `peers::run` says what there is.

fn main() -> std::process::ExitCode {
    peers::run(|| None)
}
