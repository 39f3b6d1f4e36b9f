//! Layouts, archives and layers that somebody else wrote, to do harm or by mistake: each is
//! told in words, and leaves nothing behind.

mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use ampoule_image::layout::Layout;
use ampoule_image::open;
use ampoule_image::{Digest, base, oci, rootfs};
use serde_json::{Value, json};
use support::cache;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A tar entry: header and body, with nothing checked.
fn entry(path: &str, kind: u8, link: &str, body: &[u8]) -> Vec<u8> {
    sized_entry(path, kind, link, body.len() as u64, body)
}

fn sized_entry(path: &str, kind: u8, link: &str, size: u64, body: &[u8]) -> Vec<u8> {
    let mut header = [0u8; 512];
    header[..path.len()].copy_from_slice(path.as_bytes());
    header[100..107].copy_from_slice(b"0000755");
    header[108..115].copy_from_slice(b"0000000");
    header[116..123].copy_from_slice(b"0000000");
    header[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    header[136..147].copy_from_slice(b"00000000001");
    header[148..156].copy_from_slice(b"        ");
    header[156] = kind;
    header[157..157 + link.len()].copy_from_slice(link.as_bytes());
    header[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = header.iter().map(|&b| u32::from(b)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    let mut out = header.to_vec();
    out.extend_from_slice(body);
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

fn tar(entries: &[Vec<u8>]) -> Vec<u8> {
    [entries.concat(), vec![0; 1024]].concat()
}

/// A layout being written, wrong where a test wants it.
struct Yard {
    dir: tempfile::TempDir,
}

impl Yard {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("layout/blobs/sha256")).unwrap();
        let yard = Self { dir };
        yard.write("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
        yard
    }

    fn layout(&self) -> PathBuf {
        self.dir.path().join("layout")
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        fs::write(self.layout().join(name), bytes).unwrap();
    }

    fn blob_path(digest: &Digest) -> String {
        format!("blobs/sha256/{}", digest.to_hex())
    }

    /// Adds a blob and returns its descriptor.
    fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes);
        self.write(&Self::blob_path(&digest), bytes);
        json!({ "mediaType": media_type, "digest": digest.to_string(), "size": bytes.len() })
    }

    fn json(&self, media_type: &str, document: &Value) -> Value {
        self.blob(media_type, document.to_string().as_bytes())
    }

    fn index(&self, manifests: &[Value]) {
        let index = json!({ "schemaVersion": 2, "manifests": manifests });
        self.write("index.json", index.to_string().as_bytes());
    }

    /// A manifest of one image with these layers, uncompressed.
    fn image(&self, layers: &[Vec<u8>]) -> Value {
        let diff_ids: Vec<String> = layers.iter().map(|tar| Digest::of(tar).to_string()).collect();
        let layers: Vec<Value> = layers.iter().map(|tar| self.blob(LAYER, tar)).collect();
        self.image_of(&diff_ids, &layers)
    }

    fn image_of(&self, diff_ids: &[String], layers: &[Value]) -> Value {
        let config = json!({ "architecture": "amd64", "os": "linux", "rootfs": { "type": "layers", "diff_ids": diff_ids } });
        let config = self.json(CONFIG, &config);
        self.json(
            MANIFEST,
            &json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers }),
        )
    }

    /// Reads all of it, and brings it into a cache: what the commands do between them.
    fn read(&self) -> Result<Vec<String>, String> {
        read_all(&self.layout())
    }

    fn error(&self, words: &str) {
        let error = self.read().expect_err(words);
        assert!(error.contains(words), "expected `{words}` in: {error}");
    }
}

fn read_all(path: &Path) -> Result<Vec<String>, String> {
    let opened = open::open(path, None).map_err(|e| e.to_string())?;
    let mut names = Vec::new();
    for manifest in &opened.image.manifests {
        let fs = rootfs::read(&opened, manifest).map_err(|e| e.to_string())?;
        names.extend(fs.entries.keys().map(|path| String::from_utf8_lossy(path).into_owned()));
    }
    let (_dir, cache) = cache();
    opened.into_cache(&cache).map_err(|e| e.to_string())?;
    Ok(names)
}

fn file(path: &str, body: &str) -> Vec<u8> {
    entry(path, b'0', "", body.as_bytes())
}

fn good() -> Vec<u8> {
    tar(&[entry("etc/", b'5', "", b""), file("etc/x", "x")])
}

#[test]
fn layouts_are_read_as_they_are_or_not_at_all() {
    let with = |change: &dyn Fn(&Yard, Value)| {
        let yard = Yard::new();
        let image = yard.image(&[good()]);
        change(&yard, image);
        yard
    };
    assert_eq!(with(&|y, image| y.index(&[image])).read().unwrap(), ["etc", "etc/x"]);

    with(&|y, _| fs::remove_file(y.layout().join("oci-layout")).unwrap()).error("oci-layout");
    with(&|y, _| y.write("oci-layout", br#"{"imageLayoutVersion":"2.0.0"}"#)).error("expected 1.x");
    with(&|_, _| {}).error("index.json");
    with(&|y, _| fs::create_dir(y.layout().join("index.json")).unwrap()).error("not a file");
    with(&|y, _| y.write("index.json", &vec![b' '; 9 << 20])).error("bytes long");
    with(&|y, _| y.write("index.json", b"{\"schemaVersion\":2")).error("index.json is malformed");
    with(&|y, _| y.write("index.json", b"{}")).error("index.json is malformed");
    with(&|y, _| y.write("index.json", b"{\"schemaVersion\":1,\"manifests\":[]}")).error("expected 2");
    with(&|y, _| y.index(&[])).error("has no image");
    let deep = [b"{\"schemaVersion\":".to_vec(), vec![b'['; 100_000]].concat();
    with(&|y, _| y.write("index.json", &deep)).error("index.json is malformed");

    let changed = |name: &'static str, value: Value| {
        with(&move |y: &Yard, mut image: Value| {
            image[name] = value.clone();
            y.index(&[image]);
        })
    };
    changed("size", json!(1)).error("size mismatch");
    changed("size", json!(1_u64 << 40)).error("a document of");
    changed("size", json!(-1)).error("malformed");
    changed("digest", json!(Digest::of(b"nothing").to_string())).error("cannot read");
    changed("digest", json!("sha512:00")).error("is not a digest");
    changed("digest", json!(format!("sha512:{}", "0a".repeat(64)))).error("`sha512` digests are not read");
    changed("digest", json!("sha256:../../../../etc/passwd")).error("is not a digest");
    changed("mediaType", json!(LAYER)).error("is not the type of an image");
    changed("mediaType", json!("application/vnd.docker.distribution.manifest.v1+prettyjws"))
        .error("first format");
    changed("mediaType", json!(INDEX)).error("at once");

    // The bytes under a digest are others.
    with(&|y, image| {
        let digest: Digest = image["digest"].as_str().unwrap().parse().unwrap();
        let path = y.layout().join(Yard::blob_path(&digest));
        let len = fs::metadata(&path).unwrap().len() as usize;
        fs::write(path, vec![b'x'; len]).unwrap();
        y.index(&[image]);
    })
    .error("digest mismatch");

    // An index that is also a manifest.
    with(&|y, image| {
        let both = y.json(INDEX, &json!({ "schemaVersion": 2, "manifests": [image], "config": image }));
        y.index(&[both]);
    })
    .error("at once");

    // Two with one name.
    with(&|y, mut image| {
        image["annotations"] = json!({ "org.opencontainers.image.ref.name": "v1" });
        y.index(&[image.clone(), image]);
    })
    .error("name one");
}

/// A pipe where a document or a layer should be is refused, not waited for; a long value is not shown whole.
#[test]
fn what_is_no_file_is_not_waited_for() {
    let yard = Yard::new();
    let image = yard.image(&[good()]);
    yard.index(&[image]);
    let blobs = yard.layout().join("blobs/sha256");
    for blob in fs::read_dir(&blobs).unwrap() {
        let path = blob.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let error = yard.read().expect_err("a pipe is no blob");
        assert!(error.contains("not a regular file") || error.contains("size mismatch"), "{error}");
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
    }
    assert_eq!(yard.read().unwrap(), ["etc", "etc/x"]);
    yard.write("index.json", format!(r#"{{"schemaVersion":"{}"}}"#, "x".repeat(1 << 20)).as_bytes());
    let error = yard.read().unwrap_err();
    assert!(error.contains("at line 1") && error.len() < 1000, "{error}");
}

#[test]
fn manifests_say_one_thing_once() {
    let check = |change: &dyn Fn(&Yard, &mut Value), words: &str| {
        let yard = Yard::new();
        let layer = yard.blob(LAYER, &good());
        let config = json!({ "architecture": "amd64", "os": "linux",
            "rootfs": { "type": "layers", "diff_ids": [Digest::of(&good()).to_string()] } });
        let config = yard.json(CONFIG, &config);
        let mut manifest = json!({ "schemaVersion": 2, "config": config, "layers": [layer] });
        change(&yard, &mut manifest);
        let top = yard.json(MANIFEST, &manifest);
        yard.index(&[top]);
        yard.error(words);
    };
    check(&|_, m| m["schemaVersion"] = json!(1), "schema version 1");
    check(&|_, m| m["fsLayers"] = json!([]), "at once");
    check(&|_, m| m["layers"] = json!([]), "1 diff-ids for 0 layers");
    check(&|_, m| m["layers"] = json!(vec![m["layers"][0].clone(); 200]), "200 layers");
    check(&|_, m| m["layers"][0]["mediaType"] = json!("text/plain"), "not the type of a layer");
    let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    check(&|_, m| m["layers"][0]["mediaType"] = json!(foreign), "kept elsewhere");
    check(&|_, m| m["layers"][0]["size"] = json!(7), "size mismatch");
    check(&|_, m| m["config"]["size"] = json!(u64::MAX), "a document of");
    check(&|_, m| m["config"]["digest"] = m["layers"][0]["digest"].clone(), "size mismatch");
    check(&|y, m| m["config"] = y.json(CONFIG, &json!([])), "image configuration is malformed");
    check(
        &|y, m| m["config"] = y.json(CONFIG, &json!({ "os": "linux" })),
        "image configuration is malformed",
    );

    // A key that is there twice means one thing to one reader and another to the next.
    let yard = Yard::new();
    let image = yard.image(&[good()]);
    let digest: Digest = image["digest"].as_str().unwrap().parse().unwrap();
    let text = fs::read_to_string(yard.layout().join(Yard::blob_path(&digest))).unwrap();
    let twice = text.replacen("\"layers\":", "\"layers\":[],\"layers\":", 1);
    yard.index(&[yard.blob(MANIFEST, twice.as_bytes())]);
    yard.error("duplicate field");
}

#[test]
fn layers_that_are_cut_or_changed_are_refused() {
    for how in ["none", "gzip", "zstd"] {
        let whole = tar(&[file("x", &"0123456789".repeat(20_000))]);
        let packed = match how {
            "none" => whole.clone(),
            "gzip" => {
                let mut encoder = flate2_encoder();
                encoder.write_all(&whole).unwrap();
                encoder.finish().unwrap()
            }
            _ => zstd::encode_all(&whole[..], 3).unwrap(),
        };
        let kind = if how == "none" { LAYER.to_owned() } else { format!("{LAYER}+{how}") };
        let image = |bytes: &[u8]| {
            let yard = Yard::new();
            let layer = yard.blob(&kind, bytes);
            let top = yard.image_of(&[Digest::of(&whole).to_string()], &[layer]);
            yard.index(&[top]);
            yard
        };
        assert_eq!(image(&packed).read().unwrap(), ["x"], "{how}");
        for cut in [0, 1, 10, packed.len() / 2, packed.len() - 1] {
            let error = image(&packed[..cut]).read().expect_err("a layer that was cut");
            assert!(!error.is_empty(), "{how} {cut}");
        }
        let mut other = packed.clone();
        let middle = other.len() / 2;
        other[middle] ^= 1;
        assert!(image(&other).read().is_err(), "{how}: a bit was turned");
        // The blob is cut after its digest was written down.
        let yard = image(&packed);
        fs::write(yard.layout().join(Yard::blob_path(&Digest::of(&packed))), &packed[..middle]).unwrap();
        assert!(yard.read().is_err(), "{how}: cut on disk");
        let (_dir, cache) = cache();
        let error = open::open(&yard.layout(), None).unwrap().into_cache(&cache).unwrap_err().to_string();
        assert!(error.contains("size mismatch"), "{how}: {error}");
        let left: Vec<_> = fs::read_dir(cache.root().join("tmp")).unwrap().collect();
        assert!(left.is_empty(), "{how}: {left:?}");
    }
}

fn flate2_encoder() -> flate2::write::GzEncoder<Vec<u8>> {
    flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default())
}

#[test]
fn what_is_in_a_layer_stays_in_the_root() {
    let check = |layers: &[&[Vec<u8>]]| {
        let yard = Yard::new();
        let layers: Vec<Vec<u8>> = layers.iter().map(|entries| tar(entries)).collect();
        yard.index(&[yard.image(&layers)]);
        yard.read()
    };
    let refused = |layers: &[&[Vec<u8>]], words: &str| {
        let error = check(layers).expect_err(words);
        assert!(error.contains(words), "expected `{words}` in: {error}");
    };
    // Absolute names are the image's own.
    assert_eq!(check(&[&[file("/etc/x", ""), file("./a//b", "")]]).unwrap(), ["a", "a/b", "etc", "etc/x"]);
    refused(&[&[file("../x", "")]], "leaves the root");
    refused(&[&[file("a/../../x", "")]], "leaves the root");
    refused(&[&[entry("x", b'1', "../../etc/passwd", b"")]], "leaves the root");
    refused(&[&[entry("x", b'1', "/etc/passwd", b"")]], "no file there");
    refused(&[&[entry("l", b'2', "/etc", b""), entry("x", b'1', "l/passwd", b"")]], "no file there");
    refused(&[&[file("a", ""), file("a/b", "")]], "no directory");
    refused(&[&[entry("a", b'2', "a", b""), file("a/b", "")]], "circle");
    refused(&[&[file("x", "")], &[file(".wh..", "")]], "from within");
    refused(&[&[entry("x", b'S', "", b"")]], "of a kind");
    refused(&[&[entry("x", b'L', "", &vec![b'a'; 2 << 20]), file("y", "")]], "more than 1 MiB");
    refused(&[&[entry("x", b'L', "", &[b'a'; 9000]), file("y", "")]], "longer than");
    refused(&[&[entry("p", b'x', "", b"22 GNU.sparse.major=1\n"), file("y", "")]], "sparse");
    refused(&[&[entry("p", b'x', "", b"30 GNU.sparse.major=1\n"), file("y", "")]], "PAX");
    refused(&[&[entry("p", b'x', "", b"12 path=a\0b\n"), file("y", "")]], "PAX");
    refused(&[&[entry("p", b'x', "", b"16 linkpath=a\0b\n"), file("y", "")]], "PAX");
    refused(&[&[entry("p", b'x', "", b"11 size=-1\n"), file("y", "")]], "no number");
    refused(&[&[entry("p", b'x', "", &large_attribute()), file("y", "")]], "larger than Linux");
    assert_eq!(check(&[&[entry("p", b'x', "", b"8 path=\n"), file("y", "")]]).unwrap(), ["y"]);
    let deep: Vec<Vec<u8>> = (0..40)
        .flat_map(|i| [entry("x", b'L', "", format!("{i}{}", "/d".repeat(2000)).as_bytes()), file("y", "")])
        .collect();
    refused(&[&deep], "does not name");
    refused(&[&[sized_entry("x", b'0', "", 4 << 30, b"short")]], "unexpected end");
    let mut broken = file("x", "");
    broken[0] = b'y';
    refused(&[&[broken]], "checksum");
    // Writing through a link stays inside, and so does deleting.
    let through =
        check(&[&[entry("l", b'2', "../../../d", b""), entry("d", b'5', "", b""), file("l/x", "")]]);
    assert_eq!(through.unwrap(), ["d", "d/x", "l"]);
    let deleted = check(&[&[entry("l", b'2', "/d", b""), file("d/x", "")], &[file("l/.wh.x", "")]]);
    assert_eq!(deleted.unwrap(), ["d", "l"]);
    let opaque =
        check(&[&[file("d/x", ""), file("d/y", "")], &[file("d/z", ""), file("d/.wh..wh..opq", "")]]);
    assert_eq!(opaque.unwrap(), ["d", "d/z"]);
    // A device is told of, and not made.
    assert_eq!(check(&[&[entry("null", b'3', "", b"")]]).unwrap(), ["null"]);
}

fn large_attribute() -> Vec<u8> {
    let rest = [b" SCHILY.xattr.user.x=".to_vec(), vec![b'x'; 70_000], b"\n".to_vec()].concat();
    [(rest.len() + 5).to_string().into_bytes(), rest].concat()
}

/// Capabilities and times of a layer are in the tar of all files, and in what GNU tar makes of it.
#[test]
fn extended_attributes_and_times_go_through() {
    let yard = Yard::new();
    let pax = b"34 SCHILY.xattr.user.note=a=b\0c\n\xff\n30 mtime=1700000000.987654321\n";
    let below = tar(&[entry("p", b'x', "", pax), file("a", "x"), entry("b", b'1', "a", b"")]);
    let above = tar(&[file("c", "y")]);
    yard.index(&[yard.image(&[below, above])]);
    let opened = open::open(&yard.layout(), None).unwrap();
    let manifest = &opened.image.manifests[0];
    let fs = rootfs::read(&opened, manifest).unwrap();
    let note = (b"user.note".to_vec(), b"a=b\0c\n\xff".to_vec());
    for name in [&b"a"[..], b"b"] {
        assert_eq!(
            fs.entries[name].xattrs.clone().into_iter().collect::<Vec<_>>(),
            std::slice::from_ref(&note)
        );
        assert_eq!(fs.entries[name].mtime, 1_700_000_000);
    }
    assert!(fs.entries[&b"c"[..]].xattrs.is_empty() && fs.entries[&b"c"[..]].mtime == 1);
    let mut out = Vec::new();
    rootfs::export(&opened, manifest, &mut out).unwrap();
    // As a layer it says the same.
    let again = Yard::new();
    again.index(&[again.image(std::slice::from_ref(&out))]);
    let reopened = open::open(&again.layout(), None).unwrap();
    let second = rootfs::read(&reopened, &reopened.image.manifests[0]).unwrap();
    let essence = |fs: &rootfs::RootFs| -> Vec<_> {
        fs.entries.iter().map(|(p, e)| (p.clone(), e.mtime, e.xattrs.clone(), e.mode, e.digest)).collect()
    };
    assert_eq!(essence(&fs), essence(&second));
    // Where the file system has such attributes, GNU tar sets them.
    let probe = yard.dir.path().join("probe");
    fs::write(&probe, "").unwrap();
    if rustix::fs::setxattr(&probe, "user.probe", b"1", rustix::fs::XattrFlags::empty()).is_err() {
        println!("skipped: extended attributes: this file system has none");
        return;
    }
    let tree = yard.dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    let archive = yard.dir.path().join("rootfs.tar");
    fs::write(&archive, &out).unwrap();
    support::run(
        "tar",
        &["--xattrs", "--xattrs-include=*", "-xf", archive.to_str().unwrap(), "-C", tree.to_str().unwrap()],
    );
    let mut value = vec![0; 64];
    let n = rustix::fs::getxattr(tree.join("b"), "user.note", &mut value).unwrap();
    assert_eq!(&value[..n], b"a=b\0c\n\xff");
}

#[test]
fn the_files_as_one_tar_hold_what_the_layers_meant() {
    let yard = Yard::new();
    let below = tar(&[file("a", "one body"), entry("b", b'1', "a", b""), entry("c", b'1', "b", b"")]);
    let above = tar(&[file(".wh.a", ""), entry("null", b'3', "", b""), entry("l", b'2', "/etc", b"")]);
    yard.index(&[yard.image(&[below, above])]);
    let opened = open::open(&yard.layout(), None).unwrap();
    let mut out = Vec::new();
    let left_out = rootfs::export(&opened, &opened.image.manifests[0], &mut out).unwrap();
    assert_eq!(left_out, ["/null"]);
    let tree = yard.dir.path().join("tree");
    fs::create_dir(&tree).unwrap();
    let archive = yard.dir.path().join("rootfs.tar");
    fs::write(&archive, &out).unwrap();
    support::run("tar", &["-xf", archive.to_str().unwrap(), "-C", tree.to_str().unwrap()]);
    for name in ["b", "c"] {
        assert_eq!(fs::read_to_string(tree.join(name)).unwrap(), "one body", "{name}");
    }
    assert!(!tree.join("a").exists() && !tree.join("null").exists());
    let fs = rootfs::read(&opened, &opened.image.manifests[0]).unwrap();
    assert_eq!(ampoule_image::inspect::tree(&fs).size_bytes, 8, "one body counts once");
}

/// A thousand times its size is more than gzip can do, and what a bomb of zstd begins with.
#[test]
fn a_bomb_is_cut_off() {
    let yard = Yard::new();
    let size = 1_400_000_000;
    let header = sized_entry("zeros", b'0', "", size, b"");
    let zeros = std::io::repeat(0).take(size + 1024);
    let bomb = zstd::encode_all((&header[..]).chain(zeros), 1).unwrap();
    assert!(bomb.len() < 200_000, "{}", bomb.len());
    let layer = yard.blob(&format!("{LAYER}+zstd"), &bomb);
    yard.index(&[yard.image_of(&[Digest::of(b"").to_string()], &[layer])]);
    yard.error("this is no layer");
}

/// What programs in Go write for what is not there, and what we do not know.
#[test]
fn other_peoples_documents_are_read_and_handed_on_byte_for_byte() {
    let yard = Yard::new();
    let layer = yard.blob(LAYER, &good());
    let config = format!(
        r#"{{ "os":"linux",  "architecture":"amd64","x-unknown":{{"b":1,"a":[2]}},"history":null,"created":null,
  "config":{{"Env":null,"Cmd":null,"User":null,"Labels":null,"OnBuild":["x"],"Healthcheck":{{"Test":null}}}},
  "rootfs":{{"diff_ids":["{}"],"type":"layers"}} }}
"#,
        Digest::of(&good())
    );
    let config = yard.blob(CONFIG, config.as_bytes());
    let mut top = yard.json(
        MANIFEST,
        &json!({ "schemaVersion": 2, "config": config, "layers": [layer], "annotations": null, "x-more": 1 }),
    );
    top["annotations"] = Value::Null;
    yard.index(&[top.clone()]);
    let opened = open::open(&yard.layout(), None).unwrap();
    assert_eq!(opened.configs[0].other["x-unknown"]["b"], 1);
    assert_eq!(opened.configs[0].config.other["OnBuild"][0], "x");
    let (_dir, cache) = cache();
    let image = opened.into_cache(&cache).unwrap();
    let copy = yard.dir.path().join("copy");
    image.write_layout(&cache, &copy).unwrap();
    for digest in [&top["digest"], &config["digest"]] {
        let name = Yard::blob_path(&digest.as_str().unwrap().parse().unwrap());
        assert_eq!(fs::read(copy.join(&name)).unwrap(), fs::read(yard.layout().join(&name)).unwrap());
    }
}

/// As `docker buildx` writes: an attestation beside each image, and one platform of several.
#[test]
fn an_index_keeps_what_is_no_image_and_what_is_elsewhere() {
    let yard = Yard::new();
    let mut image = yard.image(&[good()]);
    image["platform"] = json!({ "architecture": "amd64", "os": "linux" });
    let statement = yard.blob("application/vnd.in-toto+json", b"{\"_type\":\"x\"}");
    let config = yard
        .json(CONFIG, &json!({ "architecture": "unknown", "os": "unknown", "rootfs": { "type": "layers" } }));
    let mut beside =
        yard.json(MANIFEST, &json!({ "schemaVersion": 2, "config": config, "layers": [statement.clone()] }));
    beside["platform"] = json!({ "architecture": "unknown", "os": "unknown" });
    let elsewhere = json!({ "mediaType": MANIFEST, "digest": Digest::of(b"elsewhere").to_string(), "size": 9,
        "platform": { "architecture": "arm64", "os": "linux" } });
    let index = yard.json(INDEX, &json!({ "schemaVersion": 2, "manifests": [image, beside, elsewhere] }));
    yard.index(std::slice::from_ref(&index));
    let opened = open::open(&yard.layout(), None).unwrap();
    assert_eq!((opened.image.manifests.len(), opened.image.companions.len()), (1, 1));
    let (_dir, cache) = cache();
    let image = opened.into_cache(&cache).unwrap();
    let copy = yard.dir.path().join("copy");
    image.write_layout(&cache, &copy).unwrap();
    for blob in [&index, &statement] {
        let name = Yard::blob_path(&blob["digest"].as_str().unwrap().parse().unwrap());
        assert!(copy.join(&name).is_file(), "{name}");
    }
    // Nothing of it is here.
    let yard = Yard::new();
    let index = yard.json(INDEX, &json!({ "schemaVersion": 2, "manifests": [elsewhere_of()] }));
    yard.index(&[index]);
    yard.error("none of the manifests");
}

fn elsewhere_of() -> Value {
    json!({ "mediaType": MANIFEST, "digest": Digest::of(b"elsewhere").to_string(), "size": 9 })
}

/// An index of indexes is one image; what it is made of is handed on.
#[test]
fn indexes_within_indexes_are_followed_to_a_depth() {
    let index_of = |yard: &Yard, manifests: &[&Value]| {
        yard.json(INDEX, &json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests }))
    };
    let image = |yard: &Yard, architecture: &str| {
        let mut image = yard.image(&[tar(&[file(architecture, "")])]);
        image["platform"] = json!({ "architecture": architecture, "os": "linux" });
        image
    };
    let yard = Yard::new();
    let (here, there) = (image(&yard, "amd64"), image(&yard, "arm64"));
    let inner = index_of(&yard, &[&there]);
    let middle = index_of(&yard, &[&inner, &here]);
    // Named twice, it is there once.
    let outer = index_of(&yard, &[&here, &middle, &inner]);
    yard.index(std::slice::from_ref(&outer));
    assert_eq!(yard.read().unwrap(), ["amd64", "arm64"]);
    let opened = open::open(&yard.layout(), None).unwrap();
    let (_dir, cache) = cache();
    let copy = yard.dir.path().join("copy");
    opened.into_cache(&cache).unwrap().write_layout(&cache, &copy).unwrap();
    for blob in [&inner, &middle, &outer] {
        let name = Yard::blob_path(&blob["digest"].as_str().unwrap().parse().unwrap());
        assert_eq!(fs::read(copy.join(&name)).unwrap(), fs::read(yard.layout().join(&name)).unwrap());
    }
    let find = |platform: &str| {
        let platform = oci::Platform::parse(platform).unwrap();
        base::find(&Layout::open(yard.layout()).unwrap(), None, &platform).map_err(|e| e.to_string())
    };
    assert_eq!(find("linux/arm64").unwrap().to_string(), there["digest"].as_str().unwrap());
    assert!(find("linux/s390x").unwrap_err().contains("it has `linux/amd64`, `linux/arm64`"));

    let mut deep = image(&yard, "amd64");
    for _ in 0..12 {
        deep = index_of(&yard, &[&deep]);
    }
    yard.index(&[deep]);
    yard.error("indexes within each other");

    // What an inner index is announced as counts, too.
    let mut wrong = inner.clone();
    wrong["mediaType"] = json!("application/vnd.docker.distribution.manifest.list.v2+json");
    yard.index(&[index_of(&yard, &[&wrong])]);
    yard.error("calls itself");
    let mut wrong = inner;
    wrong["size"] = json!(3);
    yard.index(&[index_of(&yard, &[&wrong])]);
    yard.error("size mismatch");
}

#[test]
fn platforms_side_by_side_without_an_index_are_one_image() {
    let yard = Yard::new();
    let mut both = Vec::new();
    for architecture in ["amd64", "arm64"] {
        let mut image = yard.image(&[tar(&[file(architecture, "")])]);
        image["platform"] = json!({ "architecture": architecture, "os": "linux" });
        both.push(image);
    }
    yard.index(&both);
    assert_eq!(yard.read().unwrap(), ["amd64", "arm64"]);
    let opened = open::open(&yard.layout(), None).unwrap();
    assert!(opened.image.index.is_some());
    // `oras` writes them beside the index that names them, and gives a name to that alone.
    let mut index = yard.json(INDEX, &json!({ "schemaVersion": 2, "manifests": both }));
    index["annotations"] = json!({ "org.opencontainers.image.ref.name": "v1" });
    yard.index(&[both, vec![index.clone()]].concat());
    assert_eq!(yard.read().unwrap(), ["amd64", "arm64"]);
    let opened = open::open(&yard.layout(), None).unwrap();
    assert_eq!(opened.image.top.digest.to_string(), index["digest"].as_str().unwrap());
}

/// As podman writes it: the whole reference where others write the tag.
#[test]
fn a_whole_reference_is_a_name_and_a_tag() {
    for (written, name, tag) in [
        ("v1", "image", "v1"),
        ("127.0.0.1:5000/team/app:v1", "127.0.0.1:5000/team/app", "v1"),
        ("127.0.0.1:5000/team/app", "127.0.0.1:5000/team/app", "latest"),
        ("docker.io/library/x:2", "docker.io/library/x", "2"),
    ] {
        let yard = Yard::new();
        let mut image = yard.image(&[good()]);
        image["annotations"] = json!({ "org.opencontainers.image.ref.name": written });
        yard.index(&[image]);
        let opened = open::open(&yard.layout(), Some(written)).unwrap();
        assert_eq!((&*opened.image.name, &*opened.image.tag), (name, tag), "{written}");
    }
}

/// What is called just so is meant before what has that for its tag.
#[test]
fn a_whole_name_goes_before_a_tag() {
    let yard = Yard::new();
    let named = |written: &str| {
        let mut image = yard.image(&[good()]);
        image["annotations"] = json!({ "org.opencontainers.image.ref.name": written });
        image
    };
    yard.index(&[named("app:v1"), named("v1"), named("app:v2")]);
    for (asked, name, tag) in [("v1", "image", "v1"), ("app:v1", "app", "v1"), ("v2", "app", "v2")] {
        let opened = open::open(&yard.layout(), Some(asked)).unwrap();
        assert_eq!((&*opened.image.name, &*opened.image.tag), (name, tag), "{asked}");
    }
}

/// A layout as an archive, under the names that `tar -C DIR .` gives.
#[test]
fn archives_by_any_name() {
    let yard = Yard::new();
    yard.index(&[yard.image(&[good()])]);
    let archive = yard.dir.path().join("image.tar");
    support::run("tar", &["-C", yard.layout().to_str().unwrap(), "-cf", archive.to_str().unwrap(), "."]);
    assert_eq!(read_all(&archive).unwrap(), ["etc", "etc/x"]);
    // Cut anywhere, it is an error and no panic.
    let whole = fs::read(&archive).unwrap();
    for cut in [0, 100, 512, 513, 2000, whole.len() / 2] {
        fs::write(&archive, &whole[..cut]).unwrap();
        assert!(read_all(&archive).is_err(), "cut at {cut}");
    }
    fs::write(&archive, [0x1f, 0x8b, 8, 0]).unwrap();
    assert!(read_all(&archive).unwrap_err().contains("unpack it first"));
    fs::write(&archive, vec![b'x'; 4096]).unwrap();
    assert!(read_all(&archive).unwrap_err().contains("is no image"));
    assert!(read_all(yard.dir.path()).unwrap_err().contains("is no image"));
}

#[test]
fn dockers_archives_with_odd_names() {
    let layer = good();
    let config = json!({ "architecture": "amd64", "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": [Digest::of(&layer).to_string()] } })
    .to_string();
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("docker.tar");
    let check = |manifest: Value, more: &[Vec<u8>]| {
        let mut entries = vec![entry("c.json", b'0', "", config.as_bytes())];
        entries.extend_from_slice(more);
        entries.push(entry("manifest.json", b'0', "", manifest.to_string().as_bytes()));
        fs::write(&archive, tar(&entries)).unwrap();
        read_all(&archive)
    };
    let line =
        |config: &str, layers: &[&str]| json!([{ "Config": config, "RepoTags": ["a:b"], "Layers": layers }]);
    let plain = entry("one/layer.tar", b'0', "", &layer);
    let only = std::slice::from_ref(&plain);
    assert_eq!(check(line("c.json", &["one/layer.tar"]), only).unwrap(), ["etc", "etc/x"]);
    // As old versions write it: a link to a layer that was there before.
    let link = entry("two/layer.tar", b'2', "../one/layer.tar", b"");
    assert_eq!(check(line("c.json", &["two/layer.tar"]), &[plain.clone(), link]).unwrap(), ["etc", "etc/x"]);
    let refused = |manifest: Value, more: &[Vec<u8>], words: &str| {
        let error = check(manifest, more).expect_err(words);
        assert!(error.contains(words), "expected `{words}` in: {error}");
    };
    refused(line("../../etc/passwd", &["one/layer.tar"]), only, "has no `../../etc/passwd`");
    refused(line("c.json", &["/etc/passwd"]), only, "has no `/etc/passwd`");
    let outside = entry("two/layer.tar", b'2', "/etc/passwd", b"");
    refused(line("c.json", &["two/layer.tar"]), &[plain.clone(), outside], "has no `two/layer.tar`");
    let circle = entry("two/layer.tar", b'2', "../two/layer.tar", b"");
    refused(line("c.json", &["two/layer.tar"]), &[plain.clone(), circle], "has no `two/layer.tar`");
    refused(line("c.json", &[]), only, "0 layers");
    refused(line("one/layer.tar", &["one/layer.tar"]), only, "configuration is malformed");
    refused(json!([]), only, "has no image");
    refused(json!({}), only, "manifest.json is malformed");
    let other = tar(&[file("other", "")]);
    refused(line("c.json", &["x"]), &[entry("x", b'0', "", &other)], "digest mismatch");
}

/// Of several images in one archive one is meant by its tag, or by its name however much of
/// the registry is left away.
#[test]
fn one_of_several_images_is_named() {
    let layer = good();
    let config = json!({ "architecture": "amd64", "os": "linux",
        "rootfs": { "type": "layers", "diff_ids": [Digest::of(&layer).to_string()] } })
    .to_string();
    let line = |names: &[&str]| json!({ "Config": "c.json", "RepoTags": names, "Layers": ["l/layer.tar"] });
    let lines = json!([line(&["docker.io/library/app:1"]), line(&["r.example:5000/web:2"]), line(&[])]);
    let entries = [
        entry("c.json", b'0', "", config.as_bytes()),
        entry("l/layer.tar", b'0', "", &layer),
        entry("manifest.json", b'0', "", lines.to_string().as_bytes()),
    ];
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("docker.tar");
    fs::write(&archive, tar(&entries)).unwrap();
    for (name, expected) in [
        ("docker.io/library/app:1", "docker.io/library/app"),
        ("app:1", "docker.io/library/app"),
        ("1", "docker.io/library/app"),
        ("r.example:5000/web:2", "r.example:5000/web"),
        ("2", "r.example:5000/web"),
    ] {
        assert_eq!(open::open(&archive, Some(name)).unwrap().image.name, expected, "{name}");
    }
    for (name, words) in [
        (None, "has 3 images: name one, as `PATH:TAG` (`docker.io/library/app:1`, `r.example:5000/web:2`)"),
        (Some("other:1"), "has no image `other:1`"),
    ] {
        let error = open::open(&archive, name).err().expect(words).to_string();
        assert!(error.contains(words), "{error}");
    }
}

/// buildah announces gzip and brings what a registry has already: engines look at the bytes,
/// and so do we.
#[test]
fn a_layer_is_what_it_begins_with() {
    let whole = good();
    let mut gzip = flate2_encoder();
    gzip.write_all(&whole).unwrap();
    let zstd = zstd::encode_all(&whole[..], 3).unwrap();
    // What hides tables of contents in frames that readers skip may begin with one.
    let skipped = [&[0x5a, 0x2a, 0x4d, 0x18, 3, 0, 0, 0, 1, 2, 3][..], &zstd].concat();
    for bytes in [whole.clone(), gzip.finish().unwrap(), zstd, skipped] {
        for kind in ["", "+gzip", "+zstd"] {
            let yard = Yard::new();
            let layer = yard.blob(&format!("{LAYER}{kind}"), &bytes);
            yard.index(&[yard.image_of(&[Digest::of(&whole).to_string()], &[layer])]);
            assert_eq!(yard.read().unwrap(), ["etc", "etc/x"], "{kind} {:x?}", &bytes[..4]);
        }
    }
}

#[test]
fn a_base_is_what_its_digest_says() {
    let yard = Yard::new();
    let image = yard.image(&[good()]);
    let digest: Digest = image["digest"].as_str().unwrap().parse().unwrap();
    yard.index(&[image]);
    let layout = Layout::open(yard.layout()).unwrap();
    let platform = oci::Platform::parse("linux/amd64").unwrap();
    assert_eq!(base::find(&layout, None, &platform).unwrap(), digest);
    base::read(&yard.layout(), &digest).unwrap();
    let missing = base::find(&layout, Some(&Digest::of(b"no")), &platform).unwrap_err();
    assert!(missing.to_string().contains("cannot read"), "{missing}");
    fs::write(yard.layout().join(Yard::blob_path(&digest)), "{}").unwrap();
    let changed = base::read(&yard.layout(), &digest).err().unwrap();
    assert!(changed.to_string().contains("digest mismatch"), "{changed}");
}

/// What fails in the midst of writing leaves what was there.
#[test]
fn nothing_is_half_written() {
    let (dir, cache) = cache();
    let mut store = support::TestStore::new();
    let asked = support::small(&mut store);
    let image = store.project(&asked, &cache).unwrap();
    let out = dir.path().join("out");
    fs::create_dir(&out).unwrap();
    let (layout, archive) = (out.join("layout"), out.join("image.tar"));
    image.write_layout(&cache, &layout).unwrap();
    image.write_archive(&cache, None, &archive).unwrap();
    let before = (fs::read(layout.join("index.json")).unwrap(), fs::read(&archive).unwrap());
    let mut other = asked.clone();
    other["files"]["/etc/other"] = "other".into();
    let other = store.project(&other, &cache).unwrap();
    let gone = other.manifests[0].layers.iter().find(|layer| layer.made).unwrap();
    fs::remove_file(&gone.path).unwrap();
    assert!(other.write_layout(&cache, &layout).is_err());
    assert!(other.write_archive(&cache, None, &archive).is_err());
    // A blob that another process cut short.
    fs::write(&gone.path, "short").unwrap();
    for error in [other.write_archive(&cache, None, &archive), other.write_layout(&cache, &layout)] {
        let error = error.unwrap_err().to_string();
        assert!(error.contains("size mismatch"), "{error}");
    }
    assert_eq!((fs::read(layout.join("index.json")).unwrap(), fs::read(&archive).unwrap()), before);
    let mut names: Vec<_> = fs::read_dir(&out).unwrap().map(|e| e.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["image.tar", "layout"]);
}
