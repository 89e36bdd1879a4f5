use gabion_baseline::{Admitted, Refusal};

fn admit(refusal: Refusal) -> Admitted {
    refusal.into()
}

fn main() {}
