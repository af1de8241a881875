//! `--secret`: values that RUN mounts can ask for.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::environment::Environment;
use super::errors::Failure;
use crate::secrets::Secrets;

/// The most bytes of one secret, as BuildKit has it.
const LARGEST: u64 = 500 << 10;

/// Reads all secrets: `id=ID[,src=FILE|,env=NAME]`. Without either the value is that of the variable
/// ID, else of the file ID.
pub(super) fn read(texts: &[String], environment: &Environment) -> Result<Secrets, Failure> {
    let mut secrets = Secrets::default();
    for text in texts {
        let wanted = Wanted::parse(text)?;
        let value = wanted.value(environment)?;
        secrets.insert(wanted.id, value);
    }
    Ok(secrets)
}

/// One `--secret`, understood. Messages repeat only what is no value.
struct Wanted {
    id: String,
    from: From,
}

enum From {
    File(String),
    Variable(String),
    /// Whatever there is of this name.
    Either(String),
}

impl Wanted {
    fn parse(text: &str) -> Result<Self, Failure> {
        // The text is not repeated: who misunderstands the flag may have written a secret into it.
        let known = text.split(',').find_map(|field| field.strip_prefix("id=")).unwrap_or_default();
        let shown = if known.is_empty() { "--secret".to_owned() } else { format!("--secret id={known}") };
        let fault = |why: &str| {
            Failure::usage(format!("{shown}: {why}"))
                .with_hint("write --secret id=NAME,src=FILE or --secret id=NAME,env=VARIABLE")
        };
        let (mut id, mut file, mut variable, mut kind) = (None, None, None, None);
        for field in text.split(',') {
            let (key, value) = field.split_once('=').ok_or_else(|| fault("a field has no value"))?;
            let place = match key.trim().to_ascii_lowercase().as_str() {
                "id" => &mut id,
                "src" | "source" => &mut file,
                "env" => &mut variable,
                "type" => &mut kind,
                "value" => return Err(fault("a value cannot be given on the command line")),
                _ => return Err(fault("the keys are id, src, env and type")),
            };
            if place.replace(value.to_owned()).is_some() {
                return Err(fault(&format!("'{}' stands there twice", key.trim())));
            }
        }
        let id = id.filter(|id| !id.is_empty()).ok_or_else(|| fault("the id is missing"))?;
        let from = match (kind.as_deref(), file, variable) {
            (_, Some(_), Some(_)) => return Err(fault("both src and env are given")),
            (None | Some("file"), Some(file), None) => From::File(file),
            (None | Some("env"), None, Some(variable)) | (Some("env"), Some(variable), None) => {
                From::Variable(variable)
            }
            (None, None, None) => From::Either(id.clone()),
            (Some("file"), None, None) => From::File(id.clone()),
            (Some("env"), None, None) => From::Variable(id.clone()),
            (Some("file"), None, Some(_)) => return Err(fault("env does not go with type=file")),
            (Some(_), ..) => return Err(fault("the types are file and env")),
        };
        Ok(Self { id, from })
    }

    fn value(&self, environment: &Environment) -> Result<Vec<u8>, Failure> {
        let variable = |name: &str| {
            let missing = || {
                Failure::usage(format!("--secret id={}: the variable {name} is not set", self.id))
                    .with_hint("set and export it, or name a file with src=")
            };
            environment.bytes(name).ok_or_else(missing)
        };
        match &self.from {
            From::Variable(name) => variable(name),
            From::File(path) => self.file(path),
            From::Either(name) => match environment.bytes(name) {
                Some(value) => Ok(value),
                None if Path::new(name).exists() => self.file(name),
                None => Err(Failure::usage(format!(
                    "--secret id={name}: there is neither a variable nor a file of this name"
                ))
                .with_hint("name one with src= or env=")),
            },
        }
    }

    fn file(&self, path: &str) -> Result<Vec<u8>, Failure> {
        let fault = |why: String| Failure::usage(format!("--secret id={}: the file `{path}` {why}", self.id));
        let mut value = Vec::new();
        File::open(path)
            .and_then(|file| file.take(LARGEST + 1).read_to_end(&mut value))
            .map_err(|error| fault(format!("cannot be read: {error}")))?;
        if value.len() as u64 > LARGEST {
            return Err(fault(format!("is larger than {} KiB", LARGEST >> 10)));
        }
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let shown = |text: &str| match Wanted::parse(text) {
            Ok(Wanted { id, from: From::File(file) }) => format!("{id} file {file}"),
            Ok(Wanted { id, from: From::Variable(name) }) => format!("{id} env {name}"),
            Ok(Wanted { id, from: From::Either(name) }) => format!("{id} either {name}"),
            Err(_) => "error".to_owned(),
        };
        for (text, want) in [
            ("id=a,src=/x", "a file /x"),
            ("id=a,source=x", "a file x"),
            ("env=T,id=a", "a env T"),
            ("id=a", "a either a"),
            ("type=env,id=a", "a env a"),
            ("type=env,id=a,src=T", "a env T"),
            ("type=file,id=a", "a file a"),
            ("ID=a,SRC=x", "a file x"),
            ("src=x", "error"),
            ("id=", "error"),
            ("id=a,src=x,env=y", "error"),
            ("id=a,id=b", "error"),
            ("id=a,sorce=b", "error"),
            ("type=vault,id=a", "error"),
            ("a", "error"),
        ] {
            assert_eq!(shown(text), want, "{text}");
        }
    }

    #[test]
    fn faults_repeat_no_value() {
        for text in ["hunter2", "id=a,hunter2", "id=a,value=hunter2", "id=a,hunter2=x", "id=a,type=hunter2"] {
            let fault = Wanted::parse(text).err().map(|fault| format!("{fault:?}")).unwrap_or_default();
            assert!(fault.contains("--secret") && !fault.contains("hunter2"), "{text}: {fault}");
        }
    }
}
