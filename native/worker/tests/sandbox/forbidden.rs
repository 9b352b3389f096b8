//! What a hostile client would have its worker do.

use std::fs::File;
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;

use libc::{c_int, c_long};

use crate::child::{answer, answer_of, close, in_child, in_sandbox, set_variable};
use crate::sandbox::{Place, Policy, Sandbox, offered};

/// A folder of one test, with a file that is nobody's business.
struct Secret {
    folder: PathBuf,
    file: PathBuf,
}

impl Secret {
    fn new(name: &str) -> Secret {
        let folder = std::env::temp_dir().join(format!("farpool-sandbox-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join("key");
        std::fs::write(&file, "secret").unwrap();
        Secret { folder, file }
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn parent() -> c_long {
    // SAFETY: takes nothing, answers a number.
    c_long::from(unsafe { libc::getppid() })
}

/// A call by its number, with up to six numbers.
fn call<const N: usize>(number: c_long, parameters: [c_long; N]) -> c_long {
    let mut all = [0; 6];
    all[..N].copy_from_slice(&parameters);
    // SAFETY: the callers pass numbers, or null where the call expects an address: it is refused, or fails.
    unsafe { libc::syscall(number, all[0], all[1], all[2], all[3], all[4], all[5]) }
}

fn tried<const N: usize>(number: c_long, parameters: [c_long; N]) -> String {
    in_sandbox(|| answer(call(number, parameters))).said
}

#[test]
fn all_layers_hold_on_this_kernel() {
    let names = offered();

    assert_eq!(names[..3], ["no-new-privileges", "no-capabilities", "not-dumpable"]);
    assert!(names[3].starts_with("landlock-"), "{names:?}: these tests need a kernel with Landlock");
    assert_eq!(names[4], "seccomp");
    assert_eq!(in_child(|| close().layers().join(" ")).said, names.join(" "));
}

#[test]
fn without_a_sandbox_nothing_is_in_the_way() {
    let secret = Secret::new("off");
    let outcome = in_child(|| {
        let place = Place { driver: &secret.file, simulated: false };
        let mut sandbox = Sandbox::close_files(Policy::Off, place);
        sandbox.close_calls();
        assert!(sandbox.layers().is_empty());
        let socket = call(libc::SYS_socket, [libc::AF_INET.into(), libc::SOCK_STREAM.into(), 0]);
        format!("{} {}", answer_of(File::open(&secret.file)), answer(socket))
    });

    assert_eq!(outcome.said, "done done");
}

#[test]
fn files_of_others_stay_closed() {
    let secret = Secret::new("files");
    let home = PathBuf::from(std::env::var_os("HOME").unwrap());
    let made = secret.folder.join("new");
    let outcome = in_sandbox(|| {
        [
            answer_of(File::open(&secret.file)),
            answer_of(File::options().write(true).open(&secret.file)),
            answer_of(std::fs::write(&made, "x")),
            answer_of(std::fs::read_dir(&home)),
            answer_of(std::fs::read_dir("/")),
            answer_of(std::fs::remove_file(&secret.file)),
            answer_of(std::fs::rename(&secret.file, &made)),
            answer_of(std::fs::hard_link(&secret.file, "/dev/shm/farpool-sandbox-link")),
            answer_of(File::open("/etc/passwd")),
        ]
        .join(" ")
    });

    // Where a file would change its folder, EXDEV is Landlock's answer.
    let moved = format!("error {:?}", Some(libc::EXDEV));
    assert_eq!(outcome.said, format!("EACCES EACCES EACCES EACCES EACCES EACCES EACCES {moved} EACCES"));
    assert_eq!(std::fs::read_to_string(&secret.file).unwrap(), "secret");
}

#[test]
fn of_the_drivers_folder_only_libraries_are_open() {
    let secret = Secret::new("driver");
    let driver = secret.folder.join("libcuda.so.1");
    std::fs::write(&driver, "").unwrap();
    let outcome = in_child(|| {
        set_variable(c"HOME", &secret.folder);
        let _sandbox = Sandbox::close_files(Policy::Strict, Place { driver: &driver, simulated: false });
        [
            answer_of(File::open(&driver)),
            answer_of(File::options().write(true).open(&driver)),
            answer_of(File::open(&secret.file)),
            answer_of(std::fs::read_dir(&secret.folder)),
        ]
        .join(" ")
    });

    assert_eq!(outcome.said, "done EACCES EACCES EACCES");
}

#[test]
fn what_landlock_does_not_know_about_files_is_refused() {
    let secret = Secret::new("metadata");
    let path = std::ffi::CString::new(secret.file.to_str().unwrap()).unwrap();
    let outcome = in_sandbox(|| {
        // SAFETY: the path ends with a zero and lives through the calls.
        let answers = unsafe {
            [
                libc::chmod(path.as_ptr(), 0o777),
                libc::chown(path.as_ptr(), 1, 1),
                libc::truncate(path.as_ptr(), 0),
                libc::utimes(path.as_ptr(), std::ptr::null()),
                libc::setxattr(path.as_ptr(), c"user.a".as_ptr(), std::ptr::null(), 0, 0),
            ]
            .map(|result| answer(result.into()))
        };
        answers.join(" ")
    });

    assert_eq!(outcome.said, "EPERM EPERM EPERM EPERM EPERM");
    assert_eq!(std::fs::metadata(&secret.file).unwrap().len(), 6);
}

#[test]
fn nothing_is_executed_and_no_process_is_made() {
    let shell =
        in_sandbox(|| answer_of(std::process::Command::new("/bin/sh").arg("-c").arg("true").status()));
    assert_eq!(shell.said, "EPERM");
    let path = c"/bin/sh".as_ptr().addr();
    assert_eq!(tried(libc::SYS_execve, [c_long::try_from(path).unwrap(), 0, 0]), "EPERM");
    assert_eq!(tried(libc::SYS_execveat, [0, 0, 0, 0, 0]), "EPERM");
    assert_eq!(tried(libc::SYS_fork, []), "EPERM");
    assert_eq!(tried(libc::SYS_vfork, []), "EPERM");
    assert_eq!(tried(libc::SYS_clone, [libc::SIGCHLD.into(), 0, 0, 0, 0]), "EPERM");
    assert_eq!(tried(libc::SYS_clone, [(libc::CLONE_NEWUSER | libc::SIGCHLD).into(), 0, 0, 0, 0]), "EPERM");
    assert_eq!(tried(libc::SYS_clone3, [0, 0]), "ENOSYS");
    let fork = in_sandbox(|| {
        // SAFETY: a child, if there were one, would only leave.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: as above.
            unsafe { libc::_exit(0) }
        }
        answer(pid.into())
    });
    assert_eq!(fork.said, "EPERM");
}

#[test]
fn no_connection_is_opened() {
    let secret = Secret::new("sockets");
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = tcp.local_addr().unwrap();
    let path = secret.folder.join("socket");
    let _unix = UnixListener::bind(&path).unwrap();
    let outcome = in_sandbox(|| {
        [
            answer_of(TcpStream::connect(address)),
            answer_of(TcpListener::bind("127.0.0.1:0")),
            answer_of(UnixStream::connect(&path)),
            answer_of(UnixListener::bind(secret.folder.join("other"))),
            answer_of(UnixDatagram::pair()),
            answer(call(libc::SYS_socket, [libc::AF_NETLINK.into(), libc::SOCK_RAW.into(), 0])),
        ]
        .join(" ")
    });

    assert_eq!(outcome.said, "EPERM EPERM EPERM EPERM EPERM EPERM");
}

#[test]
fn an_open_socket_connects_to_nobody_else() {
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, passed) =
        (tcp.local_addr().unwrap(), TcpStream::connect(tcp.local_addr().unwrap()).unwrap());
    let outcome = in_sandbox(|| {
        let nobody = libc::sockaddr { sa_family: 0, sa_data: [0; 14] };
        // SAFETY: AF_UNSPEC, which dissolves a connection, needs the family only.
        let dissolved = unsafe { libc::connect(passed.as_raw_fd(), &raw const nobody, 16) };
        format!("{} {:?}", answer(dissolved.into()), passed.peer_addr().ok() == Some(address))
    });

    assert_eq!(outcome.said, "EPERM true");
}

#[test]
fn other_processes_are_not_signalled() {
    // URG is ignored by whoever does not want it: by the tests' process, if the sandbox leaks.
    let urgent = c_long::from(libc::SIGURG);
    /// Of the parent's process id and a signal.
    type Parameters = fn(c_long, c_long) -> [c_long; 3];
    let attempts: [(c_long, Parameters); 8] = [
        (libc::SYS_kill, |parent, signal| [parent, signal, 0]),
        (libc::SYS_kill, |_, _| [-1, 0, 0]),
        (libc::SYS_tgkill, |parent, signal| [parent, parent, signal]),
        (libc::SYS_tkill, |parent, signal| [parent, signal, 0]),
        (libc::SYS_rt_sigqueueinfo, |parent, signal| [parent, signal, 0]),
        (libc::SYS_pidfd_open, |parent, _| [parent, 0, 0]),
        (libc::SYS_prlimit64, |parent, _| [parent, 0, 0]),
        (libc::SYS_setpriority, |parent, _| [0, parent, 5]),
    ];
    for (number, parameters) in attempts {
        let outcome = in_sandbox(|| answer(call(number, parameters(parent(), urgent))));
        assert_eq!(outcome.said, "EPERM", "call {number}");
    }
    let owner = in_sandbox(|| {
        let pair = UnixStream::pair().unwrap();
        let target = c_int::try_from(parent()).unwrap();
        // SAFETY: takes numbers only.
        let set = |command, value: c_int| unsafe { libc::fcntl(pair.0.as_raw_fd(), command, value) };
        const F_SETSIG: c_int = 10;
        format!(
            "{} {}",
            answer(set(libc::F_SETOWN, target).into()),
            answer(set(F_SETSIG, libc::SIGKILL).into())
        )
    });
    assert_eq!(owner.said, "EPERM EPERM");
}

#[test]
fn other_processes_cannot_be_looked_into() {
    let outcome = in_sandbox(|| {
        ["environ", "maps", "mem", "fd"]
            .map(|name| answer_of(File::open(format!("/proc/{}/{name}", parent()))))
            .join(" ")
    });
    assert_eq!(outcome.said, "EACCES EACCES EACCES EACCES");

    // The simulated GPU reads the `stat` of others: what is private stays closed there, too.
    let account = Secret::new("simulated");
    let outcome = in_child(|| {
        set_variable(c"FARPOOL_SIMGPU_STATE", &account.folder.join("account"));
        let place = Place { driver: &account.file, simulated: true };
        let mut sandbox = Sandbox::close_files(Policy::Strict, place);
        sandbox.close_calls();
        assert_eq!(sandbox.layers(), offered());
        ["stat", "environ", "maps", "mem", "fd"]
            .map(|name| answer_of(File::open(format!("/proc/{}/{name}", parent()))))
            .join(" ")
    });
    assert_eq!(outcome.said, "done EACCES EACCES EACCES EACCES");
}

#[test]
fn a_sandboxed_process_cannot_be_traced_by_its_user() {
    let outcome = in_sandbox(|| {
        // SAFETY: answers a number.
        let dumpable = unsafe { libc::prctl(libc::PR_GET_DUMPABLE) };
        let core = rustix::process::getrlimit(rustix::process::Resource::Core);
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let lines = ["NoNewPrivs:", "Seccomp:", "CapEff:", "CapPrm:"].map(|name| {
            status.lines().find(|line| line.starts_with(name)).unwrap_or(name).replace('\t', " ")
        });
        format!("{dumpable} {:?} {}", core.maximum, lines.join(" "))
    });

    let none = "0000000000000000";
    assert_eq!(outcome.said, format!("0 Some(0) NoNewPrivs: 1 Seccomp: 2 CapEff: {none} CapPrm: {none}"));
}

#[test]
fn an_attack_ends_the_process() {
    let killed = [
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_pidfd_getfd,
        libc::SYS_mount,
        libc::SYS_umount2,
        libc::SYS_unshare,
        libc::SYS_setns,
        libc::SYS_chroot,
        libc::SYS_pivot_root,
        libc::SYS_init_module,
        libc::SYS_kexec_load,
        libc::SYS_reboot,
        libc::SYS_bpf,
        libc::SYS_open_by_handle_at,
        libc::SYS_iopl,
    ];
    for number in killed {
        let outcome = in_sandbox(|| answer(call(number, [0; 6])));
        assert_eq!((outcome.signal(), outcome.said.as_str()), (Some(libc::SIGSYS), ""), "call {number}");
    }
}

#[test]
fn calls_that_have_had_many_holes_are_refused() {
    let refused = [
        libc::SYS_io_uring_setup,
        libc::SYS_userfaultfd,
        libc::SYS_perf_event_open,
        libc::SYS_keyctl,
        libc::SYS_add_key,
        libc::SYS_personality,
        libc::SYS_setuid,
        libc::SYS_setgroups,
        libc::SYS_capset,
        libc::SYS_shmget,
        libc::SYS_mq_open,
        libc::SYS_syslog,
        libc::SYS_quotactl,
    ];
    for number in refused {
        assert_eq!(tried(number, [0; 6]), "EPERM", "call {number}");
    }
    for request in [libc::TIOCSTI, 0x541c, 0x8901] {
        let request = c_long::try_from(request).unwrap();
        // The register's upper half is not the kernel's business, and must not be a way around.
        for upper in [0, 1 << 32] {
            assert_eq!(tried(libc::SYS_ioctl, [2, request | upper, 0]), "EPERM", "ioctl {request:#x}");
        }
    }
}

#[test]
fn calls_by_other_numbers_do_not_get_around_it() {
    const NEW: c_long = 468;
    const X32: c_long = 0x4000_0000;
    assert_eq!(tried(NEW, []), "ENOSYS");
    let outcome = in_sandbox(|| answer(call(X32 | libc::SYS_getpid, [])));
    assert_eq!(outcome.signal(), Some(libc::SIGSYS));
    let outcome = in_sandbox(|| {
        let answered: u32;
        // SAFETY: the call of 32-bit programs with number 20, `getpid`, touches no memory. Their kernel's entry keeps
        // all registers but the answer's.
        unsafe {
            std::arch::asm!("int 0x80", inlateout("eax") 20u32 => answered, out("r8") _, out("r9") _, out("r10") _, out("r11") _)
        };
        format!("answered {answered}")
    });
    assert_eq!(outcome.signal(), Some(libc::SIGSYS), "{}", outcome.said);
}

#[test]
fn threads_that_ran_before_obey_too() {
    let outcome = in_child(|| {
        let place = Place { driver: "/usr/lib/libcuda.so.1".as_ref(), simulated: false };
        let mut sandbox = Sandbox::close_files(Policy::Strict, place);
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            wait.recv().unwrap();
            let socket = call(libc::SYS_socket, [libc::AF_UNIX.into(), libc::SOCK_STREAM.into(), 0]);
            format!("{} {}", answer(socket), answer_of(File::open("/etc/passwd")))
        });
        sandbox.close_calls();
        go.send(()).unwrap();
        thread.join().unwrap()
    });

    assert_eq!(outcome.said, "EPERM EACCES");
}

#[test]
fn landlock_is_not_claimed_where_another_thread_escapes_it() {
    let outcome = in_child(|| {
        let (stop, wait) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || wait.recv());
        let place = Place { driver: "/usr/lib/libcuda.so.1".as_ref(), simulated: false };
        let sandbox = Sandbox::close_files(Policy::Strict, place);
        drop(stop);
        let _ = thread.join();
        sandbox.layers().join(" ")
    });

    assert_eq!(outcome.said, "no-new-privileges no-capabilities not-dumpable");
}
