//! Why a function was not compiled.

/// Why a function was not compiled. It is interpreted instead.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    /// The machine's instruction set has no backend.
    #[error("no machine code for this machine: {0}")]
    Machine(String),
    /// The function was refused by the code generator.
    #[error("{function}: {reason}")]
    Function {
        /// Its name.
        function: String,
        /// The code generator's reason.
        reason: String,
    },
}
