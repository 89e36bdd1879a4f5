//! The seccomp filters of a container: the floor that judgement asked for, and the profile over it.

use gabion_baseline::Admitted;
use gabion_baseline::change::FLOOR;
use gabion_descent::{Canary, Filter, Instruction};
use gabion_filters::Filters;
use gabion_seccomp::Compiled;
use gabion_seccomp::floor::FloorError;

use crate::error::Result;
use crate::listener;
use crate::plan::unsupported;

/// Gives the effective filters, in the order in which they are loaded; says which denied calls can serve as
/// canaries, and whether the filters let the init process read its own status and report.
///
/// The floor comes first: where both deny a call with an errno, the kernel gives that of the filter that was loaded
/// last, and the engine knows best what its programs expect.
pub(crate) fn filters(admitted: &Admitted, made: &Filters) -> Result<(Vec<Filter>, Vec<Canary>, bool)> {
    let mut compiled = Vec::new();
    compiled.extend(floor(admitted, made)?);
    compiled.extend(profile(admitted, made)?);
    let has_listener = compiled.iter().any(|filter| filter.listener);
    let flags: Vec<u64> = compiled.iter().map(|filter| filter.flags).collect();
    let programs: Vec<_> = compiled.into_iter().map(|filter| filter.program).collect();
    if has_listener {
        listener::check(&programs)?;
    }
    let canaries = gabion_seccomp::canaries(&programs)
        .into_iter()
        .filter(|canary| gabion_sys::seccomp::can_probe(canary.number))
        .map(|canary| Canary {
            name: canary.name,
            number: canary.number,
            arguments: canary.arguments,
            errno: canary.errno,
        })
        .collect();
    let readable = [nix::libc::SYS_prctl, nix::libc::SYS_pread64, nix::libc::SYS_write]
        .into_iter()
        .all(|number| gabion_seccomp::permits(&programs, number, [0; 6]));
    let filters = programs
        .iter()
        .zip(flags)
        .map(|(program, flags)| Filter {
            instructions: program
                .instructions
                .iter()
                .map(|instruction| Instruction {
                    code: instruction.code,
                    jt: instruction.jt,
                    jf: instruction.jf,
                    k: instruction.k,
                })
                .collect(),
            flags,
        })
        .collect();
    Ok((filters, canaries, readable))
}

/// The engine's filter, or the one that was filled in: what judgement looked at, where it did.
fn profile(admitted: &Admitted, made: &Filters) -> Result<Option<Compiled>> {
    let Some(value) = admitted.document().pointer("/linux/seccomp") else {
        return Ok(None);
    };
    match made.study(value) {
        Ok(study) => Ok(study.compiled.clone()),
        Err(FloorError::Profile(error)) => {
            unsupported(&format!("/linux/seccomp{}", error.pointer()), error.to_string())
        }
        Err(error) => unsupported("/linux/seccomp", error.to_string()),
    }
}

/// The floor, for the capabilities that the container keeps.
fn floor(admitted: &Admitted, made: &Filters) -> Result<Option<Compiled>> {
    let Some(linux) = admitted.document().get("linux") else {
        return Ok(None);
    };
    let Some(value) = linux.get(FLOOR).filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    let place = format!("/linux/{FLOOR}");
    let Ok(entries) = serde_json::from_value::<Vec<String>>(value.clone()) else {
        return unsupported(&place, "is no list of names");
    };
    let bounding: Vec<String> = admitted
        .document()
        .pointer("/process/capabilities/bounding")
        .and_then(|value| serde_json::from_value(value.clone()).ok())
        .unwrap_or_default();
    made.floor(&entries, &bounding)
        .or_else(|error| unsupported(&place, error.to_string()))
}
