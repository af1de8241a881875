//! Flags of `docker buildx build` that mean nothing here, or not yet: each is an error that says
//! why, and what to use instead. None is ignored.

use clap::Args;

use super::errors::Failure;

/// The refused flags.
#[derive(Debug, Args)]
pub(super) struct RefusedArgs {
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    load: Option<String>,
    #[arg(long, hide = true)]
    builder: Option<String>,
    #[arg(long, hide = true)]
    allow: Vec<String>,
    #[arg(long, hide = true)]
    cgroup_parent: Option<String>,
    #[arg(long, hide = true)]
    attest: Vec<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    provenance: Option<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    sbom: Option<String>,
    #[arg(long, hide = true)]
    policy: Vec<String>,
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    debug: Option<String>,
}

impl RefusedArgs {
    /// Fails for the first of these flags that was given.
    pub(super) fn refuse(&self) -> Result<(), Failure> {
        let off =
            |value: &Option<String>| value.as_deref().is_some_and(|value| !matches!(value, "false" | "0"));
        let table: [(bool, &str, &str, &str); 9] = [
            (
                off(&self.load),
                "--load",
                "there is no daemon to load into",
                "use -o type=docker,dest=image.tar and `docker load -i image.tar`",
            ),
            (self.builder.is_some(), "--builder", "fanfold itself is the builder", "drop the flag"),
            (
                !self.allow.is_empty(),
                "--allow",
                "no step can be given more privilege than another",
                "drop the flag",
            ),
            (
                self.cgroup_parent.is_some(),
                "--cgroup-parent",
                "steps run in the cgroup of the caller",
                "start fanfold in the cgroup that you want",
            ),
            (!self.attest.is_empty(), "--attest", "attestations are not supported", "drop the flag"),
            (
                off(&self.provenance),
                "--provenance",
                "attestations are not supported",
                "use --provenance=false",
            ),
            (off(&self.sbom), "--sbom", "attestations are not supported", "use --sbom=false"),
            (!self.policy.is_empty(), "--policy", "policies are not supported", "drop the flag"),
            (off(&self.debug), "--debug", "there is no debugger", "drop the flag"),
        ];
        match table.iter().find(|(given, ..)| *given) {
            Some((_, flag, why, instead)) => {
                Err(Failure::usage(format!("{flag} cannot be used: {why}")).with_hint(*instead))
            }
            None => Ok(()),
        }
    }
}
