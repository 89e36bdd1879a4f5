//! Which devices a container may use, enforced by its cgroup.
//!
//! With version 1 libcontainer writes `devices.allow` and `devices.deny`. With version 2 there are no such files:
//! a program of eBPF attached to the cgroup decides, and libcontainer leaves it out. So the program is made here.
//!
//! Rules are ordered: for each kind of access, the last rule that matches decides, and what no rule matches is
//! denied. After the configuration's own rules come those for the devices that every container has.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use gabion_baseline::config::{Config, DeviceRule};
use gabion_descent::Failure;
use gabion_sys::bpf::{self, Instruction};
use serde::{Deserialize, Serialize};

use crate::error::{ContainerError, Result};

/// Kinds of access (`BPF_DEVCG_ACC_*`), with their letters in the spec.
const ACCESSES: [(u32, char); 3] = [(1, 'm'), (2, 'r'), (4, 'w')];

/// The rules of a container, in their order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeviceRules(Vec<Rule>);

/// A rule without options left open. `None` matches any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Rule {
    allow: bool,
    kind: Option<Kind>,
    major: Option<u32>,
    minor: Option<u32>,
    access: u32,
}

impl Rule {
    /// As `devices.allow` and `devices.deny` take it.
    fn line(&self) -> String {
        let kind = match self.kind {
            None => 'a',
            Some(Kind::Block) => 'b',
            Some(Kind::Char) => 'c',
        };
        let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
        let letters = ACCESSES.iter().filter(|(bit, _)| self.access & bit != 0);
        let access: String = letters.map(|(_, letter)| letter).collect();
        format!("{kind} {}:{} {access}", number(self.major), number(self.minor))
    }
}

/// Kinds of device (`BPF_DEVCG_DEV_*`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Kind {
    Block = 1,
    Char = 2,
}

/// The devices of config-linux.md, "Default Devices", and terminals. Making a node is harmless where using it is
/// not allowed.
const DEFAULT: [Rule; 10] = {
    const fn char_device(major: u32, minor: Option<u32>) -> Rule {
        Rule {
            allow: true,
            kind: Some(Kind::Char),
            major: Some(major),
            minor,
            access: 7,
        }
    }
    [
        Rule {
            allow: true,
            kind: Some(Kind::Char),
            major: None,
            minor: None,
            access: 1,
        },
        Rule {
            allow: true,
            kind: Some(Kind::Block),
            major: None,
            minor: None,
            access: 1,
        },
        char_device(1, Some(3)),
        char_device(1, Some(5)),
        char_device(1, Some(7)),
        char_device(1, Some(8)),
        char_device(1, Some(9)),
        char_device(5, Some(0)),
        char_device(5, Some(2)),
        char_device(136, None),
    ]
};

/// Guards the devices of a container that is built and not started: by this program, with cgroup version 2, or by the lists
/// of version 1.
///
/// # Errors
/// The program cannot be attached, or a list not be written: the container then does not start.
pub(crate) fn restrict(rules: &DeviceRules, program: Option<OwnedFd>, cgroups: &[PathBuf]) -> Result<()> {
    let Some(program) = program else {
        return write_list(&rules.0, cgroups);
    };
    let Some(cgroup) = cgroups.iter().find(|cgroup| cgroup.is_dir()) else {
        return Err(ContainerError::Other(
            "the container has no cgroup whose devices could be guarded".to_owned(),
        ));
    };
    let directory = File::open(cgroup).map_err(ContainerError::file("cannot open", cgroup))?;
    bpf::attach_device_program(&directory, &program)?;
    // The kernel's word that something guards it, rather than the absence of an error (V-14).
    if bpf::count_device_programs(&directory)? == 0 {
        return Err(ContainerError::Other(format!(
            "no device program is attached to {cgroup:?}"
        )));
    }
    Ok(())
}

/// Loads the program that guards the devices of one cgroup of version 2, without attaching it.
///
/// # Errors
/// The kernel does not take it.
pub(crate) fn load_program(rules: &DeviceRules) -> Result<OwnedFd> {
    Ok(bpf::load_device_program(&compile(&rules.0))?)
}

/// The rules of a configuration.
///
/// # Errors
/// [`ContainerError::Unsupported`] with the place of one that cannot be expressed.
pub(crate) fn of(config: &Config) -> Result<DeviceRules> {
    rules(config).map(DeviceRules)
}

/// Whether the kernel guards the devices as the rules say (a part of V-14): with version 2, that a program is attached;
/// with version 1, that every line of `devices.list` allows no more than the rules do.
///
/// # Errors
/// [`ContainerError::Process`] with a mismatch.
pub(crate) fn verify(rules: &DeviceRules, cgroups: &[PathBuf]) -> Result<()> {
    let mismatch = |text: String| Err(ContainerError::Process(Failure::mismatch("V-14", text)));
    for cgroup in cgroups {
        let list = cgroup.join("devices.list");
        match std::fs::read_to_string(&list) {
            Ok(text) => {
                return match text.lines().find(|line| !allows_line(&rules.0, line)) {
                    Some(line) => mismatch(format!("the devices {line:?} may be used, which was not judged")),
                    None => Ok(()),
                };
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(ContainerError::file("cannot read", list)(error)),
        }
    }
    // No hierarchy of version 1 guards devices: version 2 does, or nothing.
    let unified = cgroups
        .iter()
        .find(|cgroup| cgroup.join("cgroup.controllers").exists());
    let Some(cgroup) = unified else {
        return mismatch("no cgroup of the container guards devices".to_owned());
    };
    let directory = File::open(cgroup).map_err(ContainerError::file("cannot open", cgroup))?;
    if bpf::count_device_programs(&directory)? == 0 {
        return mismatch(format!("no program guards the devices of {cgroup:?}"));
    }
    Ok(())
}

/// True if the rules allow all that a line of `devices.list` does, such as `c 1:3 rwm` or `b *:* m`.
fn allows_line(rules: &[Rule], line: &str) -> bool {
    let mut words = line.split([' ', ':']);
    let (Some(kind), Some(major), Some(minor), Some(access)) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return false;
    };
    let kinds: &[Kind] = match kind {
        "a" => &[Kind::Block, Kind::Char],
        "b" => &[Kind::Block],
        "c" => &[Kind::Char],
        _ => return false,
    };
    // For "all numbers": each that a rule names, and one that none does.
    let numbers = |word: &str, named: &dyn Fn(&Rule) -> Option<u32>| -> Option<Vec<u32>> {
        if word != "*" {
            return Some(vec![word.parse().ok()?]);
        }
        let mut all: Vec<u32> = rules.iter().filter_map(named).collect();
        all.push((0..=u32::MAX).find(|number| !all.contains(number))?);
        Some(all)
    };
    let (Some(majors), Some(minors)) = (
        numbers(major, &|rule| rule.major),
        numbers(minor, &|rule| rule.minor),
    ) else {
        return false;
    };
    ACCESSES
        .iter()
        .filter(|(_, letter)| access.contains(*letter))
        .all(|&(bit, _)| {
            kinds.iter().all(|&kind| {
                majors.iter().all(|&major| {
                    minors
                        .iter()
                        .all(|&minor| allowed(rules, kind, major, minor, bit))
                })
            })
        })
}

/// With version 1 libcontainer writes the configuration's rules and those of every container, and 10:200, the maker of
/// network tunnels, which is nobody's default. Where there are no rules it writes nothing, and what the cgroup above
/// may use, usually everything, may be used. Whatever the list has beyond the rules is written anew.
fn write_list(rules: &[Rule], cgroups: &[PathBuf]) -> Result<()> {
    let Some(cgroup) = cgroups.iter().find(|cgroup| cgroup.join("devices.list").exists()) else {
        return Ok(());
    };
    let write = |file: &str, line: &str| {
        let path = cgroup.join(file);
        std::fs::write(&path, line).map_err(ContainerError::file("cannot write", path))
    };
    let list = cgroup.join("devices.list");
    let read = || std::fs::read_to_string(&list).map_err(ContainerError::file("cannot read", &list));
    let excess = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !allows_line(rules, line));
        lines.map(str::to_owned).collect()
    };
    let found = read()?;
    for line in excess(&found) {
        write("devices.deny", &line)?;
    }
    if !found.starts_with("a *:* ") || allows_line(rules, "a *:* rwm") {
        return Ok(());
    }
    // Everything was allowed, and nothing is now.
    for rule in rules {
        write(
            if rule.allow {
                "devices.allow"
            } else {
                "devices.deny"
            },
            &rule.line(),
        )?;
    }
    Ok(())
}

fn rules(config: &Config) -> Result<Vec<Rule>> {
    let written = config
        .linux
        .value()
        .and_then(|linux| linux.resources.value())
        .map_or(&[][..], |resources| resources.devices.items());
    let mut rules = Vec::new();
    for (index, rule) in written.iter().enumerate() {
        rules.extend(read(rule).map_err(|text| ContainerError::Unsupported {
            pointer: format!("/linux/resources/devices/{index}"),
            text,
        })?);
    }
    rules.extend(DEFAULT);
    Ok(rules)
}

fn read(rule: &DeviceRule) -> std::result::Result<Vec<Rule>, String> {
    let kinds: &[Option<Kind>] = match rule.kind.value().map_or("a", String::as_str) {
        "a" | "" => &[None],
        "b" => &[Some(Kind::Block)],
        "c" | "u" => &[Some(Kind::Char)],
        other => return Err(format!("{other:?} is no type of device; use a, b or c")),
    };
    let number = |given: Option<&i64>| match given {
        None | Some(-1) => Ok(None),
        Some(&value) => u32::try_from(value)
            .map(Some)
            .map_err(|_| format!("{value} is no device number")),
    };
    let written = rule.access.value().map_or("rwm", String::as_str);
    let mut access = 0;
    for letter in written.chars() {
        let Some((bit, _)) = ACCESSES.iter().find(|(_, known)| *known == letter) else {
            return Err(format!("{written:?} is no access; use letters of rwm"));
        };
        access |= bit;
    }
    let (major, minor) = (number(rule.major.value())?, number(rule.minor.value())?);
    Ok(kinds
        .iter()
        .map(|&kind| Rule {
            allow: rule.allow,
            kind,
            major,
            minor,
            access,
        })
        .collect())
}

/// What the rules say of one access, in the words of this module's text.
fn allowed(rules: &[Rule], kind: Kind, major: u32, minor: u32, access: u32) -> bool {
    rules
        .iter()
        .rev()
        .find(|rule| {
            rule.access & access != 0
                && rule.kind.is_none_or(|wanted| wanted == kind)
                && rule.major.is_none_or(|wanted| wanted == major)
                && rule.minor.is_none_or(|wanted| wanted == minor)
        })
        .is_some_and(|rule| rule.allow)
}

/// Every one of [`ACCESSES`].
const EVERY_ACCESS: u32 = 7;

// Codes of instructions (linux/bpf.h, linux/bpf_common.h); those of arithmetic and NOT_EQUAL are the ones of 32 bits,
// since device numbers have the whole width (`BPF_JMP32`, Linux 5.1).
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const SET: u8 = 0xb7;
const JUMP: u8 = 0x05;
const ANY_BIT: u8 = 0x45;
const NOT_EQUAL: u8 = 0x56;
const EXIT: u8 = 0x95;

/// Registers: 1 the context, 2 the type, 3 the access asked for, 4 major, 5 minor.
const CONTEXT: u8 = 1;
const TYPE: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

/// Turns rules into a program, which tries them from the last to the first. [`ACCESS`] has the kinds of access that no
/// rule has decided about yet: a rule that matches and allows takes its kinds off, one that denies refuses everything if
/// one of its kinds is left. What is left at the end is denied. An access that is not asked for needs no permission.
///
/// The kernel takes some ten times longer to verify and load a program than to make one, in every start of a container:
/// it is kept short, and has one pass for all kinds of access.
fn compile(rules: &[Rule]) -> Vec<Instruction> {
    let mut program = vec![
        // struct bpf_cgroup_dev_ctx: access_type (access in the high half, type in the low), major, minor.
        load(TYPE, 0),
        copy(ACCESS, TYPE),
        immediate(AND, TYPE, 0xffff),
        immediate(SHIFT_RIGHT, ACCESS, 16),
        load(MAJOR, 4),
        load(MINOR, 8),
    ];
    // Where a jump to one of the last lines stands.
    let (mut to_allow, mut to_deny) = (Vec::new(), Vec::new());
    let mut all_decided = None;
    for rule in rules.iter().rev().filter(|rule| rule.access != 0) {
        let whole = rule.access == EVERY_ACCESS;
        let tests: Vec<(u8, u32)> = [
            (TYPE, rule.kind.map(|kind| kind as u32)),
            (MAJOR, rule.major),
            (MINOR, rule.minor),
        ]
        .into_iter()
        .filter_map(|(register, wanted)| Some((register, wanted?)))
        .collect();
        if tests.is_empty() && whole {
            // The kernel takes no program with instructions that are out of reach.
            all_decided = Some(rule.allow);
            break;
        }
        // A test that fails jumps over the rest of this rule: later tests, and one line.
        for (index, &(register, wanted)) in tests.iter().enumerate() {
            program.push(jump_if(
                NOT_EQUAL,
                register,
                wanted.cast_signed(),
                tests.len() - index,
            ));
        }
        let access = rule.access.cast_signed();
        program.push(match (rule.allow, whole) {
            (true, true) => {
                to_allow.push(program.len());
                jump_always()
            }
            (true, false) => immediate(AND, ACCESS, !access),
            (false, _) => {
                to_deny.push(program.len());
                jump_if(ANY_BIT, ACCESS, access, 0)
            }
        });
    }
    if all_decided != Some(true) {
        to_deny.push(program.len());
        program.push(jump_if(NOT_EQUAL, ACCESS, 0, 0));
    }
    for (jumps, value) in [(to_allow, 1), (to_deny, 0)] {
        // The lines that allow are also reached by falling into them.
        if value == 0 && jumps.is_empty() {
            continue;
        }
        let here = program.len();
        for at in jumps {
            program[at].offset = (here - at - 1) as i16;
        }
        program.extend([immediate(SET, 0, value), immediate(EXIT, 0, 0)]);
    }
    program
}

fn load(register: u8, offset: i16) -> Instruction {
    Instruction {
        code: 0x61,
        registers: CONTEXT << 4 | register,
        offset,
        immediate: 0,
    }
}

fn copy(to: u8, from: u8) -> Instruction {
    Instruction {
        code: 0xbc,
        registers: from << 4 | to,
        offset: 0,
        immediate: 0,
    }
}

fn immediate(code: u8, register: u8, immediate: i32) -> Instruction {
    Instruction {
        code,
        registers: register,
        offset: 0,
        immediate,
    }
}

/// To the line after the next `skip` ones.
fn jump_if(code: u8, register: u8, immediate: i32, skip: usize) -> Instruction {
    Instruction {
        code,
        registers: register,
        offset: skip as i16,
        immediate,
    }
}

fn jump_always() -> Instruction {
    jump_if(JUMP, 0, 0, 0)
}

#[cfg(test)]
mod tests {
    use gabion_baseline::Allegation;

    use super::*;

    fn of(devices: &str) -> Result<Vec<Rule>> {
        let text = format!(r#"{{"ociVersion":"1.0.2","linux":{{"resources":{{"devices":{devices}}}}}}}"#);
        rules(Allegation::parse(text.as_bytes()).unwrap().config())
    }

    #[test]
    fn a_line_of_the_kernels_list_is_held_against_the_rules() {
        let rules = of_text(
            r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":10,"minor":229,"access":"rw"}]"#,
        );
        for line in [
            "c 1:3 rwm",
            "c 136:* rwm",
            "c *:* m",
            "b *:* m",
            "c 10:229 rw",
            "c 10:229 r",
        ] {
            assert!(allows_line(&rules, line), "{line}");
        }
        for line in [
            "a *:* rwm",
            "b 8:0 r",
            "c *:* r",
            "c 10:200 rwm",
            "",
            "x 1:3 r",
            "c 10:* rw",
        ] {
            assert!(!allows_line(&rules, line), "{line}");
        }
        let all = of_text(r#"[{"allow":true,"access":"rwm"}]"#);
        assert!(allows_line(&all, "a *:* rwm"));
        let but_one = of_text(
            r#"[{"allow":true,"access":"rwm"},{"allow":false,"type":"b","major":8,"minor":0,"access":"w"}]"#,
        );
        assert!(allows_line(&but_one, "b 8:1 rw"));
        assert!(!allows_line(&but_one, "a *:* rwm"));
    }

    fn of_text(devices: &str) -> Vec<Rule> {
        of(devices).unwrap()
    }

    /// Runs a program as the kernel would: the registers that these programs use, and no more.
    fn run(program: &[Instruction], kind: Kind, major: u32, minor: u32, access: u32) -> bool {
        let mut registers = [0_u32; 16];
        let mut at = 0;
        for _ in 0..10_000 {
            let Instruction {
                code,
                registers: names,
                offset,
                immediate,
            } = program[at];
            let (to, from) = (usize::from(names & 15), usize::from(names >> 4));
            let immediate = immediate.cast_unsigned();
            let mut next = at + 1;
            let skip = next + usize::try_from(offset).unwrap();
            match code {
                0x61 => {
                    registers[to] = match offset {
                        0 => access << 16 | kind as u32,
                        4 => major,
                        8 => minor,
                        _ => panic!(),
                    }
                }
                0xbc => registers[to] = registers[from],
                0x54 => registers[to] &= immediate,
                0x74 => registers[to] >>= immediate,
                0xb7 => registers[to] = immediate,
                0x05 => next = skip,
                0x45 => {
                    if registers[to] & immediate != 0 {
                        next = skip
                    }
                }
                0x56 => {
                    if registers[to] != immediate {
                        next = skip
                    }
                }
                0x95 => return registers[0] == 1,
                other => panic!("{other:#x}"),
            }
            at = next;
        }
        panic!("it does not end");
    }

    fn agree(rules: &[Rule]) {
        let program = compile(rules);
        for kind in [Kind::Block, Kind::Char] {
            for major in [0, 1, 5, 8, 10, 136, u32::MAX] {
                for minor in [0, 3, 5, 9, 200, u32::MAX] {
                    for access in 0..8 {
                        let each = ACCESSES
                            .iter()
                            .filter(|(bit, _)| access & bit != 0)
                            .all(|&(bit, _)| allowed(rules, kind, major, minor, bit));
                        assert_eq!(
                            run(&program, kind, major, minor, access),
                            each,
                            "{kind:?} {major}:{minor} {access}"
                        );
                    }
                }
            }
        }
    }

    const LISTS: [&str; 9] = [
        "[]",
        r#"[{"allow":false,"access":"rwm"}]"#,
        r#"[{"allow":true,"access":"rwm"}]"#,
        r#"[{"allow":false},{"allow":true,"type":"b","major":8,"minor":0,"access":"r"}]"#,
        r#"[{"allow":true},{"allow":false,"type":"c","major":10,"minor":200,"access":"w"}]"#,
        r#"[{"allow":false},{"allow":true,"type":"b","major":8,"access":"r"},{"allow":true,"type":"b","major":8,"access":"w"}]"#,
        r#"[{"allow":true},{"allow":false,"type":"b","access":"w"},{"allow":true,"type":"b","major":8,"access":"rw"}]"#,
        r#"[{"allow":true,"access":"r"},{"allow":false,"major":10,"access":"rm"},{"allow":true,"minor":9,"access":"w"}]"#,
        r#"[{"allow":false},{"allow":true,"access":"m"},{"allow":false,"type":"c","access":""}]"#,
    ];

    #[test]
    fn the_program_says_what_the_rules_say() {
        for devices in LISTS {
            agree(&of(devices).unwrap());
        }
    }

    proptest::proptest! {
        /// Without the rules of every container, which would hide much.
        #[test]
        fn the_program_says_what_any_rules_say(
            rules in proptest::collection::vec((
                proptest::bool::ANY,
                proptest::sample::select(&[None, Some(Kind::Block), Some(Kind::Char)][..]),
                proptest::sample::select(&[None, Some(0), Some(1), Some(5), Some(8), Some(u32::MAX)][..]),
                proptest::sample::select(&[None, Some(0), Some(3), Some(9), Some(u32::MAX)][..]),
                0..8_u32,
            ), 0..8),
        ) {
            let rules: Vec<Rule> = rules
                .into_iter()
                .map(|(allow, kind, major, minor, access)| Rule { allow, kind, major, minor, access })
                .collect();
            agree(&rules);
        }
    }

    #[test]
    fn what_no_rule_names_is_denied_and_default_devices_are_not() {
        let rules = of(r#"[{"allow":false,"access":"rwm"}]"#).unwrap();
        assert!(allowed(&rules, Kind::Char, 1, 3, 4));
        assert!(allowed(&rules, Kind::Block, 8, 0, 1), "making a node is allowed");
        assert!(!allowed(&rules, Kind::Block, 8, 0, 2), "reading it is not");
        assert!(!allowed(&rules, Kind::Char, 10, 200, 4));
    }

    #[test]
    fn two_rules_for_reading_and_for_writing_allow_both_at_once() {
        let rules = of(
            r#"[{"allow":true,"type":"b","major":8,"access":"r"},{"allow":true,"type":"b","major":8,"access":"w"}]"#,
        );
        assert!(run(&compile(&rules.unwrap()), Kind::Block, 8, 1, 6));
    }

    #[test]
    fn a_rule_that_cannot_be_read_is_refused_with_its_place() {
        let error = of(r#"[{"allow":true,"type":"x"}]"#).unwrap_err().to_string();
        assert!(
            error.starts_with("config.json#/linux/resources/devices/0: \"x\" is no type of device"),
            "{error}"
        );
        assert!(
            of(r#"[{"allow":true,"access":"rx"}]"#)
                .unwrap_err()
                .to_string()
                .contains("is no access")
        );
        assert!(
            of(r#"[{"allow":true,"major":-2}]"#)
                .unwrap_err()
                .to_string()
                .contains("-2 is no device number")
        );
    }

    #[test]
    fn the_kernel_takes_the_program() {
        if !nix::unistd::geteuid().is_root() {
            println!("SKIPPED: loading a program takes root");
            return;
        }
        for devices in LISTS {
            let rules = of(devices).unwrap();
            bpf::load_device_program(&compile(&rules)).unwrap();
            // And without those of every container.
            let written = &rules[..rules.len() - DEFAULT.len()];
            bpf::load_device_program(&compile(written)).unwrap();
        }
    }
}
