use std::time::{Duration, UNIX_EPOCH};

use grant::{Expected, Purpose, verify};
use serde_json::json;

use crate::support::{Vectors, at};

const NOW: u64 = 1_796_040_000;

#[test]
fn a_refusal_for_time_says_by_how_many_seconds() {
    let vectors = Vectors::read();
    let sentence = |grant: &str, now: u64| {
        verify(grant, at(now), &vectors.expected()).expect_err("the wrong time").to_string()
    };
    // The process grant was signed 3 s before NOW, the session grant 30 s before.
    assert_eq!(
        sentence(vectors.grant("good"), NOW + 100),
        "the process grant expired 43 s ago (valid until 1796040057, this server's clock says 1796040100): \
         connect again, and compare the clocks of manager, client and server if that does not help"
    );
    assert!(sentence(vectors.grant("good"), NOW + 900).starts_with("the session grant expired 30 s ago"));
    assert_eq!(
        sentence(vectors.grant("good"), NOW - 640),
        "the session grant becomes valid in 10 s only (valid from 1796039370, this server's clock says \
         1796039360): this server's clock is behind, or that of its signer ahead"
    );
    assert!(
        sentence(vectors.grant("process-too-early"), NOW)
            .starts_with("the process grant becomes valid in 1 s only")
    );
}

#[test]
fn grants_hold_to_the_last_second_and_not_longer() {
    let vectors = Vectors::read();
    let check = |now: u64| verify(vectors.grant("good"), at(now), &vectors.expected());
    assert!(check(NOW + 56).is_ok());
    assert_eq!(check(NOW + 57).expect_err("over").code(), "expired");
    assert!(check(NOW - 603).is_ok());
    assert_eq!(check(NOW - 604).expect_err("too early").code(), "notYetValid");
}

#[test]
fn a_resume_may_show_an_old_process_grant_but_no_old_session_grant() {
    let vectors = Vectors::read();
    let resume = Expected { purpose: Purpose::Resume, ..vectors.expected() };
    let check = |now: u64| verify(vectors.grant("good"), at(now), &resume);
    assert!(check(NOW + 869).is_ok());
    assert_eq!(check(NOW + 870).expect_err("over").code(), "expired");
    assert_eq!(check(NOW - 604).expect_err("too early").code(), "notYetValid");
}

#[test]
fn a_process_grant_cannot_claim_to_live_for_long() {
    let vectors = Vectors::read();
    let grant = vectors.with_process(|_, payload| payload["exp"] = json!(NOW + 3600));
    assert_eq!(
        vectors.verify(&grant).expect_err("an hour").to_string(),
        "the process grant is valid for 3603 s, 60 s are the limit"
    );
}

#[test]
fn times_at_the_ends_of_what_there_is_are_refused_or_held_and_nothing_overflows() {
    let vectors = Vectors::read();
    let code = |grant: String| vectors.verify(&grant).map_or_else(|error| error.code(), |_| "ok");
    let process = |iat: u64, exp: u64| {
        code(vectors.with_process(|_, payload| {
            payload["iat"] = json!(iat);
            payload["exp"] = json!(exp);
        }))
    };
    assert_eq!(process(0, 0), "expired");
    assert_eq!(process(u64::MAX, u64::MAX), "notYetValid");
    assert_eq!(process(u64::MAX, 0), "notYetValid");
    let session = |nbf: u64, exp: u64| {
        code(vectors.with_session(|_, payload| {
            payload["nbf"] = json!(nbf);
            payload["exp"] = json!(exp);
        }))
    };
    assert_eq!(session(0, 0), "expired");
    assert_eq!(session(u64::MAX, 0), "notYetValid");
    assert_eq!(session(0, u64::MAX), "malformed");
    for word in [json!(-1), json!(1.5), json!("1796040870"), json!(null), json!(1e300)] {
        assert_eq!(code(vectors.with_session(|_, payload| payload["exp"] = word.clone())), "malformed");
    }
}

#[test]
fn a_clock_before_1970_is_only_very_wrong() {
    let vectors = Vectors::read();
    let past = UNIX_EPOCH - Duration::from_secs(86_400);
    let refusal = verify(vectors.grant("good"), past, &vectors.expected()).expect_err("56 years early");
    assert_eq!(refusal.code(), "notYetValid");
}
