//! Instructions x platforms x arguments -> one [`Graph`] of steps, each with its key.
//!
//! Owns: variable scopes, stage names and reachability, image configs and history lines, cache keys.
//! Refuses: what the engine cannot carry out, with the Dockerfile line; a stage whose platform is
//! not the image's.
//!
//! Invariants:
//! - Pure over a [`Resolver`]: the same Dockerfile, request and answers give the same graph.
//! - Steps are interned by key. Two platforms that ask for the same step share one node, so it is
//!   carried out once; there is no other mechanism for that.
//! - Whatever can change a step's result is in its key, length-framed; times, line numbers and names
//!   of bases are not. What a step is by itself is apart from what it stands on, so that it has a second key
//!   when that is known ([`content_key`]).
//!
//! Source of the semantics: BuildKit's Dockerfile frontend, release 1.26.

mod ask;
mod begin;
mod contexts;
mod copy;
mod error;
mod foresee;
mod graph;
mod history;
mod image;
mod instruction;
mod key;
mod lint;
mod mounts;
mod onbuild;
mod planner;
mod platform_args;
mod request;
mod resolver;
mod run;
mod scope;
mod stage;
mod survey;
mod unused;
mod warning;

pub use contexts::{ContextKind, NamedContext};
pub use error::{PlanError, PlanErrorKind};
pub use foresee::{RunSite, foresee_runs};
pub use graph::{
    BaseOp, CopyFrom, CopyOp, CopyPart, FileSource, Graph, HistoryLine, Inline, MergeOp, Network, Op, Origin,
    RunOp, Step, StepId, Target, WorkdirOp,
};
pub use key::content_key;
pub use mounts::{MountFrom, RunMount};
pub use planner::{Outcome, plan};
pub use request::Request;
pub use resolver::{ContextError, ImageName, ResolvedImage, Resolver, Wanted, WantedFiles, WantedImage};

pub use survey::{MOST_FOUND, StageOn, Survey, survey};
pub use warning::Warning;
