use gabion_baseline::{Admitted, Allegation, Profile};

fn admit(allegation: Allegation) -> Admitted {
    Admitted {
        document: allegation.document().clone(),
        config: allegation.config().clone(),
        profile: Profile::Baseline,
        findings: Vec::new(),
        hook_mounts: Vec::new(),
    }
}

fn main() {}
