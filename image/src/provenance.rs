//! Provenance: what an image was made from, as an in-toto statement in the words of SLSA.
//!
//! Every input that came from outside stands in the graph of derivations with the hash
//! that it must have, so that the statement is read off that graph and nothing is recorded
//! while building. No clock and no machine is in it: the same image has the same statement.
//! Signing it is somebody else's work (`cosign attest`, `docs/registries.md`).

use serde_json::{Value, json};

use crate::digest::Digest;
use crate::project::Image;

/// The media type of a statement, and its name as a file.
pub const DOCUMENT: (&str, &str) = ("provenance.json", "application/vnd.in-toto+json");

/// What the statement's predicate is.
pub const PREDICATE: &str = "https://slsa.dev/provenance/v1";

/// Something that came from outside, by its hash.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Material {
    /// Its store path.
    pub path: String,
    /// Where it was to be had; `None` for a file of the project.
    pub url: Option<String>,
    /// Of what the hash was taken: `sha256` of the file, `nix-nar-sha256` of the archive of a tree.
    pub hash_name: String,
    /// The hash, in hex.
    pub hash: String,
}

/// What a statement says.
pub struct Facts<'a> {
    /// The image.
    pub image: &'a Image,
    /// The store path of its derivation.
    pub derivation: &'a str,
    /// What it was made from.
    pub materials: &'a [Material],
    /// The version of this program.
    pub version: &'a str,
}

/// Returns the statement: about the index of an image for several platforms, and about each of its manifests.
pub fn statement(facts: &Facts<'_>) -> Value {
    let image = facts.image;
    let mut digests: Vec<Digest> = vec![image.top.digest];
    digests.extend(image.manifests.iter().map(|manifest| manifest.descriptor.digest));
    digests.dedup();
    let subject =
        digests.iter().map(|digest| json!({ "name": image.name, "digest": { "sha256": digest.to_hex() } }));
    let material = |material: &Material| {
        let mut item = json!({
            "name": crate::group::short_name(&material.path),
            "digest": { &material.hash_name: material.hash },
            "annotations": { "storePath": material.path },
        });
        if let Some(url) = &material.url {
            item["uri"] = json!(url);
        }
        item
    };
    let platforms = image.manifests.iter().filter_map(|manifest| manifest.descriptor.platform.as_ref());
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": subject.collect::<Vec<_>>(),
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": "urn:ampoule:image:1",
                "externalParameters": {
                    "name": image.name,
                    "tag": image.tag,
                    "platforms": platforms.map(ToString::to_string).collect::<Vec<_>>(),
                    "derivation": facts.derivation,
                },
                "resolvedDependencies": facts.materials.iter().map(material).collect::<Vec<_>>(),
            },
            "runDetails": {
                "builder": { "id": "urn:ampoule", "version": { "ampoule": facts.version } },
            },
        },
    })
}
