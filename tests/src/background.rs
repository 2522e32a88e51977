//! Clients that go on while something else happens, and say afterwards whether it harmed them.

mod downloads;
mod redis;

pub use downloads::{Downloaded, Downloads};
pub use redis::{Benchmarks, Rate, RedisLoad, rates};
