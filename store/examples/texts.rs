//! Registers texts: `texts STORE COUNT`. For profiling.

use std::collections::BTreeSet;

use ampoule_store::{Store, StoreRoot, StoreSettings};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let store = Store::open(&StoreRoot::new(&args[1]), StoreSettings::default()).expect("a store opens");
    for i in 0..args[2].parse().expect("a number") {
        store.add_text("t", format!("text {i}").as_bytes(), BTreeSet::new()).expect("it is added");
    }
}
