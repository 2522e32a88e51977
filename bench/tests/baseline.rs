//! Work must not become dearer unnoticed.

use segue_bench::regression::{self, Bench};
use segue_system_tests::scenarios;

#[test]
fn nothing_has_become_five_percent_dearer() {
    if let Err(why) = scenarios::may_make_tap_devices() {
        println!("nothing is measured: {why}");
        return;
    }
    let file = regression::file();
    let text = std::fs::read_to_string(&file)
        .unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let baseline = regression::from_json(&text).unwrap_or_else(|error| panic!("{error}"));
    let compared = Bench::boot().and_then(|mut bench| bench.compare(&baseline));
    compared.unwrap_or_else(|complaints| {
        panic!("work has become dearer; if it has to, say why in a commit that writes the baseline anew (segue-bench --baseline):\n{complaints}")
    });
}
