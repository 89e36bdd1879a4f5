use gabion_baseline::{Admitted, Allegation, Facts, Judgement, Operation, Policy, judge};

fn admitted(allegation: &Allegation, facts: &Facts, policy: &Policy, operation: &Operation) -> Option<Box<Admitted>> {
    match judge(allegation, facts, policy, operation) {
        Ok(Judgement::Admitted(admitted)) => Some(admitted),
        Ok(Judgement::Refused(_)) | Err(_) => None,
    }
}

fn main() {
    let _: fn(&Allegation, &Facts, &Policy, &Operation) -> Option<Box<Admitted>> = admitted;
}
