use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread::JoinHandle;

use super::*;

const MILLISECOND: Duration = Duration::from_millis(1);

fn spawn(name: &str, body: Box<dyn FnOnce() + Send>) -> io::Result<()> {
    std::thread::Builder::new().name(name.to_owned()).spawn(body).map(drop)
}

fn delayed(rtt: Duration) -> (Socket, UnixStream) {
    let (ours, theirs) = UnixStream::pair().expect("pair");
    let socket = Socket::from_descriptor(ours.into()).with_emulated_rtt(rtt.into(), spawn).expect("delay");
    (socket, theirs)
}

/// Sends back what it gets until the other end closes; answers how many bytes those were.
fn echo(mut stream: UnixStream) -> JoinHandle<usize> {
    std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 20];
        let mut total = 0;
        loop {
            let count = stream.read(&mut buffer).expect("read");
            if count == 0 {
                return total;
            }
            total += count;
            if stream.write_all(&buffer[..count]).is_err() {
                return total;
            }
        }
    })
}

fn round_trip(socket: &Socket) -> Duration {
    let started = Instant::now();
    socket.send_all(&[b"ping"]).expect("send");
    let mut answer = [0; 4];
    socket.receive_exact(&mut answer).expect("receive");
    assert_eq!(&answer, b"ping");
    started.elapsed()
}

/// No round trip is shorter than the emulated one, and one of many comes within a tenth of it: on a crowded machine
/// most take longer.
fn assert_round_trips(rtt: Duration, attempts: usize) {
    let (socket, theirs) = delayed(rtt);
    let _echo = echo(theirs);
    let mut best = Duration::MAX;
    for _ in 0..attempts {
        best = best.min(round_trip(&socket));
        assert!(best >= rtt, "{best:?} is shorter than {rtt:?}");
        if best <= rtt + rtt / 10 {
            return;
        }
    }
    panic!("the shortest of {attempts} round trips of {rtt:?} took {best:?}");
}

#[test]
fn a_round_trip_of_1_ms_takes_1_ms() {
    assert_round_trips(MILLISECOND, 20_000);
}

#[test]
fn a_round_trip_of_30_ms_takes_30_ms() {
    assert_round_trips(30 * MILLISECOND, 200);
}

#[test]
fn requests_under_way_together_share_one_round_trip() {
    const REQUESTS: u32 = 1000;
    let (socket, theirs) = delayed(30 * MILLISECOND);
    let _echo = echo(theirs);
    let started = Instant::now();
    for number in 0..REQUESTS {
        socket.send_all(&[&number.to_le_bytes()]).expect("send");
    }
    for number in 0..REQUESTS {
        let mut answer = [0; 4];
        socket.receive_exact(&mut answer).expect("receive");
        assert_eq!(u32::from_le_bytes(answer), number);
    }
    assert!(started.elapsed() < 30 * MILLISECOND * REQUESTS / 10, "{:?}", started.elapsed());
}

#[test]
fn large_transfers_arrive_whole_and_in_order_in_both_directions() {
    let (socket, theirs) = delayed(5 * MILLISECOND);
    let echo = echo(theirs);
    let sent: Vec<u8> = (0..20_000_003u32).map(|index| (index / 251).to_le_bytes()[0] ^ 0x5a).collect();
    std::thread::scope(|scope| {
        scope.spawn(|| socket.send_all(&[&sent[..7], &[], &sent[7..]]).expect("send"));
        let mut received = vec![0; sent.len()];
        socket.receive_exact(&mut received).expect("receive");
        assert!(received == sent, "the bytes differ");
    });
    let total = sent.len();
    drop(socket);
    assert_eq!(echo.join().expect("join"), total);
}

#[test]
fn what_was_sent_before_the_socket_was_dropped_arrives() {
    let (socket, mut theirs) = delayed(20 * MILLISECOND);
    socket.send_all(&[b"last ", b"words"]).expect("send");
    drop(socket);
    let mut all = String::new();
    theirs.read_to_string(&mut all).expect("read");
    assert_eq!(all, "last words");
}

#[test]
fn limited_sending_returns_when_the_bytes_have_left() {
    let (socket, mut theirs) = delayed(20 * MILLISECOND);
    socket.send_all(&[b"under way "]).expect("send");
    socket.limit_sending(Duration::from_secs(10));
    socket.send_all(&[b"and last"]).expect("send");
    theirs.set_nonblocking(true).expect("non-blocking");
    let mut buffer = [0; 64];
    let count = theirs.read(&mut buffer).expect("everything is there");
    assert_eq!(&buffer[..count], b"under way and last");
}

#[test]
fn shutdown_wakes_those_who_wait() {
    let (socket, _theirs) = delayed(Duration::from_secs(60));
    socket.send_all(&[b"never arrives"]).expect("send");
    let started = Instant::now();
    std::thread::scope(|scope| {
        let receiver = scope.spawn(|| socket.receive(&mut [0; 4]));
        scope.spawn(|| socket.limit_sending(Duration::from_secs(60)));
        std::thread::sleep(20 * MILLISECOND);
        socket.shutdown();
        assert_eq!(receiver.join().expect("join").expect("the end"), 0);
    });
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
    assert_eq!(socket.send_all(&[b"x"]).expect_err("must fail").kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn the_end_of_the_other_side_arrives_after_its_last_bytes() {
    let (socket, mut theirs) = delayed(400 * MILLISECOND);
    theirs.write_all(b"bye").expect("write");
    drop(theirs);
    let mut buffer = [0; 8];
    assert_eq!(socket.try_receive(&mut buffer).expect("nothing yet"), None);
    assert_eq!(socket.receive(&mut buffer).expect("receive"), 3);
    assert_eq!(socket.receive(&mut buffer).expect("the end"), 0);
    assert_eq!(socket.try_receive(&mut buffer).expect("the end"), Some(0));
}

#[test]
fn a_closed_peer_becomes_an_error_of_a_later_send() {
    let (socket, theirs) = delayed(MILLISECOND);
    drop(theirs);
    let failed = (0..10_000).find_map(|_| {
        std::thread::sleep(MILLISECOND);
        socket.send_all(&[b"x"]).err()
    });
    assert_eq!(failed.expect("must fail").kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn round_trip_times_are_read_with_their_units() {
    let read = |text: &str| text.parse::<EmulatedRtt>();
    assert_eq!(read("50us"), Ok(EmulatedRtt(Duration::from_micros(50))));
    assert_eq!(read("1.5ms"), Ok(EmulatedRtt(Duration::from_micros(1500))));
    assert_eq!(read("2s"), Ok(EmulatedRtt(Duration::from_secs(2))));
    assert!(read("0").expect("zero").is_zero());
    for text in ["", "30", "ms", "-1ms", "1 h", "NaNms", "61s"] {
        assert!(read(text).is_err(), "{text}");
    }
}
