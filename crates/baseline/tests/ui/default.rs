use gabion_baseline::Admitted;

fn main() {
    let _ = Admitted::default();
}
