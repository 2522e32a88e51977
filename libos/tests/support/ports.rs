//! A port authority that writes down what it is asked.

use segue_libos::{BindError, Duration, PortAuthority, Protocol};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

/// What has been bound and held.
#[derive(Default)]
pub struct Ledger {
    ports: BTreeSet<(u8, u16)>,
    next: u16,
    /// Protocol, port, duration.
    pub holds: Vec<(Protocol, u16, Duration)>,
    /// Ports handed out by `bind_any`; none if it is empty.
    pub refuses: bool,
}

fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
    }
}

impl Ledger {
    pub fn has(&self, protocol: Protocol, port: u16) -> bool {
        self.ports.contains(&(number(protocol), port))
    }

    pub fn count(&self) -> usize {
        self.ports.len()
    }
}

/// Says yes once to each port, and never to a port that somebody has.
pub struct Clerk(pub Rc<RefCell<Ledger>>);

impl PortAuthority for Clerk {
    fn bind(&mut self, protocol: Protocol, port: u16) -> Result<(), BindError> {
        match self.0.borrow_mut().ports.insert((number(protocol), port)) {
            true => Ok(()),
            false => Err(BindError::AddressInUse),
        }
    }

    fn bind_any(&mut self, protocol: Protocol) -> Result<u16, BindError> {
        let mut ledger = self.0.borrow_mut();
        if ledger.refuses {
            return Err(BindError::AddressInUse);
        }
        for _ in 0..16_384 {
            let port = 49_152 + ledger.next % 16_384;
            ledger.next = ledger.next.wrapping_add(1);
            if ledger.ports.insert((number(protocol), port)) {
                return Ok(port);
            }
        }
        Err(BindError::AddressInUse)
    }

    fn release(&mut self, protocol: Protocol, port: u16) {
        assert!(
            self.0.borrow_mut().ports.remove(&(number(protocol), port)),
            "port {port} is given back and was not taken"
        );
    }

    fn hold(&mut self, protocol: Protocol, port: u16, duration: Duration) {
        let mut ledger = self.0.borrow_mut();
        assert!(ledger.ports.contains(&(number(protocol), port)));
        ledger.holds.push((protocol, port, duration));
    }
}
