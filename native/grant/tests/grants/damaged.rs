use grant::MAX_GRANT_BYTES;
use serde_json::json;

use crate::support::{Vectors, encode, sign_bytes, text};

#[test]
fn a_grant_that_is_cut_off_anywhere_is_refused() {
    let vectors = Vectors::read();
    let good = vectors.grant("good");
    let (_, process) = vectors.process();
    let session = text(&process["session"]);
    for end in 0..good.len() {
        assert!(vectors.verify(&good[..end]).is_err(), "cut at {end}");
    }
    for end in 0..session.len() {
        let grant = vectors.with_process(|_, payload| payload["session"] = json!(session[..end]));
        assert!(vectors.verify(&grant).is_err(), "the session grant cut at {end}");
    }
}

#[test]
fn a_grant_with_any_bit_changed_is_refused() {
    let vectors = Vectors::read();
    let good = vectors.grant("good").as_bytes();
    for at in 0..good.len() {
        for bit in 0..7 {
            let mut changed = good.to_vec();
            changed[at] ^= 1 << bit;
            let changed = String::from_utf8(changed).expect("still ASCII");
            assert!(vectors.verify(&changed).is_err(), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn there_is_one_text_for_a_grant() {
    let vectors = Vectors::read();
    let good = vectors.grant("good");
    for changed in [
        format!(" {good}"),
        format!("{good}\n"),
        format!("{good}="),
        format!("{good}."),
        format!("{good}.x"),
        format!(".{good}"),
        good.replacen('.', "..", 1),
        good.replace('-', "+").replace('_', "/"),
    ] {
        assert!(changed == good || vectors.verify(&changed).is_err(), "{changed}");
    }
    // The last character of a signature has spare bits: with those set it is the same signature to some.
    let last = good.chars().last().expect("a character");
    let spare = char::from(u8::try_from(last).expect("ASCII") + 1);
    assert!(vectors.verify(&format!("{}{spare}", &good[..good.len() - 1])).is_err());
}

#[test]
fn what_is_no_grant_is_refused_with_a_sentence() {
    let vectors = Vectors::read();
    for (nonsense, sentence) in [
        ("", "the process grant cannot be read: it does not have three parts with points between them"),
        ("..", "the process grant cannot be read: its header is not understood: EOF while parsing"),
        ("a.b.c", "the process grant cannot be read: its header is not base64url"),
        ("\u{0}\u{7f}λ.é.\u{1f4be}", "the process grant cannot be read: its header is not base64url"),
        ("bnVsbA.e30.", "the process grant cannot be read: its header is not understood: invalid type: null"),
    ] {
        let refusal = vectors.verify(nonsense).expect_err(nonsense).to_string();
        assert!(refusal.starts_with(sentence), "{refusal}");
    }
}

#[test]
fn a_long_grant_is_not_even_read() {
    let vectors = Vectors::read();
    let long = "a".repeat(MAX_GRANT_BYTES + 1);
    assert_eq!(
        vectors.verify(&long).expect_err("long").to_string(),
        "the grant has 16385 bytes, 16384 are the limit"
    );
    assert_eq!(vectors.verify(&long[1..]).expect_err("not a grant").code(), "malformed");
    let padded = vectors.with_process(|_, payload| payload["later"] = json!("x".repeat(10_000)));
    assert!(vectors.verify(&padded).is_ok());
}

#[test]
fn signed_nonsense_is_refused_without_a_panic() {
    let vectors = Vectors::read();
    let header = vectors.process().0.to_string();
    let deep = "[".repeat(5_000);
    let twice = vectors.process().1.to_string().replacen('{', r#"{"uid":0,"#, 1);
    for payload in
        ["", "null", "[]", "{}", "{", "\"\u{0}\"", r#"{"session":{}}"#, r#""\ud800""#, &deep, &twice]
    {
        let grant = sign_bytes(&vectors.client, header.as_bytes(), payload.as_bytes());
        let refusal = vectors.verify(&grant).expect_err(payload);
        assert_eq!(refusal.code(), "malformed", "{refusal}");
        assert!(refusal.to_string().len() < 300, "{refusal}");
    }
    let not_text = sign_bytes(&vectors.client, header.as_bytes(), &[0xff, 0xfe]);
    assert_eq!(vectors.verify(&not_text).expect_err("no UTF-8").code(), "malformed");
    assert!(vectors.verify(&encode(&[0xff; 900])).is_err());
}
