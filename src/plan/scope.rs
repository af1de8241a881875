//! The variables of a stage: ENV and ARG write the same names, and the last writer wins.

/// Variables that instructions of a stage see, and the arguments that it declared.
#[derive(Debug, Clone, Default)]
pub(super) struct Scope {
    variables: Vec<(String, String)>,
    arguments: Vec<(String, Option<String>)>,
}

impl Scope {
    /// The value of a variable.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        self.variables.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
    }

    /// Sets a variable in its place, or adds it at the end.
    pub(super) fn set(&mut self, name: &str, value: &str) {
        match self.variables.iter_mut().find(|(key, _)| key == name) {
            Some((_, old)) => value.clone_into(old),
            None => self.variables.push((name.to_owned(), value.to_owned())),
        }
    }

    /// Sets the variables of an image config, entries `NAME=value`. A stage begins with it, so the ENV of
    /// its base counts again, whatever ARG wrote there after it.
    pub(super) fn begin(&mut self, env: &[String]) {
        for (name, value) in env.iter().filter_map(|entry| entry.split_once('=')) {
            self.set(name, value);
        }
    }

    /// Declares an argument. One without a value leaves the variable as it was.
    pub(super) fn declare(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.set(name, value);
        }
        match self.arguments.iter_mut().find(|(key, _)| key == name) {
            Some((_, old)) => *old = value.map(str::to_owned),
            None => self.arguments.push((name.to_owned(), value.map(str::to_owned))),
        }
    }

    /// All variables, in the order in which they were first set.
    pub(super) fn variables(&self) -> &[(String, String)] {
        &self.variables
    }

    /// All declared arguments, in the order of their first declaration.
    pub(super) fn arguments(&self) -> &[(String, Option<String>)] {
        &self.arguments
    }

    /// All declared arguments with the values that a command sees: those of a later ENV, too.
    pub(super) fn current_arguments(&self) -> Vec<(String, Option<String>)> {
        self.arguments.iter().map(|(name, _)| (name.clone(), self.get(name))).collect()
    }

    /// Names that could have been meant, for suggestions.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.variables.iter().map(|(name, _)| name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_writer_wins() {
        let mut scope = Scope::default();
        scope.set("X", "env");
        scope.declare("X", Some("arg"));
        assert_eq!(scope.get("X").as_deref(), Some("arg"));
        scope.set("X", "env again");
        assert_eq!(scope.get("X").as_deref(), Some("env again"));
    }

    #[test]
    fn a_stage_begins_with_the_env_of_its_base() {
        let mut scope = Scope::default();
        scope.set("X", "env");
        scope.declare("X", Some("arg"));
        scope.declare("Y", Some("arg"));
        scope.begin(&["X=env".to_owned()]);
        assert_eq!(scope.get("X").as_deref(), Some("env"));
        assert_eq!(scope.get("Y").as_deref(), Some("arg"));
    }

    #[test]
    fn an_argument_without_a_value_is_declared_but_unset() {
        let mut scope = Scope::default();
        scope.set("X", "env");
        scope.declare("X", None);
        scope.declare("Y", None);
        assert_eq!(scope.get("X").as_deref(), Some("env"));
        assert_eq!(scope.get("Y"), None);
        assert_eq!(scope.arguments(), [("X".to_owned(), None), ("Y".to_owned(), None)]);
        assert_eq!(scope.current_arguments()[0].1.as_deref(), Some("env"));
    }
}
