use grant::{Peer, Verified};

use crate::support::{Vectors, at, text};

#[test]
fn grants_of_the_typescript_side_are_taken_or_refused_as_it_says() {
    let vectors = Vectors::read();
    let grants = vectors.all["grants"].as_array().expect("grants");
    assert!(grants.len() >= 19, "{}", grants.len());
    for each in grants {
        let outcome = match vectors.verify(text(&each["grant"])) {
            Ok(_) => "ok",
            Err(error) => error.code(),
        };
        assert_eq!(outcome, text(&each["outcome"]), "{}", each["name"]);
    }
}

#[test]
fn a_good_grant_tells_who_connects() {
    let vectors = Vectors::read();
    let Verified { key, session_expires, client_key_thumbprint, .. } =
        vectors.verify(vectors.grant("good")).expect("good");
    assert_eq!(client_key_thumbprint, text(&vectors.all["clientKey"]));
    assert_eq!(session_expires, at(1_796_040_870));
    let verified = vectors.verify(vectors.grant("program-with-many-languages")).expect("good");
    assert_eq!(
        verified,
        Verified {
            session_expires,
            client_key_thumbprint,
            key,
            uid: 1000,
            pid: 4711,
            start: 987_654,
            program: "größe \"λ\"\n\u{1f4be}".to_owned(),
            user: Some("dev1".to_owned()),
            client: Some("ws-17".to_owned()),
        }
    );
    let anonymous = vectors.verify(vectors.grant("good-without-names")).expect("good");
    assert_eq!((anonymous.user, anonymous.client), (None, None));
}

#[test]
fn thumbprints_are_those_of_the_typescript_side() {
    use aws_lc_rs::signature::KeyPair;
    let vectors = Vectors::read();
    let key = vectors.client.public_key().as_ref().try_into().expect("32 bytes");
    assert_eq!(grant::thumbprint(&key), text(&vectors.all["clientKey"]));
}

#[test]
fn over_a_unix_socket_the_kernel_says_which_process_it_is() {
    let vectors = Vectors::read();
    let check = |uid, pid| {
        let expected = grant::Expected { peer: Peer::Process { uid, pid }, ..vectors.expected() };
        grant::verify(vectors.grant("other-process-key"), vectors.now(), &expected)
    };
    assert!(check(1000, 4711).is_ok());
    assert_eq!(
        check(1001, 4711).expect_err("another account").to_string(),
        "the grant is for process 4711 of user id 1000, but process 4711 of user id 1001 connects"
    );
    assert_eq!(check(1000, 4712).expect_err("another process").code(), "foreignProcess");
    assert_eq!(check(0, 4711).expect_err("root is another account too").code(), "foreignProcess");
}
