//! A worker's end of a resumable lane, on real sockets. Half of the clients are honest and lose their connection again and
//! again: each byte must arrive once, both ways. The others say what no honest one would.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fuzzing::{Random, Recording, damage};
use transport::{Lane, Link, Socket};

use crate::packet::{Found, Head, Kind, MOST_DATA, PacketError, Parser, put_words};
use crate::{bytes_of, meter};

/// How long a lane's worker waits for its client.
const GRACE: Duration = Duration::from_millis(40);

/// How long the worker's threads may take to end after that.
const TO_END: Duration = Duration::from_secs(10);

/// Memory of a lane: what is kept for a client that acknowledges nothing, and what has arrived and was not read.
const MOST_MEMORY: usize = 64 << 20;

/// The same where the client sends without end while the worker only sends: 256 MiB, and as much
/// again while they grow.
const MOST_MEMORY_FLOODED: usize = 640 << 20;

/// What the worker's threads have seen.
#[derive(Default)]
struct Seen {
    /// Bytes that the worker has read, and the first that was not the one that was sent.
    read: AtomicU64,
    wrong: Mutex<Option<String>>,
    sent: AtomicU64,
    /// The client has said what no honest one would.
    is_hostile: AtomicBool,
    reader_stops: AtomicBool,
}

/// The byte at a place of either stream.
fn byte_at(place: u64) -> u8 {
    (place % 253).to_le_bytes()[0]
}

fn bytes_at(place: u64, count: usize) -> Vec<u8> {
    (place..place + count as u64).map(byte_at).collect()
}

/// One lane.
pub fn one(recordings: &[Recording], random: &mut Random) -> Result<(), String> {
    let is_flooded = random.once_in(2_000);
    meter::begin();
    let seen = Arc::new(Seen::default());
    let unusable = |error: io::Error| format!("no sockets: {error}");
    let (stream, link) = connection().map_err(unusable)?;
    let lane = Arc::new(Lane::worker(link, GRACE, Box::new(|| {})));
    seen.reader_stops.store(is_flooded, Ordering::Relaxed);
    let mut threads = vec![
        std::thread::spawn(reader(&lane, &seen, random.bits())),
        std::thread::spawn(sender(&lane, &seen, if is_flooded { 64 << 20 } else { random.below(300 << 10) })),
    ];
    let over = end(&lane);
    let mut client = Client {
        stream,
        lane: Arc::clone(&lane),
        seen: Arc::clone(&seen),
        parser: Parser::default(),
        sent: 0,
        heard: 0,
    };
    let acted = if is_flooded { client.flood() } else { client.act(recordings, random) };
    acted?;
    drop(client);
    threads.push(over);
    let since = Instant::now();
    for thread in threads {
        while !thread.is_finished() {
            if since.elapsed() > TO_END {
                return Err(format!(
                    "a thread of the lane has not ended {} s after its client",
                    TO_END.as_secs()
                ));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
        thread.join().map_err(|_| "a thread of the lane has panicked")?;
    }
    if let Some(why) = seen.wrong.lock().unwrap_or_else(PoisonError::into_inner).take() {
        return Err(why);
    }
    let most = if is_flooded { MOST_MEMORY_FLOODED } else { MOST_MEMORY };
    if meter::peak() > most {
        return Err(format!("the lane took {} bytes of memory, {most} at most expected", meter::peak()));
    }
    Ok(())
}

fn connection() -> io::Result<(UnixStream, Link)> {
    let (client, served) = UnixStream::pair()?;
    client.set_nonblocking(true)?;
    Ok((client, Link::plain(Socket::from_descriptor(served.into()))))
}

/// The issuing thread: reads, now and then without waiting.
fn reader(lane: &Arc<Lane>, seen: &Arc<Seen>, seed: u64) -> impl FnOnce() + Send + use<> {
    let (lane, seen) = (Arc::clone(lane), Arc::clone(seen));
    move || {
        let mut random = Random::new(seed);
        let mut buffer = vec![0; 1 + random.below(64 << 10)];
        while seen.reader_stops.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(1));
        }
        loop {
            let received = if random.once_in(3) {
                lane.try_receive(&mut buffer)
            } else {
                lane.receive(&mut buffer).map(Some)
            };
            let count = match received {
                Ok(None) => continue,
                Ok(Some(0)) | Err(_) => return,
                Ok(Some(count)) => count,
            };
            let from = seen.read.fetch_add(count as u64, Ordering::AcqRel);
            if !seen.is_hostile.load(Ordering::Acquire) && buffer[..count] != bytes_at(from, count) {
                let why = format!("the worker has read other bytes at {from} than were sent");
                seen.wrong.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
            }
        }
    }
}

/// The worker's answers.
fn sender(lane: &Arc<Lane>, seen: &Arc<Seen>, total: usize) -> impl FnOnce() + Send + use<> {
    let (lane, seen) = (Arc::clone(lane), Arc::clone(seen));
    move || {
        let mut place = 0_u64;
        while place < total as u64 {
            let count = (total - usize::try_from(place).unwrap_or(total)).min(17_000);
            let bytes = bytes_at(place, count);
            let sent = match place % 3 {
                0 => lane.send_now(&bytes).and_then(|count| lane.flush().map(|()| count)),
                _ => lane.send_all(&[&bytes[..count / 2], &bytes[count / 2..]]).map(|()| count),
            };
            match sent {
                Ok(count) => place += count as u64,
                Err(_) => return,
            }
            seen.sent.store(place, Ordering::Release);
        }
    }
}

/// The thread that ends the worker with its client.
fn end(lane: &Arc<Lane>) -> std::thread::JoinHandle<()> {
    let lane = Arc::clone(lane);
    std::thread::spawn(move || {
        let Ok((never, _kept)) = UnixStream::pair() else { return };
        loop {
            let Ok(waited) = lane.wait_for_end(std::os::fd::AsFd::as_fd(&never), Duration::from_millis(10))
            else {
                return;
            };
            if let Some(closed) = waited.closed {
                std::thread::sleep(Duration::from_millis(2));
                lane.give_up(&closed);
            }
            if lane.is_over() {
                return lane.shutdown();
            }
        }
    })
}

/// The other end, in this thread.
struct Client {
    stream: UnixStream,
    lane: Arc<Lane>,
    seen: Arc<Seen>,
    parser: Parser,
    /// Where its own stream stands.
    sent: u64,
    /// How far it has read the worker's.
    heard: u64,
}

impl Client {
    fn act(&mut self, recordings: &[Recording], random: &mut Random) -> Result<(), String> {
        let is_hostile = random.once_in(2);
        for _ in 0..random.below(24) {
            if is_hostile && random.once_in(3) {
                self.seen.is_hostile.store(true, Ordering::Release);
                self.say_nonsense(recordings, random);
                continue;
            }
            match random.below(9) {
                0..=2 => {
                    let most = if random.once_in(30) { MOST_DATA } else { 40 << 10 };
                    let bytes = bytes_at(self.sent, 1 + random.below(most));
                    let mut packet = Head { kind: Kind::Data, length: bytes.len() }.encode().to_vec();
                    packet.extend_from_slice(&bytes);
                    self.sent += bytes.len() as u64;
                    if random.once_in(6) {
                        // The connection breaks in the middle.
                        self.write(&packet[..random.below(packet.len())]);
                        self.resume(self.heard)?;
                    } else {
                        self.write(&packet);
                    }
                }
                3 => self.say(Kind::Acknowledge, &self.heard.to_le_bytes()),
                4 => (0..random.below(1_000)).for_each(|_| self.say(Kind::Ping, &[])),
                5 => self.say(Kind::Pong, &[]),
                6 => self.resume(self.heard)?,
                _ => self.hear()?,
            }
        }
        if random.once_in(2) {
            self.say(Kind::Close, &[]);
        } else if !self.seen.is_hostile.load(Ordering::Acquire) {
            self.finish()?;
        }
        Ok(())
    }

    /// What an honest client and its worker have said arrives, all of it.
    fn finish(&mut self) -> Result<(), String> {
        let since = Instant::now();
        loop {
            self.hear()?;
            self.say(Kind::Acknowledge, &self.heard.to_le_bytes());
            let (read, sent) =
                (self.seen.read.load(Ordering::Acquire), self.seen.sent.load(Ordering::Acquire));
            if read == self.sent && self.heard >= sent {
                return Ok(());
            }
            if self.lane.is_over() {
                // It was away for too long on a busy machine.
                return Ok(());
            }
            if since.elapsed() > TO_END {
                let (own, heard) = (self.sent, self.heard);
                return Err(format!(
                    "of {own} bytes the worker has read {read}, and of its {sent} {heard} have come"
                ));
            }
            std::thread::sleep(Duration::from_micros(100));
        }
    }

    fn say_nonsense(&mut self, recordings: &[Recording], random: &mut Random) {
        let mut bytes = Vec::new();
        match random.below(9) {
            0 => put_words(&mut bytes, Kind::Acknowledge, &random.edge().to_le_bytes()),
            1 => put_words(&mut bytes, Kind::Opened, &random.edge().to_le_bytes()),
            2 => put_words(&mut bytes, Kind::Open, &random.pick(recordings).opening),
            3 => put_words(&mut bytes, Kind::Refused, b"no"),
            4 => {
                put_words(&mut bytes, Kind::Close, &[]);
                put_words(&mut bytes, Kind::Data, b"and yet");
            }
            5 => bytes = bytes_of(random.pick(recordings)),
            6 => {
                put_words(&mut bytes, Kind::Data, &bytes_at(self.sent, 1 + random.below(500)));
                damage(&mut bytes, random);
            }
            7 => {
                let _ = self.resume(random.edge());
            }
            _ => bytes.extend((0..random.below(40)).map(|_| random.byte())),
        }
        self.write(&bytes);
    }

    fn say(&mut self, kind: Kind, words: &[u8]) {
        let mut packet = Vec::new();
        put_words(&mut packet, kind, words);
        self.write(&packet);
    }

    /// Writes as far as the worker takes it; reads meanwhile, as the worker may be sending, too.
    fn write(&mut self, mut bytes: &[u8]) {
        let since = Instant::now();
        while !bytes.is_empty() && since.elapsed() < TO_END {
            match self.stream.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let _ = self.hear();
                    std::thread::sleep(Duration::from_micros(50));
                }
                Err(_) => return,
            }
        }
    }

    /// Reads what is there, and checks it.
    fn hear(&mut self) -> Result<(), String> {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let count = match self.stream.read(&mut buffer) {
                Ok(0) | Err(_) => return Ok(()),
                Ok(count) => count,
            };
            let heard = &mut self.heard;
            let taken = self.parser.push::<Nonsense>(&buffer[..count], |found| match found {
                Found::Data(bytes) if bytes == bytes_at(*heard, bytes.len()) => {
                    *heard += bytes.len() as u64;
                    Ok(())
                }
                Found::Data(bytes) => Err(Nonsense(format!("{} other bytes at {heard}", bytes.len()))),
                Found::Words(Kind::Acknowledge | Kind::Ping | Kind::Pong | Kind::Close, _) => Ok(()),
                Found::Words(kind, _) => Err(Nonsense(format!("a {kind:?} packet"))),
            });
            if let Err(Nonsense(why)) = taken
                && !self.seen.is_hostile.load(Ordering::Acquire)
            {
                return Err(format!("the worker has sent {why}"));
            }
        }
    }

    /// Comes back on another connection, as one that has read up to `heard`.
    fn resume(&mut self, heard: u64) -> Result<(), String> {
        let Some(received) = self.lane.detach() else { return Ok(()) };
        if !self.seen.is_hostile.load(Ordering::Acquire) && received > self.sent {
            return Err(format!("the worker has received {received} bytes of {}", self.sent));
        }
        let (stream, link) = connection().map_err(|error| format!("no sockets: {error}"))?;
        (self.stream, self.parser) = (stream, Parser::default());
        self.lane.attach(link, heard);
        // What has not arrived is sent again.
        let mut place = received.min(self.sent);
        while place < self.sent {
            let count = usize::try_from(self.sent - place).unwrap_or(MOST_DATA).min(MOST_DATA);
            let bytes = bytes_at(place, count);
            self.say(Kind::Data, &bytes);
            place += count as u64;
        }
        Ok(())
    }

    /// Sends and sends, and reads nothing, while nobody in the worker reads either.
    fn flood(&mut self) -> Result<(), String> {
        self.seen.is_hostile.store(true, Ordering::Release);
        let mut packet = Vec::new();
        put_words(&mut packet, Kind::Data, &vec![7; MOST_DATA]);
        let (mut left, mut at, mut since) = (800, 0, Instant::now());
        while left > 0 && since.elapsed() < Duration::from_secs(1) {
            match self.stream.write(&packet[at..]) {
                Ok(count) => {
                    at += count;
                    since = Instant::now();
                    if at == packet.len() {
                        (left, at) = (left - 1, 0);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // The worker's answers must not fit into the sockets.
                    let mut some = [0; 64 << 10];
                    let _ = self.stream.read(&mut some);
                    std::thread::sleep(Duration::from_micros(50));
                }
                Err(_) => break,
            }
        }
        self.lane.shutdown();
        self.seen.reader_stops.store(false, Ordering::Relaxed);
        Ok(())
    }
}

/// What the worker must not say.
struct Nonsense(String);

impl From<PacketError> for Nonsense {
    fn from(error: PacketError) -> Self {
        Nonsense(error.to_string())
    }
}
