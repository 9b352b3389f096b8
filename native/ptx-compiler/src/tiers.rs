//! Code for groups comes in two tiers: made quickly when a kernel is first worth compiling, and made thoroughly when the
//! time that it runs would pay for that.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::code::{Compiled, Effort};

/// How long launches with quickly made code run before thorough code is made: longer than making it takes for most
/// kernels, so that no program takes more than twice as long as with the better choice.
const WORTH_EFFORT: Duration = Duration::from_millis(10);

/// The code of a kernel for groups of one width.
#[derive(Default)]
pub struct Tiers {
    quick: OnceLock<Option<Compiled>>,
    thorough: OnceLock<Option<Compiled>>,
    /// Nanoseconds that launches took so far.
    spent: AtomicU64,
}

impl Tiers {
    /// Code of this tier, made if there is none. `None` where the code generator refuses.
    pub fn with(
        &self,
        effort: Effort,
        compile: impl FnOnce(Effort) -> Option<Compiled>,
    ) -> Option<&Compiled> {
        let tier = match effort {
            Effort::Quick => &self.quick,
            Effort::Thorough => &self.thorough,
        };
        tier.get_or_init(|| compile(effort)).as_ref()
    }

    /// The best code that there is. It is made if there is none and `is_worth` says that any is worth making, and made
    /// better when launches took long.
    pub fn best(
        &self,
        is_worth: bool,
        compile: impl FnOnce(Effort) -> Option<Compiled>,
    ) -> Option<&Compiled> {
        let Some(quick) = self.quick.get() else {
            return if is_worth { self.with(Effort::Quick, compile) } else { None };
        };
        // What costs more than it gains, or was refused, is not made again.
        let quick = quick.as_ref().filter(|code| !code.is_given_up())?;
        if Duration::from_nanos(self.spent.load(Ordering::Relaxed)) < WORTH_EFFORT {
            return Some(quick);
        }
        self.with(Effort::Thorough, compile).or(Some(quick))
    }

    /// Notes how long a launch took.
    pub fn note(&self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.spent.fetch_add(nanoseconds.min(1 << 40), Ordering::Relaxed);
    }
}
