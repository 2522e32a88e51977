//! Tests of the commands about mode switches.

use super::*;
extern crate std;
use proptest::prelude::*;
use segue_director_core::board::{BOARD_SIZE, Mode};
use segue_director_core::config::MAXIMUM_APPLICATIONS;
use segue_shared_memory::testing::leaked_region;
use std::boxed::Box;
use std::string::String;

fn table(names: &[&str], functions: u32) -> &'static DirectorTable {
    let mut table = DirectorTable::EMPTY;
    table.count = names.len() as u32;
    table.functions = functions;
    for (entry, name) in table.entries.iter_mut().zip(names) {
        entry.name[..name.len()].copy_from_slice(name.as_bytes());
    }
    Box::leak(Box::new(table))
}

fn switching(names: &[&str], functions: u32) -> Switching {
    Switching {
        table: table(names, functions),
        board: Board::new(leaked_region(BOARD_SIZE)).unwrap(),
        wishes: Some(leaked_region(WISHES_SIZE)),
    }
}

fn switch(switching: &Switching, arguments: &str) -> (bool, String) {
    let mut output = String::new();
    let asked = switching.switch(arguments, &mut output).unwrap();
    (asked, output)
}

#[test]
fn each_wish_is_counted() {
    let switching = switching(&["http", "kv"], 0b110);
    let wishes = switching.wishes.unwrap();
    let asked = |arguments| {
        let (asked, text) = switch(&switching, arguments);
        assert!(asked, "{text}");
        (Wish::read(&wishes).unwrap(), text)
    };
    let wish = |sequence, index, wanted| Wish {
        sequence,
        index,
        wanted,
    };
    assert_eq!(
        asked("kv direct"),
        (
            wish(1, 1, Wanted::Direct),
            "Asked for: kv, direct mode.\n".into()
        )
    );
    assert_eq!(
        asked(" http   server  "),
        (
            wish(2, 0, Wanted::Server),
            "Asked for: http, server mode.\n".into()
        )
    );
    assert_eq!(
        asked("http auto"),
        (
            wish(3, 0, Wanted::Auto),
            "Asked for: http, the mode that the policy chooses.\n".into()
        )
    );
    // 0 would be no wish.
    wish(u32::MAX, 0, Wanted::Auto).write(&wishes);
    assert_eq!(asked("kv server").0, wish(1, 1, Wanted::Server));
}

#[test]
fn what_is_not_understood_asks_for_nothing() {
    let mut switching = switching(&["http", "kv"], 0);
    let usage = (false, "Type \"switch NAME direct|server|auto\".\n".into());
    for arguments in ["", "http", "direct", "http sideways", "http direct now"] {
        assert_eq!(switch(&switching, arguments), usage, "{arguments}");
    }
    assert_eq!(
        switch(&switching, "htp direct"),
        (
            false,
            "The director does not know \"htp\", only http, kv.\n".into()
        )
    );
    assert_eq!(Wish::read(&switching.wishes.unwrap()), None);
    switching.table = table(&[], 0);
    assert_eq!(
        switch(&switching, "http auto").1,
        "The director has no applications to switch.\n"
    );
    switching.wishes = None;
    assert_eq!(
        switch(&switching, "http auto").1,
        "The system description gives the console no way to ask the director.\n"
    );
}

#[test]
fn the_table_shows_modes_and_functions() {
    let switching = switching(&["http", "kv", "echo"], 0b1110);
    let mut shown = Shown {
        mode: Mode::Direct,
        function: Some(2),
        switches: 3,
        last_switch: 1204,
        failures: 1,
        ..Shown::default()
    };
    switching.board.show(0, &shown);
    shown.mode = Mode::ToDirect;
    shown.function = Some(1);
    switching.board.show(2, &shown);
    let mut output = String::new();
    switching.write_table(&mut output).unwrap();
    assert_eq!(
        output,
        "name                 mode       function  switches  failures    last switch\n\
         http                 direct            2         3         1       1.204 ms\n\
         kv                   server            -         0         0              -\n\
         echo                 to direct         1         3         1       1.204 ms\n\
         Function 1: echo\n\
         Function 2: http\n\
         Function 3: free\n"
    );
}

proptest! {
    /// Whatever is typed, at most one of the known wishes comes of it.
    #[test]
    fn any_arguments_are_answered(arguments in "(http|kv|[ -~]{0,12})[ ]{0,2}(direct|auto|[ -~]{0,12})") {
        let switching = switching(&["http", "kv"], 1);
        let (asked, text) = switch(&switching, &arguments);
        prop_assert!(text.ends_with(".\n"));
        let wish = Wish::read(&switching.wishes.unwrap());
        prop_assert_eq!(asked, wish.is_some());
        prop_assert!(wish.is_none_or(|wish| wish.sequence == 1 && wish.index < 2));
    }

    /// Whatever is on the board, it is shown, and fits into what waits for the line.
    #[test]
    fn any_board_is_shown(words in proptest::collection::vec(any::<u64>(), BOARD_SIZE / 8)) {
        let region = leaked_region(BOARD_SIZE);
        for (index, word) in words.iter().enumerate() {
            region.write(index * 8, &word.to_le_bytes());
        }
        let names = ["n"; MAXIMUM_APPLICATIONS];
        let switching = Switching {
            table: table(&names, u32::MAX),
            board: Board::new(region).unwrap(),
            wishes: None,
        };
        let mut output = String::new();
        switching.write_table(&mut output).unwrap();
        prop_assert_eq!(output.lines().count(), 1 + MAXIMUM_APPLICATIONS + MAXIMUM_FUNCTIONS);
        prop_assert!(output.len() < crate::output::CAPACITY);
    }
}
