//! Bills of materials: SPDX 2.3 and CycloneDX 1.5, from what the closure says.
//!
//! Packages come from the lock file's words (the attribute `packages`, a composed
//! tree's record) and from the package records in the tree; store objects and trees
//! are listed with their store paths. Nothing is guessed by looking at files, no
//! clock is asked: the same image has the same documents.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::digest::Digest;
use crate::dpkg::Dpkg;
use crate::group::{GroupObject, short_name};
use crate::oci::Platform;
use crate::spec::PackageSpec;

/// The documents that an image object holds, with their media types.
pub const DOCUMENTS: [(&str, &str); 2] =
    [("spdx.json", "application/spdx+json"), ("cyclonedx.json", "application/vnd.cyclonedx+json")];

/// Returns the directory of an image object that holds the documents; of one of several
/// platforms, that platform's.
pub fn directory(platform: Option<&Platform>) -> String {
    platform.map_or_else(|| "sbom".to_owned(), |p| format!("sbom-{}", p.to_string().replace('/', "-")))
}

/// What a bill is made from.
pub struct Facts<'a> {
    /// The image's name.
    pub name: &'a str,
    /// Its tag.
    pub tag: &'a str,
    /// When it was made.
    pub created: &'a str,
    /// For which machine.
    pub platform: &'a Platform,
    /// Packages as the lock file knows them.
    pub packages: &'a [PackageSpec],
    /// Store objects of the closure.
    pub objects: &'a [GroupObject],
    /// Trees that are laid at `/`.
    pub trees: Vec<String>,
    /// The package records of the image.
    pub dpkg: &'a Dpkg,
    /// In a slim image, the packages of its tree of which something is left.
    pub kept: Option<&'a BTreeSet<String>>,
}

impl Facts<'_> {
    /// Returns every package once: the lock's words win over the tree's.
    fn all_packages(&self) -> Vec<PackageSpec> {
        let mut all: BTreeMap<(String, String), PackageSpec> = BTreeMap::new();
        let is_left = |package: &&PackageSpec| {
            let deb = matches!(package.kind.as_deref(), None | Some("deb"));
            !deb || self.kept.is_none_or(|kept| kept.contains(&package.name))
        };
        for package in self.dpkg.packages().iter().chain(self.packages).filter(is_left) {
            let key = (package.name.clone(), package.version.clone());
            let entry = all.entry(key).or_insert_with(|| package.clone());
            let better = package.clone();
            entry.architecture = better.architecture.or_else(|| entry.architecture.take());
            entry.source = better.source.or_else(|| entry.source.take());
            entry.source_version = better.source_version.or_else(|| entry.source_version.take());
            entry.sha256 = better.sha256.or_else(|| entry.sha256.take());
            entry.license = better.license.or_else(|| entry.license.take());
            entry.path = better.path.or_else(|| entry.path.take());
        }
        all.into_values().collect()
    }

    /// A name for the document that is the same for the same contents.
    fn id(&self, packages: &[PackageSpec]) -> String {
        let platform = self.platform.to_string();
        let objects: BTreeSet<&String> = self.objects.iter().map(|o| &o.path).chain(&self.trees).collect();
        let all = json!([self.name, self.tag, platform, packages, objects]);
        Digest::of(all.to_string().as_bytes()).to_hex()
    }
}

/// Returns a package's URL in the words of package-url.
fn purl(package: &PackageSpec) -> String {
    let encode = |text: &str| {
        text.bytes().fold(String::new(), |mut out, b| {
            match b {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'~' | b'/' | b'@' => {
                    if b == b'@' { out.push_str("%40") } else { out.push(b as char) }
                }
                b => out.push_str(&format!("%{b:02X}")),
            }
            out
        })
    };
    let kind = package.kind.as_deref().unwrap_or("deb");
    let name = encode(&package.name);
    let version = encode(&package.version);
    let mut query = Vec::new();
    if let Some(arch) = &package.architecture {
        query.push(format!("arch={}", encode(arch)));
    }
    if kind == "deb" {
        if let Some(source) = &package.source {
            query.push(format!("upstream={}", encode(source)));
        }
        let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
        return format!("pkg:deb/debian/{name}@{version}{query}");
    }
    format!("pkg:{kind}/{name}@{version}")
}

/// Returns the SPDX document.
pub fn spdx(facts: &Facts<'_>) -> Value {
    let packages = facts.all_packages();
    let id = facts.id(&packages);
    let spdx_id = |kind: &str, name: &str| {
        let clean: String =
            name.chars().map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' }).collect();
        format!("SPDXRef-{kind}-{clean}")
    };
    let image = json!({
        "SPDXID": "SPDXRef-Image",
        "name": facts.name,
        "versionInfo": facts.tag,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": false,
        "primaryPackagePurpose": "CONTAINER",
    });
    let mut listed = vec![image];
    let mut relations = vec![json!({
        "spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES", "relatedSpdxElement": "SPDXRef-Image",
    })];
    let contains = |id: &str| json!({"spdxElementId": "SPDXRef-Image", "relationshipType": "CONTAINS", "relatedSpdxElement": id});
    for package in &packages {
        let id = spdx_id("Package", &format!("{}-{}", package.name, package.version));
        let mut item = json!({
            "SPDXID": id,
            "name": package.name,
            "versionInfo": package.version,
            "downloadLocation": package.path.as_ref().map_or("NOASSERTION".to_owned(), |p| format!("mirror://debian/{p}")),
            "filesAnalyzed": false,
            "licenseDeclared": package.license.as_deref().unwrap_or("NOASSERTION"),
            "externalRefs": [{
                "referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": purl(package),
            }],
        });
        if let Some(sha256) = &package.sha256 {
            item["checksums"] = json!([{"algorithm": "SHA256", "checksumValue": sha256}]);
        }
        if let Some(source) = &package.source {
            item["sourceInfo"] = json!(format!("built from source package {source}"));
        }
        relations.push(contains(&id));
        listed.push(item);
    }
    for path in facts.objects.iter().map(|o| &o.path).chain(&facts.trees) {
        let base = path.rsplit('/').next().unwrap_or(path);
        let id = spdx_id("Object", base);
        relations.push(contains(&id));
        listed.push(json!({
            "SPDXID": id, "name": short_name(path), "downloadLocation": "NOASSERTION", "filesAnalyzed": false,
            "comment": format!("store object {path}"),
        }));
    }
    json!({
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": format!("{}:{} {}", facts.name, facts.tag, facts.platform),
        "documentNamespace": format!("urn:ampoule:spdx:{id}"),
        "creationInfo": {"created": facts.created, "creators": ["Tool: ampoule"]},
        "packages": listed,
        "relationships": relations,
    })
}

/// Returns the CycloneDX document.
pub fn cyclonedx(facts: &Facts<'_>) -> Value {
    let packages = facts.all_packages();
    let id = facts.id(&packages);
    let mut components = Vec::new();
    for package in &packages {
        let purl = purl(package);
        let mut item = json!({
            "type": "library", "bom-ref": purl, "name": package.name, "version": package.version, "purl": purl,
        });
        if let Some(sha256) = &package.sha256 {
            item["hashes"] = json!([{"alg": "SHA-256", "content": sha256}]);
        }
        if let Some(license) = &package.license {
            item["licenses"] = json!([{"expression": license}]);
        }
        if let Some(source) = &package.source {
            item["properties"] = json!([{"name": "ampoule:sourcePackage", "value": source}]);
        }
        components.push(item);
    }
    for path in facts.objects.iter().map(|o| &o.path).chain(&facts.trees) {
        components.push(json!({
            "type": "file", "bom-ref": path, "name": short_name(path),
            "properties": [{"name": "ampoule:storePath", "value": path}],
        }));
    }
    let uuid = format!("{}-{}-5{}-8{}-{}", &id[..8], &id[8..12], &id[13..16], &id[17..20], &id[20..32]);
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": format!("urn:uuid:{uuid}"),
        "version": 1,
        "metadata": {
            "timestamp": facts.created,
            "tools": [{"name": "ampoule"}],
            "component": {
                "type": "container", "bom-ref": "image", "name": facts.name, "version": facts.tag,
                "properties": [{"name": "ampoule:platform", "value": facts.platform.to_string()}],
            },
        },
        "components": components,
    })
}
