//! One client's byte stream.

use crate::command::{self, Context, Session};
use crate::info::Facts;
use crate::parser::Parser;
use crate::reply::Replies;
use crate::server::Limits;
use crate::store::Store;

/// Answers are sent when there is so much of them, before more requests are looked at.
const MUCH: usize = 64 * 1024;
/// Memory for answers that a client keeps between requests.
const KEPT: usize = 16 * 1024;

/// A client's byte stream, as the library OS or a test provides it.
pub trait Stream {
    /// Shows the bytes that have arrived, as far as they lie in one piece, and takes as many away
    /// as `f` says. Does not call it if there are none.
    fn receive_with(&mut self, f: &mut dyn FnMut(&[u8]) -> usize);
    /// Queues bytes for sending and says how many fitted. If not all did, the client is served
    /// again when there is room.
    fn send(&mut self, bytes: &[u8]) -> usize;
    /// Whether the client has closed its side and everything was received.
    fn at_end(&self) -> bool;
}

/// What becomes of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing, until something arrives or there is room.
    Wait,
    /// All is said: it can be closed.
    Close,
    /// It cannot go on.
    Abort,
}

/// One client.
pub struct Client {
    parser: Parser,
    replies: Replies,
    /// Bytes of the replies that are sent.
    sent: usize,
    session: Session,
}

impl Client {
    pub fn new(limits: &Limits, number: u64) -> Self {
        Self {
            parser: Parser::new(limits.request),
            replies: Replies::default(),
            sent: 0,
            session: Session {
                number,
                ..Session::default()
            },
        }
    }

    /// Bytes of its buffers.
    pub fn memory(&self) -> usize {
        self.parser.memory() + self.replies.memory() + self.session.name.capacity()
    }

    /// Answers what has arrived, in order, as far as the answers can be sent. A client that does
    /// not take them is not read from.
    pub fn serve(
        &mut self,
        stream: &mut impl Stream,
        store: &mut Store,
        facts: &mut Facts,
        limits: &Limits,
        now: u64,
    ) -> Progress {
        loop {
            let rest = self.replies.bytes().get(self.sent..).unwrap_or_default();
            if !rest.is_empty() {
                let count = stream.send(rest);
                self.sent += count;
                if count < rest.len() {
                    return Progress::Wait;
                }
            }
            self.replies.clear(KEPT);
            self.sent = 0;
            if self.session.quit {
                return Progress::Close;
            }
            self.answer(store, facts, limits, now);
            if self.replies.failed() {
                return Progress::Abort;
            }
            if !self.replies.bytes().is_empty() || self.session.quit {
                continue;
            }
            let (mut arrived, mut fed) = (false, true);
            stream.receive_with(&mut |bytes| {
                arrived = true;
                fed = self.parser.feed(bytes);
                bytes.len()
            });
            if !fed {
                return Progress::Abort;
            }
            if !arrived {
                if stream.at_end() {
                    return Progress::Close;
                }
                self.parser.shrink();
                return Progress::Wait;
            }
        }
    }

    /// Runs the requests that are complete, until there is much to send.
    fn answer(&mut self, store: &mut Store, facts: &mut Facts, limits: &Limits, now: u64) {
        while self.replies.bytes().len() < MUCH && !self.session.quit {
            let arguments = match self.parser.next_request() {
                Ok(Some(arguments)) => arguments,
                Ok(None) => return,
                Err(error) => {
                    self.replies.error(format_args!("ERR {error}"));
                    self.session.quit = true;
                    return;
                }
            };
            facts.commands += 1;
            let mut context = Context {
                store,
                replies: &mut self.replies,
                session: &mut self.session,
                facts,
                now,
                value_bytes: limits.request.argument_bytes,
                answer_bytes: limits.answer_bytes,
            };
            command::run(&mut context, arguments);
        }
    }
}
