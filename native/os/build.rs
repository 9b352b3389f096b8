//! What an add-on of Node must be linked with: among others it is never unloaded, as its thread runs in it.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    napi_build::setup();
}
