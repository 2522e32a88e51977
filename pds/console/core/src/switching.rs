//! Mode switches, as the operator sees them and asks for them.

use core::fmt::{self, Write};

use segue_director_core::board::{Board, Shown, Wanted, Wish};
use segue_director_core::config::{DirectorEntry, DirectorTable, MAXIMUM_FUNCTIONS};
use segue_fault_points::{Point, reached};
use segue_shared_memory::Region;

use crate::milliseconds::Milliseconds;

/// Bytes of the region of wishes: a page, of which the first word counts.
pub const WISHES_SIZE: usize = 0x1000;

/// What an operator may ask for, and what is said about it.
const WANTED: [(&str, Wanted, &str); 3] = [
    ("direct", Wanted::Direct, "direct mode"),
    ("server", Wanted::Server, "server mode"),
    ("auto", Wanted::Auto, "the mode that the policy chooses"),
];

/// What the console knows of mode switches, and where it asks for them.
#[derive(Clone, Copy, Debug)]
pub struct Switching {
    /// The applications and functions. Those of the director, for their names and places.
    pub table: &'static DirectorTable,
    /// The director's board.
    pub board: Board,
    /// The console's own region, in which it asks the director; `None` if it may only look.
    pub wishes: Option<Region>,
}

impl Switching {
    /// Asks for what `arguments` say (`NAME direct|server|auto`) and says so, or why it does
    /// not. Yields whether the director has something to read.
    pub fn switch(&self, arguments: &str, output: &mut impl Write) -> Result<bool, fmt::Error> {
        let (name, word) = arguments
            .trim()
            .rsplit_once(char::is_whitespace)
            .unwrap_or_default();
        let Some((_, wanted, text)) = WANTED.iter().find(|(known, ..)| *known == word) else {
            writeln!(output, "Type \"switch NAME direct|server|auto\".")?;
            return Ok(false);
        };
        let Some(wishes) = self.wishes else {
            writeln!(
                output,
                "The system description gives the console no way to ask the director."
            )?;
            return Ok(false);
        };
        let name = name.trim_end();
        let place = self
            .table
            .applications()
            .iter()
            .position(|application| application.name() == name);
        let Some(index) = place.and_then(|place| u8::try_from(place).ok()) else {
            self.write_unknown(name, output)?;
            return Ok(false);
        };
        let last = Wish::read(&wishes).map_or(0, |wish| wish.sequence);
        let wish = Wish {
            // 0 is none.
            sequence: last.checked_add(1).unwrap_or(1),
            index,
            wanted: *wanted,
        };
        wish.write(&wishes);
        reached(Point::ConsoleWishWritten);
        writeln!(output, "Asked for: {name}, {text}.")?;
        Ok(true)
    }

    fn write_unknown(&self, name: &str, output: &mut impl Write) -> fmt::Result {
        if self.table.applications().is_empty() {
            return output.write_str("The director has no applications to switch.\n");
        }
        write!(output, "The director does not know \"{name}\", only ")?;
        write_names(
            self.table.applications().iter().map(DirectorEntry::name),
            output,
        )?;
        output.write_str(".\n")
    }

    /// Shows who is in which mode, and who has which function.
    pub fn write_table(&self, output: &mut impl Write) -> fmt::Result {
        writeln!(
            output,
            "{:<20} {:<10} {:>8} {:>9} {:>9} {:>14}",
            "name", "mode", "function", "switches", "failures", "last switch"
        )?;
        for (name, shown) in self.applications() {
            write!(output, "{name:<20} {:<10} ", shown.mode.text())?;
            match shown.function {
                Some(function) => write!(output, "{function:>8}")?,
                None => write!(output, "{:>8}", "-")?,
            }
            write!(output, " {:>9} {:>9} ", shown.switches, shown.failures)?;
            match shown.switches {
                0 => writeln!(output, "{:>14}", "-")?,
                _ => writeln!(output, "{:>14}", Milliseconds(shown.last_switch))?,
            }
        }
        for function in 0..MAXIMUM_FUNCTIONS as u8 {
            if self.table.functions >> function & 1 == 0 {
                continue;
            }
            write!(output, "Function {function}: ")?;
            let holders = self
                .applications()
                .filter(|(_, shown)| shown.function == Some(function))
                .map(|(name, _)| name);
            if !write_names(holders, output)? {
                output.write_str("free")?;
            }
            output.write_str("\n")?;
        }
        Ok(())
    }

    fn applications(&self) -> impl Iterator<Item = (&'static str, Shown)> {
        let table = self.table;
        let board = self.board;
        table
            .applications()
            .iter()
            .enumerate()
            .map(move |(index, application)| (application.name(), board.shown(index)))
    }
}

/// Writes the names with commas between them. Yields whether there are any.
fn write_names<'a>(
    names: impl Iterator<Item = &'a str>,
    output: &mut impl Write,
) -> Result<bool, fmt::Error> {
    let mut any = false;
    for name in names {
        if any {
            output.write_str(", ")?;
        }
        output.write_str(name)?;
        any = true;
    }
    Ok(any)
}

#[cfg(test)]
mod tests;
