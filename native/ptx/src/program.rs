//! Decoded code.
#[derive(Debug, Default)]
pub(crate) struct Code;
