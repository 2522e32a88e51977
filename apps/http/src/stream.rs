//! A connection of the stack as the HTTP server sees it.

use segue_http_core::Stream;
use segue_libos::{ConnectionId, Stack};

/// A connection.
pub struct Connected<'a> {
    /// Where it is.
    pub stack: &'a mut Stack,
    /// Its name.
    pub id: ConnectionId,
}

impl Stream for Connected<'_> {
    fn receive_with(&mut self, f: &mut dyn FnMut(&[u8]) -> usize) {
        let bytes = self.stack.peek(self.id);
        if !bytes.is_empty() {
            let taken = f(bytes);
            self.stack.consume(self.id, taken);
        }
    }

    fn send(&mut self, bytes: &[u8]) -> usize {
        self.stack.send(self.id, bytes)
    }

    fn at_end(&self) -> bool {
        self.stack.peer_closed(self.id) && self.stack.receive_queue(self.id) == 0
    }
}
