//! What a profile says, evaluated the slow and plain way, as a second opinion on the compiler.

use std::collections::{HashMap, HashSet};

use gabion_seccomp::abi::X32_BIT;
use gabion_seccomp::profile::{Action, Condition, Operator, Rule};
use gabion_seccomp::syscalls::{LATER, Release, Resolved, resolve, since};
use gabion_seccomp::{Abi, Data, Profile, Verdict};
use serde_json::Value;

/// Profiles that engines sent, and gabion's own.
pub(crate) fn profiles() -> Vec<(&'static str, Value)> {
    let read = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    let all: Vec<String> = [
        "SYS_ADMIN",
        "NET_ADMIN",
        "NET_RAW",
        "AUDIT_WRITE",
        "SYS_CHROOT",
        "SYS_NICE",
    ]
    .iter()
    .map(|name| format!("CAP_{name}"))
    .collect();
    vec![
        (
            "docker-20.10",
            read(include_str!("../../profiles/docker-20.10.json")),
        ),
        (
            "docker-26.1",
            read(include_str!("../../profiles/docker-26.1.json")),
        ),
        ("podman-4.3", read(include_str!("../../profiles/podman-4.3.json"))),
        ("podman-5.4", read(include_str!("../../profiles/podman-5.4.json"))),
        ("buildah", read(include_str!("../../profiles/buildah.json"))),
        (
            "containerd-1.6-cri",
            read(include_str!("../../profiles/containerd-1.6-cri.json")),
        ),
        (
            "containerd-2-kubernetes",
            read(include_str!("../../profiles/containerd-2-kubernetes.json")),
        ),
        ("default", gabion_seccomp::default::profile(&[])),
        (
            "default with capabilities",
            gabion_seccomp::default::profile(&all),
        ),
        (
            "default with 32-bit programs",
            gabion_seccomp::default::with_compatibility(&[]),
        ),
    ]
}

pub(crate) fn profile(value: &Value) -> Profile {
    Profile::from_value(value).unwrap().unwrap()
}

/// The ABIs that a profile is about on a native architecture.
pub(crate) fn abis(profile: &Profile, native: Abi) -> Vec<Abi> {
    let listed = |abi: &Abi| profile.architectures.contains(&abi.architecture());
    std::iter::once(native)
        .chain(native.compatible().iter().copied().filter(listed))
        .collect()
}

/// What a profile declares, with its names looked up.
pub(crate) struct Declaration<'a> {
    profile: &'a Profile,
    native: Abi,
    abis: Vec<Abi>,
    /// The rules about a number, each with the name under which it is about it.
    rules: HashMap<(Abi, u32), Vec<(&'a Rule, &'a str)>>,
    known: HashSet<(Abi, u32)>,
}

impl<'a> Declaration<'a> {
    pub(crate) fn new(profile: &'a Profile, native: Abi) -> Self {
        let abis = abis(profile, native);
        let mut rules: HashMap<(Abi, u32), Vec<(&Rule, &str)>> = HashMap::new();
        let mut known = HashSet::new();
        let date = date(profile);
        for abi in &abis {
            for rule in &profile.syscalls {
                for name in &rule.names {
                    if let Resolved::Number(number) = resolve(name, *abi) {
                        rules.entry((*abi, number)).or_default().push((rule, name));
                    }
                }
            }
            let base = if *abi == Abi::X32 { X32_BIT } else { 0 };
            let numbers = (base..base + 600).chain(if *abi == Abi::Arm {
                0xf_0000..0xf_0010
            } else {
                0..0
            });
            known.extend(
                numbers
                    .filter(|number| was_there(date, *abi, *number))
                    .map(|number| (*abi, number)),
            );
        }
        Declaration {
            profile,
            native,
            abis,
            rules,
            known,
        }
    }

    /// What should happen to a call. `width` says whether an argument of a call counts with its low half alone.
    pub(crate) fn of(&self, data: &Data, width: impl Fn(&str, u32) -> bool) -> Verdict {
        let number = data.nr.cast_unsigned();
        let abi = self.abis.iter().copied().find(|abi| {
            let x32 = data.arch == Abi::X32.audit_architecture() && number & X32_BIT != 0;
            abi.audit_architecture() == data.arch && (*abi == Abi::X32) == x32
        });
        let Some(abi) = abi else {
            // A number with bit 30 without x32 is a hole of x86-64.
            let native = data.arch == self.native.audit_architecture();
            return if native {
                unknown(self.profile)
            } else {
                Verdict::KillProcess
            };
        };
        let rules = self.rules(abi, number);
        let narrow = |name: &str, index: u32| matches!(abi, Abi::X86 | Abi::Arm) || width(name, index);
        let holds = |(rule, name): &(&Rule, &str), argument: &dyn Fn(&Condition) -> Vec<u64>| {
            rule.args.iter().all(|condition| {
                let arguments = argument(condition);
                arguments
                    .iter()
                    .all(|value| condition_holds(condition, *value, narrow(name, condition.index)))
            })
        };
        // Conditions that hold whatever the argument is are no conditions.
        let always = |rule: &&(&Rule, &str)| {
            holds(rule, &|condition| {
                let value = condition.value;
                let near = [value, value.wrapping_sub(1), value.wrapping_add(1)];
                [0, 1, 0xffff_fffe, 0xffff_ffff, 1 << 32, u64::MAX - 1, u64::MAX]
                    .into_iter()
                    .chain(near)
                    .collect()
            })
        };
        let now = |rule: &&(&Rule, &str)| holds(rule, &|condition| vec![data.args[condition.index as usize]]);
        let mut conditional: Vec<Verdict> = rules
            .iter()
            .filter(|rule| !always(rule) && now(rule))
            .map(|(rule, _)| verdict(rule.action, rule.errno_ret))
            .collect();
        conditional.sort_by_key(|verdict| severity(*verdict));
        if let Some(strictest) = conditional.first() {
            return *strictest;
        }
        if let Some((rule, _)) = rules.iter().find(always) {
            return verdict(rule.action, rule.errno_ret);
        }
        if !rules.is_empty() || self.known(abi, number) {
            return verdict(self.profile.default_action, self.profile.default_errno_ret);
        }
        unknown(self.profile)
    }

    /// The rules about a number.
    pub(crate) fn rules(&self, abi: Abi, number: u32) -> &[(&'a Rule, &'a str)] {
        self.rules.get(&(abi, number)).map_or(&[][..], Vec::as_slice)
    }

    /// True for numbers that were there when the profile was made.
    pub(crate) fn known(&self, abi: Abi, number: u32) -> bool {
        self.known.contains(&(abi, number))
    }
}

fn date(profile: &Profile) -> Release {
    profile
        .syscalls
        .iter()
        .flat_map(|rule| &rule.names)
        .map(|name| since(name))
        .max()
        .unwrap_or(Release::BASE)
}

/// `LATER` is data of the crate; what is older is asked of libseccomp.
fn was_there(date: Release, abi: Abi, number: u32) -> bool {
    let bare = if abi == Abi::X32 {
        number & !X32_BIT
    } else {
        number
    };
    match LATER
        .iter()
        .find(|later| later.number == bare && !later.absent.contains(&abi))
    {
        Some(later) => later.since <= date,
        None => !(424..512).contains(&bare) && library_name(abi, number).is_some(),
    }
}

pub(crate) fn library_name(abi: Abi, number: u32) -> Option<String> {
    let architecture = library_architecture(abi);
    libseccomp::ScmpSyscall::from(number.cast_signed())
        .get_name_by_arch(architecture)
        .ok()
}

pub(crate) fn library_architecture(abi: Abi) -> libseccomp::ScmpArch {
    use libseccomp::ScmpArch;
    match abi {
        Abi::X86_64 => ScmpArch::X8664,
        Abi::X86 => ScmpArch::X86,
        Abi::X32 => ScmpArch::X32,
        Abi::Aarch64 => ScmpArch::Aarch64,
        Abi::Arm => ScmpArch::Arm,
    }
}

fn unknown(profile: &Profile) -> Verdict {
    match profile.default_action {
        Action::Allow | Action::Log | Action::Trace => {
            verdict(profile.default_action, profile.default_errno_ret)
        }
        _ => Verdict::Errno(38),
    }
}

pub(crate) fn verdict(action: Action, errno: Option<u32>) -> Verdict {
    let errno = errno.unwrap_or(1) as u16;
    match action {
        Action::KillProcess => Verdict::KillProcess,
        Action::Kill | Action::KillThread => Verdict::KillThread,
        Action::Trap => Verdict::Trap(0),
        Action::Errno => Verdict::Errno(errno),
        Action::Trace => Verdict::Trace(errno),
        Action::Allow => Verdict::Allow,
        Action::Log => Verdict::Log,
        Action::Notify => Verdict::Notify,
    }
}

fn severity(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::KillProcess => 0,
        Verdict::KillThread => 1,
        Verdict::Trap(_) => 2,
        Verdict::Errno(_) => 3,
        Verdict::Notify => 4,
        Verdict::Trace(_) => 5,
        Verdict::Log => 6,
        Verdict::Allow => 7,
    }
}

fn condition_holds(condition: &Condition, argument: u64, narrow: bool) -> bool {
    let argument = if narrow {
        u64::from(argument as u32)
    } else {
        argument
    };
    // A negative int written as a 64-bit number means the int.
    let as_int = |value: u64| match value.cast_signed() {
        -0x8000_0000..0 if narrow => value & 0xffff_ffff,
        _ => value,
    };
    let value = as_int(condition.value);
    match condition.op {
        Operator::Equal => argument == value,
        Operator::NotEqual => argument != value,
        Operator::Less => argument < value,
        Operator::LessOrEqual => argument <= value,
        Operator::Greater => argument > value,
        Operator::GreaterOrEqual => argument >= value,
        Operator::MaskedEqual => argument & condition.value == as_int(condition.value_two.unwrap_or(0)),
    }
}
