use gabion_baseline::{Admitted, Config};

fn change(admitted: &mut Admitted, config: Config) {
    admitted.config = config;
}

fn main() {}
