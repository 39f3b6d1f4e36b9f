//! The spawner alone, for tests and benchmarks of this crate; `ampoule` is its own spawner.

fn main() {
    ampoule_realise::sandbox::serve_if_asked();
    eprintln!("this program makes sandboxes for `ampoule`; it is not run by hand");
    std::process::exit(2);
}
