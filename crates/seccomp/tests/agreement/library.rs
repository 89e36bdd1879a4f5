//! libseccomp's filter for the same profile, run by the interpreter beside ours: they agree, but for the differences
//! that are meant, each listed with its reason.

use std::collections::BTreeMap;

use crate::by_library::by_library;
use crate::declaration::{Declaration, library_name, profile, profiles};
use gabion_seccomp::abi::X32_BIT;
use gabion_seccomp::interpret::run;
use gabion_seccomp::syscalls::{LATER, Resolved, resolve};
use gabion_seccomp::{Abi, Data, Profile, Program, Target, Verdict, compile};
use libseccomp::{ScmpAction, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};

const UNKNOWN: &str =
    "a number that the profile's author could not know does not exist, instead of the default";
const X32_HOLE: &str = "x32 that is not listed does not exist, instead of killing";
const YOUNGER: &str = "a call that is younger than the tables of the libseccomp that is linked";
const HIGH_HALF: &str = "the high half of an int is not looked at";
const SEVERAL: &str = "a rule with conditions holds beside one without";

const UNLISTED: &str = "an architecture that is not listed kills the process, instead of a thread of it";

/// Why the two may differ, if they may.
fn explanation(
    declaration: &Declaration,
    profile: &Profile,
    abi: Abi,
    data: &Data,
    (ours, theirs): (Verdict, Verdict),
) -> Option<&'static str> {
    let number = data.nr.cast_unsigned();
    let is = |name: &str| resolve(name, abi) == Resolved::Number(number);
    let rules = declaration.rules(abi, number);
    let with_conditions = rules.iter().any(|(rule, _)| !rule.args.is_empty());
    let without = rules.iter().any(|(rule, _)| rule.args.is_empty());
    let listed = abi == Abi::X86_64 || profile.architectures.contains(&abi.architecture());
    if abi == Abi::X32 && !listed {
        return Some(X32_HOLE);
    }
    if !listed && (ours, theirs) == (Verdict::KillProcess, Verdict::KillThread) {
        return Some(UNLISTED);
    }
    if rules.is_empty() && !declaration.known(abi, number) && ours == Verdict::Errno(38) {
        return Some(UNKNOWN);
    }
    if LATER.iter().any(|later| is(later.name)) && library_name(abi, number).is_none() {
        return Some(YOUNGER);
    }
    if with_conditions && without {
        return Some(SEVERAL);
    }
    if with_conditions && data.args.iter().any(|argument| *argument > u64::from(u32::MAX)) {
        return Some(HIGH_HALF);
    }
    None
}

#[test]
fn libseccomp_answers_the_same_but_for_differences_that_are_meant() {
    let mut agreed = 0;
    let mut differences: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, value) in profiles() {
        let profile = profile(&value);
        let declaration = Declaration::new(&profile, Abi::X86_64);
        let ours = compile(&profile, &Target::new(Abi::X86_64)).unwrap().program;
        let theirs = by_library(&profile);
        println!(
            "{name}: {} instructions here, {} in libseccomp's filter",
            ours.len(),
            theirs.len()
        );
        let mut values = vec![0, 1, 5, 0xffff_ffff, 0xdead_beef_0000_0026];
        values.extend(
            profile
                .syscalls
                .iter()
                .flat_map(|rule| &rule.args)
                .flat_map(|condition| {
                    let value = condition.value;
                    [value, value.wrapping_add(1), value | (7 << 32)]
                }),
        );
        values.sort_unstable();
        values.dedup();
        for abi in [Abi::X86_64, Abi::X86, Abi::X32] {
            let base = if abi == Abi::X32 { X32_BIT } else { 0 };
            for number in base..base + 1100 {
                let conditions = declaration
                    .rules(abi, number)
                    .iter()
                    .any(|(rule, _)| !rule.args.is_empty());
                for first in if conditions { &values[..] } else { &values[..2] } {
                    for third in if conditions { &[0, 9][..] } else { &[0][..] } {
                        // A compat call's registers have no high half.
                        let low = |value: u64| {
                            if abi == Abi::X86 {
                                value & 0xffff_ffff
                            } else {
                                value
                            }
                        };
                        let args = [low(*first), low(*first), *third, 0, 0, 0];
                        let data = Data {
                            nr: number.cast_signed(),
                            arch: abi.audit_architecture(),
                            instruction_pointer: 0,
                            args,
                        };
                        let here = Verdict::decode(run(&ours, &data).unwrap().returned);
                        let there = Verdict::decode(run(&theirs, &data).unwrap().returned);
                        if here == there {
                            agreed += 1;
                            continue;
                        }
                        let why = explanation(&declaration, &profile, abi, &data, (here, there))
                            .unwrap_or_else(|| {
                                panic!("{name}: {abi:?} {data:x?}: {here:?} here, {there:?} there")
                            });
                        *differences.entry(why).or_default() += 1;
                    }
                }
            }
        }
    }
    println!("{agreed} answers agreed; differences: {differences:#?}");
    assert!(agreed > 30_000, "{agreed}");
    // An explanation that nothing needs any more should go.
    let meant = [HIGH_HALF, SEVERAL, UNKNOWN, UNLISTED, X32_HOLE, YOUNGER];
    for why in meant {
        assert!(
            differences.contains_key(why),
            "nothing differs any more because {why}"
        );
    }
}

/// What is lost of a filter where libseccomp's way of several conditions is followed: they become alternatives.
#[test]
fn several_conditions_on_one_argument_are_refused_by_libseccomp_so_that_runtimes_split_them() {
    let mut filter = ScmpFilterContext::new(ScmpAction::Errno(1)).unwrap();
    let call = ScmpSyscall::from_name("socket").unwrap();
    let not = |family| ScmpArgCompare::new(0, ScmpCompareOp::NotEqual, family);
    assert!(
        filter
            .add_rule_conditional(ScmpAction::Allow, call, &[not(38), not(40)])
            .is_err()
    );
}

/// A rule that lets some socket(2) calls through makes libseccomp let all of i386's socketcall(SYS_SOCKET) through,
/// where the arguments cannot be seen.
#[test]
fn libseccomp_adds_a_companion_for_a_multiplexer_and_we_do_not() {
    let value = serde_json::json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        "syscalls": [{"names": ["socket"], "action": "SCMP_ACT_ALLOW"}],
    });
    let profile = profile(&value);
    let ours = compile(&profile, &Target::new(Abi::X86_64)).unwrap().program;
    let theirs = by_library(&profile);
    const SYS_SOCKET: u64 = 1;
    let answers = |program: &Program, nr| {
        let arch = Abi::X86.audit_architecture();
        let data = Data {
            nr,
            arch,
            instruction_pointer: 0,
            args: [SYS_SOCKET, 0, 0, 0, 0, 0],
        };
        Verdict::decode(run(program, &data).unwrap().returned)
    };
    let (socketcall, socket) = (102, 359);
    assert_eq!(
        [answers(&theirs, socketcall), answers(&theirs, socket)],
        [Verdict::Allow, Verdict::Allow]
    );
    assert_eq!(
        [answers(&ours, socketcall), answers(&ours, socket)],
        [Verdict::Errno(1), Verdict::Allow]
    );
}
