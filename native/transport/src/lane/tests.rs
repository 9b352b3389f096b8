//! Lanes over real sockets whose connections are cut again and again.

use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use super::*;
use crate::endpoint::Endpoint;
use crate::tls::{ClientKey, ClientTls, ServerTls, WorkerIdentity, client_handshake, server_handshake};

const TIME: Duration = Duration::from_secs(10);
const GRACE: Duration = Duration::from_secs(20);

/// Both ends' identities, or none for connections in clear.
#[derive(Clone)]
struct Secrecy(Option<(ClientTls, ServerTls)>);

impl Secrecy {
    fn none() -> Secrecy {
        Secrecy(None)
    }

    fn tls() -> Secrecy {
        let authority_key = rcgen::KeyPair::generate().expect("a key");
        let mut parameters = rcgen::CertificateParams::new(vec![]).expect("parameters");
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = parameters.self_signed(&authority_key).expect("an authority");
        let issuer = rcgen::Issuer::new(parameters, authority_key);
        let key = rcgen::KeyPair::generate().expect("a key");
        let names = vec!["g-1.servers.farpool.internal".to_owned()];
        let leaf = rcgen::CertificateParams::new(names).expect("parameters").signed_by(&key, &issuer);
        let pem = leaf.expect("a leaf").pem() + &key.serialize_pem();
        let identity = WorkerIdentity::read_from(pem.as_bytes()).expect("an identity");
        let server = ServerTls::new(&identity).expect("a server's configuration");
        let trusted = [authority.der().to_vec()];
        let key = ClientKey::generate().expect("a key");
        let client = ClientTls::new(&key, &trusted, "g-1").expect("a client's configuration");
        Secrecy(Some((client, server)))
    }

    fn client(&self, socket: Socket) -> io::Result<Link> {
        match &self.0 {
            Some((client, _)) => {
                let keys = client_handshake(&socket, client, "abc.farpool.internal")?;
                Ok(Link::sealed(socket, keys))
            }
            None => Ok(Link::plain(socket)),
        }
    }

    fn server(&self, socket: Socket) -> io::Result<Link> {
        match &self.0 {
            Some((_, server)) => {
                let (keys, _) = server_handshake(&socket, server)?;
                Ok(Link::sealed(socket, keys))
            }
            None => Ok(Link::plain(socket)),
        }
    }
}

/// A client's lane and a worker's, and the sockets of the present connection to cut.
struct Pair {
    client: Lane,
    worker: Arc<Lane>,
    wires: Arc<Mutex<Vec<TcpStream>>>,
    connections: Arc<AtomicUsize>,
    is_refusing: Arc<AtomicBool>,
}

fn pair(secrecy: &Secrecy, grace: Duration) -> Pair {
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let endpoint = Endpoint::Tcp(listener.local_addr().expect("address").to_string());
    let wires: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
    let connections: Arc<AtomicUsize> = Arc::default();
    let is_refusing: Arc<AtomicBool> = Arc::default();
    let (give, take) = mpsc::channel::<Arc<Lane>>();
    let (seen, count, refusing, server) =
        (Arc::clone(&wires), Arc::clone(&connections), Arc::clone(&is_refusing), secrecy.clone());
    std::thread::spawn(move || {
        let mut lane: Option<Arc<Lane>> = None;
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            if refusing.load(Ordering::SeqCst) {
                continue;
            }
            count.fetch_add(1, Ordering::SeqCst);
            *seen.lock().expect("lock") = vec![stream.try_clone().expect("clone")];
            let Ok(mut link) = server.server(Socket::from_descriptor(stream.into())) else { continue };
            let Ok(opening) = link.opening() else { continue };
            match &lane {
                None => {
                    if link.admit(0).is_err() {
                        continue;
                    }
                    let new = Arc::new(Lane::worker(link, grace, Box::new(|| {})));
                    if give.send(Arc::clone(&new)).is_err() {
                        return;
                    }
                    lane = Some(new);
                }
                Some(lane) => {
                    let Some(received) = lane.detach() else { return };
                    if link.admit(received).is_ok() {
                        lane.attach(link, opening.received);
                    }
                }
            }
        }
    });
    let client = secrecy.clone();
    let connect = move |received: u64, time: Duration| -> io::Result<(Link, u64)> {
        let link = client.client(Socket::connect(&endpoint, time, |descriptor| descriptor)?)?;
        link.socket().limit_receiving(Some(time));
        let opening = Opening { is_resumed: received > 0, received, ..Opening::default() };
        let peer_received = link.open(&opening)?;
        link.socket().limit_receiving(None);
        Ok((link, peer_received))
    };
    let (link, _) = connect(0, TIME).expect("the first connection");
    let dial: Dial = Box::new(move |attempt| connect(attempt.received, attempt.time));
    let client = Lane::client(link, dial, grace);
    Pair {
        client,
        worker: take.recv_timeout(TIME).expect("a worker's lane"),
        wires,
        connections,
        is_refusing,
    }
}

impl Pair {
    fn cut(&self, with_reset: bool) {
        for wire in self.wires.lock().expect("lock").iter() {
            if with_reset {
                let _ = rustix::net::sockopt::set_socket_linger(wire, Some(Duration::ZERO));
            }
            let _ = wire.shutdown(std::net::Shutdown::Both);
        }
    }
}

fn pattern(from: u64, length: usize) -> Vec<u8> {
    (from..from + length as u64).map(|at| (at ^ (at >> 8) ^ (at >> 16)).to_le_bytes()[0]).collect()
}

/// Sends `total` bytes in pieces of changing sizes.
fn send(lane: &Lane, total: usize) {
    let sizes = [1, 24, 300, 5_000, 70_000, 300_000, 1_500_000, 2_500_000, 3_300_000];
    let mut sent = 0;
    for size in sizes.iter().cycle() {
        let size = (*size).min(total - sent);
        let bytes = pattern(sent as u64, size);
        let (first, second) = bytes.split_at(size / 3);
        match size % 3 {
            0 => lane.send_all(&[first, second]).expect("sent"),
            _ => lane.send_loan(first, Box::new([b"skipped", second].concat()), 7).expect("sent"),
        }
        if size == 24 {
            lane.repay().expect("copied");
        }
        sent += size;
        if sent == total {
            return;
        }
    }
}

/// Checks `total` bytes that arrive.
fn check(lane: &Lane, total: usize) {
    let sizes = [7, 24, 4_096, 100_000, 1 << 20];
    let mut received = 0;
    for size in sizes.iter().cycle() {
        let mut buffer = vec![0; (*size).min(total - received)];
        let count = lane.receive(&mut buffer).expect("received");
        assert!(count > 0, "the lane ended after {received} bytes");
        assert!(buffer[..count] == pattern(received as u64, count), "bytes {received} and on");
        received += count;
        if received == total {
            return;
        }
    }
}

fn survives_cuts(secrecy: &Secrecy, total: usize, cuts: usize) {
    let pair = pair(secrecy, GRACE);
    std::thread::scope(|scope| {
        scope.spawn(|| send(&pair.client, total));
        scope.spawn(|| send(&pair.worker, total));
        let there = scope.spawn(|| check(&pair.worker, total));
        let back = scope.spawn(|| check(&pair.client, total));
        let mut done = 0;
        let mut pause = 0u64;
        while done < cuts && !(there.is_finished() && back.is_finished()) {
            pause = (pause * 37 + 11) % 23;
            std::thread::sleep(Duration::from_millis(pause));
            pair.cut(done % 2 == 0);
            done += 1;
        }
        // As the writer of a client process does when nobody else uses the lane: the last cut may have swallowed its end.
        while !there.is_finished() {
            pair.client.look();
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    assert!(pair.connections.load(Ordering::SeqCst) > 1, "it was never cut");
}

#[test]
fn no_byte_is_lost_or_doubled_by_cuts() {
    survives_cuts(&Secrecy::none(), 60_000_000, 60);
}

#[test]
fn no_byte_is_lost_or_doubled_by_cuts_under_tls() {
    survives_cuts(&Secrecy::tls(), 60_000_000, 60);
}

/// Both ends only wait for each other: nothing but the new connection itself makes anybody send again.
#[test]
fn what_a_cut_swallowed_is_sent_again_without_a_further_word() {
    const ROUNDS: u64 = 40;
    let pair = pair(&Secrecy::tls(), GRACE);
    let started = Instant::now();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut buffer = [0; 1_000];
            for _ in 0..ROUNDS {
                pair.worker.receive_exact(&mut buffer).expect("a question");
                pair.cut(false);
                pair.worker.send_now(&buffer).expect("an answer");
            }
        });
        for round in 0..ROUNDS {
            let question = pattern(round, 1_000);
            pair.client.send_all(&[&question]).expect("sent");
            pair.cut(true);
            let mut answer = [0; 1_000];
            pair.client.receive_exact(&mut answer).expect("an answer");
            assert!(answer[..] == question[..], "round {round}");
        }
    });
    // A probe, which mended it before, takes two seconds each time.
    assert!(started.elapsed() < Duration::from_secs(ROUNDS), "{:?}", started.elapsed());
}

#[test]
fn a_close_in_order_is_an_end_and_not_a_cut() {
    let pair = pair(&Secrecy::tls(), GRACE);
    pair.client.send_all(&[b"last words"]).expect("sent");
    pair.client.shutdown();
    let mut buffer = [0; 10];
    pair.worker.receive_exact(&mut buffer).expect("received");
    assert_eq!(&buffer, b"last words");
    assert_eq!(pair.worker.receive(&mut buffer).expect("an end"), 0);
    assert!(pair.worker.is_over());
    assert_eq!(pair.connections.load(Ordering::SeqCst), 1, "it did not come back");
}

#[test]
fn a_lane_that_stays_broken_ends_at_both_ends_after_the_time_of_grace() {
    let grace = Duration::from_millis(700);
    let pair = pair(&Secrecy::none(), grace);
    pair.is_refusing.store(true, Ordering::SeqCst);
    pair.cut(true);
    let started = Instant::now();
    let error = pair.client.receive(&mut [0; 8]).expect_err("lost");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted, "{error}");
    assert!(started.elapsed() >= grace);
    assert!(pair.client.send_all(&[b"x"]).is_err(), "for good");
    let error = pair.worker.receive(&mut [0; 8]).expect_err("lost");
    assert!(error.to_string().contains("did not come back"), "{error}");
}

#[test]
fn a_worker_that_is_busy_is_not_taken_for_dead() {
    let grace = Duration::from_secs(2);
    let pair = pair(&Secrecy::tls(), grace);
    pair.client.send_all(&[b"for later"]).expect("sent");
    // Longer than the silence after which a connection is given up. Nobody receives meanwhile.
    for _ in 0..20 {
        std::thread::sleep(Duration::from_millis(100));
        pair.client.look();
        pair.worker.listen();
    }
    assert_eq!(pair.connections.load(Ordering::SeqCst), 1);
    let mut bytes = [0; 9];
    pair.worker.receive_exact(&mut bytes).expect("what was sent");
    assert_eq!(&bytes, b"for later");
}

#[test]
fn what_is_sent_without_waiting_arrives_after_a_cut() {
    let pair = pair(&Secrecy::tls(), GRACE);
    let total = 40_000_000;
    std::thread::scope(|scope| {
        let there = scope.spawn(|| check(&pair.client, total));
        let bytes = pattern(0, total);
        let mut sent = 0;
        while sent < total {
            let end = total.min(sent + 3_000_000);
            let count = pair.worker.send_now(&bytes[sent..end]).expect("sent");
            sent += count;
            if count == 0 || pair.worker.has_backlog() {
                pair.worker.flush().expect("flushed");
            }
            if sent % 4 == 0 {
                pair.cut(false);
            }
        }
        pair.worker.flush().expect("flushed");
        // Somebody has to read the other direction, for acknowledgements.
        while !there.is_finished() {
            let _ = pair.worker.try_receive(&mut [0; 8]).expect("nothing");
            std::thread::sleep(Duration::from_millis(1));
        }
    });
}

#[test]
fn a_server_of_another_name_or_pool_is_not_talked_to() {
    let Secrecy(Some((_, server))) = Secrecy::tls() else { unreachable!("made with TLS") };
    let Secrecy(Some((stranger, _))) = Secrecy::tls() else { unreachable!("made with TLS") };
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let endpoint = Endpoint::Tcp(listener.local_addr().expect("address").to_string());
    let accept = std::thread::spawn(move || {
        let (stream, _) = listener.accept().expect("accepted");
        server_handshake(&Socket::from_descriptor(stream.into()), &server).map(drop)
    });
    let socket = Socket::connect(&endpoint, TIME, |descriptor| descriptor).expect("connected");
    let error = client_handshake(&socket, &stranger, "abc.farpool.internal").expect_err("a stranger");
    assert!(error.to_string().contains("certificate"), "{error}");
    assert!(accept.join().expect("joined").is_err());
}

#[test]
fn a_refusal_reaches_the_client_in_clear_and_sealed() {
    let refusal = Refusal { code: 100, reason: "the session has ended".into() };
    for secrecy in [Secrecy::none(), Secrecy::tls()] {
        for is_sealed in [false, true] {
            let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
            let endpoint = Endpoint::Tcp(listener.local_addr().expect("address").to_string());
            let (server, sent) = (secrecy.clone(), refusal.clone());
            let accept = std::thread::spawn(move || {
                let (stream, _) = listener.accept().expect("accepted");
                let socket = Socket::from_descriptor(stream.into());
                if is_sealed {
                    let mut link = server.server(socket).expect("a link");
                    link.opening().expect("an opening");
                    link.refuse(&sent).expect("refused");
                } else {
                    socket.send_all(&[&encode_refusal(&sent)]).expect("refused");
                    // What the client says meanwhile must not reset the connection before it has read this.
                    let _ = socket.receive(&mut [0; 4096]);
                }
            });
            let socket = Socket::connect(&endpoint, TIME, |descriptor| descriptor).expect("connected");
            let answer = secrecy.client(socket).and_then(|link| link.open(&Opening::default()));
            let error = answer.expect_err("refused");
            let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Refusal>());
            assert_eq!(inner, Some(&refusal), "{error}");
            accept.join().expect("joined");
        }
    }
}

/// A worker's lane in clear, and its client's socket.
fn worker_of_a_bare_client() -> (Lane, std::os::unix::net::UnixStream) {
    let (client, link) = bare_connection();
    (Lane::worker(link, GRACE, Box::new(|| {})), client)
}

fn bare_connection() -> (std::os::unix::net::UnixStream, Link) {
    let (client, served) = std::os::unix::net::UnixStream::pair().expect("a pair of sockets");
    client.set_read_timeout(Some(TIME)).expect("a limit");
    (client, Link::plain(Socket::from_descriptor(served.into())))
}

/// Found by fuzzing: it was sent with the next word that somebody had, so a client that waited for an answer asked for a
/// sign of life first, two seconds later.
#[test]
fn what_a_broken_connection_lost_is_sent_again_at_once() {
    use std::io::Read as _;
    let (lane, client) = worker_of_a_bare_client();
    lane.send_all(&[b"answer"]).expect("sent");
    drop(client);
    assert_eq!(lane.detach(), Some(0));
    let (mut client, link) = bare_connection();
    lane.attach(link, 0);
    let mut packet = [0; packet::HEAD_BYTES + 6];
    client.read_exact(&mut packet).expect("it is sent again");
    assert_eq!(packet[packet::HEAD_BYTES..], *b"answer");
}

/// Found on the way: while a worker waited for room for its answers it read whatever its client sent, without end.
#[test]
fn a_client_that_sends_and_never_acknowledges_is_held_back() {
    use std::io::Write as _;
    let (lane, mut client) = worker_of_a_bare_client();
    client.set_write_timeout(Some(Duration::from_millis(500))).expect("a limit");
    let lane = Arc::new(lane);
    let sender = {
        let lane = Arc::clone(&lane);
        std::thread::spawn(move || lane.send_all(&[&vec![1; 17 << 20]]))
    };
    let reader = {
        let mut client = client.try_clone().expect("the same socket");
        std::thread::spawn(move || io::copy(&mut client, &mut io::sink()))
    };
    let mut packet = Vec::new();
    packet::put_words(&mut packet, packet::Kind::Data, &vec![7; packet::MOST_DATA]);
    let most = replay::LAST_LIMIT / packet::MOST_DATA + 16;
    let taken = (0..most).take_while(|_| client.write_all(&packet).is_ok()).count();
    assert!(taken < most, "{taken} MiB were taken from a client that acknowledges nothing");
    lane.shutdown();
    assert!(sender.join().expect("the sender").is_err());
    drop(client);
    reader.join().expect("the reader").expect("its end");
}

/// Whoever waits for much is woken for many bytes at once; a peer that stops in the middle of them, and a short packet behind
/// them, are heard of all the same.
#[test]
fn bytes_that_come_slowly_arrive_while_much_is_waited_for() {
    use std::io::Write as _;
    let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
    let mut client = TcpStream::connect(listener.local_addr().expect("address")).expect("connected");
    client.set_nodelay(true).expect("an option");
    let (served, _) = listener.accept().expect("accepted");
    let link = Link::plain(Socket::from_descriptor(served.into()));
    let lane = Arc::new(Lane::worker(link, GRACE, Box::new(|| {})));
    let (give, take) = mpsc::channel();
    let reader = {
        let lane = Arc::clone(&lane);
        std::thread::spawn(move || {
            let mut buffer = vec![0; 2 << 20];
            loop {
                let count = lane.receive(&mut buffer).expect("bytes");
                if give.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        })
    };
    let expect = |expected: &[u8]| {
        let mut arrived = Vec::new();
        while arrived.len() < expected.len() {
            arrived.extend(take.recv_timeout(TIME).expect("bytes that were sent"));
        }
        assert!(arrived == expected, "other bytes arrived");
    };
    let mut packet = Vec::new();
    packet::put_words(&mut packet, packet::Kind::Data, &pattern(0, packet::MOST_DATA));
    let (first, rest) = packet.split_at(1000);
    client.write_all(first).expect("sent");
    expect(&pattern(0, 1000 - packet::HEAD_BYTES));
    let (second, rest) = rest.split_at(100);
    client.write_all(second).expect("sent");
    expect(second);
    client.write_all(rest).expect("sent");
    expect(rest);
    let mut short = Vec::new();
    packet::put_words(&mut short, packet::Kind::Data, b"short");
    client.write_all(&short).expect("sent");
    expect(b"short");
    drop(take);
    client.write_all(&short).expect("sent");
    reader.join().expect("the reader");
}
