//! Says which functions of PTX files are not executed, and why: `cargo run -p ptx --example check -- FILE…`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut refused = 0;
    for path in std::env::args().skip(1) {
        let module = match std::fs::read_to_string(&path) {
            Ok(text) => ptx::Module::parse(&text),
            Err(error) => {
                eprintln!("{path}: {error}");
                return ExitCode::FAILURE;
            }
        };
        match module {
            Ok(module) => {
                let all = module.functions().len();
                let bad: Vec<_> =
                    module.functions().iter().filter(|function| function.unsupported.is_some()).collect();
                println!("{path}: {all} functions, {} not executed", bad.len());
                for function in &bad {
                    if let Some(reason) = &function.unsupported {
                        println!("  {}: {reason}", function.name);
                    }
                }
                refused += bad.len();
            }
            Err(error) => {
                println!("{path}: {error}");
                refused += 1;
            }
        }
    }
    if refused == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
