//! What an image was made from, read off the graph of derivations that leads to it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ampoule_image::project::Image;
use ampoule_image::provenance::{self, Material};
use ampoule_realise::builtin::Attributes;
use ampoule_store::{ContentAddress, Derivation, Method, Store, StorePath};

use crate::error::CliError;

/// Returns the statement about `image`, which was made from the object at `own`.
///
/// # Errors
/// If nothing is known of what made the object, or a derivation on the way to it is gone.
pub fn statement(store: &Store, own: &Path, image: &Image) -> Result<Vec<u8>, CliError> {
    let unknown = || {
        CliError::failed(format!("nothing is known of what made `{}`", own.display()))
            .hint("realise it again: its derivation was deleted, or it was copied from elsewhere")
    };
    let real = own.canonicalize().unwrap_or_else(|_| own.to_owned());
    let object = store.root().object_of(&real).ok_or_else(unknown)?;
    let deriver = store.expect_info(&object)?.deriver.ok_or_else(unknown)?;
    let materials = materials(store, &deriver)?;
    let facts = provenance::Facts {
        image,
        derivation: &store.dir().print(&deriver),
        materials: &materials,
        version: env!("CARGO_PKG_VERSION"),
    };
    let mut bytes = serde_json::to_vec(&provenance::statement(&facts)).expect("a statement is JSON");
    bytes.push(b'\n');
    Ok(bytes)
}

/// Returns everything that came from outside: outputs whose hash was promised, and files of the project.
fn materials(store: &Store, top: &StorePath) -> Result<Vec<Material>, CliError> {
    let mut found: BTreeMap<StorePath, Material> = BTreeMap::new();
    let mut seen = BTreeSet::from([top.clone()]);
    let mut todo = vec![top.clone()];
    while let Some(path) = todo.pop() {
        let derivation = store.read_derivation(&path)?;
        if let Some((address, output)) = derivation.fixed_output() {
            // How it was fetched is of no matter: its hash says what it is.
            found.insert(output.clone(), fetched(store, &derivation, address, output));
            continue;
        }
        for source in &derivation.input_sources {
            if found.contains_key(source) {
                continue;
            }
            let info = store.expect_info(source)?;
            let material = Material {
                path: store.dir().print(source),
                url: None,
                hash_name: "nix-nar-sha256".to_owned(),
                hash: info.nar_hash.to_base16(),
            };
            found.insert(source.clone(), material);
        }
        for input in derivation.input_derivations.keys() {
            if seen.insert(input.clone()) {
                todo.push(input.clone());
            }
        }
    }
    Ok(found.into_values().collect())
}

fn fetched(store: &Store, derivation: &Derivation, address: &ContentAddress, output: &StorePath) -> Material {
    let algo = address.hash.algo().name();
    let hash_name = if address.method == Method::Flat { algo.to_owned() } else { format!("nix-nar-{algo}") };
    Material {
        path: store.dir().print(output),
        url: address_of(derivation),
        hash_name,
        hash: address.hash.to_base16(),
    }
}

/// Returns where an output was to be had, without secrets.
fn address_of(derivation: &Derivation) -> Option<String> {
    let attributes = Attributes::from_environment(&derivation.environment).ok()?;
    if derivation.builder == "builtin:pull-image" {
        let image = attributes.get("image")?.as_str()?;
        return Some(format!("docker://{image}@{}", attributes.get("digest")?.as_str()?));
    }
    let urls = attributes.texts("urls").unwrap_or_default();
    let first = urls.into_iter().chain(attributes.texts("url").unwrap_or_default()).next()?;
    Some(ampoule_net::shown_text(&first))
}
