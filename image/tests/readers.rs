//! Other people's programs read what we write. Each is skipped, in words, where it is
//! not installed.

mod support;

use std::path::Path;
use std::process::Command;

use ampoule_image::blobs::BlobCache;
use ampoule_image::compress::Compression;
use ampoule_image::open;
use ampoule_image::plan::Plan;
use ampoule_image::project::{Image, Need, Projector};
use ampoule_image::slices::SliceLists;
use serde_json::{Value, json};
use support::{TestStore, cache, has, run, small};

/// An image that really runs: a static busybox, if this machine has one.
fn running(store: &mut TestStore) -> Option<Value> {
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].map(Path::new).into_iter().find(|p| p.is_file());
    let Some(busybox) = busybox else {
        println!("skipped: no busybox is installed");
        return None;
    };
    if ampoule_image::elf::read(busybox).unwrap()?.interpreter.is_some() {
        println!("skipped: the busybox here is not static");
        return None;
    }
    let tree = store.add_copy("busybox", "bin/busybox", busybox);
    let platform = if cfg!(target_arch = "aarch64") { "linux/arm64" } else { "linux/amd64" };
    Some(json!({ "name": "busybox", "root": tree, "platforms": [platform],
                 "config": { "entrypoint": ["/bin/busybox"], "cmd": ["id", "-u"] } }))
}

fn project(store: &TestStore, asked: &Value, cache: &BlobCache, how: &str) -> Image {
    let (out, _, _) = store.plan(asked).unwrap();
    let own = out.path().join("object");
    let compression = Some(Compression::parse(how).unwrap());
    let projector = Projector {
        cache,
        objects: store,
        own: &own,
        threads: None,
        compression,
        slices: SliceLists::default(),
    };
    projector.project(&Plan::read(&own).unwrap(), Need::Blobs).unwrap()
}

#[test]
fn skopeo_copies_to_every_transport() {
    if !has("skopeo") {
        return;
    }
    let mut store = TestStore::new();
    let asked = small(&mut store);
    for how in ["gzip", "none", "zstd"] {
        let (dir, cache) = cache();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let image = project(&store, &asked, &cache, how);
        image.write_layout(&cache, Path::new(&at("layout"))).unwrap();
        image.write_archive(&cache, None, Path::new(&at("image.tar"))).unwrap();
        let digest = run("skopeo", &["inspect", "--format={{.Digest}}", &format!("oci:{}:v1", at("layout"))]);
        assert_eq!(digest.trim(), image.top.digest.to_string());
        let sources = [
            format!("oci:{}:v1", at("layout")),
            format!("oci-archive:{}:v1", at("image.tar")),
            format!("docker-archive:{}:test/app:v1", at("image.tar")),
        ];
        for (i, source) in sources.iter().enumerate() {
            // Older versions know no zstd in Docker's format.
            let targets: &[&str] = if how == "zstd" {
                &["oci", "oci-archive"]
            } else {
                &["oci", "oci-archive", "docker-archive", "dir"]
            };
            if how == "zstd" && source.starts_with("docker-archive") {
                continue;
            }
            for target in targets {
                run("skopeo", &["copy", "-q", source, &format!("{target}:{}", at(&format!("{i}-{target}")))]);
            }
        }
        // What they write, we read.
        let back = open::open(Path::new(&at("0-oci")), None).unwrap();
        assert_eq!(back.image.manifests[0].config.digest, image.manifests[0].config.digest);
        if how != "zstd" {
            let docker = open::open(Path::new(&at("0-docker-archive")), None).unwrap();
            assert_eq!(docker.image.manifests[0].config.digest, image.manifests[0].config.digest);
        }
    }
}

#[test]
fn umoci_unpacks_and_runc_runs() {
    if !has("umoci") || !has("runc") || !rustix::process::geteuid().is_root() {
        return;
    }
    let mut store = TestStore::new();
    let Some(asked) = running(&mut store) else { return };
    let (dir, cache) = cache();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    project(&store, &asked, &cache, "gzip").write_layout(&cache, Path::new(&at("layout"))).unwrap();
    run("umoci", &["unpack", "--image", &format!("{}:latest", at("layout")), &at("bundle")]);
    let config = format!("{}/config.json", at("bundle"));
    let mut spec: Value = serde_json::from_slice(&std::fs::read(&config).unwrap()).unwrap();
    spec["process"]["terminal"] = false.into();
    spec["process"]["rlimits"] = json!([]);
    std::fs::write(&config, spec.to_string()).unwrap();
    let name = format!("ampoule-test-{}", std::process::id());
    let output = Command::new("runc").args(["run", "--bundle", &at("bundle"), &name]).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    if words.contains("cgroup") || words.contains("operation not permitted") {
        println!("skipped: runc cannot make containers here: {words}");
        return;
    }
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "65532", "{words}");
}

#[test]
fn podman_loads_and_runs() {
    if !has("podman") || !has("runc") || !rustix::process::geteuid().is_root() {
        return;
    }
    let mut store = TestStore::new();
    let Some(mut asked) = running(&mut store) else { return };
    let tag = format!("t{}", std::process::id());
    asked["tag"] = tag.clone().into();
    asked["name"] = "localhost/ampoule-test".into();
    let (dir, cache) = cache();
    let storage = dir.path().join("storage");
    let common = ["--root", storage.to_str().unwrap(), "--storage-driver", "vfs", "--runtime", "runc"];
    let archive = dir.path().join("image.tar");
    project(&store, &asked, &cache, "gzip").write_archive(&cache, None, &archive).unwrap();
    let podman = |args: &[&str]| Command::new("podman").args(common).args(args).output().unwrap();
    let loaded = podman(&["load", "-q", "-i", archive.to_str().unwrap()]);
    assert!(loaded.status.success(), "{}", String::from_utf8_lossy(&loaded.stderr));
    let reference = format!("localhost/ampoule-test:{tag}");
    let limits = [
        "--ulimit",
        "nofile=1024:1024",
        "--ulimit",
        "nproc=1024:1024",
        "--network=none",
        "--cgroups=disabled",
    ];
    let mut ran = podman(&[&["run", "--rm"][..], &limits[..5], &[&reference]].concat());
    if !ran.status.success() {
        ran = podman(&[&["run", "--rm"][..], &limits, &[&reference]].concat());
    }
    if !ran.status.success() {
        println!("skipped: podman cannot run containers here: {}", String::from_utf8_lossy(&ran.stderr));
        return;
    }
    assert_eq!(String::from_utf8_lossy(&ran.stdout).trim(), "65532");
}

/// Everything that a configuration can say, and layers of each kind.
fn rich(store: &mut TestStore) -> Value {
    let mut asked = small(store);
    asked["users"] = json!({ "app": { "uid": 1000, "home": "/srv" } });
    asked["config"]["user"] = "app".into();
    asked["config"]["volumes"] = json!(["/data"]);
    asked["config"]["exposedPorts"] = json!([80, "53/udp"]);
    asked["config"]["stopSignal"] = "SIGINT".into();
    asked["config"]["labels"] = json!({ "org.opencontainers.image.title": "app" });
    asked["config"]["healthcheck"] = json!({ "test": ["true"], "interval": "30s" });
    asked["annotations"] = json!({ "a.b": "c" });
    asked
}

#[test]
fn the_image_tools_validate() {
    if !has("oci-image-tool") {
        return;
    }
    let mut store = TestStore::new();
    let asked = rich(&mut store);
    // It knows no zstd.
    for how in ["gzip", "none"] {
        let (dir, cache) = cache();
        let layout = dir.path().join("layout");
        project(&store, &asked, &cache, how).write_layout(&cache, &layout).unwrap();
        let layout = layout.to_str().unwrap();
        run("oci-image-tool", &["validate", "--type", "image", "--ref", "name=v1", layout]);
    }
}

#[test]
fn crane_validates_archives() {
    if !has("crane") {
        return;
    }
    let mut store = TestStore::new();
    let asked = rich(&mut store);
    for how in ["gzip", "none"] {
        let (dir, cache) = cache();
        let archive = dir.path().join("image.tar");
        project(&store, &asked, &cache, how).write_archive(&cache, None, &archive).unwrap();
        run("crane", &["validate", "--tarball", archive.to_str().unwrap()]);
    }
}

#[test]
fn buildah_takes_archives() {
    if !has("buildah") || !rustix::process::geteuid().is_root() {
        return;
    }
    let mut store = TestStore::new();
    let asked = rich(&mut store);
    for how in ["gzip", "none", "zstd"] {
        let (dir, cache) = cache();
        let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        let image = project(&store, &asked, &cache, how);
        image.write_archive(&cache, None, Path::new(&at("image.tar"))).unwrap();
        let (root, state) = (at("storage"), at("run"));
        let common = ["--root", &root, "--runroot", &state, "--storage-driver", "vfs"];
        let source = format!("oci-archive:{}", at("image.tar"));
        run("buildah", &[&common[..], &["pull", "-q", &source]].concat());
    }
}

#[test]
fn containerd_imports_archives() {
    if !has("containerd") || !has("ctr") || !rustix::process::geteuid().is_root() {
        return;
    }
    let (dir, cache) = cache();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let socket = at("socket");
    let mut daemon = Command::new("containerd")
        .args(["--root", &at("root"), "--state", &at("state"), "--address", &socket, "--log-level", "fatal"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let ctr = |args: &[&str]| Command::new("ctr").args(["-a", &socket]).args(args).output().unwrap();
    let answers = (0..100).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(100));
        ctr(&["version"]).status.success()
    });
    let mut store = TestStore::new();
    let asked = rich(&mut store);
    let mut wrong = Vec::new();
    for how in ["gzip", "none", "zstd"].into_iter().filter(|_| answers) {
        let image = project(&store, &asked, &cache, how);
        image.write_archive(&cache, None, Path::new(&at("image.tar"))).unwrap();
        let done = ctr(&["images", "import", "--snapshotter", "native", &at("image.tar")]);
        let listed = ctr(&["images", "ls"]);
        let digest = image.top.digest.to_string();
        if !done.status.success() || !String::from_utf8_lossy(&listed.stdout).contains(&digest) {
            wrong.push(format!("{how}: {}", String::from_utf8_lossy(&done.stderr)));
        }
    }
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    if !answers {
        println!("skipped: containerd does not start here");
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn the_rootfs_as_one_tar() {
    let mut store = TestStore::new();
    let asked = small(&mut store);
    let (dir, cache) = cache();
    let image = project(&store, &asked, &cache, "gzip");
    let opened = open::projected(image, &cache).unwrap();
    let path = dir.path().join("rootfs.tar");
    let mut file = std::fs::File::create(&path).unwrap();
    ampoule_image::rootfs::export(&opened, &opened.image.manifests[0], &mut file).unwrap();
    let listed = run("tar", &["-tf", path.to_str().unwrap()]);
    for name in ["usr/bin/sh", "bin", "etc/motd", "etc/app.conf"] {
        assert!(listed.lines().any(|line| line == name), "{name} in {listed}");
    }
}

#[test]
fn a_layout_is_replaced_whole_and_nothing_else_is() {
    let mut store = TestStore::new();
    let asked = small(&mut store);
    let (dir, cache) = cache();
    let image = project(&store, &asked, &cache, "gzip");
    let out = dir.path().join("out");
    image.write_layout(&cache, &out).unwrap();
    image.write_layout(&cache, &out).unwrap();
    let mut other = asked.clone();
    other["config"]["env"] = json!({ "B": "2" });
    project(&store, &other, &cache, "gzip").write_layout(&cache, &out).unwrap();
    let opened = open::open(&out, Some("v1")).unwrap();
    assert_eq!(opened.configs[0].config.env, Some(vec!["B=2".to_owned()]));
    assert_eq!(
        std::fs::read_dir(dir.path())
            .unwrap()
            .filter(|e| e.as_ref().unwrap().file_name().to_string_lossy().starts_with(".ampoule"))
            .count(),
        0
    );
    let precious = dir.path().join("precious");
    std::fs::create_dir(&precious).unwrap();
    std::fs::write(precious.join("work"), "mine").unwrap();
    assert!(image.write_layout(&cache, &precious).is_err());
    assert!(precious.join("work").is_file());
}
