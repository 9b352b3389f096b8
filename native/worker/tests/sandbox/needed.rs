//! What workers and drivers do all the time.

use std::fs::File;
use std::io::{IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};

use crate::child::{answer, answer_of, close, in_child, in_sandbox, set_variable};
use crate::sandbox::{Place, Policy, Sandbox};

#[test]
fn threads_start_and_have_names() {
    let outcome = in_sandbox(|| {
        let threads = [1, 2, 3].map(|number| {
            std::thread::Builder::new().name(format!("driver-{number}")).spawn(move || number * 2).unwrap()
        });
        let sum: i32 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        let other =
            std::thread::Builder::new().spawn(|| std::thread::sleep(std::time::Duration::from_millis(50)));
        let other = other.unwrap();
        // Another thread's name is a file of `/proc`.
        let named = {
            use std::os::unix::thread::JoinHandleExt as _;
            // SAFETY: the thread is not joined yet; the name is short enough and ends with a zero.
            unsafe { libc::pthread_setname_np(other.as_pthread_t(), c"cuda-EvtHandlr".as_ptr()) }
        };
        other.join().unwrap();
        format!("{sum} {named} {}", std::thread::available_parallelism().unwrap().get() > 0)
    });

    assert_eq!(outcome.said, "12 0 true");
}

#[test]
fn another_acceptor_connects_to_a_socket_that_listens_already() {
    use std::os::linux::net::SocketAddrExt as _;
    use std::os::unix::net::{SocketAddr, UnixListener};
    let name = format!("farpool-succession-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).unwrap();
    let listener = UnixListener::bind_addr(&address).unwrap();
    let mut acceptor = UnixStream::connect_addr(&address).unwrap();
    acceptor.write_all(b"well").unwrap();

    let outcome = in_sandbox(|| {
        let accepted =
            rustix::net::accept_with(&listener, rustix::net::SocketFlags::CLOEXEC).map(UnixStream::from);
        let mut said = [0; 4];
        accepted.unwrap().read_exact(&mut said).unwrap();
        let is_forbidden = rustix::net::listen(&listener, 1) == Err(rustix::io::Errno::PERM);
        format!("{} {is_forbidden}", String::from_utf8_lossy(&said))
    });

    assert_eq!(outcome.said, "well true");
}

#[test]
fn memory_events_and_timers_work() {
    let outcome = in_sandbox(|| {
        // SAFETY: each call makes something new of its own; what is mapped is written within its length.
        unsafe {
            let memory = libc::memfd_create(c"farpool".as_ptr(), libc::MFD_CLOEXEC);
            assert_eq!(libc::ftruncate(memory, 4096), 0);
            let (rw, shared) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
            let mapped = libc::mmap(std::ptr::null_mut(), 4096, rw, shared, memory, 0);
            assert_ne!(mapped, libc::MAP_FAILED);
            mapped.cast::<u8>().write(7);
            let (rx, private) = (libc::PROT_READ | libc::PROT_EXEC, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            let code = libc::mmap(std::ptr::null_mut(), 4096, rw, private, -1, 0);
            assert_eq!(libc::mprotect(code, 4096, rx), 0);
            let descriptors = [
                libc::eventfd(1, 0),
                libc::epoll_create1(0),
                libc::timerfd_create(libc::CLOCK_MONOTONIC, 0),
                libc::inotify_init1(0),
            ];
            assert!(descriptors.iter().all(|descriptor| *descriptor >= 0), "{descriptors:?}");
            let mut affinity = std::mem::zeroed::<libc::cpu_set_t>();
            assert_eq!(libc::sched_getaffinity(0, size_of_val(&affinity), &raw mut affinity), 0);
            assert_eq!(libc::sched_setaffinity(0, size_of_val(&affinity), &raw const affinity), 0);
            let mut limit = std::mem::zeroed();
            assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit), 0);
            assert!((256..=1 << 16).contains(&limit.rlim_max), "{}", limit.rlim_max);
            assert_eq!(libc::raise(0), 0);
        }
        let (mut one, mut two) = UnixStream::pair().unwrap();
        one.write_all(b"x").unwrap();
        let mut byte = [0];
        two.read_exact(&mut byte).unwrap();
        "done".to_owned()
    });

    assert_eq!(outcome.said, "done");
}

#[test]
fn descriptors_are_received_and_reopened() {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let (passed, mut end) = UnixStream::pair().unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    let descriptors = [passed.as_fd()];
    assert!(ancillary.push(SendAncillaryMessage::ScmRights(&descriptors)));
    rustix::net::sendmsg(&ours, &[IoSlice::new(b"{}")], &mut ancillary, SendFlags::empty()).unwrap();
    let ledger = ledger::Ledger::create(1, 1).unwrap().1;
    let outcome = in_sandbox(|| {
        let mut bytes = [0; 8];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::CMSG_CLOEXEC;
        rustix::net::recvmsg(&theirs, &mut [IoSliceMut::new(&mut bytes)], &mut ancillary, flags).unwrap();
        let received = ancillary.drain().find_map(|message| match message {
            RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
            _ => None,
        });
        UnixStream::from(received.unwrap()).write_all(b"hello").unwrap();
        // The ledger opens its memory a second time through `/proc/self/fd`.
        ledger::Ledger::open(&ledger).map_or_else(|error| error.to_string(), |_| "done".to_owned())
    });

    assert_eq!(outcome.said, "done");
    let mut hello = [0; 5];
    end.read_exact(&mut hello).unwrap();
    assert_eq!(&hello, b"hello");
}

#[test]
fn what_a_driver_reads_can_be_read() {
    let outcome = in_sandbox(|| {
        let files =
            ["/proc/self/maps", "/proc/self/status", "/proc/cpuinfo", "/proc/meminfo", "/proc/devices"];
        let mut wrong: Vec<String> = Vec::new();
        for path in
            files.into_iter().chain(["/proc/sys/vm/mmap_min_addr", "/etc/ld.so.cache", "/dev/urandom"])
        {
            let answer = answer_of(File::open(path).and_then(|mut file| file.read(&mut [0; 16])));
            if answer != "done" {
                wrong.push(format!("{path}: {answer}"));
            }
        }
        for path in ["/sys/devices/system/cpu", "/proc/self/task", "/usr/lib"] {
            let answer = answer_of(std::fs::read_dir(path));
            if answer != "done" {
                wrong.push(format!("{path}: {answer}"));
            }
        }
        wrong.join(", ")
    });

    assert_eq!(outcome.said, "");
}

#[test]
fn libraries_are_loaded_when_they_are_needed() {
    let outcome = in_sandbox(|| {
        // The C library's own, which this program does not use: a driver loads its compiler for PTX in this way.
        // SAFETY: the library's initialisers do nothing.
        let library = unsafe { libloading::Library::new("libresolv.so.2") };
        library.map_or_else(|error| error.to_string(), |_| "done".to_owned())
    });

    assert_eq!(outcome.said, "done");
}

#[test]
fn nvidias_driver_keeps_compiled_kernels_and_shared_memory() {
    let home = std::env::temp_dir().join(format!("farpool-sandbox-home-{}", std::process::id()));
    std::fs::create_dir_all(&home).unwrap();
    let outcome = in_child(|| {
        set_variable(c"HOME", &home);
        set_variable(c"CUDA_CACHE_PATH", "".as_ref());
        set_variable(c"CUDA_CACHE_DISABLE", "0".as_ref());
        let _sandbox = close();
        let folder = home.join(".nv/ComputeCache/0/1");
        let shared = format!("/dev/shm/farpool-sandbox-{}", std::process::id());
        [
            answer_of(std::fs::create_dir_all(&folder)),
            answer_of(std::fs::write(folder.join("kernel"), "code")),
            answer_of(std::fs::write(folder.join("kernel"), "new")),
            answer_of(std::fs::write(home.join("elsewhere"), "")),
            answer_of(std::fs::write(&shared, "")),
            answer_of(std::fs::remove_file(&shared)),
        ]
        .join(" ")
    });
    let disabled = in_child(|| {
        set_variable(c"HOME", &home);
        set_variable(c"CUDA_CACHE_DISABLE", "1".as_ref());
        let _sandbox = close();
        answer_of(std::fs::write(home.join(".nv/ComputeCache/kernel"), "code"))
    });
    std::fs::remove_dir_all(&home).unwrap();

    assert_eq!(outcome.said, "done done done EACCES done done");
    assert_eq!(disabled.said, "EACCES");
}

#[test]
fn the_simulated_gpus_account_is_made_and_kept() {
    let folder = std::env::temp_dir().join(format!("farpool-sandbox-account-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let account = folder.join("account");
    let outcome = in_child(|| {
        set_variable(c"FARPOOL_SIMGPU_STATE", &account);
        let place = Place { driver: &folder.join("libcuda.so.1"), simulated: true };
        let mut sandbox = Sandbox::close_files(Policy::Strict, place);
        sandbox.close_calls();
        let opened = File::options().read(true).write(true).create(true).truncate(false).open(&account);
        let sized = opened.and_then(|file| file.set_len(4096).map(|()| file));
        [answer_of(sized), answer_of(std::fs::write(folder.join("other"), ""))].join(" ")
    });
    std::fs::remove_dir_all(&folder).unwrap();

    assert_eq!(outcome.said, "done EACCES");
}

#[test]
fn a_worker_signals_itself() {
    let outcome = in_sandbox(|| {
        // SAFETY: signal 0 only asks.
        let kill = unsafe { libc::kill(libc::getpid(), 0) };
        let pair = UnixStream::pair().unwrap();
        // SAFETY: asks for a number.
        let flags = unsafe { libc::fcntl(pair.0.as_raw_fd(), libc::F_GETFL) };
        format!("{} {}", answer(kill.into()), answer(flags.into()))
    });
    assert_eq!(outcome.said, "done done");

    // SAFETY: ends the child, as a failed assertion in a driver does.
    let outcome = in_sandbox(|| unsafe { libc::abort() });
    assert_eq!(outcome.signal(), Some(libc::SIGABRT));
}
