//! Tests of the control protocol's parsing.

use super::*;

fn session(change: impl FnOnce(&mut Value)) -> Result<SessionSpec, ControlError> {
    let mut value = json!({
        "id": "s1", "secret": "aB".repeat(32),
        "gpus": [{"uuid": "GPU-1", "memoryLimitBytes": null}, {"uuid": "GPU-2", "memoryLimitBytes": 5}],
    });
    change(&mut value);
    SessionSpec::parse(value)
}

#[test]
fn a_session_is_read_whole() {
    let spec = session(|_| ()).unwrap();
    assert_eq!(spec.id.as_str(), "s1");
    assert!(spec.secret.matches(&[0xab; 32]));
    assert!(!spec.secret.matches(&[0xaa; 32]));
    assert_eq!(spec.gpus[1], Gpu { uuid: "GPU-2".into(), memory_limit_bytes: Some(5) });
}

#[test]
fn every_mistake_in_a_session_is_refused() {
    let cases: [(&str, Value); 12] = [
        ("id", json!("")),
        ("id", json!("x".repeat(33))),
        ("id", json!("a\nb")),
        ("id", json!(7)),
        ("secret", json!("ab")),
        ("secret", json!("zz".repeat(32))),
        ("secret", json!("é".repeat(32))),
        ("gpus", json!([])),
        ("gpus", json!([{"uuid": "a"}, {"uuid": "a"}])),
        ("gpus", json!([{"uuid": "a,b"}])),
        ("gpus", json!([{"uuid": "a", "memoryLimitBytes": -1}])),
        ("gpus", json!([{"uuid": "a", "memoryLimit": 1}])),
    ];
    for (field, value) in cases {
        let error = session(|session| session[field] = value.clone()).unwrap_err();
        assert_eq!(error.code, "invalidSession", "{field} = {value}");
    }
}

#[test]
fn a_secret_is_never_printed() {
    assert!(!format!("{:?}", session(|_| ()).unwrap()).to_lowercase().contains("abab"));
}

#[test]
fn lines_that_are_no_requests_say_why_and_keep_the_id_where_there_is_one() {
    let error = |line: &str| {
        let request = Request::parse(line.as_bytes());
        let error = request.operation.unwrap_err();
        (request.id, error.code, error.message)
    };
    assert_eq!(error("nonsense").1, "badRequest");
    assert_eq!(error("[1]").2, "a request is a JSON object");
    assert_eq!(error(r#"{"id": [1], "op": "hello"}"#).2, "an id is a number or a string");
    assert_eq!(error(r#"{"id": 4}"#), (json!(4), "badRequest", "a request names its op".into()));
    assert_eq!(
        error(r#"{"id": "x", "op": "dance"}"#),
        (json!("x"), "unknownOp", "there is no op \"dance\"".into())
    );
    assert_eq!(error(r#"{"id": 1, "op": "closeSession"}"#).1, "badRequest");
}

#[test]
fn answers_repeat_the_id() {
    assert_eq!(answer(json!(3), Ok(json!({"port": 1}))), json!({"id": 3, "ok": true, "port": 1}));
    assert_eq!(
        answer(json!("a"), Err(ControlError::new("closing", "it closes"))),
        json!({"id": "a", "error": {"code": "closing", "message": "it closes"}})
    );
}
