//! One file for each command: its flags, and what it prints.

pub(crate) mod audit;
pub(crate) mod check;
pub(crate) mod checkpoint;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod doctor;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod explain;
pub(crate) mod features;
pub(crate) mod install;
pub(crate) mod kill;
pub(crate) mod learn;
pub(crate) mod lifecycle;
pub(crate) mod list;
pub(crate) mod manual;
pub(crate) mod pause;
pub(crate) mod policy;
pub(crate) mod policy_test;
pub(crate) mod run;
pub(crate) mod seccomp;
pub(crate) mod spec;
pub(crate) mod start;
pub(crate) mod state;
pub(crate) mod update;
pub(crate) mod verify;
