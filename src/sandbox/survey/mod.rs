//! What this machine lets a process do, found out by doing it.
//!
//! Each function tries one thing and says how it went; settings are not asked. Whatever would change
//! this process for good is done by a child, which ends with it.
//!
//! Call them while the process has one thread. Nothing is left behind: no file, mount or process.

mod calls;
mod child;
mod ids;
mod storage;

pub use calls::{
    call_filter, call_listener, chroot, fresh_proc, landlock_version, network_namespace, tracing,
    user_namespace,
};
pub use ids::{Ids, ids};
pub use storage::{executables, reflinks, user_attributes, whiteouts};
