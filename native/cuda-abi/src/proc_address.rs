//! Which symbol a name means: the look-up behind `cuGetProcAddress`.

use crate::generated::proc_address::ENTRIES;

/// Bit of `cuGetProcAddress`'s flags that asks for the variant with a per-thread default stream.
const PER_THREAD_DEFAULT_STREAM: u64 = 2;

/// A base name and its ABI variants.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) variants: &'static [Variant],
}

/// One ABI variant of a call.
#[derive(Debug)]
pub(crate) struct Variant {
    /// First CUDA version that means this variant.
    pub(crate) since: i32,
    pub(crate) symbol: &'static str,
    pub(crate) per_thread: Option<PerThread>,
}

/// The symbol of a variant for programs with a per-thread default stream.
#[derive(Debug)]
pub(crate) struct PerThread {
    pub(crate) since: i32,
    pub(crate) symbol: &'static str,
}

/// What a look-up found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// The exported symbol.
    Found(&'static str),
    /// The call exists, but not yet in the version asked for.
    VersionNotSufficient,
    /// No call has this name.
    NotFound,
}

/// The symbol that `name` means to a program built for `cuda_version` (13000 for 13.0).
pub fn look_up(name: &str, cuda_version: i32, flags: u64) -> Lookup {
    let Ok(index) = ENTRIES.binary_search_by(|entry| entry.name.cmp(name)) else {
        return Lookup::NotFound;
    };
    let newest = ENTRIES[index].variants.iter().rev().find(|variant| variant.since <= cuda_version);
    let Some(variant) = newest else {
        return Lookup::VersionNotSufficient;
    };
    match &variant.per_thread {
        Some(per_thread) if flags & PER_THREAD_DEFAULT_STREAM != 0 && per_thread.since <= cuda_version => {
            Lookup::Found(per_thread.symbol)
        }
        _ => Lookup::Found(variant.symbol),
    }
}

/// The symbol that `name` means, or `None`: [`look_up`] for callers that do not tell the two misses apart.
pub fn resolve(name: &str, cuda_version: i32, flags: u64) -> Option<&'static str> {
    match look_up(name, cuda_version, flags) {
        Lookup::Found(symbol) => Some(symbol),
        Lookup::VersionNotSufficient | Lookup::NotFound => None,
    }
}

/// Every symbol that a look-up can find, for a library's check that it has them all.
pub fn symbols() -> impl Iterator<Item = &'static str> {
    ENTRIES.iter().flat_map(|entry| entry.variants).flat_map(|variant| {
        std::iter::once(variant.symbol).chain(variant.per_thread.as_ref().map(|per_thread| per_thread.symbol))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_variant_that_the_program_knows_is_chosen() {
        assert_eq!(resolve("cuMemAlloc", 13000, 0), Some("cuMemAlloc_v2"));
        assert_eq!(resolve("cuCtxCreate", 11040, 0), Some("cuCtxCreate_v3"));
        assert_eq!(resolve("cuCtxCreate", 13000, 0), Some("cuCtxCreate_v4"));
        assert_eq!(resolve("cuCtxGetDevice", 12080, 0), Some("cuCtxGetDevice"));
        assert_eq!(resolve("cuCtxGetDevice", 13000, 0), Some("cuCtxGetDevice_v2"));
    }

    #[test]
    fn the_per_thread_flag_chooses_the_suffixed_symbol() {
        assert_eq!(resolve("cuMemcpyHtoD", 13000, 2), Some("cuMemcpyHtoD_v2_ptds"));
        assert_eq!(resolve("cuLaunchKernel", 13000, 2), Some("cuLaunchKernel_ptsz"));
        assert_eq!(resolve("cuMemAlloc", 13000, 2), Some("cuMemAlloc_v2"));
    }

    #[test]
    fn unknown_names_and_versions_too_low_are_told_apart() {
        assert_eq!(look_up("cuNoSuchCall", 13000, 0), Lookup::NotFound);
        assert_eq!(look_up("", 0, 0), Lookup::NotFound);
        assert_eq!(look_up("cuLibraryLoadData", 11080, 0), Lookup::VersionNotSufficient);
    }

    #[test]
    fn entries_are_sorted_for_the_binary_search() {
        assert!(ENTRIES.is_sorted_by(|a, b| a.name < b.name));
    }
}
