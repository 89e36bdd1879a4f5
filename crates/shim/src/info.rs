//! `-info`: what containerd 2 asks of a runtime before it uses it.

use std::ffi::OsStr;
use std::process::{Command, Stdio};

use containerd_shim_protos::protobuf::{MessageField, well_known_types::any::Any};
use containerd_shim_protos::types::introspection::{RuntimeInfo, RuntimeVersion};

use crate::options::Options;
use crate::start;

/// The name under which containerd knows features of the runtime-spec; the value is JSON.
const FEATURES: &str = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";

/// Describes the shim, and the runtime that it would call.
///
/// # Errors
/// A sentence.
pub(crate) fn info(called: &OsStr) -> Result<RuntimeInfo, String> {
    let given = start::given();
    let options = Options::new(given.as_ref(), "default", called)?;
    let output = Command::new(&options.program)
        .arg("features")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot start the runtime {:?}: {error}", options.program))?;
    if !output.status.success() {
        return Err(format!(
            "{:?} features: {}",
            options.program,
            String::from_utf8_lossy(&output.stderr).trim()
        ));
    }
    let mut info = RuntimeInfo::new();
    info.name = "io.containerd.gabion.v2".to_owned();
    info.version = MessageField::some(RuntimeVersion {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..RuntimeVersion::default()
    });
    info.options = given.map_or_else(MessageField::none, MessageField::some);
    info.features = MessageField::some(Any {
        type_url: FEATURES.to_owned(),
        value: output.stdout,
        ..Any::default()
    });
    Ok(info)
}
