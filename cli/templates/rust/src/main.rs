fn main() {
    println!("Hello from a crate.");
}
