//! Places the two image sections of the `dunlin-runtime` binary at the addresses the compiler's executable writer
//! expects.

fn main() {
    let dir = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=image-sections.ld");
    println!("cargo:rustc-link-arg-bins=-Wl,-T,{dir}/image-sections.ld");
    // Segments that fit any page size in use (Pi 5 kernels use 16 KiB, some servers 64 KiB).
    println!("cargo:rustc-link-arg-bins=-Wl,-z,max-page-size=65536,-z,common-page-size=65536");
}
