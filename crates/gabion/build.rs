//! Names the commit that gabion is built from: whoever builds a release sets `GABION_COMMIT`.

fn main() {
    println!("cargo:rerun-if-env-changed=GABION_COMMIT");
    let commit = std::env::var("GABION_COMMIT").unwrap_or_else(|_| "unknown".to_owned());
    println!("cargo:rustc-env=GABION_COMMIT={commit}");
}
