//! What an application does with the capabilities of a grant: it maps the function's
//! registers, and lets the function reach its own memory for rings and buffers.
//!
//! Which capabilities there are and where is `sel4_microkit_abi::grant`'s. Apart from
//! `sel4`, the runtime, `init` and `pcie` this is the one place where capabilities are
//! named. It never maps anything for the function but the memory that the image builder
//! made for that.
#![no_std]
#![forbid(unsafe_code)]

use core::fmt;

use segue_director_core::config::{DirectConfig, WINDOW_SIZE};
use segue_shared_memory::Region;
use sel4::cap::{CNode, IoPageTable, Page, Untyped};
use sel4::{CapRights, ObjectType, VmAttributes};
use sel4_microkit::region_at;
use sel4_microkit_abi::{grant, slot};

/// Bytes of a page.
const PAGE: u64 = 0x1000;

/// A step that the kernel refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapError {
    step: &'static str,
    error: sel4::Error,
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: the kernel says that {}", self.step, self.error)
    }
}

impl core::error::Error for MapError {}

trait Step<T> {
    fn step(self, step: &'static str) -> Result<T, MapError>;
}

impl<T> Step<T> for Result<T, sel4::Error> {
    fn step(self, step: &'static str) -> Result<T, MapError> {
        self.map_err(|error| MapError { step, error })
    }
}

/// The memory for a function, on its way to being mapped.
#[derive(Debug)]
pub struct FunctionMemory {
    config: &'static DirectConfig,
    /// Pages of memory.
    pages: u64,
    /// Units of work done since [`FunctionMemory::begin`].
    done: u64,
}

impl FunctionMemory {
    /// The memory that the table describes. Nothing is mapped yet.
    pub fn new(config: &'static DirectConfig) -> Self {
        Self {
            config,
            pages: config.memory_size / PAGE,
            done: 0,
        }
    }

    /// Begins anew, for a function that was just granted.
    pub fn begin(&mut self) {
        self.done = 0;
    }

    /// Does up to `units` units of work, some thousand instructions each. Returns whether
    /// all is mapped. So that an application can go on serving meanwhile, this takes many
    /// calls: one unit for each page.
    ///
    /// # Errors
    ///
    /// If the kernel refuses a step: then there is no grant, or it was taken back.
    pub fn advance(&mut self, units: u64) -> Result<bool, MapError> {
        let tables = u64::from(self.config.io_tables);
        for _ in 0..units {
            match self.done {
                done if done < tables => Self::forget_table(tables - 1 - done),
                done if done < 2 * tables => self.map_table(done - tables)?,
                done if done < 2 * tables + self.pages => self.map_frame(done - 2 * tables)?,
                done if done == 2 * tables + self.pages => self.map_registers()?,
                _ => return Ok(true),
            }
            self.done += 1;
        }
        Ok(self.done > 2 * tables + self.pages)
    }

    /// Takes a table out of the last function's IO space, lowest level first. What is not
    /// mapped is left as it is.
    fn forget_table(table: u64) {
        let _ = IoPageTable(grant::memory(table)).unmap();
    }

    fn map_table(&self, table: u64) -> Result<(), MapError> {
        let address = self.config.io_table_addresses[table as usize];
        IoPageTable(grant::memory(table))
            .map(grant::granted(grant::IO_SPACE), address)
            .step("an IO page table could not be mapped")
    }

    fn map_frame(&self, page: u64) -> Result<(), MapError> {
        let frame = Page(grant::memory(u64::from(self.config.io_tables) + page));
        // The last function's; that space is gone.
        let _ = frame.unmap();
        frame
            .map_io(
                grant::granted(grant::IO_SPACE),
                CapRights::READ_WRITE,
                self.config.memory + page * PAGE,
            )
            .step("memory could not be mapped for the function")
    }

    fn map_registers(&self) -> Result<(), MapError> {
        Untyped(grant::granted(grant::UNTYPED))
            .retype(
                ObjectType::SmallPage.raw(),
                0,
                CNode(grant::GRANT_CNODE),
                0,
                0,
                grant::FRAMES,
                grant::FRAME_COUNT,
            )
            .step("the registers' frames could not be made")?;
        for page in 0..grant::FRAME_COUNT {
            Page(grant::granted(grant::FRAMES + page))
                .map(
                    slot::VSPACE,
                    self.config.window + page * PAGE,
                    CapRights::READ_WRITE,
                    VmAttributes::UNCACHEABLE,
                )
                .step("the registers could not be mapped")?;
        }
        Ok(())
    }

    /// The function's registers. To be called once they are mapped; when the grant is
    /// taken back, pages that mean nothing take their place.
    pub fn registers(&self) -> Region {
        region_at!(self.config.window, WINDOW_SIZE as u64)
    }
}
