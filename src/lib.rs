//! fanfold builds a Dockerfile for many platforms into one OCI image index, without a daemon and
//! without privilege.
//!
//! A Dockerfile goes in at the top, an OCI image index comes out at the bottom, and the data runs
//! one way through the rooms between:
//!
//! ```text
//! Dockerfile text -> dockerfile -> stages -> plan (all platforms) -> one Graph -> coordinator
//!     -> store, cache: results that are known -> engine, per step that is left -> Layer
//!     -> per platform: image -> Index -> output, cache
//! ```
//!
//! | floor | rooms |
//! |---|---|
//! | 6 | [`cli`] |
//! | 5 | [`coordinator`], [`output`] |
//! | 4 | [`engine`], [`cache`] |
//! | 3 | [`plan`], [`store`], [`source`] |
//! | 2 | [`dockerfile`], [`layer`], [`sandbox`], [`registry`] |
//! | 1 | [`image`], [`progress`], [`secrets`], and the crates `fanfold-platforms` and `fanfold-qemu` |
//!
//! A room imports only from lower floors; `tests/floors.rs` keeps that so. ARCHITECTURE.md is the
//! map, with where to begin for common changes.

pub mod cache;
pub mod cli;
pub mod coordinator;
pub mod dockerfile;
pub mod engine;
pub mod image;
pub mod layer;
pub mod output;
pub mod plan;
pub mod progress;
pub mod registry;
pub mod sandbox;
pub mod secrets;
pub mod source;
pub mod store;
