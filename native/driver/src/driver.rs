//! The loaded library.

use std::ops::Deref;
use std::path::{Path, PathBuf};

use crate::functions::Functions;
use crate::simulated::Simulated;

/// Why a library cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("`{path}` cannot be loaded: {source}")]
pub struct LoadError {
    path: PathBuf,
    source: libloading::Error,
}

/// A loaded libcuda. Its functions are reached through [`Deref`].
#[derive(Debug)]
pub struct Driver {
    path: PathBuf,
    functions: Functions,
    simulated: Option<Simulated>,
    // Declared last: the function pointers above are used until the very end.
    _library: libloading::Library,
}

impl Driver {
    /// Loads the library at `path`.
    pub fn load(path: &Path) -> Result<Driver, LoadError> {
        // SAFETY: the caller names a libcuda; its initialisers are those that any CUDA program runs.
        let library = unsafe { libloading::Library::new(path) }
            .map_err(|source| LoadError { path: path.to_owned(), source })?;
        // SAFETY: a libcuda has CUDA's signatures, and the library lives as long as `functions`.
        let functions = unsafe { Functions::load(&library) };
        let simulated = Simulated::find(&library);
        Ok(Driver { path: path.to_owned(), functions, simulated, _library: library })
    }

    /// Where the library is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The simulated GPU's own extension, if this is its library.
    pub fn simulated(&self) -> Option<Simulated> {
        self.simulated
    }
}

impl Deref for Driver {
    type Target = Functions;

    fn deref(&self) -> &Functions {
        &self.functions
    }
}
