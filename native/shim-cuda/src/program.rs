//! The program whose guest we are.

/// Name of the program, without its directory and without line breaks.
pub fn name() -> String {
    std::env::current_exe()
        .ok()
        .and_then(|path| path.file_name().map(|name| name.to_string_lossy().replace(['\n', '\r'], " ")))
        .unwrap_or_else(|| "unknown".to_owned())
}
