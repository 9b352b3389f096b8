//! `farpool-probe`: tries to get in with what somebody else was given. For tests of grants.
//!
//! It has a key pair of its own, and does what the lines of its input say:
//! `ask PATH` asks the broker behind this socket, and prints its answer; `admission`, then lines up to an empty one,
//! takes that answer for its own; `tls`, `unix`, `tls resume` and `unix resume` connect with it, and print `admitted`,
//! `refused CODE sentence` or `failed sentence`. What was admitted stays connected until the input ends.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use transport::{ClientKey, ClientTls, Endpoint, Link, Opening, Refusal, Socket, client_handshake};
use wire::preface::{Preface, Purpose};

/// How long anybody may take to answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// Bytes of the token that stand in a server name.
const NAMED_TOKEN_BYTES: usize = 16;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("farpool-probe: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let key = ClientKey::generate().context("make a key")?;
    let mut admission = String::new();
    let mut admitted = Vec::new();
    let mut lines = io::stdin().lines();
    while let Some(line) = lines.next() {
        let line = line.context("read what to do")?;
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            ["ask", path] => {
                admission = ask(path, &key)?;
                print(&admission)?;
            }
            ["admission"] => {
                admission.clear();
                for line in lines.by_ref() {
                    let line = line.context("read an admission")?;
                    if line.is_empty() {
                        break;
                    }
                    admission.push_str(&line);
                    admission.push('\n');
                }
            }
            [kind @ ("tls" | "unix"), rest @ ..] => {
                match connect(&key, &Admission::parse(&admission)?, kind, rest == ["resume"]) {
                    Ok(link) => {
                        admitted.push(link);
                        print("admitted\n")?;
                    }
                    Err(error) => print(&format!("{}\n", outcome(&error)))?,
                }
            }
            _ => bail!("`{line}` is nothing to do; expected `ask PATH`, `admission`, `tls` or `unix`"),
        }
    }
    Ok(())
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).context("print")
}

fn outcome(error: &anyhow::Error) -> String {
    let refusal = error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .find_map(|error| error.get_ref().and_then(|inner| inner.downcast_ref::<Refusal>()));
    match refusal {
        Some(Refusal { code, reason }) => format!("refused {code} {reason}"),
        None => format!("failed {error:#}"),
    }
}

/// Asks a broker as a shim does (ARCHITECTURE 4.4).
fn ask(path: &str, key: &ClientKey) -> anyhow::Result<String> {
    let mut stream = UnixStream::connect(path).with_context(|| format!("connect to {path}"))?;
    stream.set_read_timeout(Some(PATIENCE)).context("limit reading")?;
    let key = URL_SAFE_NO_PAD.encode(key.spki());
    let pid = std::process::id();
    write!(stream, "farpool-broker 2\npid {pid}\nprogram farpool-probe\nkey {key}\n\n").context("ask")?;
    let mut answer = String::new();
    for line in BufReader::new(stream).lines() {
        let line = line.context("read the broker's answer")?;
        answer.push_str(&line);
        answer.push('\n');
        if line.is_empty() {
            break;
        }
    }
    Ok(answer)
}

/// What a broker answered.
struct Admission<'a>(Vec<(&'a str, &'a str)>);

impl<'a> Admission<'a> {
    fn parse(text: &'a str) -> anyhow::Result<Admission<'a>> {
        ensure!(text.starts_with("ok\n"), "there is no admission to connect with, but `{text}`");
        Ok(Admission(text.lines().filter_map(|line| line.split_once(' ')).collect()))
    }

    fn all(&self, name: &'a str) -> impl Iterator<Item = &'a str> + '_ {
        self.0.iter().filter(move |(given, _)| *given == name).map(|(_, value)| *value)
    }

    fn one(&self, name: &'a str) -> anyhow::Result<&'a str> {
        self.all(name).next().with_context(|| format!("the admission has no line `{name}`"))
    }
}

fn connect(key: &ClientKey, admission: &Admission<'_>, kind: &str, is_resumed: bool) -> anyhow::Result<Link> {
    let endpoints = admission.all("endpoint");
    let endpoint: Endpoint = endpoints
        .into_iter()
        .find(|endpoint| endpoint.starts_with(kind))
        .with_context(|| format!("the admission names no address of the kind {kind}"))?
        .parse()?;
    let socket = Socket::connect(&endpoint, PATIENCE, |descriptor| descriptor)?;
    socket.limit_receiving(Some(PATIENCE));
    let purpose = Purpose { is_resumed, ..Purpose::default() };
    let connection = admission.one("connection")?;
    let token = admission.one("token")?;
    let session_id = admission.one("session")?;
    let link = if kind == "tls" {
        let trusted: Result<Vec<_>, _> =
            admission.all("trust").map(|text| URL_SAFE_NO_PAD.decode(text)).collect();
        let tls = ClientTls::new(key, &trusted?, admission.one("server")?)?;
        let named = token.get(..2 * NAMED_TOKEN_BYTES).context("the admission's token is too short")?;
        let name = format!("{connection}.{named}.f{}.{session_id}.farpool.internal", purpose.flags());
        let keys = client_handshake(&socket, &tls, &name)?;
        Link::sealed(socket, keys)
    } else {
        let connection_id = bytes(connection)?;
        let preface =
            Preface { session_id: session_id.to_owned(), connection_id, token: bytes(token)?, purpose };
        socket.send_all(&[&preface.encode()])?;
        Link::plain(socket)
    };
    let grant = admission.one("grant")?.to_owned();
    link.open(&Opening { is_resumed, grant, ..Opening::default() })?;
    Ok(link)
}

fn bytes<const N: usize>(text: &str) -> anyhow::Result<[u8; N]> {
    ensure!(
        text.len() == 2 * N && text.is_ascii(),
        "`{text}` in the admission: expected {} hexadecimal digits",
        2 * N
    );
    let mut all = [0; N];
    for (byte, place) in all.iter_mut().zip((0..).step_by(2)) {
        *byte = u8::from_str_radix(&text[place..place + 2], 16)
            .with_context(|| format!("`{text}` in the admission"))?;
    }
    Ok(all)
}
