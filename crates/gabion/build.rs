//! Names the commit that gabion is built from: whoever builds a release sets `GABION_COMMIT`. And makes the program begin
//! at `gabion_sys::early`, where that has an entry for the architecture, and where the code is optimized: what must hold
//! of the code there is the optimizer's doing.

fn main() {
    println!("cargo:rerun-if-env-changed=GABION_COMMIT");
    let commit = std::env::var("GABION_COMMIT").unwrap_or_else(|_| "unknown".to_owned());
    println!("cargo:rustc-env=GABION_COMMIT={commit}");
    let is = |name: &str, value: &str| std::env::var(name).is_ok_and(|is| is == value);
    if is("CARGO_CFG_TARGET_ARCH", "x86_64") && is("CARGO_CFG_TARGET_ENV", "gnu") && is("PROFILE", "release")
    {
        println!("cargo:rustc-link-arg-bin=gabion=-Wl,--entry=gabion_entry");
    }
}
