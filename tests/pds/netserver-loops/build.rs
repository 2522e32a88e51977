//! Builds the network server so that it fails in the way that its name says.

fn main() {
    println!("cargo::rustc-cfg=segue_fragile");
    println!("cargo::rerun-if-changed=build.rs");
}
