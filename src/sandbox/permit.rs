//! Limits of commands that are above those of this process.
//!
//! Sources: getrlimit(2). Raising a hard limit takes a capability of the machine's own user namespace,
//! so it has to happen before the build enters one.

use rustix::process::{Rlimit, getrlimit, setrlimit};

use super::identity::resource;

/// A limit that was asked for and that this process may not give.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LimitError {
    /// The kernel has no limit of this name.
    #[error("there is no limit `{0}`")]
    Unknown(String),
    /// It is above the hard limit of this process, which cannot be raised.
    #[error(
        "{name}: {wanted} is above the hard limit {here} of this process, and raising it is refused: {reason}"
    )]
    TooHigh {
        /// Its name.
        name: String,
        /// What was asked for.
        wanted: String,
        /// The hard limit of this process.
        here: String,
        /// The kernel's answer.
        reason: String,
    },
}

/// Raises the hard limits of this process where commands were promised more, as name, soft and hard
/// value. No other limit is touched, and no soft one.
///
/// # Errors
///
/// Fails for the first limit that only somebody with more privilege could give.
pub fn permit_limits(limits: &[(String, u64, u64)]) -> Result<(), LimitError> {
    for (name, _, hard) in limits {
        let found = resource(name).ok_or_else(|| LimitError::Unknown(name.clone()))?;
        let own = getrlimit(found);
        let wanted = Some(*hard).filter(|value| *value != u64::MAX);
        let enough = match (own.maximum, wanted) {
            (None, _) => true,
            (Some(own), Some(wanted)) => wanted <= own,
            (Some(_), None) => false,
        };
        if enough {
            continue;
        }
        let shown =
            |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
        setrlimit(found, Rlimit { current: own.current, maximum: wanted }).map_err(|error| {
            LimitError::TooHigh {
                name: name.clone(),
                wanted: shown(wanted),
                here: shown(own.maximum),
                reason: error.to_string(),
            }
        })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_this_process_has_is_permitted() {
        let own = getrlimit(rustix::process::Resource::Nofile);
        let hard = own.maximum.unwrap_or(u64::MAX);
        permit_limits(&[("nofile".to_owned(), 1, hard), ("core".to_owned(), 0, 0)]).unwrap();
        assert_eq!(getrlimit(rustix::process::Resource::Nofile), own);
    }

    #[test]
    fn what_nobody_may_give_is_refused() {
        // No kernel takes more open files than fs.nr_open, which has 31 bits.
        let error = permit_limits(&[("nofile".to_owned(), 1, 1 << 40)]);
        if getrlimit(rustix::process::Resource::Nofile).maximum.is_some() {
            assert!(matches!(&error, Err(LimitError::TooHigh { .. })), "{error:?}");
        }
        assert_eq!(
            permit_limits(&[("files".to_owned(), 1, 1)]),
            Err(LimitError::Unknown("files".to_owned()))
        );
    }
}
