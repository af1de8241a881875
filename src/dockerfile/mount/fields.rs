//! The keys of a mount, and which of them belong to which type.

use super::super::expand::ExpandError;
use super::super::suggest;
use super::error::shown;
use super::{MountError, MountFault, MountType, SHARINGS, Sharing, TYPES, record, values};

/// What a field sets, by whichever of its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    Type,
    Target,
    Source,
    From,
    /// Also `rw` and `readwrite`, which say the opposite.
    ReadOnly,
    Id,
    Sharing,
    Required,
    Size,
    Mode,
    Uid,
    Gid,
    Env,
}

/// Every name, the usual ones first: of equally near names the first one is suggested.
const NAMES: [(&str, Key); 19] = [
    ("type", Key::Type),
    ("target", Key::Target),
    ("source", Key::Source),
    ("from", Key::From),
    ("id", Key::Id),
    ("dst", Key::Target),
    ("src", Key::Source),
    ("ro", Key::ReadOnly),
    ("rw", Key::ReadOnly),
    ("sharing", Key::Sharing),
    ("required", Key::Required),
    ("mode", Key::Mode),
    ("uid", Key::Uid),
    ("gid", Key::Gid),
    ("env", Key::Env),
    ("size", Key::Size),
    ("destination", Key::Target),
    ("readonly", Key::ReadOnly),
    ("readwrite", Key::ReadOnly),
];

/// The fields of one mount, each key at most once.
#[derive(Debug)]
pub(super) struct Fields(Vec<Field>);

#[derive(Debug)]
struct Field {
    key: Key,
    /// The key in lower case.
    name: String,
    /// The whole field as written.
    text: String,
    value: Value,
}

#[derive(Debug)]
enum Value {
    /// There is no `=`.
    Absent,
    /// As written: it is not known yet.
    Later(String),
    Known(String),
}

impl Fields {
    /// Reads a record. `expand` gives the values, and `None` for one that is not known yet.
    pub(super) fn read(
        raw: &str,
        expand: &mut dyn FnMut(&str) -> Result<Option<String>, ExpandError>,
    ) -> Result<Self, MountError> {
        let mut fields = Self(Vec::new());
        for field in record::split(raw).map_err(MountFault::Record)? {
            let (name, value) = match field.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (field.as_ref(), None),
            };
            let lower = name.to_lowercase();
            let known = NAMES.iter().find(|(known, _)| *known == lower);
            let Some(&(_, key)) = known else {
                let suggestion = suggest::nearest(&lower, NAMES.iter().map(|(known, _)| known));
                let fault = match value {
                    Some(_) => MountFault::UnknownKey { key: shown(&lower), field: shown(&field) },
                    None => MountFault::NoValue(shown(&field)),
                };
                return Err(MountError::from(fault).at(name).suggest(suggestion));
            };
            let fault = |fault: MountFault| MountError::from(fault).at(&field);
            if value.is_none() && !matches!(key, Key::ReadOnly | Key::Required | Key::Env) {
                return Err(fault(MountFault::NoValue(shown(&field))));
            }
            if fields.find(key).is_some() {
                return Err(fault(MountFault::Duplicate(lower)));
            }
            let value = match value {
                None => Value::Absent,
                Some(from) if key == Key::From => {
                    if from.contains('$') {
                        return Err(fault(MountFault::FromVariable));
                    }
                    Value::Known(from.to_owned())
                }
                Some(value) => match expand(value).map_err(|error| fault(MountFault::Expand(error)))? {
                    Some(value) => Value::Known(value),
                    None => Value::Later(value.to_owned()),
                },
            };
            fields.0.push(Field { key, name: lower, text: field.into_owned(), value });
        }
        Ok(fields)
    }

    fn find(&self, key: Key) -> Option<&Field> {
        self.0.iter().find(|field| field.key == key)
    }

    /// The type; `None` if it is not known yet.
    pub(super) fn kind(&self) -> Result<Option<MountType>, MountError> {
        match self.find(Key::Type).map(|field| &field.value) {
            None | Some(Value::Absent) => Ok(Some(MountType::default())),
            Some(Value::Later(_)) => Ok(None),
            Some(Value::Known(name)) => {
                let lower = name.to_lowercase();
                let found = TYPES.iter().find(|(known, _)| *known == lower);
                found.map(|(_, kind)| Some(*kind)).ok_or_else(|| {
                    let suggestion = suggest::nearest(&lower, TYPES.iter().map(|(known, _)| known));
                    self.fault(Key::Type, MountFault::UnknownType(shown(name))).suggest(suggestion)
                })
            }
        }
    }

    /// Refuses keys that mean nothing for the type, and a target that is the root.
    pub(super) fn check_keys(&self, kind: MountType) -> Result<(), MountError> {
        let Some(field) = self.0.iter().find(|field| !belongs(field.key, kind)) else {
            return Ok(());
        };
        let (key, kind_name) = (field.name.clone(), kind.name());
        let fault = match (field.key, kind) {
            (Key::From, MountType::Secret) => MountFault::SecretFrom,
            (Key::Sharing, MountType::Secret) => MountFault::SecretSharing,
            (Key::Sharing, _) => MountFault::SharingForType(kind_name),
            (Key::Source, MountType::Ssh) => MountFault::SshSource,
            (Key::Mode | Key::Uid | Key::Gid, _) => MountFault::OwnerForType { key, kind: kind_name },
            _ => MountFault::KeyForType { key, kind: kind_name },
        };
        let home = match field.key {
            Key::Source | Key::From | Key::ReadOnly => Some(MountType::Bind),
            Key::Id | Key::Sharing => Some(MountType::Cache),
            Key::Size => Some(MountType::Tmpfs),
            Key::Env | Key::Required => Some(MountType::Secret),
            _ => None,
        };
        let suggestion = match fault {
            MountFault::KeyForType { .. } => home.map(|home| format!("type={}", home.name())),
            _ => None,
        };
        Err(MountError::from(fault).at(&field.text).suggest(suggestion))
    }

    /// Refuses values that fit no mount, whatever its type.
    pub(super) fn check_values(&self) -> Result<(), MountError> {
        self.read_only()?;
        self.switch(Key::Required)?;
        self.sharing()?;
        self.size()?;
        self.mode()?;
        self.owner(Key::Uid)?;
        self.owner(Key::Gid)?;
        match self.known(Key::Target) {
            Some(target) if values::is_root(target) => {
                Err(self.fault(Key::Target, MountFault::Target(shown(target))))
            }
            _ => Ok(()),
        }
    }

    /// A value as text; an empty one is as good as none.
    pub(super) fn text(&self, key: Key) -> Option<String> {
        match &self.find(key)?.value {
            Value::Later(text) | Value::Known(text) if !text.is_empty() => Some(text.clone()),
            _ => None,
        }
    }

    /// A value that can be judged.
    fn known(&self, key: Key) -> Option<&str> {
        match &self.find(key)?.value {
            Value::Known(text) => Some(text),
            _ => None,
        }
    }

    /// A flag; `None` if it was not given or is not known yet.
    pub(super) fn switch(&self, key: Key) -> Result<Option<bool>, MountError> {
        match self.find(key).map(|field| &field.value) {
            None | Some(Value::Later(_)) => Ok(None),
            Some(Value::Absent) => Ok(Some(true)),
            Some(Value::Known(text)) => {
                values::truth(text).map(Some).ok_or_else(|| self.bad_value(key, text))
            }
        }
    }

    /// Whether the mount is to be read-only, if it was said.
    pub(super) fn read_only(&self) -> Result<Option<bool>, MountError> {
        let writes =
            self.find(Key::ReadOnly).is_some_and(|field| matches!(field.name.as_str(), "rw" | "readwrite"));
        Ok(self.switch(Key::ReadOnly)?.map(|set| set != writes))
    }

    pub(super) fn sharing(&self) -> Result<Sharing, MountError> {
        let Some(text) = self.known(Key::Sharing) else {
            return Ok(Sharing::default());
        };
        let lower = text.to_lowercase();
        let found = SHARINGS.iter().find(|(known, _)| *known == lower);
        found.map(|(_, sharing)| *sharing).ok_or_else(|| {
            let suggestion = suggest::nearest(&lower, SHARINGS.iter().map(|(known, _)| known));
            self.fault(Key::Sharing, MountFault::UnknownSharing(shown(text))).suggest(suggestion)
        })
    }

    /// The limit in bytes. 0 is none, as it is for the kernel.
    pub(super) fn size(&self) -> Result<Option<u64>, MountError> {
        let Some(text) = self.known(Key::Size) else {
            return Ok(None);
        };
        let size = values::size(text).ok_or_else(|| self.bad_value(Key::Size, text))?;
        Ok(Some(size).filter(|size| *size > 0))
    }

    pub(super) fn mode(&self) -> Result<Option<u32>, MountError> {
        self.number(Key::Mode, values::mode)
    }

    /// `uid` or `gid`.
    pub(super) fn owner(&self, key: Key) -> Result<Option<u32>, MountError> {
        self.number(key, values::owner)
    }

    fn number(&self, key: Key, read: fn(&str) -> Option<u32>) -> Result<Option<u32>, MountError> {
        let Some(text) = self.known(key) else {
            return Ok(None);
        };
        read(text).map(Some).ok_or_else(|| {
            let name = self.find(key).map(|field| field.name.clone()).unwrap_or_default();
            self.fault(key, MountFault::Number { key: name, value: shown(text) })
        })
    }

    /// The variable of a secret; without a name of its own it is called as the secret is.
    pub(super) fn env(&self, id: &str) -> Result<Option<String>, MountError> {
        let name = match self.find(Key::Env).map(|field| &field.value) {
            None => return Ok(None),
            Some(Value::Later(name)) => return Ok(Some(name.clone())),
            Some(Value::Absent) => id,
            Some(Value::Known(name)) => name,
        };
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(self.bad_value(Key::Env, name));
        }
        Ok(Some(name.to_owned()))
    }

    /// A fault of the field with this key.
    pub(super) fn fault(&self, key: Key, fault: MountFault) -> MountError {
        let error = MountError::from(fault);
        match self.find(key) {
            Some(field) => error.at(&field.text),
            None => error,
        }
    }

    /// The fault of a value that does not fit its key.
    pub(super) fn bad_value(&self, key: Key, value: &str) -> MountError {
        let name = self.find(key).map(|field| field.name.clone()).unwrap_or_default();
        self.fault(key, MountFault::Value { key: name, value: shown(value) })
    }
}

/// Whether a key means something for a type.
const fn belongs(key: Key, kind: MountType) -> bool {
    match key {
        Key::Type | Key::Target => true,
        Key::Source => matches!(kind, MountType::Bind | MountType::Cache | MountType::Secret),
        Key::From | Key::ReadOnly => matches!(kind, MountType::Bind | MountType::Cache),
        Key::Id | Key::Mode | Key::Uid | Key::Gid => {
            matches!(kind, MountType::Cache | MountType::Secret | MountType::Ssh)
        }
        Key::Sharing => matches!(kind, MountType::Cache),
        Key::Required => matches!(kind, MountType::Secret | MountType::Ssh),
        Key::Size => matches!(kind, MountType::Tmpfs),
        Key::Env => matches!(kind, MountType::Secret),
    }
}
