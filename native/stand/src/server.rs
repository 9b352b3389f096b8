//! The acceptor of a stand, and its session.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde_json::{Value, json};

use crate::broker::{hex, random};
use crate::keeper;
use crate::options::{Options, Transport};

/// How long the acceptor may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

const SESSION: &str = "stand";

/// What a shim must know to reach its worker.
pub struct Session {
    pub id: &'static str,
    pub secret: [u8; 32],
    /// As the broker spells it.
    pub endpoint: String,
}

/// Where the build has put the programs.
pub struct Programs {
    bin: PathBuf,
    pub shim: PathBuf,
}

/// A running acceptor; it ends when this is dropped.
pub struct Server {
    folder: PathBuf,
    programs: Programs,
    keeper: Child,
    control: UnixStream,
    uuids: Vec<String>,
    memory: Option<u64>,
    transport: Transport,
}

impl Programs {
    fn find() -> anyhow::Result<Programs> {
        let own = std::env::current_exe().context("find this program")?;
        let bin = own.parent().context("find this program's folder")?.to_owned();
        let shim = bin.parent().context("find the folder of libraries")?.join("lib/shim");
        ensure!(shim.join("libcuda.so.1").exists(), "there is no libcuda.so.1 in {}", shim.display());
        Ok(Programs { bin, shim })
    }
}

impl Server {
    /// Starts the acceptor and waits until it listens.
    pub fn start(options: &Options) -> anyhow::Result<Server> {
        let programs = Programs::find()?;
        let uuids = gpus(&programs, options)?;
        // Another one may have had this process's number, and may not be quite gone.
        let folder = std::env::temp_dir().join(format!(
            "farpool-stand-{}-{}",
            std::process::id(),
            hex(&random::<4>()?)
        ));
        std::fs::create_dir(&folder).with_context(|| format!("make {}", folder.display()))?;
        let log = match &options.log {
            Some(path) => {
                let file = File::options().create(true).append(true).open(path);
                Stdio::from(file.with_context(|| format!("open {}", path.display()))?)
            }
            None => Stdio::null(),
        };
        let path = |path: PathBuf| path.to_string_lossy().into_owned();
        let acceptor = [
            path(programs.bin.join("farpool-acceptor")),
            "--control".into(),
            path(folder.join("control")),
            "--unix".into(),
            path(folder.join("data")),
            "--worker".into(),
            path(programs.bin.join("farpool-worker")),
            "--driver".into(),
            path(options.driver.clone()),
            "--listen".into(),
            "127.0.0.1:0".into(),
            "--server-name".into(),
            "stand".into(),
            // TCP within this machine, by a command of the same user: TLS would need a pool's certificates.
            "--plain-tcp".into(),
        ];
        let mut keeper = keeper::start(&folder, &acceptor, log)?;
        let control = match connect(&folder, &mut keeper) {
            Ok(control) => control,
            Err(error) => {
                end(&mut keeper);
                return Err(error);
            }
        };
        let (memory, transport) = (options.memory, options.transport);
        Ok(Server { folder, programs, keeper, control, uuids, memory, transport })
    }

    /// Where sockets are.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where the programs are.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// Opens the session on the GPUs that were asked for.
    pub fn open_session(&mut self) -> anyhow::Result<Session> {
        let secret = random().context("get a secret")?;
        let hello = self.ask(json!({"op": "hello"}))?;
        let gpus: Vec<Value> =
            self.uuids.iter().map(|uuid| json!({"uuid": uuid, "memoryLimitBytes": self.memory})).collect();
        self.ask(
            json!({"op": "openSession", "session": {"id": SESSION, "secret": hex(&secret), "gpus": gpus}}),
        )?;
        let endpoint = match self.transport {
            Transport::Unix => format!("unix {}", self.folder.join("data").display()),
            Transport::Tcp => format!("tcp 127.0.0.1:{}", hello["port"]),
        };
        Ok(Session { id: SESSION, secret, endpoint })
    }

    /// Ends the session's workers.
    pub fn close_session(&mut self) -> anyhow::Result<()> {
        self.ask(json!({"op": "closeSession", "sessionId": SESSION, "reason": "the command has ended"}))
            .map(drop)
    }

    fn ask(&mut self, mut request: Value) -> anyhow::Result<Value> {
        request["id"] = json!("1");
        writeln!(self.control, "{request}").context("ask the acceptor")?;
        let mut line = String::new();
        BufReader::new(&self.control).read_line(&mut line).context("hear the acceptor")?;
        let answer: Value = serde_json::from_str(&line).context("understand the acceptor")?;
        ensure!(answer["ok"] == json!(true), "the acceptor refuses {}: {}", request["op"], answer["error"]);
        Ok(answer)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.keeper);
    }
}

fn end(keeper: &mut Child) {
    // Its standard input: then it ends the acceptor, with all workers, and takes the folder away.
    drop(keeper.stdin.take());
    let _ = keeper.wait();
}

/// UUIDs of the first GPUs that the driver offers.
fn gpus(programs: &Programs, options: &Options) -> anyhow::Result<Vec<String>> {
    let inventory = Command::new(programs.bin.join("farpool-worker"))
        .args(["inventory", "--driver"])
        .arg(&options.driver)
        .output()
        .context("start farpool-worker")?;
    ensure!(inventory.status.success(), "{}", String::from_utf8_lossy(&inventory.stderr).trim());
    let inventory: Value = serde_json::from_slice(&inventory.stdout).context("understand the inventory")?;
    let all = inventory["gpus"].as_array().context("the inventory names no GPUs")?;
    let uuids: Vec<String> =
        all.iter().take(options.gpus).filter_map(|gpu| gpu["uuid"].as_str().map(str::to_owned)).collect();
    ensure!(uuids.len() == options.gpus, "the driver offers {} GPUs, not {}", all.len(), options.gpus);
    Ok(uuids)
}

fn connect(folder: &Path, keeper: &mut Child) -> anyhow::Result<UnixStream> {
    let started = Instant::now();
    loop {
        if let Ok(stream) = UnixStream::connect(folder.join("control")) {
            stream.set_read_timeout(Some(PATIENCE)).context("limit the acceptor's time")?;
            return Ok(stream);
        }
        if let Some(status) = keeper.try_wait().context("look after farpool-acceptor")? {
            bail!("farpool-acceptor ended with {status}; --log FILE tells why");
        }
        ensure!(started.elapsed() < PATIENCE, "farpool-acceptor does not listen");
        std::thread::sleep(Duration::from_millis(5));
    }
}
