//! Runs random and damaged programs: `cargo run --release -p ptx --example fuzz -- --minutes 10 [--seed N] [FILE…]`.

fn main() -> std::process::ExitCode {
    ptx_testing::fuzz(ptx::launch)
}
