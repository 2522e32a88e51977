//! Other images of protection domains, as the operator orders them.

use core::fmt::{self, Write};

use segue_shared_memory::Region;
use segue_status::orders::{ImageEntry, ImageTable, Operation, Order};
use segue_status::system::SystemStatus;

use crate::milliseconds::Milliseconds;

/// What the console knows of other images, and where it orders them.
#[derive(Clone, Copy, Debug)]
pub struct Upgrading {
    /// The images of those who have several.
    pub table: &'static ImageTable,
    /// The console's own region, in which it orders.
    pub orders: Region,
    /// Which orderer it is.
    pub orderer: usize,
}

impl Upgrading {
    /// Orders what `arguments` say (`NAME IMAGE`), or says why not. Yields whether `init` has
    /// something to read. Without arguments it lists the images.
    pub fn order(&self, arguments: &str, output: &mut impl Write) -> Result<bool, fmt::Error> {
        let mut words = arguments.split_whitespace();
        let entry = match (words.next(), words.next(), words.next()) {
            (None, ..) => {
                self.write_images(output)?;
                None
            }
            (Some(name), Some(image), None) => {
                let mut entries = self.table.entries().iter();
                let found =
                    entries.find(|entry| entry.domain_name() == name && entry.name() == image);
                if found.is_none() {
                    writeln!(
                        output,
                        "There is no image {image} of {name}. Type \"upgrade\" for a list."
                    )?;
                }
                found
            }
            _ => {
                writeln!(output, "Type \"upgrade NAME IMAGE\".")?;
                None
            }
        };
        let Some(entry) = entry else {
            return Ok(false);
        };
        let order = Order {
            sequence: Order::next_sequence(&self.orders),
            operation: Some(Operation::Upgrade),
            domain: entry.domain.into(),
            image: entry.image.into(),
        };
        order.write(&self.orders);
        Ok(true)
    }

    fn write_images(&self, output: &mut impl Write) -> fmt::Result {
        for entry in self.table.entries() {
            writeln!(output, "{:<20} {}", entry.domain_name(), entry.name())?;
        }
        Ok(())
    }

    /// The number of the last order that was answered.
    pub fn answered(&self, status: &SystemStatus) -> u64 {
        let answer = status.answer(self.orderer);
        let answer = answer.filter(|answer| answer.outcome.is_some());
        answer.map_or(0, |answer| answer.sequence)
    }

    /// Says what became of the last order.
    pub fn write_answer(&self, status: &SystemStatus, output: &mut impl Write) -> fmt::Result {
        let order = Order::read(&self.orders);
        let answer = status.answer(self.orderer);
        let (Some(order), Some(answer)) = (order, answer) else {
            return Ok(());
        };
        let Some(outcome) = answer.outcome.filter(|_| answer.sequence == order.sequence) else {
            return Ok(());
        };
        let mut entries = self.table.entries().iter();
        let is_ordered = |entry: &&ImageEntry| {
            u64::from(entry.domain) == order.domain && u64::from(entry.image) == order.image
        };
        let Some(entry) = entries.find(is_ordered) else {
            return Ok(());
        };
        let (name, image) = (entry.domain_name(), entry.name());
        if outcome == segue_status::orders::Outcome::Done {
            let outage = Milliseconds(answer.outage);
            writeln!(output, "{name} was upgraded to {image}, {outage}.")
        } else if outcome.is_rolled_back() {
            let why = outcome.reason();
            writeln!(output, "{name} was rolled back from {image}: {why}.")
        } else {
            let why = outcome.reason();
            writeln!(output, "{name} is not upgraded to {image}: {why}.")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    extern crate std;
    use segue_shared_memory::testing::leaked_region;
    use segue_status::orders::{Answer, Outcome, REGION_SIZE};
    use segue_status::system;
    use std::boxed::Box;
    use std::string::String;

    fn upgrading() -> Upgrading {
        let mut table = Box::new(ImageTable::EMPTY);
        for (index, name) in ["first", "next"].into_iter().enumerate() {
            let entry = &mut table.entries[index];
            entry.name[..name.len()].copy_from_slice(name.as_bytes());
            entry.domain_name[..9].copy_from_slice(b"netserver");
            (entry.domain, entry.image) = (7, index as u32);
        }
        table.count = 2;
        Upgrading {
            table: Box::leak(table),
            orders: leaked_region(REGION_SIZE),
            orderer: 1,
        }
    }

    fn said(upgrading: &Upgrading, arguments: &str) -> (bool, String) {
        let mut output = String::new();
        let asked = upgrading.order(arguments, &mut output).unwrap();
        (asked, output)
    }

    #[test]
    fn an_order_names_what_there_is() {
        let upgrading = upgrading();
        let (asked, list) = said(&upgrading, "");
        assert!(
            !asked && list.contains("netserver            next\n"),
            "{list}"
        );
        for wrong in [
            "netserver",
            "netserver next now",
            "netserver none",
            "http next",
        ] {
            let (asked, why) = said(&upgrading, wrong);
            assert!(!asked && !why.is_empty(), "{wrong}");
        }
        assert_eq!(Order::read(&upgrading.orders), None);
        assert!(said(&upgrading, "netserver next").0);
        let order = Order::read(&upgrading.orders).unwrap();
        assert_eq!((order.domain, order.image, order.sequence), (7, 1, 1));
    }

    #[test]
    fn the_answer_to_the_last_order_is_said_once_it_is_there() {
        let upgrading = upgrading();
        let status = SystemStatus::new(leaked_region(system::REGION_SIZE)).unwrap();
        said(&upgrading, "netserver next");
        let mut answer = Answer {
            sequence: 1,
            outcome: None,
            outage: 412,
        };
        let say = |answer| {
            status.set_answer(1, answer);
            let mut output = String::new();
            upgrading.write_answer(&status, &mut output).unwrap();
            (upgrading.answered(&status), output)
        };
        assert_eq!(say(answer), (0, String::new()));
        answer.outcome = Some(Outcome::Done);
        let text = "netserver was upgraded to next, 0.412 ms.\n";
        assert_eq!(say(answer), (1, text.into()));
        answer.outcome = Some(Outcome::NotReady);
        let text = "netserver was rolled back from next: the new image was not ready in time.\n";
        assert_eq!(say(answer).1, text);
        answer.outcome = Some(Outcome::Busy);
        let text = "netserver is not upgraded to next: another upgrade is under way.\n";
        assert_eq!(say(answer).1, text);
    }
}
