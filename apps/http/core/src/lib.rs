//! The HTTP server's logic, free of I/O: bytes and time in, bytes out.
//!
//! [`Site`] holds the files packed into the image and answers one request at a
//! time; [`Connection`] drives one client's byte stream, through the [`Stream`]
//! trait that the library OS (or a test) implements. Nothing here trusts the
//! client: a request's size, the time it may take and the memory it holds are
//! bounded by [`Limits`].
//!
//! HTTP/1.1 as in RFC 9110 and RFC 9112: GET and HEAD, keep-alive, pipelining,
//! one byte range per request. No `Date` field is sent, since the machine keeps
//! no wall clock (RFC 9110, section 6.6.1, asks a server without one to leave
//! it out).
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod connection;
mod request;
mod response;
mod server;
mod site;
pub mod status;

pub use connection::{Connection, Counters, Limits, Progress, Stream};
pub use request::{Head, Method, RangeRequest, Request, RequestError, head_end};
pub use response::{Body, Response, reason};
pub use server::{Action, Server};
pub use site::{Dynamic, NothingDynamic, Site, SiteError};
