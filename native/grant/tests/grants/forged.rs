use aws_lc_rs::hmac;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use grant::{Expected, ManagerKey, verify};
use serde_json::{Value, json};

use crate::support::{Vectors, encode, sign, text};

fn code(vectors: &Vectors, grant: &str) -> &'static str {
    vectors.verify(grant).map_or_else(|error| error.code(), |_| "ok")
}

/// With a signature that somebody made who has no key.
fn unsigned(header: &Value, payload: &Value, signature: &[u8]) -> String {
    format!(
        "{}.{}.{}",
        encode(header.to_string().as_bytes()),
        encode(payload.to_string().as_bytes()),
        encode(signature)
    )
}

#[test]
fn the_algorithm_is_ours_whatever_the_header_says() {
    let vectors = Vectors::read();
    for alg in ["none", "None", "HS256", "ES256", "RS256", "Ed25519", "eddsa", "EdDSA ", ""] {
        let outer = vectors.with_process(|header, _| header["alg"] = json!(alg));
        let inner = vectors.with_session(|header, _| header["alg"] = json!(alg));
        for grant in [outer, inner] {
            let refusal = vectors.verify(&grant).expect_err(alg);
            assert_eq!(refusal.code(), "algorithm", "{refusal}");
            assert!(refusal.to_string().contains(&format!("{alg:?}, expected \"EdDSA\"")), "{refusal}");
        }
    }
}

#[test]
fn a_document_without_a_signature_or_with_a_hash_keyed_by_the_public_key_is_refused() {
    let vectors = Vectors::read();
    let (header, payload) = vectors.session();
    let mut none = header.clone();
    none["alg"] = json!("none");
    let mut hashed = header.clone();
    hashed["alg"] = json!("HS256");
    let key = hmac::Key::new(hmac::HMAC_SHA256, vectors.manager.public_key().as_ref());
    let signed =
        format!("{}.{}", encode(hashed.to_string().as_bytes()), encode(payload.to_string().as_bytes()));
    let tag = hmac::sign(&key, signed.as_bytes());
    for (session, expected) in [
        (unsigned(&none, &payload, &[]), "algorithm"),
        (unsigned(&hashed, &payload, tag.as_ref()), "algorithm"),
        (unsigned(&header, &payload, &[]), "signature"),
        (unsigned(&header, &payload, tag.as_ref()), "signature"),
        (unsigned(&header, &payload, &[0; 64]), "signature"),
    ] {
        let grant = vectors.with_process(|_, process| process["session"] = json!(session));
        assert_eq!(code(&vectors, &grant), expected);
    }
}

#[test]
fn points_of_small_order_are_no_keys_though_signatures_fit_them() {
    let vectors = Vectors::read();
    let (mut header, payload) = vectors.process();
    for (first, last, sign) in
        [(0, 0, 0), (1, 0, 0), (1, 0, 0x80), (0xec, 0xff, 0), (0xed, 0xff, 0), (0xee, 0xff, 0x80)]
    {
        let mut point = [last; 32];
        point[0] = first;
        point[31] = (point[31] & 0x7f) | sign;
        header["jwk"]["x"] = json!(encode(&point));
        // With the neutral element as R and zero as s this is a signature of every message for the point 1.
        let mut signature = [0; 64];
        signature[0] = 1;
        let grant = unsigned(&header, &payload, &signature);
        assert_eq!(
            vectors.verify(&grant).expect_err("everybody's key").to_string(),
            "the process grant cannot be read: its header has no Ed25519 key",
            "{first}"
        );
    }
}

#[test]
fn who_lacks_the_client_machines_key_cannot_use_its_session_grant() {
    let vectors = Vectors::read();
    let thief = Ed25519KeyPair::from_seed_unchecked(&[9; 32]).expect("a seed");
    let (mut header, payload) = vectors.process();
    // With the thief's own key in the header the session grant is not for it …
    header["jwk"]["x"] = json!(encode(thief.public_key().as_ref()));
    let own = sign(&thief, &header, &payload);
    let refusal = vectors.verify(&own).expect_err("a thief");
    assert_eq!(
        refusal.to_string(),
        format!(
            "the process grant is signed by the key {}, but the session was granted to the key {}",
            grant::thumbprint(&thief.public_key().as_ref().try_into().expect("32 bytes")),
            text(&vectors.all["clientKey"]),
        )
    );
    // … and with the client machine's key in the header the signature is not that of that key.
    let (header, payload) = vectors.process();
    assert_eq!(code(&vectors, &sign(&thief, &header, &payload)), "signature");
}

#[test]
fn the_header_of_a_process_grant_has_a_key_of_the_one_kind_there_is() {
    let vectors = Vectors::read();
    for (field, value) in [
        ("kty", json!("EC")),
        ("crv", json!("X25519")),
        ("x", json!("")),
        ("x", json!("AAAA")),
        ("x", json!(encode(&[1; 33]))),
        ("x", json!("not base64url!")),
    ] {
        let grant = vectors.with_process(|header, _| header["jwk"][field] = value.clone());
        assert_eq!(
            vectors.verify(&grant).expect_err(field).to_string(),
            "the process grant cannot be read: its header has no Ed25519 key"
        );
    }
    let grant = vectors.with_process(|header, _| header["jwk"] = Value::Null);
    assert_eq!(code(&vectors, &grant), "malformed");
}

#[test]
fn extensions_that_must_be_understood_are_not() {
    let vectors = Vectors::read();
    let change = |header: &mut Value, _: &mut Value| header["crit"] = json!(["exp"]);
    assert_eq!(code(&vectors, &vectors.with_process(change)), "critical");
    assert_eq!(code(&vectors, &vectors.with_session(change)), "critical");
    let unknown = |header: &mut Value, payload: &mut Value| {
        header["later"] = json!({"a": [1]});
        payload["later"] = json!("ignored");
    };
    assert_eq!(code(&vectors, &vectors.with_process(unknown)), "ok");
    assert_eq!(code(&vectors, &vectors.with_session(unknown)), "ok");
}

#[test]
fn documents_of_another_kind_or_another_place_are_refused_with_both_names() {
    let vectors = Vectors::read();
    for (grant, sentence) in [
        (
            vectors.with_session(|_, payload| payload["sub"] = json!("s-zzz")),
            "the grant is for the session \"s-zzz\", this is \"s-7f3k2m9q\"",
        ),
        (
            vectors.with_session(|_, payload| payload["aud"] = json!("there")),
            "the session was granted on the server \"there\", this is \"6f1b3c1e-58f4-4f0e-9d5c-0a1b2c3d4e5f\"",
        ),
        (
            vectors.with_process(|_, payload| payload["cid"] = json!("ABC\n")),
            "the grant is for the connection \"ABC\\n\", this is \"000102030405060708090a0b0c0d0e0f\"",
        ),
        (
            vectors.with_process(|header, _| header["typ"] = json!("JWT")),
            "the process grant is of the type \"JWT\", expected \"farpool-process+jwt\"",
        ),
        (
            vectors.with_process(|_, payload| payload["key"] = json!("AAAA")),
            "the process grant cannot be read: its key is not the SHA-256 of one",
        ),
    ] {
        assert_eq!(vectors.verify(&grant).expect_err(sentence).to_string(), sentence);
    }
}

#[test]
fn a_revoked_client_is_refused_whatever_else_is_right() {
    let vectors = Vectors::read();
    let key = text(&vectors.all["clientKey"]).to_owned();
    let revoked = ["somebody else".to_owned(), key.clone()];
    let refuse = |revoked: &[String]| {
        verify(vectors.grant("good"), vectors.now(), &Expected { revoked, ..vectors.expected() })
    };
    assert!(refuse(&revoked[..1]).is_ok());
    assert_eq!(
        refuse(&revoked).expect_err("revoked").to_string(),
        format!("the client with the key {key} was revoked by an administrator")
    );
}

#[test]
fn only_the_managers_keys_count_and_a_server_without_any_trusts_nobody() {
    let vectors = Vectors::read();
    let check = |manager_keys: &[ManagerKey]| {
        verify(vectors.grant("good"), vectors.now(), &Expected { manager_keys, ..vectors.expected() })
            .map_or_else(|error| error.code(), |_| "ok")
    };
    let real = vectors.manager_keys[0].clone();
    let other = ManagerKey { kid: "other".to_owned(), ..real.clone() };
    let wrong = ManagerKey { x: encode(&[7; 32]), ..real.clone() };
    let broken = ManagerKey { x: "no key".to_owned(), ..real.clone() };
    assert_eq!(check(&[other.clone(), real.clone()]), "ok");
    assert_eq!(check(&[other]), "unknownManagerKey");
    assert_eq!(check(&[]), "unknownManagerKey");
    assert_eq!(check(&[wrong]), "signature");
    assert_eq!(check(&[broken]), "trustedKey");
    let nameless = vectors.with_session(|header, _| header["kid"] = Value::Null);
    assert_eq!(code(&vectors, &nameless), "unknownManagerKey");
}
