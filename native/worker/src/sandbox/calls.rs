//! System calls: seccomp.
//!
//! The driver is closed and changes with every release, so what it calls is not listed; what is listed is what no driver
//! needs once it is initialised. Most of it answers EPERM, which the driver takes for the answer of an ordinary
//! container. What only an attack calls ends the process (SIGSYS, which the kernel logs).

use std::collections::BTreeMap;

use anyhow::Context as _;
use libc::c_long;
use seccompiler::SeccompCmpOp::{Eq, MaskedEq, Ne};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};

type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

/// The newest call that the lists below know (`open_tree_attr`, Linux 6.15). A later one does not exist for a worker.
const NEWEST: u32 = 467;
/// Beside the ordinary calls the kernel may have those of the x32 ABI, which the lists do not name.
const X32: u32 = 0x4000_0000;

/// Calls of an attacker: on other processes' memory, on the machine, out of a container.
const DEADLY: [c_long; 36] = [
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_open_by_handle_at,
    libc::SYS_bpf,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    OPEN_TREE_ATTR,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_unshare,
    libc::SYS_setns,
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_acct,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
];

/// Calls of programs that are not a driver.
const FORBIDDEN: [c_long; 85] = [
    // Other programs.
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_fork,
    libc::SYS_vfork,
    // Connections of its own. Landlock does not know Unix sockets before its version 9, and those of the acceptor and
    // of the manager trust whoever can open them. `accept4` is not among them: it needs a socket that listens, and the
    // only one is that at which the next acceptor comes.
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    // Other processes.
    libc::SYS_tkill,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_process_madvise,
    libc::SYS_process_mrelease,
    libc::SYS_shmget,
    libc::SYS_shmat,
    libc::SYS_shmctl,
    libc::SYS_semget,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_semctl,
    libc::SYS_msgget,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_msgctl,
    libc::SYS_mq_open,
    libc::SYS_mq_unlink,
    // What Landlock does not know about files.
    libc::SYS_chmod,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchmodat2,
    libc::SYS_chown,
    libc::SYS_fchown,
    libc::SYS_lchown,
    libc::SYS_fchownat,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_futimesat,
    libc::SYS_utimensat,
    libc::SYS_truncate,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    SETXATTRAT,
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    REMOVEXATTRAT,
    libc::SYS_name_to_handle_at,
    libc::SYS_fanotify_init,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    LISTMOUNT,
    STATMOUNT,
    // Who it is.
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
    libc::SYS_capset,
    // Large parts of the kernel that have had many holes.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_userfaultfd,
    libc::SYS_perf_event_open,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_modify_ldt,
    libc::SYS_personality,
    libc::SYS_vhangup,
    libc::SYS_syslog,
    libc::SYS_adjtimex,
    libc::SYS_clock_adjtime,
    libc::SYS_uselib,
    libc::SYS_ustat,
    libc::SYS_sysfs,
    libc::SYS__sysctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_nfsservctl,
    libc::SYS_vserver,
];

// Not in the `libc` crate yet.
const STATMOUNT: c_long = 457;
const LISTMOUNT: c_long = 458;
const SETXATTRAT: c_long = 463;
const REMOVEXATTRAT: c_long = 466;
const OPEN_TREE_ATTR: c_long = 467;

/// Namespaces that a thread can be made in.
const NAMESPACES: [libc::c_int; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];
/// Requests to a terminal (the worker's log may be one) that type into it or take it over; requests that have signals
/// sent to others; and those that make a file unchangeable.
const FORBIDDEN_IOCTLS: [u64; 7] = [
    libc::TIOCSTI,
    libc::TIOCCONS,
    0x541c, // TIOCLINUX
    0x8901, // FIOSETOWN
    0x8902, // SIOCSPGRP
    libc::FS_IOC_SETFLAGS,
    0x401c_5820, // FS_IOC_FSSETXATTR
];
/// Which signal is sent to whom when a descriptor becomes ready: it can be any signal, to any process of the user.
const FORBIDDEN_FCNTLS: [u64; 3] = [
    8,  // F_SETOWN
    10, // F_SETSIG
    15, // F_SETOWN_EX
];
/// In a socket's type, beside its flags.
const SOCKET_TYPE: u64 = 0xf;

/// Closes them for all threads of this process.
pub fn close() -> anyhow::Result<()> {
    for program in programs(std::process::id())? {
        seccompiler::apply_filter_all_threads(&program).context("install a seccomp filter")?;
    }
    Ok(())
}

/// Whether the kernel can do what [`close`] wants.
pub fn is_offered() -> bool {
    const GET_ACTION_AVAIL: libc::c_ulong = 2;
    let action = libc::SECCOMP_RET_KILL_PROCESS;
    // SAFETY: the kernel reads four bytes through the pointer, which are there.
    unsafe { libc::syscall(libc::SYS_seccomp, GET_ACTION_AVAIL, 0, &raw const action) == 0 }
}

/// The filters. One filter knows one answer; of several the kernel takes the strictest.
fn programs(own_pid: u32) -> anyhow::Result<Vec<BpfProgram>> {
    let always = |calls: &[c_long]| calls.iter().map(|call| (*call, Vec::new())).collect::<Rules>();
    let eperm = errno(libc::EPERM);
    let mut forbidden = always(&FORBIDDEN);
    forbidden.extend(conditional(u64::from(own_pid))?);
    // The C library tries `clone3` first, whose flags no filter can read, and takes `clone` where there is none.
    let missing = always(&[libc::SYS_clone3]);
    [(always(&DEADLY), SeccompAction::KillProcess), (forbidden, eperm), (missing, errno(libc::ENOSYS))]
        .into_iter()
        .map(|(rules, action)| compile(rules, action))
        .collect()
}

/// Calls whose parameters decide.
fn conditional(own_pid: u64) -> anyhow::Result<Rules> {
    let mut rules = Rules::new();
    // A new process.
    let thread = flag(libc::CLONE_THREAD);
    let mut clones = vec![rule(&[(0, MaskedEq(thread), 0)])?];
    for namespace in NAMESPACES.map(flag) {
        clones.push(rule(&[(0, MaskedEq(namespace), namespace)])?);
    }
    rules.insert(libc::SYS_clone, clones);
    // Of sockets only pairs that can reach nobody else: a datagram socket can be given any address.
    rules.insert(libc::SYS_socketpair, other_types(&[libc::SOCK_STREAM, libc::SOCK_SEQPACKET].map(flag))?);
    // Other processes: `0` is oneself, and for `kill` the group, which is this process alone.
    for call in [
        libc::SYS_kill,
        libc::SYS_tgkill,
        libc::SYS_rt_sigqueueinfo,
        libc::SYS_rt_tgsigqueueinfo,
        libc::SYS_prlimit64,
        libc::SYS_move_pages,
        libc::SYS_migrate_pages,
    ] {
        rules.insert(call, vec![rule(&[(0, Ne, 0), (0, Ne, own_pid)])?]);
    }
    for call in [libc::SYS_setpriority, libc::SYS_ioprio_set] {
        rules.insert(call, vec![rule(&[(1, Ne, 0), (1, Ne, own_pid)])?]);
    }
    rules.insert(libc::SYS_ioctl, one_of(1, &FORBIDDEN_IOCTLS)?);
    rules.insert(libc::SYS_fcntl, one_of(1, &FORBIDDEN_FCNTLS)?);
    Ok(rules)
}

/// Socket types but for `allowed`, one rule each.
fn other_types(allowed: &[u64]) -> anyhow::Result<Vec<SeccompRule>> {
    let others = (0..=SOCKET_TYPE).filter(|kind| !allowed.contains(kind));
    others.map(|kind| rule(&[(1, MaskedEq(SOCKET_TYPE), kind)])).collect()
}

fn one_of(argument: u8, values: &[u64]) -> anyhow::Result<Vec<SeccompRule>> {
    values.iter().map(|value| rule(&[(argument, Eq, *value)])).collect()
}

/// A rule that holds when all conditions do. All parameters here are 32-bit numbers for the kernel, which ignores what
/// stands in the registers' upper halves; so must the filter.
fn rule(conditions: &[(u8, SeccompCmpOp, u64)]) -> anyhow::Result<SeccompRule> {
    let conditions = conditions.iter().map(|(argument, operator, value)| {
        SeccompCondition::new(*argument, SeccompCmpArgLen::Dword, operator.clone(), *value)
    });
    Ok(SeccompRule::new(conditions.collect::<Result<_, _>>()?)?)
}

fn flag(value: libc::c_int) -> u64 {
    u64::from(value.cast_unsigned())
}

fn errno(number: libc::c_int) -> SeccompAction {
    SeccompAction::Errno(number.cast_unsigned())
}

/// A filter, behind a preamble for calls that no list can name.
fn compile(rules: Rules, action: SeccompAction) -> anyhow::Result<BpfProgram> {
    // Calls of 32-bit programs end the process: the filter checks the architecture.
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, action, TargetArch::x86_64)?;
    let listed = BpfProgram::try_from(filter)?;
    let statement = |code, k| sock_filter { code, jt: 0, jf: 0, k };
    let unless = |code, k| sock_filter { code, jt: 0, jf: 1, k };
    let mut program = vec![
        // The number of the call is the first word of what a filter sees.
        statement(opcode(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS), 0),
        unless(opcode(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K), X32),
        statement(opcode(libc::BPF_RET | libc::BPF_K), SeccompAction::KillProcess.into()),
        unless(opcode(libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K), NEWEST),
        statement(opcode(libc::BPF_RET | libc::BPF_K), errno(libc::ENOSYS).into()),
    ];
    program.extend(listed);
    Ok(program)
}

/// The kernel's opcodes have 16 bits.
const fn opcode(bits: u32) -> u16 {
    (bits & 0xffff) as u16
}
