//! A package set of many files, written into a directory: `tree/` here, and a file for each package.
//!
//! ```text
//! packages/fi/file-12/package.nix     { lib, stdenv, fetchRepository, font-3, enableDocs ? false, }: stdenv.mkDerivation …
//! listed.nix                          every fourth package by name, in other directories
//! one.nix  some.nix  all.nix  meta.nix
//! ```
//!
//! The same number of packages gives the same files.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

/// What can be evaluated: one package, some of them, all of them, and what all say of themselves.
pub const ENTRIES: [&str; 4] = ["one", "some", "all", "meta"];

/// What is the same in every tree.
const FIXED: [(&str, &str); 16] = [
    ("default.nix", include_str!("tree/default.nix")),
    ("build/builder.sh", include_str!("tree/build/builder.sh")),
    ("build/fetch-repository.nix", include_str!("tree/build/fetch-repository.nix")),
    ("build/fetchurl.nix", include_str!("tree/build/fetchurl.nix")),
    ("build/setup.sh", include_str!("tree/build/setup.sh")),
    ("build/stdenv.nix", include_str!("tree/build/stdenv.nix")),
    ("lib/calls.nix", include_str!("tree/lib/calls.nix")),
    ("lib/checks.nix", include_str!("tree/lib/checks.nix")),
    ("lib/default.nix", include_str!("tree/lib/default.nix")),
    ("lib/layers.nix", include_str!("tree/lib/layers.nix")),
    ("lib/lists.nix", include_str!("tree/lib/lists.nix")),
    ("lib/sets.nix", include_str!("tree/lib/sets.nix")),
    ("lib/texts.nix", include_str!("tree/lib/texts.nix")),
    ("all.nix", include_str!("tree/all.nix")),
    ("meta.nix", include_str!("tree/meta.nix")),
    ("overlays.nix", include_str!("tree/overlays.nix")),
];

const STEMS: [&str; 24] = [
    "archive", "cache", "diff", "edit", "file", "font", "graph", "http", "image", "json", "key", "log",
    "math", "net", "object", "parse", "queue", "render", "socket", "text", "util", "video", "web", "xml",
];
const LICENSES: u64 = 60;
const PEOPLE: u64 = 800;

/// Numbers that look random, the same ones each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end.max(1)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// Writes the tree with so many packages into `dir`.
pub fn write(dir: &Path, packages: u64) {
    let put = |path: &str, text: &str| {
        let path = dir.join(path);
        fs::create_dir_all(path.parent().expect("it is below a directory")).expect("a directory can be made");
        fs::write(path, text).expect("a file can be written");
    };
    FIXED.iter().for_each(|(path, text)| put(path, text));
    put("lib/licenses.nix", &licenses());
    put("lib/people.nix", &people());
    let dice = &mut Dice(7);
    let mut listed = String::from("# Packages that are called with something.\nfinal: prev: {\n");
    for number in 0..packages {
        let name = name(number);
        let text = package(number, dice);
        if number % 4 == 3 {
            put(&format!("other/{name}/default.nix"), &text);
            let given = if number % 20 == 3 { "enableParallel = true;" } else { "" };
            writeln!(listed, "  {name} = final.callPackage ./other/{name} {{ {given} }};")
                .expect("a text grows");
        } else {
            put(&format!("packages/{}/{name}/package.nix", &name[..2]), &text);
        }
    }
    listed.push_str("}\n");
    put("listed.nix", &listed);
    put("one.nix", &format!("(import ./. {{ }}).{}.drvPath\n", name(packages - 1)));
    let some: Vec<String> =
        (0..packages.min(500)).map(|_| format!("pkgs.{}", name(dice.below(packages)))).collect();
    let head = "let pkgs = import ./. { overlays = import ./overlays.nix; }; in";
    put(
        "some.nix",
        &format!(
            "{head}\nbuiltins.hashString \"sha256\" (toString (map (p: p.drvPath) [\n  {}\n]))\n",
            some.join("\n  ")
        ),
    );
}

fn name(number: u64) -> String {
    let stem = STEMS[(number * 7 % STEMS.len() as u64) as usize];
    format!("{stem}-{number}")
}

fn licenses() -> String {
    let mut text = String::from(
        "{ lib }:\nbuiltins.mapAttrs (shortName: license: { inherit shortName; free = true; url = \"mirror://licenses/${license.spdxId}\"; } // license) {\n",
    );
    for number in 0..LICENSES {
        writeln!(text, "  l{number} = {{ spdxId = \"L-{number}\"; fullName = \"License {number}\"; }};")
            .expect("a text grows");
    }
    text + "  secret = { spdxId = \"S\"; fullName = \"Secret\"; free = false; };\n}\n"
}

fn people() -> String {
    let mut text = String::from("{\n");
    for number in 0..PEOPLE {
        writeln!(text, "  person{number} = {{ name = \"Person {number}\"; email = \"p{number}@example.org\"; id = {number}; }};")
            .expect("a text grows");
    }
    text + "}\n"
}

/// The file of one package. It needs packages with lower numbers, mostly low ones.
fn package(number: u64, dice: &mut Dice) -> String {
    let needed = if number == 0 { 0 } else { [0, 1, 2, 3, 3, 4, 5, 8][dice.below(8) as usize] };
    let mut inputs: Vec<String> = (0..needed)
        .map(|_| {
            let highest = dice.below(number) + 1;
            name(dice.below(highest))
        })
        .collect();
    let mut tools: Vec<String> =
        (0..dice.below(3).min(number)).map(|_| name(dice.below(number.min(40)))).collect();
    inputs.sort();
    inputs.dedup();
    tools.sort();
    tools.dedup();
    tools.retain(|tool| !inputs.contains(tool));
    let own = name(number);
    let from_repository = dice.below(10) < 7;
    let is_final = from_repository && dice.one_in(2);
    let has_docs = dice.one_in(3) && !inputs.is_empty();
    let version = if is_final { "${finalAttrs.version}" } else { "${version}" };
    let mut text = String::from("{\n  lib,\n  stdenv,\n");
    let fetcher = if from_repository { "fetchRepository" } else { "fetchurl" };
    for asked in [fetcher].into_iter().chain(tools.iter().chain(&inputs).map(String::as_str)) {
        let _ = writeln!(text, "  {asked},");
    }
    if has_docs {
        text.push_str("  enableDocs ? false,\n");
    }
    let hash = format!("sha256-{number:042}A=");
    let start = if is_final { "(finalAttrs: " } else { "rec " };
    let _ = write!(
        text,
        "  enableParallel ? false,\n}}:\n\nstdenv.mkDerivation {start}{{\n  pname = \"{own}\";\n  version = \"{}.{}.{}\";\n\n",
        dice.below(10),
        dice.below(30),
        dice.below(10)
    );
    if from_repository {
        let owner = dice.below(PEOPLE);
        let _ = write!(
            text,
            "  src = fetchRepository {{\n    owner = \"person{owner}\";\n    repo = \"{own}\";\n    tag = \"v{version}\";\n    hash = \"{hash}\";\n  }};\n\n"
        );
    } else {
        let _ = write!(
            text,
            "  src = fetchurl {{\n    url = \"mirror://sources/{own}/{own}-{version}.tar.gz\";\n    hash = \"{hash}\";\n  }};\n\n"
        );
    }
    match dice.below(6) {
        0 | 1 => text.push_str("  outputs = [\n    \"out\"\n    \"dev\"\n  ];\n\n"),
        2 => text.push_str("  outputs = [\n    \"bin\"\n    \"dev\"\n    \"out\"\n  ];\n\n"),
        _ => {}
    }
    if !tools.is_empty() {
        let _ = writeln!(text, "  nativeBuildInputs = [ {} ];", tools.join(" "));
    }
    if !inputs.is_empty() {
        let docs =
            if has_docs { format!(" ++ lib.maybe enableDocs [ {} ]", inputs[0]) } else { String::new() };
        let _ = write!(text, "  buildInputs = [ {} ]{docs};\n\n", inputs.join(" "));
    }
    if dice.one_in(2) {
        text.push_str("  configureFlags = [\n    \"--with-ssl\"\n    \"--without-x11\"\n    (lib.flag stdenv.hostPlatform.isLinux \"epoll\")\n  ];\n\n");
    }
    if dice.one_in(3) {
        text.push_str("  postPatch = ''\n    substituteInPlace Makefile \\\n      --replace /usr/local $out \\\n      --replace gcc ${stdenv.hostPlatform.config}-gcc\n  '';\n\n");
    }
    if dice.one_in(2) {
        let share = inputs
            .first()
            .map_or(String::new(), |input| format!("    ln -s ${{{input}}}/share $out/share\n"));
        let _ = write!(
            text,
            "  installPhase = ''\n    mkdir -p $out/bin\n    install -Dm755 {own} $out/bin\n{share}  '';\n\n"
        );
    }
    if dice.one_in(3) {
        text.push_str(
            "  enableParallelBuilding = enableParallel;\n  doCheck = stdenv.hostPlatform.isLinux;\n\n",
        );
    }
    let people: Vec<String> =
        (0..1 + dice.below(3)).map(|_| format!("person{}", dice.below(PEOPLE))).collect();
    let platforms = ["unix", "linux", "all"][dice.below(3) as usize];
    let _ = write!(
        text,
        "  meta = {{\n    description = \"Package {number} of many\";\n    homepage = \"https://example.org/{own}\";\n    changelog = \"https://example.org/{own}/{version}\";\n    license = lib.licenses.l{};\n    maintainers = with lib.people; [ {} ];\n    platforms = lib.platforms.{platforms};\n    mainProgram = \"{own}\";\n  }};\n}}{}\n",
        dice.below(LICENSES),
        people.join(" "),
        if is_final { ")" } else { "" }
    );
    text
}
