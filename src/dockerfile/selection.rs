//! Which files COPY and ADD ask for.

/// The words of a COPY or ADD that say which files of one source are meant, variables filled in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Selection {
    /// Paths and patterns from the source's root.
    pub sources: Vec<String>,
    /// `--exclude`: patterns of what is left out.
    pub exclude: Vec<String>,
    /// `--parents`: directories of the sources are kept, from the pivot `/./` on where there is one.
    pub parents: bool,
}

impl Selection {
    /// Everything that these paths and patterns mean.
    pub fn of(sources: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { sources: sources.into_iter().map(Into::into).collect(), ..Self::default() }
    }
}
