//! What a filter costs each system call: ours beside libseccomp's for the same profile, on the running kernel.
//!
//! Each filter is loaded in a process of its own, since there is no taking it off again; the processes take turns, so
//! that what else the machine does falls on all of them. Medians, in nanoseconds per call. Since Linux 5.11 a call that a
//! filter allows whatever its arguments costs the same under every filter: the kernel does not run it.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark of inputs that are known to be good"
)]

use std::hint::black_box;
use std::process::Command;
use std::time::Instant;

use gabion_seccomp::{Profile, Program, Target, compile, floor};
use gabion_sys::seccomp::{Instruction, install, probe};
use serde_json::Value;

#[path = "../tests/agreement/by_library.rs"]
mod by_library;

use by_library::{by_library, optimized_by_library};

const DOCKER: &str = include_str!("../profiles/docker-20.10.json");
const ROUNDS: usize = 15;
const CALLS: u32 = 100_000;
const FILTERS: [&str; 5] = [
    "none",
    "ours",
    "ours and the floor",
    "libseccomp",
    "libseccomp, binary tree",
];
const WORK: [&str; 5] = [
    "getpid",
    "read",
    "futex",
    "unshare(NEWUSER), denied",
    "keyctl, denied",
];

fn programs(name: &str) -> Vec<Program> {
    let value: Value = serde_json::from_str(DOCKER).unwrap();
    let profile = Profile::from_value(&value).unwrap().unwrap();
    let ours = || compile(&profile, &Target::native()).unwrap().program;
    match name {
        "ours" => vec![ours()],
        "ours and the floor" => {
            let gaps = floor::gaps(&value, &[]).unwrap();
            let entries: Vec<String> = gaps
                .iter()
                .filter(|gap| !gap.restricted)
                .map(|gap| gap.entry.to_owned())
                .collect();
            vec![floor::filter(&entries, &[]).unwrap().unwrap().program, ours()]
        }
        "libseccomp" => vec![by_library(&profile)],
        "libseccomp, binary tree" => vec![optimized_by_library(&profile, 2)],
        _ => Vec::new(),
    }
}

/// Loads a filter, and prints what each call then takes.
fn measure(name: &str) {
    let programs = programs(name);
    let file = std::fs::File::open("/dev/null").unwrap();
    nix::sys::prctl::set_no_new_privs().unwrap();
    for program in &programs {
        let instructions: Vec<Instruction> = program
            .instructions
            .iter()
            .map(|one| Instruction {
                code: one.code,
                jt: one.jt,
                jf: one.jf,
                k: one.k,
            })
            .collect();
        install(&instructions, 0).unwrap();
    }
    let timed = |work: &dyn Fn()| {
        work();
        let begin = Instant::now();
        for _ in 0..CALLS {
            work();
        }
        begin.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS)
    };
    const FUTEX_WAKE_PRIVATE: u64 = 129;
    const NEW_USER: u64 = 0x1000_0000;
    let call = |number: i64, arguments: [u64; 6]| {
        black_box(probe(number, arguments).unwrap());
    };
    let times = [
        timed(&|| {
            black_box(nix::unistd::getpid());
        }),
        timed(&|| {
            black_box(nix::unistd::read(&file, &mut [0; 1])).unwrap();
        }),
        timed(&|| call(nix::libc::SYS_futex, [0, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0])),
        // Denied for its argument, and for its number; without a filter both would do something.
        if programs.is_empty() {
            0.0
        } else {
            timed(&|| call(nix::libc::SYS_unshare, [NEW_USER, 0, 0, 0, 0, 0]))
        },
        if programs.is_empty() {
            0.0
        } else {
            timed(&|| call(nix::libc::SYS_keyctl, [0; 6]))
        },
    ];
    println!("{}", times.map(|time| time.to_string()).join(" "));
}

fn main() {
    if let Ok(name) = std::env::var("GABION_LOOKUP_FILTER") {
        return measure(&name);
    }
    let mut times: Vec<Vec<Vec<f64>>> = vec![vec![Vec::new(); WORK.len()]; FILTERS.len()];
    for _ in 0..ROUNDS {
        for (at, filter) in FILTERS.iter().enumerate() {
            let output = Command::new(std::env::current_exe().unwrap())
                .env("GABION_LOOKUP_FILTER", filter)
                .output()
                .unwrap();
            assert!(output.status.success(), "{output:?}");
            let line = String::from_utf8(output.stdout).unwrap();
            for (work, time) in line.split_whitespace().enumerate() {
                times[at][work].push(time.parse().unwrap());
            }
        }
    }
    println!("ns per call, medians of {ROUNDS} rounds of {CALLS} calls");
    println!(
        "{:28}{}",
        "",
        FILTERS.map(|filter| format!("{filter:>26}")).concat()
    );
    let lengths = FILTERS.map(|filter| {
        programs(filter)
            .iter()
            .map(Program::len)
            .sum::<usize>()
            .to_string()
    });
    println!(
        "{:28}{}",
        "instructions",
        lengths.map(|length| format!("{length:>26}")).concat()
    );
    for (work, name) in WORK.iter().enumerate() {
        let row = times.iter().map(|filter| {
            let mut sorted = filter[work].clone();
            sorted.sort_by(f64::total_cmp);
            format!("{:>26.1}", sorted[sorted.len() / 2])
        });
        println!("{name:28}{}", row.collect::<String>());
    }
}
