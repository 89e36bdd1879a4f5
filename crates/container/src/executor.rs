//! What libcontainer calls in the init process: our finishing, our descent.

use std::cell::RefCell;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use gabion_baseline::Given;
use gabion_baseline::config::{Config, Hook};
use gabion_descent::{Failure, Plan, Prepared, Report, Settled, report};
use libcontainer::oci_spec::runtime::Spec;
use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};

use crate::finish::{self, Finish};
use crate::hooks::{self, HookState};

/// The work of the init process. libcontainer clones it and calls it in the order `validate`, `setup_envs`,
/// and after start `exec`.
#[derive(Clone)]
pub(crate) struct Descent {
    inner: Rc<Inner>,
}

struct Inner {
    plan: Plan,
    finish: Finish,
    readonly_root: bool,
    start_hooks: Vec<Hook>,
    state: HookState,
    /// To `create`, which waits for the container to be built.
    to_create: OwnedFd,
    /// To whoever calls `start`; closed by execve.
    to_start: OwnedFd,
    ready: RefCell<Option<Ready>>,
}

/// How far the descent has come before `start`.
enum Ready {
    /// The program is found.
    Prepared(Prepared),
    /// The filters are loaded, as an agent has their listener.
    Settled(Settled),
}

impl Descent {
    pub(crate) fn new(
        plan: Plan,
        config: &Config,
        mounts: finish::Prepared<'_>,
        state: HookState,
        to_create: OwnedFd,
        to_start: OwnedFd,
    ) -> Self {
        let mut start_hooks = config
            .hooks
            .value()
            .map(|hooks| hooks.start_container.items().to_vec())
            .unwrap_or_default();
        // They run as the program will, so they may have its environment where they name none, as with other runtimes.
        let environment = plan.environment.iter().filter_map(|entry| entry.to_str().ok());
        let environment: Vec<String> = environment.map(str::to_owned).collect();
        for hook in start_hooks.iter_mut().filter(|hook| hook.env.value().is_none()) {
            hook.env = Given::Value(environment.clone());
        }
        Descent {
            inner: Rc::new(Inner {
                plan,
                finish: finish::plan(config, mounts),
                readonly_root: config.root.value().is_some_and(|root| root.readonly.is_true()),
                start_hooks,
                state,
                to_create,
                to_start,
                ready: RefCell::new(None),
            }),
        }
    }
}

impl Executor for Descent {
    /// After everything is built, before start: errors still reach the caller of `create`.
    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        let inner = &self.inner;
        let ready = finish::carry_out(&inner.finish).and_then(|()| {
            let prepared = gabion_descent::prepare(inner.plan.clone())?;
            if inner.readonly_root {
                finish::make_root_readonly()?;
            }
            // `stop` of a container that was never started does not have to wait for its SIGKILL.
            gabion_sys::process::end_on_request()?;
            Ok(
                if inner.plan.handover.as_ref().is_some_and(|one| one.before_start) {
                    Ready::Settled(gabion_descent::settle(prepared)?)
                } else {
                    Ready::Prepared(prepared)
                },
            )
        });
        match ready {
            Ok(ready) => {
                *inner.ready.borrow_mut() = Some(ready);
                Ok(())
            }
            Err(failure) => {
                let text = failure.to_string();
                tell(inner.to_create.as_fd(), failure);
                Err(ExecutorValidationError::ArgValidationError(text))
            }
        }
    }

    /// The descent lays out the environment itself, for execve alone: this process' own stays what it is.
    fn setup_envs(&self, _: std::collections::HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }

    /// After start.
    fn exec(&self, _: &Spec) -> Result<(), ExecutorError> {
        let inner = &self.inner;
        // Process ids are those of the container here; what the host calls this process is not visible.
        let state = inner
            .state
            .clone()
            .with("created", Some(nix::unistd::getpid().as_raw()));
        let failed = |failure: Failure| {
            let text = failure.to_string();
            tell(inner.to_start.as_fd(), failure);
            Err(ExecutorError::Other(text))
        };
        let Some(ready) = inner.ready.borrow_mut().take() else {
            let text = "the descent was begun before it was prepared";
            return failed(Failure::Other(text.to_owned()));
        };
        // What they do the program could do as well, so what was verified before them is not verified again.
        let ready = match ready {
            Ready::Prepared(prepared) if !inner.start_hooks.is_empty() => {
                match gabion_descent::settle_after_start(prepared) {
                    Ok(settled) => Ready::Settled(settled),
                    Err(failure) => return failed(failure),
                }
            }
            ready => ready,
        };
        if let Err(error) = hooks::run("startContainer", &inner.start_hooks, &state) {
            return failed(Failure::Other(error.to_string()));
        }
        let failure = match ready {
            Ready::Prepared(prepared) => gabion_descent::descend(prepared, &inner.to_start),
            Ready::Settled(settled) => settled.execute(&inner.to_start),
        };
        Err(ExecutorError::Other(failure.to_string()))
    }
}

/// Reports a failure. If even that fails, the end of the channel without a word says that something did.
fn tell(channel: std::os::fd::BorrowedFd<'_>, failure: Failure) {
    if let Err(error) = report::write(channel, &Report::Failed(failure)) {
        tracing::error!(%error, "a failure could not be reported");
    }
}
