//! Granting virtual functions to applications, and taking them back.
//!
//! A grant is capabilities: the untyped memory of the function's registers, the IO space
//! of its requester id, the handlers of its two interrupts. They are copied into a small
//! CNode that hangs in the application's CSpace; it can use them there, but has no other
//! CNode to copy them to. Taking them back is revoking the originals, in a fixed number of
//! system calls: first the right to make memory requests, then the IO space, whose context
//! entry goes with its last capability, then interrupts and registers. Where the registers
//! were, the application sees pages of its own that mean nothing from then on: who was
//! only slow does not fault.
//!
//! This program can die between any two of these calls. So taking a function back does not ask
//! what was given, nor to whom, and can be done again; whatever was given in part is taken back
//! before it is given anew.

use segue_director_core::board::Refused;
use segue_director_core::config::GrantTable;
use segue_director_core::grant_server::GrantDevice;
use segue_fault_points::{Point, reached};
use sel4::cap::{CNode, IrqHandler, Page};
use sel4::{CapData, CapRights, VmAttributes};
use sel4_microkit::progress;
use sel4_microkit_abi::grant;

/// Bytes of a page.
const PAGE: u64 = 0x1000;
/// This program's authority; it names itself.
const AUTHORITY: CNode = CNode(grant::authority(grant::AUTHORITY_CNODE));

/// What this program knows of PCI functions that can be granted.
pub(crate) trait Functions {
    /// Requester id of virtual function `number`.
    fn requester(&self, number: u8) -> Option<u16>;
    /// Lets it make memory requests, or forbids it.
    fn set_bus_master(&self, number: u8, on: bool);
}

/// Authority over functions, and over the CNodes and windows of applications.
pub(crate) struct Authority<'a, F> {
    pub(crate) table: &'static GrantTable,
    pub(crate) functions: &'a F,
}

impl<F: Functions> GrantDevice for Authority<'_, F> {
    fn grant(&mut self, application: usize, function: u8) -> Result<(), Refused> {
        let domain = self.table.domains.get(usize::from(function));
        let domain = *domain.ok_or(Refused::Invalid)?;
        let requester = self.functions.requester(function);
        let requester = requester.ok_or(Refused::Invalid)?;
        let (application, number) = (application as u64, u64::from(function));
        for page in 0..grant::FRAME_COUNT {
            // Fails where none is mapped.
            let _ = dummy(application, page).unmap();
        }
        AUTHORITY
            .mint(
                grant::function(number, grant::IO_SPACE),
                grant::AUTHORITY_BITS,
                AUTHORITY,
                grant::MASTER_IO_SPACE,
                grant::AUTHORITY_BITS,
                CapRights::ALL,
                CapData::io_space(domain, requester),
            )
            .map_err(kernel)?;
        reached(Point::PcieGrantIoSpace);
        let cnode = CNode(grant::authority(grant::application(
            application,
            grant::ITS_CNODE,
        )));
        for slot in [grant::UNTYPED, grant::IO_SPACE]
            .into_iter()
            .chain(grant::INTERRUPTS)
        {
            cnode
                .copy(
                    slot,
                    grant::GRANT_BITS,
                    AUTHORITY,
                    grant::function(number, slot),
                    grant::AUTHORITY_BITS,
                    CapRights::ALL,
                )
                .map_err(kernel)?;
            reached(Point::PcieGrantCopied);
        }
        for (slot, its) in grant::INTERRUPTS.into_iter().zip(grant::ITS_NOTIFICATIONS) {
            let notification = grant::authority(grant::application(application, its));
            interrupt(number, slot)
                .set_notification(notification)
                .map_err(kernel)?;
            reached(Point::PcieGrantInterrupt);
        }
        self.functions.set_bus_master(function, true);
        Ok(())
    }

    /// Only what a damaged register could have taken away.
    fn keep(&mut self, _: usize, function: u8) {
        self.functions.set_bus_master(function, true);
    }

    /// Each step is tried, whatever became of those before.
    fn withdraw(&mut self, function: u8) -> Result<(), Refused> {
        self.functions.set_bus_master(function, false);
        reached(Point::PcieWithdrawBusMaster);
        let number = u64::from(function);
        let mut result = Ok(());
        let mut note = |outcome: Result<(), sel4::Error>| {
            if let Err(error) = outcome {
                result = Err(kernel(error));
            }
        };
        let revoke = |slot| AUTHORITY.revoke(grant::function(number, slot), grant::AUTHORITY_BITS);
        note(revoke(grant::IO_SPACE));
        reached(Point::PcieWithdrawRevoked);
        let io_space = grant::function(number, grant::IO_SPACE);
        note(AUTHORITY.delete(io_space, grant::AUTHORITY_BITS));
        for slot in grant::INTERRUPTS {
            note(interrupt(number, slot).clear());
            reached(Point::PcieWithdrawInterrupt);
            note(revoke(slot));
        }
        note(revoke(grant::UNTYPED));
        reached(Point::PcieWithdrawRegisters);
        // There may be more of them.
        progress();
        result
    }

    fn cover(&mut self, application: usize) {
        let window = self.table.windows.get(application).copied().unwrap_or(0);
        let application = application as u64;
        let vspace = grant::authority(grant::application(application, grant::ITS_VSPACE));
        for page in 0..grant::FRAME_COUNT {
            let dummy = dummy(application, page);
            // One that its last life has left.
            let _ = dummy.unmap();
            reached(Point::PcieCoverUnmapped);
            // Nothing depends on it but the life of an application that is only slow.
            let _ = dummy.map(
                vspace,
                window + page * PAGE,
                CapRights::READ_WRITE,
                VmAttributes::WRITE_BACK,
            );
        }
    }
}

/// A page that stands in for registers of an application's function.
fn dummy(application: u64, page: u64) -> Page {
    let slot = grant::application(application, grant::ITS_DUMMIES + page);
    Page(grant::authority(slot))
}

fn interrupt(function: u64, slot: u64) -> IrqHandler {
    IrqHandler(grant::authority(grant::function(function, slot)))
}

fn kernel(error: sel4::Error) -> Refused {
    log::error!("the kernel refused a step of a grant: {error}");
    Refused::Kernel
}
