//! Test: answers a call with its words plus one, adds one to the shared word,
//! and notifies the caller.
#![no_std]
#![no_main]
#![forbid(unsafe_code)]

use core::sync::atomic::Ordering;

use segue_shared_memory::Region;
use sel4_microkit::{
    Channel, Handler, Infallible, MessageInfo, debug_println, get_mr, protection_domain, region,
    set_mr,
};

struct Echo {
    shared: Region,
}

#[protection_domain(heap_size = 0x1000)]
fn init() -> Echo {
    debug_println!("echo: started");
    Echo {
        shared: region!(shared),
    }
}

impl Handler for Echo {
    type Error = Infallible;

    fn protected(&mut self, caller: Channel, call: MessageInfo) -> Result<MessageInfo, Infallible> {
        let word = self.shared.load64(0, Ordering::Acquire);
        self.shared.store64(0, word + 1, Ordering::Release);
        set_mr(0, get_mr(0) + 1);
        caller.notify();
        Ok(MessageInfo::new(call.label() + 1, 1))
    }
}
