//! A process that ends while one of its threads makes a key.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use transport::ClientKey;

/// Whether this process is the one that is to end slowly.
static LINGERS: AtomicBool = AtomicBool::new(false);

/// Registered before the loader registers the destructors of libraries, so it runs after them.
extern "C" fn linger() {
    if LINGERS.load(Ordering::SeqCst) {
        std::thread::sleep(Duration::from_millis(300));
    }
}

extern "C" fn before_everything() {
    // SAFETY: the handler is a plain function of this program.
    unsafe { libc::atexit(linger) };
}

// SAFETY: the loader calls what stands here before `main`, as functions without results.
#[used]
#[unsafe(link_section = ".preinit_array")]
static BEFORE_EVERYTHING: extern "C" fn() = before_everything;

/// The process of the other test.
#[test]
fn a_thread_makes_its_first_key_while_the_process_ends() {
    if std::env::var_os("FARPOOL_LINGER").is_none() {
        return;
    }
    LINGERS.store(true, Ordering::SeqCst);
    ClientKey::generate().expect("a key");
    for _ in 0..20 {
        std::thread::spawn(|| {
            std::thread::sleep(Duration::from_millis(100));
            let _ = ClientKey::generate();
        });
    }
}

#[test]
fn a_process_that_ends_meanwhile_ends_in_order() {
    let this = std::env::current_exe().expect("this program");
    let ended = Command::new(this)
        .args(["--exact", "a_thread_makes_its_first_key_while_the_process_ends"])
        .env("FARPOOL_LINGER", "1")
        .output()
        .expect("it ran");
    assert!(ended.status.success(), "{}: {}", ended.status, String::from_utf8_lossy(&ended.stderr));
}
