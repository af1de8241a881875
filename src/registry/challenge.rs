//! `WWW-Authenticate`: what a registry wants to see.

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// What a request is to be authenticated with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User and password in each request.
    Basic,
    /// A token from a token server.
    Bearer {
        /// Address of the token server.
        realm: String,
        /// Name under which it knows the registry.
        service: Option<String>,
        /// Scope of the request that was refused.
        scope: Option<String>,
        /// Why a token was refused, e.g. `insufficient_scope`.
        error: Option<String>,
    },
}

impl Challenge {
    /// The challenge to answer: Bearer where it names a realm, else Basic.
    ///
    /// Grammar: RFC 7235, section 4.1. What does not parse is passed over.
    pub(super) fn choose(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let mut basic = None;
        for (scheme, parameters) in values.flat_map(parse) {
            let get = |name: &str| {
                let found = parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
                found.map(|(_, value)| value.clone()).filter(|value| !value.is_empty())
            };
            if scheme.eq_ignore_ascii_case("bearer")
                && let Some(realm) = get("realm")
            {
                return Some(Self::Bearer {
                    realm,
                    service: get("service"),
                    scope: get("scope"),
                    error: get("error"),
                });
            }
            if scheme.eq_ignore_ascii_case("basic") {
                basic = Some(Self::Basic);
            }
        }
        basic
    }
}

type Parsed = (String, Vec<(String, String)>);

/// Splits one header value into schemes with parameters.
fn parse(value: &str) -> Vec<Parsed> {
    let mut found: Vec<Parsed> = Vec::new();
    let mut rest = value;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let end = rest.find([' ', '\t', ',', '=']).unwrap_or(rest.len());
        let word = &rest[..end];
        if word.is_empty() {
            // The end, or something that is no token: nothing behind it can be trusted.
            return found;
        }
        rest = rest[end..].trim_start_matches([' ', '\t']);
        match (rest.strip_prefix('='), found.last_mut()) {
            (Some(after), Some((_, parameters))) => {
                let (value, behind) = parameter(after.trim_start_matches([' ', '\t']));
                parameters.push((word.to_owned(), value));
                rest = behind;
            }
            (Some(_), None) => return found,
            (None, _) => found.push((word.to_owned(), Vec::new())),
        }
    }
}

/// Reads a token or quoted string; returns it with the text behind it.
fn parameter(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return (value, &quoted[index + 1..]),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn choose(values: &[&str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, value.parse().unwrap());
        }
        Challenge::choose(&headers)
    }

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Some(Challenge::Bearer {
            realm: realm.to_owned(),
            service: owned(service),
            scope: owned(scope),
            error: None,
        })
    }

    #[test]
    fn forms() {
        let scope = r#"Bearer realm="https://a/t",service="s",scope="repository:a/b:pull,push""#;
        assert_eq!(choose(&[scope]), bearer("https://a/t", Some("s"), Some("repository:a/b:pull,push")));
        assert_eq!(choose(&["bEaReR rEaLm = \"x\\\"y\" , SERVICE=s"]), bearer("x\"y", Some("s"), None));
        assert_eq!(choose(&["Basic realm=\"a, b\", Bearer realm=z"]), bearer("z", None, None));
        assert_eq!(choose(&["Basic realm=\"r\"", "Bearer realm=\"z\""]), bearer("z", None, None));
        assert_eq!(choose(&["Bearer service=x, Basic realm=r"]), Some(Challenge::Basic));
        assert_eq!(choose(&["basic"]), Some(Challenge::Basic));
    }

    #[test]
    fn junk_is_no_challenge() {
        for value in
            ["", ",,,", "=", "Negotiate abc==", "Bearer", "Bearer realm=\"", "\"Bearer\" realm=x", "a=b=c"]
        {
            assert_eq!(choose(&[value]), None, "{value}");
        }
    }
}
