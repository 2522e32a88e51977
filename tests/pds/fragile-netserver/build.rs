//! Builds the network server so that it faults when it is asked to.

fn main() {
    println!("cargo::rustc-cfg=segue_fragile");
    println!("cargo::rerun-if-changed=build.rs");
}
