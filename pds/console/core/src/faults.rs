//! Faults that the operator orders, in systems that are made to be broken.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::{self, Write};

use segue_fault_points::{Kind, LARGEST_SKIP, Order, Page, Point, QUEUE};
use segue_shared_memory::Region;

const USAGE: &str = "Type \"fault PD POINT panic|illegal|memory|loop|deadlock [SKIP] [then POINT ...]\", \
\"fault PD withdraw\", \"fault PD\" or \"fault\".\n";
/// Between faults that are ordered together.
const THEN: &str = "then";

/// What the console knows of fault points, and where it orders faults.
#[derive(Clone, Copy, Debug)]
pub struct Faults {
    /// By their places among the orders.
    domains: &'static [Domain],
    orders: Region,
}

#[derive(Debug)]
struct Domain {
    name: String,
    page: Page,
}

impl Faults {
    /// Orders faults by `orders` in the protection domains with these names and pages, in the
    /// order of their places. Pages that are too small end the list. For one console: the list is
    /// never freed.
    pub fn new<'a>(domains: impl IntoIterator<Item = (&'a str, Region)>, orders: Region) -> Self {
        let domains = domains.into_iter().map_while(|(name, region)| {
            Some(Domain {
                name: name.into(),
                page: Page::new(region)?,
            })
        });
        Self {
            domains: Box::leak(domains.collect::<Vec<_>>().into_boxed_slice()),
            orders,
        }
    }

    /// Does what `arguments` say and says what it did, or why it did not.
    pub fn execute(&self, arguments: &str, output: &mut impl Write) -> fmt::Result {
        let mut words = arguments.split_whitespace();
        let Some(name) = words.next() else {
            return self.write_domains(output);
        };
        let Some(place) = self.domains.iter().position(|domain| domain.name == name) else {
            write!(output, "There is no protection domain \"{name}\", only ")?;
            for (index, domain) in self.domains.iter().enumerate() {
                write!(
                    output,
                    "{}{}",
                    if index == 0 { "" } else { ", " },
                    domain.name
                )?;
            }
            return output.write_str(".\n");
        };
        let rest: Vec<&str> = words.collect();
        match rest[..] {
            [] => return self.write_points(place, output),
            ["withdraw"] => return self.withdraw(place, output),
            _ => {}
        }
        let mut wanted = Vec::new();
        for words in rest.split(|word| *word == THEN) {
            let (point, kind, skip) = match *words {
                [point, kind] => (point, kind, "0"),
                [point, kind, skip] => (point, kind, skip),
                _ => return output.write_str(USAGE),
            };
            let Some(point) = Point::find(name, point) else {
                return writeln!(
                    output,
                    "{name} has no fault point \"{point}\". Type \"fault {name}\" for a list."
                );
            };
            let Some(kind) = Kind::find(kind) else {
                return output.write_str(USAGE);
            };
            let Some(skip) = skip.parse().ok().filter(|skip| *skip <= LARGEST_SKIP) else {
                return writeln!(
                    output,
                    "How often the point is passed before is a number up to {LARGEST_SKIP}."
                );
            };
            wanted.push((point, kind, skip));
        }
        self.order(place, &wanted, output)
    }

    fn waiting(&self, place: usize) -> impl Iterator<Item = Order> + use<> {
        self.domains[place].page.waiting(self.orders, place)
    }

    fn order(
        &self,
        place: usize,
        wanted: &[(Point, Kind, u32)],
        output: &mut impl Write,
    ) -> fmt::Result {
        let domain = &self.domains[place];
        let waiting = self.waiting(place).count();
        if waiting + wanted.len() > usize::from(QUEUE) {
            return writeln!(
                output,
                "{waiting} faults wait in {0} already, of {QUEUE} at most. Type \"fault {0} withdraw\" to be \
                 rid of them.",
                domain.name
            );
        }
        let last = self.waiting(place).last();
        let last = last.map_or_else(|| domain.page.done(), |order| order.sequence);
        let orders: Vec<Order> = (1..)
            .zip(wanted)
            .map(|(number, &(point, kind, skip))| Order {
                sequence: last.wrapping_add(number),
                fault: Some((point, kind)),
                skip,
            })
            .collect();
        // The first one last: it may strike as soon as it is there, and the others are to be there then.
        for order in orders.iter().rev() {
            order.write(&self.orders, place);
        }
        for order in orders {
            write!(output, "Ordered: ")?;
            write_order(&domain.name, order, output)?;
        }
        Ok(())
    }

    /// What waits is overwritten by orders to do nothing, which the protection domain passes over
    /// at the next point that it reaches.
    fn withdraw(&self, place: usize, output: &mut impl Write) -> fmt::Result {
        let mut count = 0;
        for order in self.waiting(place) {
            count += u32::from(order.fault.is_some());
            let nothing = Order {
                fault: None,
                ..order
            };
            nothing.write(&self.orders, place);
        }
        let name = &self.domains[place].name;
        match count {
            1 => writeln!(output, "1 fault was withdrawn from {name}."),
            _ => writeln!(output, "{count} faults were withdrawn from {name}."),
        }
    }

    fn write_domains(&self, output: &mut impl Write) -> fmt::Result {
        writeln!(
            output,
            "{:<20} {:>6} {:>8} {:>7}",
            "name", "points", "injected", "waiting"
        )?;
        for (place, domain) in self.domains.iter().enumerate() {
            writeln!(
                output,
                "{:<20} {:>6} {:>8} {:>7}",
                domain.name,
                Point::of(&domain.name).count(),
                domain.page.struck(),
                self.faults_waiting(place).count(),
            )?;
        }
        Ok(())
    }

    fn faults_waiting(&self, place: usize) -> impl Iterator<Item = Order> + use<> {
        self.waiting(place).filter(|order| order.fault.is_some())
    }

    fn write_points(&self, place: usize, output: &mut impl Write) -> fmt::Result {
        let Domain { name, page } = &self.domains[place];
        for point in Point::of(name) {
            let (before, after) = point.sides();
            writeln!(
                output,
                "{:<24} {:>10}  {before}; next: {after}",
                point.name(),
                page.count(point)
            )?;
        }
        for order in self.faults_waiting(place) {
            write!(output, "Waiting: ")?;
            write_order(name, order, output)?;
        }
        writeln!(output, "Faults injected in {name}: {}.", page.struck())
    }
}

fn write_order(name: &str, order: Order, output: &mut impl Write) -> fmt::Result {
    if let Some((point, kind)) = order.fault {
        write!(output, "{name}, {}, {}", point.name(), kind.name())?;
    }
    match order.skip {
        0 => {}
        1 => write!(output, ", after passing once")?,
        skip => write!(output, ", after passing {skip} times")?,
    }
    output.write_str(".\n")
}

#[cfg(test)]
mod tests;
