//! Calls that Farpool does not support yet: they answer `CUDA_ERROR_NOT_SUPPORTED` and say so once.

use cuda_abi::CUresult;

/// The answer of `name`.
pub fn unsupported(name: &'static str) -> CUresult {
    crate::report::once(&format!("{name} is not supported by Farpool yet"));
    CUresult::NOT_SUPPORTED
}
