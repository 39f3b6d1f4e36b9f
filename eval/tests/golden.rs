//! Runs every `tests/eval/*.img` and compares with its `.exp` (printed value) or `.err` (diagnostic).
//!
//! `AMPOULE_ACCEPT=1` writes what it got. Each program is run twice, the second time with a collection at every
//! turn, so that a value which the collector cannot see shows up here.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ampoule_eval::{Settings, run};
use ampoule_lang::render::render;

mod support;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").join("tests/eval")
}

/// Returns what a program prints, or its errors.
fn evaluate(file: &Path, nursery_bytes: usize) -> Result<String, String> {
    let text = fs::read(file).expect("a golden can be read");
    let name = file.file_name().expect("a file").to_string_lossy().into_owned();
    let dir = folder();
    let settings =
        Settings { nursery_bytes, min_deferred_bytes: nursery_bytes.min(48), ..Settings::default() };
    let result = run(settings, Arc::new(support::Plain::default()), |ev| {
        let value = ev.eval_text(&name, &dir, &text);
        let printed = value.and_then(|value| ev.force_deep(value)).and_then(|value| ev.print(value));
        printed.map_err(|error| render(&ev.diagnostics(&error), &ev.settings().sources, false))
    });
    result.expect("the system gives a thread").map(|text| text + "\n")
}

#[test]
fn programs_give_what_is_written_beside_them() {
    let accept = std::env::var_os("AMPOULE_ACCEPT").is_some();
    let mut wrong = Vec::new();
    let mut count = 0;
    let mut files: Vec<PathBuf> = fs::read_dir(folder())
        .expect("the folder is there")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "img"))
        .collect();
    files.sort();
    for file in files {
        count += 1;
        let result = evaluate(&file, 8 << 20);
        let stressed = evaluate(&file, 0);
        if result != stressed {
            wrong.push(format!(
                "{}: differs when memory is collected often and functions are resolved late: {stressed:?}",
                file.display()
            ));
        }
        let (extension, other, got) = match result {
            Ok(text) => ("exp", "err", text),
            Err(text) => ("err", "exp", text),
        };
        let expected = file.with_extension(extension);
        if accept {
            fs::write(&expected, &got).expect("expectations can be written");
            let _ = fs::remove_file(file.with_extension(other));
        }
        let wanted = fs::read_to_string(&expected).unwrap_or_default();
        if wanted != got {
            wrong.push(format!("{}\n--- wanted\n{wanted}--- got\n{got}", file.display()));
        }
    }
    assert!(count > 0, "there are no goldens");
    assert!(wrong.is_empty(), "{} of {count} differ:\n{}", wrong.len(), wrong.join("\n"));
}
