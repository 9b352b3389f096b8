//! Gives the library the name under which programs ask for it, and keeps it loaded.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libnvidia-ml.so.1");
    // As NVIDIA's: handles of GPUs and texts of errors point into it.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
}
