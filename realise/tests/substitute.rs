//! Binary caches before builders: what they have is not built, what they fail to bring is.

mod lab;

use std::path::PathBuf;
use std::sync::Arc;

use ampoule_realise::{Activity, Event, FailureKind};
use ampoule_store::cache::{BinaryCache, CopyOptions, FileTransport, Substituters, copy_to};
use ampoule_store::narinfo::Compression;
use ampoule_store::{SecretKey, Store, StorePath, StoreRoot, StoreSettings, TrustedKeys};
use lab::{Heard, Lab};

/// A lab, and a cache of what it has built.
struct Shop {
    lab: Lab,
    at: PathBuf,
    key: SecretKey,
}

impl Shop {
    /// Fills a cache with the closures of these, built here; the lab's own store is then another, empty
    /// but for the shell and the derivations.
    fn of(make: impl Fn(&Lab) -> Vec<StorePath>) -> Option<(Self, Vec<StorePath>)> {
        let mut lab = Lab::new()?;
        let drvs = make(&lab);
        let key = SecretKey::generate("shop-1").expect("a name");
        let at = lab.dir.path().join("cache");
        let outputs: Vec<StorePath> =
            drvs.iter().map(|drv| lab.realise(drv).expect("built")["out"].clone()).collect();
        let keys = [SecretKey::parse(&key.to_secret_text()).expect("its own text")];
        let options = CopyOptions { keys: &keys, compression: Compression::Zstd, ..CopyOptions::default() };
        let cache = BinaryCache::open_or_create(Arc::new(FileTransport::new(&at)), &lab.store).expect("made");
        copy_to(&lab.store, &cache, outputs, &options).expect("copied");
        let root = StoreRoot::new(lab.dir.path().join("other"));
        let other = Store::open(&root, StoreSettings::default()).expect("a new store");
        let mut text = Vec::new();
        let shell_and_drvs =
            lab.store.closure_of(drvs.iter().cloned().chain([lab.shell.clone()])).expect("valid");
        lab.store.export(shell_and_drvs, &mut text).expect("exported");
        other.import(&mut text.as_slice()).expect("imported");
        lab.store = other;
        let mut shop = Self { lab, at, key };
        shop.lab.substituters = Some(shop.substituters(&[&shop.at]));
        Some((shop, drvs))
    }

    fn substituters(&self, at: &[&PathBuf]) -> Substituters {
        let transport = |at: &&PathBuf| Arc::new(FileTransport::new(at)) as Arc<_>;
        Substituters::new(at.iter().map(transport), TrustedKeys::new([self.key.public()]))
    }

    fn output(&self, drv: &StorePath) -> StorePath {
        self.lab.read(drv).output_path("out").expect("known").clone()
    }

    fn narinfo(&self, drv: &StorePath) -> PathBuf {
        self.at.join(format!("{}.narinfo", self.output(drv).hash_part()))
    }

    fn nar(&self, drv: &StorePath) -> PathBuf {
        let text = std::fs::read_to_string(self.narinfo(drv)).expect("there");
        let url = text.lines().find_map(|line| line.strip_prefix("URL: ")).expect("a URL");
        self.at.join(url)
    }
}

macro_rules! shop {
    ($make:expr) => {
        match Shop::of($make) {
            Some(shop) => shop,
            None => return,
        }
    };
}

fn notes(heard: &Heard) -> String {
    let events = heard.0.lock().expect("no test panics here");
    let notes = events.iter().filter_map(|event| match event {
        Event::Note { message, .. } => Some(format!("{message}\n")),
        _ => None,
    });
    notes.collect()
}

fn names(heard: &Heard, wanted: Activity) -> Vec<String> {
    let events = heard.0.lock().expect("no test panics here");
    let mut names: Vec<String> = events
        .iter()
        .filter_map(|event| match event {
            Event::Finished { name, activity, .. } if *activity == wanted => Some(name.clone()),
            _ => None,
        })
        .collect();
    names.sort();
    names
}

/// A program whose output refers to a library's, whose builder needs a tool that is not referred to.
fn program(lab: &Lab) -> Vec<StorePath> {
    let tool = lab.drv("tool", "echo tool > $out");
    let library = lab.drv_with("library", "cat $in0 > $out", &[&tool]);
    vec![lab.drv_with("program", "echo \"uses $in0\" > $out", &[&library])]
}

#[test]
fn the_closure_comes_and_nothing_is_built() {
    let (shop, drvs) = shop!(program);
    let (result, heard) = shop.lab.realise_all(&[&drvs[0]]);
    let realised = result.expect("it is in the cache");
    assert_eq!((realised.built, realised.fetched, realised.substituted), (0, 0, 2));
    assert_eq!(names(&heard, Activity::Substitute), ["library", "program"]);
    // The tool is neither referred to nor needed.
    let store = &shop.lab.store;
    assert_eq!(store.all_valid().expect("read").iter().filter(|path| path.name() == "tool").count(), 0);
    assert!(store.verify(true, None).expect("read").problems.is_empty());
    let info = store.expect_info(&shop.output(&drvs[0])).expect("valid");
    assert!(info.signatures.iter().any(|signature| signature.starts_with("shop-1:")));
    let (again, heard) = shop.lab.realise_all(&[&drvs[0]]);
    assert!(!again.expect("there").changed_something() && notes(&heard).is_empty());
}

#[test]
fn the_plan_says_what_would_come_and_how_large_it_is() {
    let (mut shop, drvs) = shop!(program);
    shop.lab.options.dry_run = true;
    let (result, heard) = shop.lab.realise_all(&[&drvs[0]]);
    assert!(!result.expect("a plan").changed_something());
    let events = heard.0.lock().expect("no test panics here");
    let [Event::Plan { build, fetch, substitute, .. }] = &events[..] else { panic!("{events:?}") };
    assert!(build.is_empty() && fetch.is_empty());
    let size = std::fs::metadata(shop.nar(&drvs[0])).expect("there").len();
    let program = substitute.iter().find(|one| one.name() == "program").expect("planned");
    assert_eq!(program.size_bytes, Some(size));
    assert!(program.url.as_ref().is_some_and(|url| url.ends_with("/cache")));
    assert_eq!(substitute.len(), 2);
    assert!(!shop.lab.store.is_valid(&shop.output(&drvs[0])).expect("read"));
}

#[test]
fn without_all_that_an_object_refers_to_it_is_built() {
    let (shop, drvs) = shop!(program);
    let library = shop.lab.read(&drvs[0]).input_derivations.keys().next().expect("one").clone();
    std::fs::remove_file(shop.narinfo(&library)).expect("there");
    let (result, _) = shop.lab.realise_all(&[&drvs[0]]);
    let realised = result.expect("built");
    assert_eq!((realised.built, realised.substituted), (3, 0));
}

#[test]
fn what_does_not_come_is_built_and_the_reason_is_told() {
    let (shop, drvs) = shop!(program);
    // One bit of the packed library is wrong.
    let library = shop.lab.read(&drvs[0]).input_derivations.keys().next().expect("one").clone();
    let nar = shop.nar(&library);
    let mut bytes = std::fs::read(&nar).expect("there");
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    std::fs::write(&nar, bytes).expect("written");
    let (result, heard) = shop.lab.realise_all(&[&drvs[0]]);
    let realised = result.expect("built instead");
    // The program still comes from the cache, once its library is there; only that and its tool are built.
    assert!(realised.built >= 2, "{realised:?}");
    let told = notes(&heard);
    assert!(told.contains("library") && told.contains("it is built instead"), "{told}");
    assert!(shop.lab.store.verify(true, None).expect("read").problems.is_empty());
}

#[test]
fn a_nar_that_is_gone_or_cut_is_built() {
    let (shop, drvs) =
        shop!(|lab| vec![lab.drv("one", "echo one > $out"), lab.drv("two", "echo two > $out")]);
    std::fs::remove_file(shop.nar(&drvs[0])).expect("there");
    let nar = shop.nar(&drvs[1]);
    let bytes = std::fs::read(&nar).expect("there");
    std::fs::write(&nar, &bytes[..bytes.len() - 9]).expect("written");
    let (result, heard) = shop.lab.realise_all(&[&drvs[0], &drvs[1]]);
    assert_eq!(result.expect("built instead").built, 2);
    assert!(notes(&heard).contains("it is gone from the cache"), "{}", notes(&heard));
}

#[test]
fn case_117_a_stranger_is_not_believed_and_named() {
    let (mut shop, drvs) = shop!(program);
    let trusted = SecretKey::generate("mine-1").expect("a name");
    shop.lab.substituters = Some(Substituters::new(
        [Arc::new(FileTransport::new(&shop.at)) as Arc<_>],
        TrustedKeys::new([trusted.public()]),
    ));
    let (result, heard) = shop.lab.realise_all(&[&drvs[0]]);
    assert_eq!(result.expect("built").built, 3);
    let told = notes(&heard);
    assert!(
        told.contains("it is signed by 'shop-1', which is not trusted (trusted keys: 'mine-1')"),
        "{told}"
    );
    assert!(told.contains("program"), "{told}");
}

#[test]
fn the_second_cache_is_asked_when_the_first_is_none() {
    let (mut shop, drvs) = shop!(program);
    let nowhere = shop.lab.dir.path().join("no-cache");
    shop.lab.substituters = Some(shop.substituters(&[&nowhere, &shop.at]));
    let (result, heard) = shop.lab.realise_all(&[&drvs[0]]);
    assert_eq!(result.expect("fetched").substituted, 2);
    let told = notes(&heard);
    assert_eq!(told.matches("is not a binary cache").count(), 1, "told once: {told}");
}

#[test]
fn allow_substitutes_and_check_build_here() {
    let (mut shop, drvs) = shop!(|lab| {
        let mut draft = lab.draft("here", "echo here > $out");
        draft.environment.insert("allowSubstitutes".into(), "".into());
        vec![lab.write(draft), lab.drv("there", "echo there > $out")]
    });
    let (result, _) = shop.lab.realise_all(&[&drvs[0]]);
    assert_eq!(result.expect("built").built, 1);
    let (result, _) = shop.lab.realise_all(&[&drvs[1]]);
    assert_eq!(result.expect("fetched").substituted, 1);
    // What came from a cache is compared with what is built here.
    shop.lab.options.check = true;
    let (result, _) = shop.lab.realise_all(&[&drvs[1]]);
    assert_eq!(result.expect("the same").built, 1);
}

#[test]
fn only_the_outputs_that_are_wanted_come() {
    let (shop, drvs) = shop!(|lab| {
        let tool = lab.drv("lib", "echo lib > $out");
        vec![tool.clone(), lab.drv_with("user", "cat $in0 > $out", &[&tool])]
    });
    // A changed user is not in the cache: it is built, from a library that is.
    let user = shop.lab.drv_with("user", "cat $in0 $in0 > $out", &[&drvs[0]]);
    let (result, _) = shop.lab.realise_all(&[&user]);
    let realised = result.expect("built");
    assert_eq!((realised.built, realised.substituted), (1, 1));
}

/// Contents decide what a source and its user are: a cache says which objects those are.
fn by_contents(lab: &Lab) -> Vec<StorePath> {
    let source = lab.floating("source", "echo same > $out", &[]);
    let user = lab.floating("user", "cat $in0 > $out; echo $out $in0 >> $out", &[&source]);
    vec![source, user]
}

#[test]
fn outputs_that_contents_decide_come_from_a_cache() {
    let (shop, drvs) = shop!(by_contents);
    let (result, _) = shop.lab.realise_all(&[&drvs[1]]);
    let realised = result.expect("it is in the cache");
    assert_eq!((realised.built, realised.substituted), (0, 2));
    let path = &realised.outputs[&drvs[1]]["out"];
    let text = std::fs::read_to_string(shop.lab.store.real_path(path)).expect("a file");
    assert!(text.starts_with("same\n") && text.contains(path.as_str()), "{text}");
    // It is known here from now on: the cache may go.
    std::fs::remove_dir_all(&shop.at).expect("removed");
    let (again, _) = shop.lab.realise_all(&[&drvs[1]]);
    let again = again.expect("there");
    assert!(!again.changed_something() && again.outputs == realised.outputs);
}

/// What a derivation resolves to may be in a cache though nobody ever built this one: its source was written in
/// another way, and came out the same.
#[test]
fn what_a_derivation_resolves_to_comes_from_a_cache() {
    let user_of = |lab: &Lab, source: &StorePath, is_floating: bool| match is_floating {
        true => lab.floating("user", "cat $in0 > $out; echo $in0 >> $out", &[source]),
        false => lab.drv_with("user", "cat $in0 > $out; echo $in0 >> $out", &[source]),
    };
    for is_floating in [true, false] {
        let (shop, drvs) = shop!(|lab: &Lab| {
            let source = lab.floating("source", "echo same > $out", &[]);
            let other = lab.floating("source", "echo same > $out # a comment", &[]);
            // The other is built by nobody before: only its user's derivation is written.
            vec![user_of(lab, &source, is_floating), other]
        });
        let user = user_of(&shop.lab, &drvs[1], is_floating);
        assert_ne!(user, drvs[0]);
        let mut lab = shop.lab;
        // Of the source itself caches know nothing: the realisation is the other derivation's.
        let known = shop.at.join("realisations");
        let of_other = lab.store.modulo_hash(&drvs[1]).expect("written").hash.to_base16();
        for entry in std::fs::read_dir(&known).expect("there") {
            let path = entry.expect("read").path();
            if path.to_string_lossy().contains(&of_other) {
                std::fs::remove_file(path).expect("removed");
            }
        }
        let (result, heard) = lab.realise_all(&[&user]);
        let realised = result.expect("built and fetched");
        assert_eq!((realised.built, realised.substituted), (1, 1), "floating: {is_floating}");
        assert_eq!(names(&heard, Activity::Substitute), ["user"]);
        let path = lab.store.real_path(&realised.outputs[&user]["out"]);
        assert!(std::fs::read_to_string(path).expect("a file").starts_with("same\n"));
        // From now on it is known here.
        lab.substituters = None;
        assert!(!lab.realise_all(&[&user]).0.expect("there").changed_something());
    }
}

#[test]
fn a_realisation_that_a_stranger_signed_is_not_believed() {
    let (mut shop, drvs) = shop!(by_contents);
    let trusted = SecretKey::generate("mine-1").expect("a name");
    shop.lab.substituters = Some(Substituters::new(
        [Arc::new(FileTransport::new(&shop.at)) as Arc<_>],
        TrustedKeys::new([trusted.public()]),
    ));
    let (result, heard) = shop.lab.realise_all(&[&drvs[0]]);
    assert_eq!(result.expect("built").built, 1);
    let told = notes(&heard);
    assert!(
        told.contains("realisations/") && told.contains("signed by 'shop-1', which is not trusted"),
        "{told}"
    );
}

/// Case 133: two at once fetch each object once.
#[test]
fn case_133_two_who_want_the_same_fetch_it_once() {
    let (shop, drvs) = shop!(|lab| vec![lab.drv("big", "head -c 30000000 /dev/urandom > $out")]);
    let (first, second) = std::thread::scope(|scope| {
        let one = || scope.spawn(|| shop.lab.realise_all(&[&drvs[0]]).0.expect("fetched").substituted);
        let (first, second) = (one(), one());
        (first.join().expect("no panic"), second.join().expect("no panic"))
    });
    assert_eq!(first + second, 1);
}

#[test]
fn case_139_a_disk_that_is_full_is_not_the_caches_fault() {
    let (shop, drvs) = shop!(program);
    // Nothing can be written where objects are made.
    let tmp = shop.lab.store.root().path().join("tmp");
    drop(shop.lab.store.staging().expect("begins a session"));
    for entry in std::fs::read_dir(&tmp).expect("there") {
        std::fs::remove_dir_all(entry.expect("read").path()).expect("removed");
    }
    let (result, _) = shop.lab.realise_all(&[&drvs[0]]);
    let error = result.expect_err("there is no place");
    assert_eq!(error.failures[0].kind, FailureKind::Store, "{error}");
}
