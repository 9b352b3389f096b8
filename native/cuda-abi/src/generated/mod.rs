// Generated files; see their headers.

pub(crate) mod proc_address;
pub(crate) mod signatures;
pub(crate) mod types;
