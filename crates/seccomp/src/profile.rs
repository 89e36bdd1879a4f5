//! The OCI object `linux.seccomp` (runtime-spec, config-linux.md, "Seccomp") as types.
//!
//! Properties that the spec does not have are ignored, as the spec asks for. Values that it does not have are
//! errors: an action, operator, architecture or flag that is not understood is a part of the filter that its
//! author counts on. Names of system calls are not checked here, since every kernel brings new ones.

use serde::{Deserialize, Serialize};

/// A seccomp profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Profile {
    /// What happens to a call that no rule matches.
    pub default_action: Action,
    /// The errno of `default_action`; `EPERM` if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_errno_ret: Option<u32>,
    /// The architectures whose calls the rules are about, beside the native one, which always is.
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub architectures: Vec<Architecture>,
    /// How the filter is to be loaded.
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub flags: Vec<Flag>,
    /// The socket that receives the descriptor for [`Action::Notify`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener_path: Option<String>,
    /// Opaque text for whoever listens there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener_metadata: Option<String>,
    /// The rules.
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub syscalls: Vec<Rule>,
}

/// One entry of `syscalls`: what happens to calls of these names if all conditions hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// Names of system calls.
    pub names: Vec<String>,
    /// What happens.
    pub action: Action,
    /// The errno of `action`; `EPERM` if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno_ret: Option<u32>,
    /// Conditions on the arguments; all have to hold, also if several are about one argument.
    #[serde(
        default,
        deserialize_with = "null_is_empty",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub args: Vec<Condition>,
}

/// A condition on one argument.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Which argument, from 0 to 5.
    pub index: u32,
    /// What it is compared with; the mask, for [`Operator::MaskedEqual`].
    pub value: u64,
    /// What the masked argument is compared with, for [`Operator::MaskedEqual`]; 0 if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_two: Option<u64>,
    /// How.
    pub op: Operator,
}

/// Makes an enum of the spec's words, with an error that quotes what was found and says what there is.
macro_rules! words {
    ($(#[$about:meta])* $name:ident, $what:literal { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Every one of them.
            pub const ALL: &'static [$name] = &[$($name::$variant,)+];

            /// The spec's word.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word,)+ }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let found = String::deserialize(deserializer)?;
                match found.as_str() {
                    $($word => Ok($name::$variant),)+
                    _ => Err(serde::de::Error::custom(format!(
                        concat!("{:?} is no ", $what, " of the runtime-spec; it has {}"),
                        // Words are short; a long one is not worth repeating whole.
                        found.chars().take(64).collect::<String>(),
                        [$($word,)+].join(", "),
                    ))),
                }
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }
    };
}

words! {
    /// What happens to a call.
    Action, "action" {
        /// The thread dies. An alias of [`Action::KillThread`], from before there was a choice.
        Kill = "SCMP_ACT_KILL",
        /// The whole process dies of SIGSYS.
        KillProcess = "SCMP_ACT_KILL_PROCESS",
        /// The thread dies, which leaves the others of the process with whatever it held.
        KillThread = "SCMP_ACT_KILL_THREAD",
        /// The thread gets SIGSYS, which it can handle.
        Trap = "SCMP_ACT_TRAP",
        /// The call fails with an errno.
        Errno = "SCMP_ACT_ERRNO",
        /// A tracer decides; `ENOSYS` without one.
        Trace = "SCMP_ACT_TRACE",
        /// The call is made.
        Allow = "SCMP_ACT_ALLOW",
        /// The call is made, and recorded by the kernel.
        Log = "SCMP_ACT_LOG",
        /// Whoever holds the listener decides.
        Notify = "SCMP_ACT_NOTIFY",
    }
}

words! {
    /// How an argument is compared. All comparisons are unsigned.
    Operator, "operator" {
        /// Not equal.
        NotEqual = "SCMP_CMP_NE",
        /// Less.
        Less = "SCMP_CMP_LT",
        /// Less or equal.
        LessOrEqual = "SCMP_CMP_LE",
        /// Equal.
        Equal = "SCMP_CMP_EQ",
        /// Greater or equal.
        GreaterOrEqual = "SCMP_CMP_GE",
        /// Greater.
        Greater = "SCMP_CMP_GT",
        /// Equal under a mask.
        MaskedEqual = "SCMP_CMP_MASKED_EQ",
    }
}

words! {
    /// How a filter is loaded (seccomp(2), `SECCOMP_SET_MODE_FILTER`).
    Flag, "flag" {
        /// For all threads of the process.
        ThreadSync = "SECCOMP_FILTER_FLAG_TSYNC",
        /// Everything but [`Action::Allow`] is recorded by the kernel.
        Log = "SECCOMP_FILTER_FLAG_LOG",
        /// Without the mitigation of Speculative Store Bypass that kernels before 5.16 turn on with a filter.
        AllowSpeculation = "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
        /// A call that waits for the listener can only be interrupted by a fatal signal.
        WaitKillable = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV",
    }
}

words! {
    /// An architecture, as libseccomp names them. Which of them this crate has numbers for: [`crate::Abi`].
    Architecture, "architecture" {
        /// i386.
        X86 = "SCMP_ARCH_X86",
        /// x86-64.
        X86_64 = "SCMP_ARCH_X86_64",
        /// x86-64 with 32-bit pointers.
        X32 = "SCMP_ARCH_X32",
        /// 32-bit ARM.
        Arm = "SCMP_ARCH_ARM",
        /// 64-bit ARM.
        Aarch64 = "SCMP_ARCH_AARCH64",
        /// LoongArch.
        Loongarch64 = "SCMP_ARCH_LOONGARCH64",
        /// Motorola 68000.
        M68k = "SCMP_ARCH_M68K",
        /// MIPS, o32.
        Mips = "SCMP_ARCH_MIPS",
        /// MIPS, n64.
        Mips64 = "SCMP_ARCH_MIPS64",
        /// MIPS, n32.
        Mips64N32 = "SCMP_ARCH_MIPS64N32",
        /// MIPS, o32, little-endian.
        Mipsel = "SCMP_ARCH_MIPSEL",
        /// MIPS, n64, little-endian.
        Mipsel64 = "SCMP_ARCH_MIPSEL64",
        /// MIPS, n32, little-endian.
        Mipsel64N32 = "SCMP_ARCH_MIPSEL64N32",
        /// 32-bit PowerPC.
        Ppc = "SCMP_ARCH_PPC",
        /// 64-bit PowerPC.
        Ppc64 = "SCMP_ARCH_PPC64",
        /// 64-bit PowerPC, little-endian.
        Ppc64Le = "SCMP_ARCH_PPC64LE",
        /// 31-bit S/390.
        S390 = "SCMP_ARCH_S390",
        /// 64-bit S/390.
        S390x = "SCMP_ARCH_S390X",
        /// SuperH, little-endian.
        Sh = "SCMP_ARCH_SH",
        /// SuperH, big-endian.
        Sheb = "SCMP_ARCH_SHEB",
        /// PA-RISC.
        Parisc = "SCMP_ARCH_PARISC",
        /// 64-bit PA-RISC.
        Parisc64 = "SCMP_ARCH_PARISC64",
        /// 64-bit RISC-V.
        Riscv64 = "SCMP_ARCH_RISCV64",
    }
}

/// Why a value is no profile. Displays as the reason; the place is [`ProfileError::pointer`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct ProfileError {
    pointer: String,
    reason: String,
}

impl ProfileError {
    /// The place, as a JSON pointer (RFC 6901) relative to `/linux/seccomp`: `/syscalls/3/action`.
    pub fn pointer(&self) -> &str {
        &self.pointer
    }
}

/// The highest errno that the kernel hands out; it clamps larger ones (`MAX_ERRNO`).
const MAX_ERRNO: u32 = 4095;
/// A filter sees six arguments.
const LAST_ARGUMENT: u32 = 5;

impl Profile {
    /// Reads `linux.seccomp`. `Ok(None)` for null and for `{}`, which both mean that there is no filter.
    ///
    /// # Errors
    /// A value of the wrong type, a word that the runtime-spec does not have, an argument number above 5, a rule
    /// without names, an errno for an action that has none, an errno that cannot be returned.
    pub fn from_value(value: &serde_json::Value) -> Result<Option<Profile>, ProfileError> {
        if value.is_null() || value.as_object().is_some_and(serde_json::Map::is_empty) {
            return Ok(None);
        }
        let profile: Profile = serde_path_to_error::deserialize(value).map_err(|error| ProfileError {
            pointer: pointer(error.path()),
            reason: error.inner().to_string(),
        })?;
        profile.check()?;
        Ok(Some(profile))
    }

    /// True if a rule hands calls to a listener.
    pub fn wants_listener(&self) -> bool {
        self.default_action == Action::Notify
            || self.syscalls.iter().any(|rule| rule.action == Action::Notify)
    }

    fn check(&self) -> Result<(), ProfileError> {
        check_errno(self.default_action, self.default_errno_ret, || {
            "/defaultErrnoRet".to_owned()
        })?;
        for (index, rule) in self.syscalls.iter().enumerate() {
            if rule.names.is_empty() {
                return Err(ProfileError {
                    pointer: format!("/syscalls/{index}/names"),
                    reason: "is empty; a rule is about at least one system call".to_owned(),
                });
            }
            check_errno(rule.action, rule.errno_ret, || {
                format!("/syscalls/{index}/errnoRet")
            })?;
            for (place, condition) in rule.args.iter().enumerate() {
                if condition.index > LAST_ARGUMENT {
                    return Err(ProfileError {
                        pointer: format!("/syscalls/{index}/args/{place}/index"),
                        reason: format!(
                            "is {}; a system call has arguments 0 to {LAST_ARGUMENT}",
                            condition.index
                        ),
                    });
                }
            }
        }
        Ok(())
    }
}

/// The spec wants an error where an errno is given for an action that does not have one.
fn check_errno(action: Action, errno: Option<u32>, place: impl Fn() -> String) -> Result<(), ProfileError> {
    let Some(errno) = errno else { return Ok(()) };
    let limit = match action {
        Action::Errno => MAX_ERRNO,
        Action::Trace => u32::from(u16::MAX),
        other => {
            let reason = format!(
                "is {errno}, but {} has no errno; only SCMP_ACT_ERRNO and SCMP_ACT_TRACE have",
                other.as_str()
            );
            return Err(ProfileError {
                pointer: place(),
                reason,
            });
        }
    };
    if errno > limit {
        let reason = format!("is {errno}, but {} goes up to {limit}", action.as_str());
        return Err(ProfileError {
            pointer: place(),
            reason,
        });
    }
    Ok(())
}

fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in path.iter() {
        match segment {
            Segment::Seq { index } => pointer.push_str(&format!("/{index}")),
            Segment::Map { key } | Segment::Enum { variant: key } => {
                pointer.push_str(&format!("/{}", key.replace('~', "~0").replace('/', "~1")));
            }
            Segment::Unknown => {}
        }
    }
    pointer
}

/// Go writes a nil slice as null; here as there it has no elements.
fn null_is_empty<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::<Vec<T>>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn refused(value: &Value) -> (String, String) {
        let error = Profile::from_value(value).unwrap_err();
        (error.pointer().to_owned(), error.to_string())
    }

    #[test]
    fn null_and_empty_mean_no_filter_and_anything_else_is_read() {
        assert_eq!(Profile::from_value(&Value::Null).unwrap(), None);
        assert_eq!(Profile::from_value(&json!({})).unwrap(), None);
        let profile =
            Profile::from_value(&json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": null, "x": 1}));
        assert_eq!(profile.unwrap().unwrap().syscalls, []);
        assert_eq!(
            refused(&json!({"syscalls": []})),
            (String::new(), "missing field `defaultAction`".to_owned())
        );
        assert!(Profile::from_value(&json!([])).is_err());
        assert!(Profile::from_value(&json!("SCMP_ACT_ALLOW")).is_err());
    }

    #[test]
    fn a_word_that_the_spec_does_not_have_is_an_error_with_its_place() {
        let with = |key: &str, value: Value| {
            let mut profile = json!({"defaultAction": "SCMP_ACT_ERRNO"});
            profile[key] = value;
            refused(&profile)
        };
        let (place, reason) = with("defaultAction", json!("SCMP_ACT_DENY"));
        assert_eq!(place, "/defaultAction");
        assert_eq!(
            reason,
            "\"SCMP_ACT_DENY\" is no action of the runtime-spec; it has SCMP_ACT_KILL, SCMP_ACT_KILL_PROCESS, \
             SCMP_ACT_KILL_THREAD, SCMP_ACT_TRAP, SCMP_ACT_ERRNO, SCMP_ACT_TRACE, SCMP_ACT_ALLOW, SCMP_ACT_LOG, \
             SCMP_ACT_NOTIFY"
        );
        assert_eq!(
            with("architectures", json!(["SCMP_ARCH_X86", "x86"])).0,
            "/architectures/1"
        );
        assert_eq!(
            with("flags", json!(["SECCOMP_FILTER_FLAG_NEW_LISTENER"])).0,
            "/flags/0"
        );
        let rule = |rule: Value| {
            with(
                "syscalls",
                json!([{"names": ["read"], "action": "SCMP_ACT_ALLOW"}, rule]),
            )
        };
        let (place, reason) = rule(json!({"names": ["read"], "action": "allow\n"}));
        assert_eq!(place, "/syscalls/1/action");
        assert!(reason.starts_with("\"allow\\n\" is no action"), "{reason}");
        let condition = |index: Value, op: &str| {
            let args = json!([{"index": index, "value": 1, "op": op}]);
            rule(json!({"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": args}))
        };
        assert_eq!(condition(json!(0), "EQ").0, "/syscalls/1/args/0/op");
        assert_eq!(condition(json!(-1), "SCMP_CMP_EQ").0, "/syscalls/1/args/0/index");
        assert_eq!(
            condition(json!(6), "SCMP_CMP_EQ"),
            (
                "/syscalls/1/args/0/index".to_owned(),
                "is 6; a system call has arguments 0 to 5".to_owned()
            )
        );
        assert_eq!(
            rule(json!({"names": [], "action": "SCMP_ACT_ALLOW"})).0,
            "/syscalls/1/names"
        );
        assert_eq!(
            rule(json!({"names": "read", "action": "SCMP_ACT_ALLOW"})).0,
            "/syscalls/1/names"
        );
    }

    #[test]
    fn an_errno_is_for_actions_that_return_one() {
        let default = |action: &str, errno: u32| json!({"defaultAction": action, "defaultErrnoRet": errno});
        assert!(Profile::from_value(&default("SCMP_ACT_ERRNO", 4095)).is_ok());
        assert!(Profile::from_value(&default("SCMP_ACT_TRACE", 65535)).is_ok());
        assert_eq!(
            refused(&default("SCMP_ACT_ERRNO", 4096)),
            (
                "/defaultErrnoRet".to_owned(),
                "is 4096, but SCMP_ACT_ERRNO goes up to 4095".to_owned()
            )
        );
        assert_eq!(
            refused(&default("SCMP_ACT_KILL", 1)),
            (
                "/defaultErrnoRet".to_owned(),
                "is 1, but SCMP_ACT_KILL has no errno; only SCMP_ACT_ERRNO and SCMP_ACT_TRACE have"
                    .to_owned()
            )
        );
        let rule = json!([{"names": ["read"], "action": "SCMP_ACT_ALLOW", "errnoRet": 1}]);
        let value = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": rule});
        assert_eq!(refused(&value).0, "/syscalls/0/errnoRet");
    }

    #[test]
    fn a_profile_written_is_the_profile_read() {
        let value = json!({
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "architectures": ["SCMP_ARCH_X86_64"],
            "flags": ["SECCOMP_FILTER_FLAG_LOG"], "listenerPath": "/run/l", "listenerMetadata": "m",
            "syscalls": [{"names": ["socket"], "action": "SCMP_ACT_NOTIFY",
                          "args": [{"index": 0, "value": 1, "valueTwo": 2, "op": "SCMP_CMP_MASKED_EQ"}]}],
        });
        let profile = Profile::from_value(&value).unwrap().unwrap();
        assert!(profile.wants_listener());
        assert_eq!(serde_json::to_value(&profile).unwrap(), value);
        for architecture in Architecture::ALL {
            assert!(architecture.as_str().starts_with("SCMP_ARCH_"));
        }
    }
}
