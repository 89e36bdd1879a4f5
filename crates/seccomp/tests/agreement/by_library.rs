//! libseccomp's filter for a profile: for the tests and the benchmark.

use std::io::{Read, Seek};

use gabion_seccomp::profile::{Action, Condition, Operator};
use gabion_seccomp::{Abi, Profile, Program};
use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};

fn action(action: Action, errno: Option<u32>) -> ScmpAction {
    let errno = errno.unwrap_or(1) as u16;
    match action {
        Action::KillProcess => ScmpAction::KillProcess,
        Action::Kill | Action::KillThread => ScmpAction::KillThread,
        Action::Trap => ScmpAction::Trap,
        Action::Errno => ScmpAction::Errno(errno.into()),
        Action::Trace => ScmpAction::Trace(errno),
        Action::Allow => ScmpAction::Allow,
        Action::Log => ScmpAction::Log,
        Action::Notify => ScmpAction::Notify,
    }
}

fn comparison(condition: &Condition) -> ScmpArgCompare {
    let (operator, value) = match condition.op {
        Operator::NotEqual => (ScmpCompareOp::NotEqual, condition.value),
        Operator::Less => (ScmpCompareOp::Less, condition.value),
        Operator::LessOrEqual => (ScmpCompareOp::LessOrEqual, condition.value),
        Operator::Equal => (ScmpCompareOp::Equal, condition.value),
        Operator::GreaterOrEqual => (ScmpCompareOp::GreaterEqual, condition.value),
        Operator::Greater => (ScmpCompareOp::Greater, condition.value),
        Operator::MaskedEqual => (
            ScmpCompareOp::MaskedEqual(condition.value),
            condition.value_two.unwrap_or(0),
        ),
    };
    ScmpArgCompare::new(condition.index, operator, value)
}

/// A filter made by libseccomp, in the way that runtimes make theirs: rules with the default's action are left out.
pub(crate) fn by_library(profile: &Profile) -> Program {
    optimized_by_library(profile, 1)
}

/// The same with libseccomp's levels of optimization: 1 for a list, which is its default; 2 for a binary tree.
pub(crate) fn optimized_by_library(profile: &Profile, level: u32) -> Program {
    let default = action(profile.default_action, profile.default_errno_ret);
    let mut filter = ScmpFilterContext::new(default).unwrap();
    filter.set_ctl_optimize(level).unwrap();
    for (abi, architecture) in [
        (Abi::X86_64, ScmpArch::X8664),
        (Abi::X86, ScmpArch::X86),
        (Abi::X32, ScmpArch::X32),
    ] {
        if profile.architectures.contains(&abi.architecture()) {
            filter.add_arch(architecture).unwrap();
        }
    }
    for rule in &profile.syscalls {
        let action = action(rule.action, rule.errno_ret);
        if action == default {
            continue;
        }
        let comparisons: Vec<ScmpArgCompare> = rule.args.iter().map(comparison).collect();
        for name in &rule.names {
            let Ok(call) = ScmpSyscall::from_name(name) else {
                continue;
            };
            if comparisons.is_empty() {
                filter.add_rule(action, call).unwrap();
            } else {
                filter.add_rule_conditional(action, call, &comparisons).unwrap();
            }
        }
    }
    let mut file = tempfile::tempfile().unwrap();
    filter.export_bpf(&file).unwrap();
    file.rewind().unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    Program::from_bytes(&bytes).unwrap()
}
