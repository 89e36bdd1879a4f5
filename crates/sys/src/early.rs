//! The program is executed twice where its process enters a container: the second time from its sealed copy.
//!
//! What both executions have to agree upon; and, where there is an entry for this architecture, the first of them.

#[cfg(all(target_arch = "x86_64", target_env = "gnu"))]
mod entry;

/// Set where the program was executed from its sealed copy, to the path it was copied from: if it then finds that
/// it is not sealed, it stops rather than doing it again and again.
pub const MARKER: &str = "_GABION_SEALED";

/// The commands whose process enters a container, or may.
pub const COMMANDS: [&str; 5] = ["create", "run", "exec", "restore", "learn"];
