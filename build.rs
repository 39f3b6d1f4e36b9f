//! Says which folders are embedded in the program: a file that is new in one of them is a reason to compile again,
//! which the macro that embeds them cannot say.

fn main() {
    for dir in ["stdlib", "cli/templates"] {
        println!("cargo::rerun-if-changed={dir}");
    }
}
