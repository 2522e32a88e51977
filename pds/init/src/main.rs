//! The root task: builds every protection domain and handles its faults.

fn main() {}
