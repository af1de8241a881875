//! What there is on machines whose calls the supervisor does not know.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::super::enter::Ended;
use super::super::root::Stub;
use super::super::spec::{Interpreter, RunSpec};
use super::super::wire::{Failure, Step};
use super::owners::JournalEntry;
use crate::image::Identity;

/// Why nothing can be supervised here.
const REASON: &str = "fanfold's supervisor knows the calls of x86-64 alone";

/// A command that is supervised: there is none.
#[derive(Debug)]
pub(in crate::sandbox) enum Supervised {}

impl Supervised {
    /// Refuses.
    pub(in crate::sandbox) fn start(
        _socket: &UnixStream,
        _command: i32,
        _spec: &RunSpec,
        _identity: &Identity,
        _changed: Option<OwnedFd>,
    ) -> io::Result<Self> {
        Err(io::Error::other(REASON))
    }

    /// The end of no command.
    pub(in crate::sandbox) fn wait(&self) -> io::Result<Ended> {
        match *self {}
    }

    /// The journal of no command.
    pub(in crate::sandbox) fn journal(&self) -> io::Result<Vec<JournalEntry>> {
        match *self {}
    }
}

/// Refuses.
pub(in crate::sandbox) fn join_one_id(
    _socket: &UnixStream,
    _spec: &RunSpec,
    _identity: &Identity,
) -> io::Result<()> {
    Err(io::Error::other(REASON))
}

/// A command that is traced: there is none.
#[derive(Debug)]
pub(in crate::sandbox) enum Traced {}

impl Traced {
    /// Refuses.
    pub(in crate::sandbox) fn start(
        _socket: &UnixStream,
        _command: i32,
        _interpreters: &[Interpreter],
    ) -> io::Result<Self> {
        Err(io::Error::other(REASON))
    }

    /// The end of no command.
    pub(in crate::sandbox) fn wait(&self) -> io::Result<Ended> {
        match *self {}
    }
}

/// Refuses.
pub(in crate::sandbox) fn join_traced(_socket: &UnixStream) -> io::Result<()> {
    Err(io::Error::other(REASON))
}

/// Says why.
pub(in crate::sandbox) fn probe_all(_scratch: &Path) -> Result<(), String> {
    Err(REASON.to_owned())
}

/// Nothing to be said of what is not there.
pub(in crate::sandbox) fn remarks() -> Vec<String> {
    Vec::new()
}

/// A root that is ready for a command: there is none.
#[derive(Debug)]
pub(in crate::sandbox) enum Ready {}

impl Ready {
    /// Refuses.
    pub(in crate::sandbox) fn join(&self, _socket: &UnixStream) -> io::Result<()> {
        match *self {}
    }

    /// Refuses.
    pub(in crate::sandbox) fn supervise(
        self,
        _socket: &UnixStream,
        _command: i32,
        _spec: &RunSpec,
        _identity: &Identity,
    ) -> io::Result<Rootless> {
        match self {}
    }
}

/// Refuses.
pub(in crate::sandbox) fn prepare(
    _spec: &RunSpec,
    _path: &Path,
) -> Result<(Ready, Identity, OwnedFd, Vec<Stub>), Failure> {
    Err(io::Error::other(REASON)).step("root")
}

/// A command that is supervised: there is none.
#[derive(Debug)]
pub(in crate::sandbox) enum Rootless {}

impl Rootless {
    /// The end of no command.
    pub(in crate::sandbox) fn wait(&self) -> io::Result<Ended> {
        match *self {}
    }

    /// The journal of no command.
    pub(in crate::sandbox) fn journal(&self) -> io::Result<Vec<JournalEntry>> {
        match *self {}
    }
}
