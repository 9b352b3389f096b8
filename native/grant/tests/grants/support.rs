//! The vectors that the TypeScript side signed, and a signer of our own for grants that it would never sign.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature::Ed25519KeyPair;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use grant::{Expected, GrantError, ManagerKey, Peer, Purpose, Verified, verify};
use serde_json::{Value, json};

pub struct Vectors {
    pub all: Value,
    pub manager_keys: Vec<ManagerKey>,
    pub process_key: Vec<u8>,
    pub connection_id: [u8; 16],
    pub manager: Ed25519KeyPair,
    pub client: Ed25519KeyPair,
}

impl Vectors {
    pub fn read() -> Vectors {
        let all: Value = serde_json::from_str(include_str!("../vectors.json")).expect("JSON");
        Vectors {
            manager_keys: serde_json::from_value(all["managerKeys"].clone()).expect("keys"),
            process_key: unhex(text(&all["processKey"])),
            connection_id: unhex(text(&all["connectionId"])).try_into().expect("16 bytes"),
            manager: pair(&all["seeds"]["manager"]),
            client: pair(&all["seeds"]["client"]),
            all,
        }
    }

    pub fn now(&self) -> SystemTime {
        at(self.all["now"].as_u64().expect("seconds"))
    }

    /// What the good grants are for.
    pub fn expected(&self) -> Expected<'_> {
        Expected {
            session_id: text(&self.all["sessionId"]),
            server_id: text(&self.all["serverId"]),
            manager_keys: &self.manager_keys,
            revoked: &[],
            connection_id: self.connection_id,
            peer: Peer::Key(&self.process_key),
            purpose: Purpose::First,
        }
    }

    pub fn verify(&self, grant: &str) -> Result<Verified, GrantError> {
        verify(grant, self.now(), &self.expected())
    }

    pub fn grant(&self, name: &str) -> &str {
        let all = self.all["grants"].as_array().expect("grants");
        text(&all.iter().find(|each| each["name"] == name).expect(name)["grant"])
    }

    /// Header and payload of the good process grant.
    pub fn process(&self) -> (Value, Value) {
        open(self.grant("good"))
    }

    /// Header and payload of the session grant inside.
    pub fn session(&self) -> (Value, Value) {
        open(text(&self.process().1["session"]))
    }

    /// A good process grant but for what `change` does to it.
    pub fn with_process(&self, change: impl FnOnce(&mut Value, &mut Value)) -> String {
        let (mut header, mut payload) = self.process();
        change(&mut header, &mut payload);
        sign(&self.client, &header, &payload)
    }

    /// A good process grant around a session grant that `change` has changed before the manager signed it.
    pub fn with_session(&self, change: impl FnOnce(&mut Value, &mut Value)) -> String {
        let (mut header, mut payload) = self.session();
        change(&mut header, &mut payload);
        let session = sign(&self.manager, &header, &payload);
        self.with_process(|_, process| process["session"] = json!(session))
    }
}

pub fn sign(key: &Ed25519KeyPair, header: &Value, payload: &Value) -> String {
    sign_bytes(key, header.to_string().as_bytes(), payload.to_string().as_bytes())
}

pub fn sign_bytes(key: &Ed25519KeyPair, header: &[u8], payload: &[u8]) -> String {
    let signed = format!("{}.{}", encode(header), encode(payload));
    let signature = key.sign(signed.as_bytes());
    format!("{signed}.{}", encode(signature.as_ref()))
}

pub fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn open(grant: &str) -> (Value, Value) {
    let parts: Vec<Value> = grant
        .split('.')
        .take(2)
        .map(|part| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).expect("base64url")).expect("JSON"))
        .collect();
    (parts[0].clone(), parts[1].clone())
}

pub fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

pub fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

fn pair(seed: &Value) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&unhex(text(seed))).expect("a seed")
}

fn unhex(digits: &str) -> Vec<u8> {
    let pairs = digits.as_bytes().chunks_exact(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).expect("text"), 16).expect("hex")).collect()
}
