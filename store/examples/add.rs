//! Adds a tree to a store: `add STORE TREE`. For profiling.

use ampoule_store::{AddOptions, Store, StoreRoot, StoreSettings};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let store = Store::open(&StoreRoot::new(&args[1]), StoreSettings::default()).expect("a store opens");
    let start = std::time::Instant::now();
    let info = store.add_path(args[2].as_ref(), &AddOptions::source("tree"), None).expect("it is added");
    println!("{} in {:?}", info.path, start.elapsed());
}
