//! Paths of a command whose root is not the root of its process: every call that takes one is carried
//! out by the supervisor.
//!
//! Owns: what lies where in the root ([`PathView`]), the calls that take paths, by family, and the rules
//! that bring exactly these calls here ([`rules`]).
//! Refuses: mounts, namespaces, other roots; calls with paths that it does not know; terminals other than
//! those that a command was given; sockets for datagrams among processes, which take a path with every
//! message.
//!
//! Invariants:
//! - A path is read once, resolved in the root without the kernel following any link, and what was found
//!   is used by its descriptor, never by its path again.
//! - No call that takes a path is continued by the kernel, except on descriptors alone, with an empty path
//!   that cannot be another one, or on a socket to which paths mean nothing.
//! - /proc shows the files of the command's own processes.

mod access;
mod binds;
mod calls;
mod place;
mod prepare;
mod processes;
mod table;
mod view;
mod walk;
