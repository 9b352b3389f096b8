//! The time of this place, as nvidia-smi writes it.

use std::ffi::CStr;
use std::time::{SystemTime, UNIX_EPOCH};

/// A moment, in the formats of this program.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Moment {
    /// `Mon Nov 30 12:45:10 2026`
    pub spoken: String,
    /// `2026/11/30 12:45:10.123`
    pub precise: String,
}

pub fn now() -> Moment {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = libc::time_t::try_from(since.as_secs()).unwrap_or(0);
    // SAFETY: plain numbers, for which zeros are valid; it is filled by the next call.
    let mut parts: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both are locals.
    unsafe { libc::localtime_r(&raw const seconds, &raw mut parts) };
    Moment {
        spoken: format(&parts, c"%a %b %e %H:%M:%S %Y"),
        precise: format!("{}.{:03}", format(&parts, c"%Y/%m/%d %H:%M:%S"), since.subsec_millis()),
    }
}

fn format(parts: &libc::tm, how: &CStr) -> String {
    let mut buffer = [0_u8; 64];
    // SAFETY: the buffer has the length that is passed along, and the format is a constant.
    let length = unsafe { libc::strftime(buffer.as_mut_ptr().cast(), buffer.len(), how.as_ptr(), parts) };
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}
