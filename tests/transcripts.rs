//! Transcripts: each `tests/cli/*.md` is a page of commands and what they print, run as they stand.
//!
//! `TRYCMD=overwrite cargo test --test transcripts` writes what they print now; read the diff before you
//! keep it. A transcript that needs files keeps them in a folder of its name with `.in` behind.

#[test]
fn transcripts() {
    let home = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| home.path().join(name).to_string_lossy().into_owned();
    trycmd::TestCases::new()
        .env("HOME", path("home"))
        .env("XDG_DATA_HOME", path("data"))
        .env("XDG_CACHE_HOME", path("cache"))
        .env("XDG_CONFIG_HOME", path("config"))
        .env("NO_COLOR", "1")
        .env("AMPOULE_FETCH_OFFLINE", "true")
        .case("tests/cli/*.md");
}
