//! The interpreter passes the tests that every engine must pass.

// Tests of other engines include this file and have a `launch` of their own.
#[allow(unused_imports, reason = "used where this file is the whole program")]
use ptx::launch;
use ptx_testing::{PROGRAMS, TABLES, check_programs, check_tables};

#[test]
fn instructions_match_their_tables() {
    check_tables(TABLES, crate::launch).expect_at_least(11_000);
}

#[test]
fn programs_match_their_expectations() {
    check_programs(PROGRAMS, crate::launch).expect_at_least(70);
}
