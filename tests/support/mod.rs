//! What the black-box tests share: a sealed place to run the binary in, a real
//! registry, the base images, and a reader that believes nothing about an
//! image until it has checked it.
//!
//! Nothing here uses fanfold's own code: what the tests know about an image
//! they find out from its bytes.

#![allow(dead_code, unused_imports, reason = "every test program uses a part of this")]

mod agent;
mod archive;
mod docker;
mod elf;
mod fixtures;
mod flip;
mod git;
mod host;
mod http;
mod image;
mod proxy;
mod registry;
mod run;
mod rungs;
mod search;
mod target;
mod tree;
mod world;

pub(crate) use agent::SshAgent;
pub(crate) use archive::{Item, archive, compressed};
pub(crate) use docker::Container;
pub(crate) use elf::machine as elf_machine;
pub(crate) use fixtures::{
    BASE_PLATFORMS, base, busybox, debian, debian_with_packages, registry as shared_registry,
};
pub(crate) use flip::flip;
pub(crate) use git::{GitServer, Repository};
pub(crate) use host::HostState;
pub(crate) use http::{HttpRequest, HttpServer, Page, basic, closed_port};
pub(crate) use image::{Image, Index, Layer, sha256};
pub(crate) use proxy::{Fault, Proxy};
pub(crate) use registry::{Registry, RegistryOptions};
pub(crate) use run::{Outcome, Run, layout, tool};
pub(crate) use rungs::Rung;
pub(crate) use search::found_nowhere;
pub(crate) use target::{Target, on_every_rung};
pub(crate) use tree::{Kind, Node, Tree, escape};
pub(crate) use world::{User, World, is_root, native_platform, users};
