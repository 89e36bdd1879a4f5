//! Three opinions on what a profile means, and that they agree: what it declares, evaluated plainly; our compiler's
//! filter; libseccomp's filter.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "in a test, a panic is the message"
)]

mod by_library;
mod compiler;
mod declaration;
mod library;
