//! The interpreter passes the tests that every engine must pass.

use ptx_testing::{PROGRAMS, TABLES, check_programs, check_tables};

#[test]
fn instructions_match_their_tables() {
    check_tables(TABLES, ptx::launch).expect_at_least(11_000);
}

#[test]
fn programs_match_their_expectations() {
    check_programs(PROGRAMS, ptx::launch).expect_at_least(70);
}
