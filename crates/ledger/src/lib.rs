//! The ledger: one JSON line for each decision, appended to a file that only root can write.
//!
//! What is promised:
//!
//! - **A record is there whole, or its writer is told that it is not.** [`Ledger::record`] writes a line with one
//!   write(2) under an exclusive flock(2), and takes back what a full disk cut short.
//! - **Acknowledged means handed to the kernel.** A record that was acknowledged survives the death of gabion, of
//!   the engine and of the container. It is not synced to the disk: that would add a disk's latency, 1 to 30 ms,
//!   to the start of every container, and a power failure that eats the last lines also ends every container
//!   that they were about.
//! - **It fails closed.** If decisions cannot be recorded, nothing runs, unless the site's policy says otherwise
//!   ([`Settings::required`]); then the caller has a warning to print.
//!
//! Nothing is ever rewritten here. Rotation renames the file; the next command makes a new one.
#![forbid(unsafe_code)]

mod file;
mod record;
mod timestamp;

pub use file::{Ledger, LedgerError, Settings};
pub use record::{Operation, Record, RecordedFinding, VERSION, Verdict};
pub use timestamp::Timestamp;
