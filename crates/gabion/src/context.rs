//! What every command can ask for.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use gabion_baseline::policy_file::Site;
use gabion_ledger::{Ledger, Settings};

use crate::cli::{Globals, Rootless};
use crate::failure::Failure;
use crate::log::{Log, Severity};
use crate::policy::{self, ChosenBy};

/// The global flags, understood.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    globals: &'a Globals,
    program: &'a OsStr,
    log: &'a Log,
}

impl<'a> Context<'a> {
    pub(crate) fn new(globals: &'a Globals, program: &'a OsStr, log: &'a Log) -> Self {
        Context {
            globals,
            program,
            log,
        }
    }

    pub(crate) fn globals(&self) -> &Globals {
        self.globals
    }

    /// The directory of the containers' state.
    pub(crate) fn root(&self) -> PathBuf {
        if let Some(root) = &self.globals.root {
            return root.clone();
        }
        match std::env::var_os("XDG_RUNTIME_DIR") {
            Some(directory) if self.is_rootless() && !directory.is_empty() => {
                Path::new(&directory).join("gabion")
            }
            _ => PathBuf::from("/run/gabion"),
        }
    }

    /// True if gabion does without what only root can do.
    pub(crate) fn is_rootless(&self) -> bool {
        match self.globals.rootless {
            Rootless::True => true,
            Rootless::False => false,
            Rootless::Auto => !nix::unistd::geteuid().is_root(),
        }
    }

    /// The site's policy, with the profile that the caller chose, and how it was chosen. Read when asked for:
    /// a container can be killed and deleted whatever the policy's state.
    pub(crate) fn site(&self) -> Result<(Site, ChosenBy), Failure> {
        let mut site = policy::load(self.globals.policy.as_deref(), gabion_seccomp::default::profile)?;
        site.policy.seccomp_gaps = crate::commands::seccomp::gaps;
        let by = policy::choose(&mut site, self.globals.profile, Path::new(self.program));
        Ok((site, by))
    }

    /// The ledger; `None`, and a warning in the log, if it cannot be opened and the policy does without.
    pub(crate) fn ledger(&self, site: &Site) -> Result<Option<Ledger>, Failure> {
        let settings = Settings {
            path: site.ledger.path.clone(),
            required: site.ledger.required,
        };
        match Ledger::open(&settings) {
            Ok(ledger) => Ok(Some(ledger)),
            Err(error) if settings.required => Err(error.into()),
            Err(error) => {
                self.warn(&format!("this decision is not recorded: {error}"));
                Ok(None)
            }
        }
    }

    /// Writes a warning to the log.
    pub(crate) fn warn(&self, message: &str) {
        self.log.write(Severity::Warning, message);
    }
}
