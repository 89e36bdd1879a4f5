//! What every command can ask for.

use std::ffi::OsStr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use gabion_baseline::policy_file::Site;
use gabion_filters::Filters;
use gabion_ledger::{Ledger, Settings};

use crate::cli::{Globals, Rootless};
use crate::failure::Failure;
use crate::log::{Log, Severity};
use crate::policy::{self, ChosenBy};

/// Where decisions are recorded unless the policy names another place.
const LEDGER: &str = "/var/log/gabion/decisions.jsonl";

/// The global flags, understood.
#[derive(Debug)]
pub(crate) struct Context<'a> {
    globals: &'a Globals,
    program: &'a OsStr,
    log: &'a Log,
    filters: Arc<Filters>,
}

impl<'a> Context<'a> {
    pub(crate) fn new(globals: &'a Globals, program: &'a OsStr, log: &'a Log) -> Self {
        Context {
            globals,
            program,
            log,
            filters: Arc::default(),
        }
    }

    pub(crate) fn globals(&self) -> &Globals {
        self.globals
    }

    /// The seccomp filters that judgement and building have in common. Whoever starts something has them kept.
    pub(crate) fn filters(&self) -> &Arc<Filters> {
        &self.filters
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
            Rootless::Auto => {
                !nix::unistd::geteuid().is_root() || gabion_host::namespaces::is_in_user_namespace()
            }
        }
    }

    /// Where the decisions of a user are recorded who is not root of the host, if the policy does not name a place.
    fn ledger_of_user(&self) -> Option<PathBuf> {
        let given = |name: &str| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        // podman starts a container with hardly any environment, and creates it with its own.
        let home = || given("HOME").or_else(gabion_host::owner::home_of_user);
        let state = given("XDG_STATE_HOME").or_else(|| home().map(|home| home.join(".local/state")))?;
        Some(state.join("gabion/decisions.jsonl"))
    }

    /// The site's policy, with the profile that the caller chose, and how it was chosen. Read when asked for:
    /// a container can be killed and deleted whatever the policy's state.
    pub(crate) fn site(&self) -> Result<(Site, ChosenBy), Failure> {
        let mut site = policy::load(self.globals.policy.as_deref(), gabion_seccomp::default::profile)?;
        let filters = Arc::clone(&self.filters);
        site.policy.seccomp_gaps =
            Arc::new(move |filter, bounding| crate::commands::seccomp::gaps(&filters, filter, bounding));
        let by = policy::choose(&mut site, self.globals.profile, Path::new(self.program));
        // Without a place that this user could write to, none is chosen: opening the usual one says why.
        if self.is_rootless()
            && site.ledger.path == Path::new(LEDGER)
            && let Some(path) = self.ledger_of_user()
        {
            site.ledger.path = path;
        }
        Ok((site, by))
    }

    /// The ledger; `None`, and a warning in the log, if it cannot be opened and the policy does without.
    pub(crate) fn ledger(&self, site: &Site) -> Result<Option<Ledger>, Failure> {
        let settings = Settings {
            path: site.ledger.path.clone(),
            required: site.ledger.required,
        };
        // What is above a user's own ledger is the user's too. If it cannot be made, opening says so.
        if self.is_rootless() && self.ledger_of_user().as_ref() == Some(&settings.path) {
            let above = settings
                .path
                .parent()
                .and_then(Path::parent)
                .unwrap_or(Path::new("/"));
            let made = std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(above);
            made.map_err(|error| {
                Failure::error(format!(
                    "cannot make {above:?}, where decisions are recorded: {error}"
                ))
            })?;
        }
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
