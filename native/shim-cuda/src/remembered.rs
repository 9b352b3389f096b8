//! Answers that stay the same until the program changes something: asked for once, then given from here.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use wire::CallId;

/// Answers that are kept; programs that ask for more kinds of launches than this ask again for some.
const MOST: usize = 4096;

/// What was asked: the call, the context it was asked in, and the request's bytes.
pub type Question = (CallId, u32, Vec<u8>);

#[derive(Debug, Default)]
struct Known {
    answers: HashMap<Question, Vec<u8>>,
    /// Counts up when everything is forgotten: an answer that was under way then is not kept.
    age: u64,
}

/// Known answers.
#[derive(Debug, Default)]
pub struct Remembered {
    known: Mutex<Known>,
}

impl Remembered {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The payload of the answer, if it is known; else the age to keep it under.
    pub fn find(&self, question: &Question) -> Result<Vec<u8>, u64> {
        let known = self.known();
        known.answers.get(question).cloned().ok_or(known.age)
    }

    /// Keeps an answer that was asked for at `age`.
    pub fn keep(&self, question: Question, answer: Vec<u8>, age: u64) {
        let mut known = self.known();
        if known.age != age {
            return;
        }
        if known.answers.len() >= MOST {
            known.answers.clear();
        }
        known.answers.insert(question, answer);
    }

    /// Forgets all answers: something changed that they may depend on.
    pub fn forget(&self) {
        let mut known = self.known();
        known.age += 1;
        known.answers.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_was_under_way_when_something_changed_is_not_kept() {
        let remembered = Remembered::default();
        let question = || (CallId(99), 1, vec![1, 2]);
        let age = remembered.find(&question()).expect_err("nothing is known yet");
        remembered.keep(question(), vec![7], age);
        assert_eq!(remembered.find(&question()), Ok(vec![7]));
        assert!(remembered.find(&(CallId(99), 2, vec![1, 2])).is_err(), "another context");
        remembered.forget();
        let age = remembered.find(&question()).expect_err("forgotten");
        remembered.forget();
        remembered.keep(question(), vec![8], age);
        assert!(remembered.find(&question()).is_err());
    }
}
