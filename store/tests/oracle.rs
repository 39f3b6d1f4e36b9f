//! What real Nix wrote: every `.drv` file in a directory has the path, the text and the output paths
//! that we compute. Opt-in: `AMPOULE_ORACLE_STORE` names a directory of store objects whose logical
//! store directory is `/nix/store`.

use std::collections::BTreeMap;

use ampoule_store::{Derivation, ModuloHashes, StoreDir, StorePath};

#[test]
fn every_drv_of_a_real_store_is_as_we_compute_it() {
    let Some(store) = std::env::var_os("AMPOULE_ORACLE_STORE") else {
        println!("skipped: AMPOULE_ORACLE_STORE is not set");
        return;
    };
    let dir = StoreDir::default();
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(store).unwrap() {
        let entry = entry.unwrap();
        let Ok(path) = StorePath::parse(entry.file_name().to_str().unwrap()) else { continue };
        if !path.is_derivation() {
            continue;
        }
        let text = std::fs::read(entry.path()).unwrap();
        let derivation = Derivation::parse(&dir, path.derivation_name().unwrap(), &text).unwrap();
        let (computed, written) = derivation.to_text_object(&dir).unwrap();
        assert_eq!(computed, path);
        assert!(written == text, "{path}");
        all.insert(path, derivation);
    }
    let hashes = ModuloHashes::default();
    let mut todo: Vec<StorePath> = all.keys().cloned().collect();
    while let Some(path) = todo.pop() {
        if hashes.get(&path).is_some() {
            continue;
        }
        let derivation = &all[&path];
        let missing: Vec<_> =
            derivation.input_derivations.keys().filter(|p| hashes.get(p).is_none()).cloned().collect();
        if missing.is_empty() {
            derivation.check_output_paths(&dir, &hashes).unwrap();
            derivation.remember(&path, &dir, &hashes).unwrap();
        } else {
            todo.push(path);
            todo.extend(missing);
        }
    }
    println!("{} derivations", all.len());
    assert!(all.len() > 10);
}
