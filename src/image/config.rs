//! The image config: platform, default execution parameters, layers' diff ids and history.

use std::collections::{BTreeMap, BTreeSet};

use fanfold_platforms::Platform;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::DiffId;

/// An image config, read from a base or built for a result.
///
/// Members that this program does not know are carried over unchanged.
///
/// Source: OCI image-spec 1.1, `config.md`; Docker's extensions Healthcheck, OnBuild, Shell and
/// ArgsEscaped.
#[derive(Debug, Clone, PartialEq)]
pub struct ImageConfig {
    /// When the image was created, RFC 3339.
    pub created: Option<String>,
    /// Who made it (MAINTAINER).
    pub author: Option<String>,
    /// The platform whose files the image holds.
    pub platform: Platform,
    /// Features of the operating system that the image needs.
    pub os_features: Vec<String>,
    /// Default execution parameters.
    pub config: ContainerConfig,
    /// The layers' identities, base first.
    pub diff_ids: Vec<DiffId>,
    /// One entry for each instruction.
    pub history: Vec<History>,
    other: Map<String, Value>,
}

/// Default execution parameters of an image.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ContainerConfig {
    /// `user[:group]`, names or numbers; empty for root.
    pub user: String,
    /// Ports as `80/tcp`.
    pub exposed_ports: BTreeSet<String>,
    /// `NAME=value`, in order.
    pub env: Vec<String>,
    /// Entry point.
    pub entrypoint: Option<Vec<String>>,
    /// Default arguments, or the command itself.
    pub cmd: Option<Vec<String>>,
    /// Paths that hold data of their own.
    pub volumes: BTreeSet<String>,
    /// Current directory; empty for `/`.
    pub working_dir: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Signal that asks the process to end.
    pub stop_signal: Option<String>,
    /// Set by CMD, for Docker.
    pub args_escaped: bool,
    /// Docker's health check.
    pub healthcheck: Option<Healthcheck>,
    /// Triggers for images built on this one.
    pub on_build: Vec<String>,
    /// Shell of the shell forms.
    pub shell: Option<Vec<String>>,
    other: Map<String, Value>,
}

/// Docker's health check. Durations in nanoseconds; zero stands for the default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Healthcheck {
    /// `["NONE"]`, `["CMD", …]` or `["CMD-SHELL", text]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Time between two checks.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// How long one check may take.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// Time to start up, in which failures do not count.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Time between two checks while starting.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// Failures in a row that make the container unhealthy.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// One line of an image's history.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// When the instruction was carried out, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The instruction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// Who carried it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    /// Builder's remark.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Set where the instruction made no layer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub empty_layer: bool,
}

/// A config that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Not JSON, or a member has the wrong type.
    #[error("the image config is not valid: {0}")]
    Invalid(String),
    /// No architecture or operating system.
    #[error("the image config does not say its platform")]
    NoPlatform,
    /// An environment entry that would take its value from the builder.
    #[error("the image config has the environment entry `{0}`, which is not of the form NAME=value")]
    Environment(String),
}

fn take<T: DeserializeOwned>(map: &mut Map<String, Value>, key: &str) -> Result<Option<T>, ConfigError> {
    match map.remove(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => serde_json::from_value(value)
            .map(Some)
            .map_err(|error| ConfigError::Invalid(format!("{key}: {error}"))),
    }
}

fn put<T: Serialize>(map: &mut Map<String, Value>, key: &str, value: &T, empty: bool) {
    if !empty {
        let value = serde_json::to_value(value).expect("config values hold only text keys");
        map.insert(key.to_owned(), value);
    }
}

impl ImageConfig {
    /// The config of an image without layers.
    pub fn scratch(platform: Platform) -> Self {
        Self {
            created: None,
            author: None,
            platform,
            os_features: Vec::new(),
            config: ContainerConfig::default(),
            diff_ids: Vec::new(),
            history: Vec::new(),
            other: Map::new(),
        }
    }

    /// Reads a config.
    ///
    /// # Errors
    ///
    /// Fails for anything but a JSON object of the specification's types, without a platform, or
    /// with an environment entry that has no name (the class of CVE-2026-57231).
    pub fn parse(bytes: &[u8]) -> Result<Self, ConfigError> {
        Self::parse_entry(bytes, None)
    }

    /// Reads the config of an index entry for the platform `said`, which fills in a variant that the
    /// config leaves out, as old ones do.
    ///
    /// # Errors
    ///
    /// As [`ImageConfig::parse`].
    pub fn parse_entry(bytes: &[u8], said: Option<&Platform>) -> Result<Self, ConfigError> {
        let mut map: Map<String, Value> =
            serde_json::from_slice(bytes).map_err(|error| ConfigError::Invalid(error.to_string()))?;
        let map = &mut map;
        let architecture: Option<String> = take(map, "architecture")?;
        let os: Option<String> = take(map, "os")?;
        let variant: Option<String> = take(map, "variant")?;
        let os_version: Option<String> = take(map, "os.version")?;
        let (Some(architecture), Some(os)) =
            (architecture.filter(|text| !text.is_empty()), os.filter(|text| !text.is_empty()))
        else {
            return Err(ConfigError::NoPlatform);
        };
        let same = |said: &&Platform| said.os() == os && said.architecture() == architecture;
        let variant = variant
            .filter(|text| !text.is_empty())
            .or_else(|| said.filter(same).and_then(Platform::variant).map(str::to_owned));
        let mut rootfs: Map<String, Value> = take(map, "rootfs")?.unwrap_or_default();
        Ok(Self {
            created: take(map, "created")?,
            author: take(map, "author")?,
            platform: Platform::new(&os, &architecture, variant.as_deref(), os_version.as_deref()),
            os_features: take(map, "os.features")?.unwrap_or_default(),
            config: ContainerConfig::from_map(take(map, "config")?.unwrap_or_default())?,
            diff_ids: take(&mut rootfs, "diff_ids")?.unwrap_or_default(),
            history: take(map, "history")?.unwrap_or_default(),
            other: std::mem::take(map),
        })
    }

    /// Sets a member that the specification does not have, or takes it away.
    ///
    /// A member of the specification cannot be set so: it would be written twice.
    pub fn set_extension(&mut self, key: &str, value: Option<Value>) {
        match value {
            Some(value) => drop(self.other.insert(key.to_owned(), value)),
            None => drop(self.other.shift_remove(key)),
        }
    }

    /// Writes the config: compact, members in the specification's order, maps sorted.
    pub fn to_json(&self) -> Vec<u8> {
        let mut map = Map::new();
        put(&mut map, "created", &self.created, self.created.is_none());
        put(&mut map, "author", &self.author, self.author.as_deref().unwrap_or("").is_empty());
        put(&mut map, "architecture", &self.platform.architecture(), false);
        put(&mut map, "variant", &self.platform.variant(), self.platform.variant().is_none());
        put(&mut map, "os", &self.platform.os(), false);
        put(&mut map, "os.version", &self.platform.os_version(), self.platform.os_version().is_none());
        put(&mut map, "os.features", &self.os_features, self.os_features.is_empty());
        map.insert("config".to_owned(), Value::Object(self.config.to_map()));
        map.insert("rootfs".to_owned(), json!({"type": "layers", "diff_ids": self.diff_ids}));
        put(&mut map, "history", &self.history, self.history.is_empty());
        map.extend(self.other.clone());
        serde_json::to_vec(&map).expect("config values hold only text keys")
    }
}

impl ContainerConfig {
    fn from_map(mut map: Map<String, Value>) -> Result<Self, ConfigError> {
        let map = &mut map;
        let env: Vec<String> = take(map, "Env")?.unwrap_or_default();
        let unusable = |entry: &&String| entry.find('=').is_none_or(|at| at == 0) || entry.contains('\0');
        if let Some(entry) = env.iter().find(unusable) {
            return Err(ConfigError::Environment(entry.chars().take(100).collect()));
        }
        let ports: Map<String, Value> = take(map, "ExposedPorts")?.unwrap_or_default();
        let volumes: Map<String, Value> = take(map, "Volumes")?.unwrap_or_default();
        Ok(Self {
            user: take(map, "User")?.unwrap_or_default(),
            exposed_ports: ports.into_iter().map(|(key, _)| key).collect(),
            env,
            entrypoint: take(map, "Entrypoint")?,
            cmd: take(map, "Cmd")?,
            volumes: volumes.into_iter().map(|(key, _)| key).collect(),
            working_dir: take(map, "WorkingDir")?.unwrap_or_default(),
            labels: take(map, "Labels")?.unwrap_or_default(),
            stop_signal: take(map, "StopSignal")?,
            args_escaped: take(map, "ArgsEscaped")?.unwrap_or_default(),
            healthcheck: take(map, "Healthcheck")?,
            on_build: take(map, "OnBuild")?.unwrap_or_default(),
            shell: take(map, "Shell")?,
            other: std::mem::take(map),
        })
    }

    fn to_map(&self) -> Map<String, Value> {
        let set = |names: &BTreeSet<String>| -> Map<String, Value> {
            names.iter().map(|name| (name.clone(), json!({}))).collect()
        };
        let mut map = Map::new();
        put(&mut map, "User", &self.user, self.user.is_empty());
        put(&mut map, "ExposedPorts", &set(&self.exposed_ports), self.exposed_ports.is_empty());
        put(&mut map, "Env", &self.env, self.env.is_empty());
        put(&mut map, "Entrypoint", &self.entrypoint, self.entrypoint.is_none());
        put(&mut map, "Cmd", &self.cmd, self.cmd.is_none());
        put(&mut map, "Volumes", &set(&self.volumes), self.volumes.is_empty());
        put(&mut map, "WorkingDir", &self.working_dir, self.working_dir.is_empty());
        put(&mut map, "Labels", &self.labels, self.labels.is_empty());
        put(&mut map, "StopSignal", &self.stop_signal, self.stop_signal.is_none());
        put(&mut map, "ArgsEscaped", &self.args_escaped, !self.args_escaped);
        put(&mut map, "Healthcheck", &self.healthcheck, self.healthcheck.is_none());
        put(&mut map, "OnBuild", &self.on_build, self.on_build.is_empty());
        put(&mut map, "Shell", &self.shell, self.shell.is_none());
        map.extend(self.other.clone());
        map
    }

    /// The value of an environment variable.
    pub fn env_value(&self, name: &str) -> Option<&str> {
        self.env
            .iter()
            .find_map(|entry| entry.split_once('=').filter(|(key, _)| *key == name).map(|(_, value)| value))
    }

    /// Sets an environment variable in its place, or adds it at the end.
    pub fn set_env(&mut self, name: &str, value: &str) {
        let entry = format!("{name}={value}");
        let place = self.env.iter().position(|old| old.split_once('=').is_some_and(|(key, _)| key == name));
        match place {
            Some(at) => self.env[at] = entry,
            None => self.env.push(entry),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_members_survive() {
        let text = br#"{"architecture":"amd64","os":"linux","config":{"Env":["A=b"],"X-Vendor":[1,2]},"rootfs":{"type":"layers","diff_ids":[]},"docker_version":"99"}"#;
        let config = ImageConfig::parse(text).unwrap();
        let again = String::from_utf8(config.to_json()).unwrap();
        assert!(again.contains(r#""X-Vendor":[1,2]"#), "{again}");
        assert!(again.contains(r#""docker_version":"99""#), "{again}");
        assert_eq!(ImageConfig::parse(again.as_bytes()).unwrap(), config);
    }

    #[test]
    fn refuses_environment_entries_without_a_name() {
        for entry in ["HOME", "*", "=x", ""] {
            let text = format!(r#"{{"architecture":"amd64","os":"linux","config":{{"Env":["{entry}"]}}}}"#);
            let error = ImageConfig::parse(text.as_bytes()).unwrap_err();
            assert_eq!(error, ConfigError::Environment(entry.to_owned()));
        }
    }

    #[test]
    fn an_index_entry_fills_in_the_variant() {
        let text = br#"{"architecture":"arm","os":"linux"}"#;
        let said = "linux/arm/v6".parse().unwrap();
        assert_eq!(ImageConfig::parse_entry(text, Some(&said)).unwrap().platform, said);
        let other = "linux/arm64".parse().unwrap();
        assert_eq!(ImageConfig::parse_entry(text, Some(&other)).unwrap().platform.variant(), Some("v7"));
        let own = br#"{"architecture":"arm","os":"linux","variant":"v5"}"#;
        assert_eq!(ImageConfig::parse_entry(own, Some(&said)).unwrap().platform.variant(), Some("v5"));
    }

    #[test]
    fn refuses_a_config_without_a_platform() {
        assert_eq!(ImageConfig::parse(b"{}"), Err(ConfigError::NoPlatform));
        assert!(matches!(ImageConfig::parse(b"[]"), Err(ConfigError::Invalid(_))));
    }

    #[test]
    fn env_is_replaced_in_place() {
        let mut config = ContainerConfig { env: vec!["A=1".into(), "B=2".into()], ..Default::default() };
        config.set_env("A", "3");
        config.set_env("C", "4");
        assert_eq!(config.env, ["A=3", "B=2", "C=4"]);
        assert_eq!(config.env_value("C"), Some("4"));
    }
}
