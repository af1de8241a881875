//! Options written as one CSV record, as container tools write them: `type=local,"dest=a,b"`.

/// Splits one CSV record; a field in double quotes may hold commas.
pub fn split_csv(text: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for character in text.chars() {
        match character {
            '"' => quoted = !quoted,
            ',' if !quoted => fields.push(String::new()),
            other => fields.last_mut().expect("there is always a field").push(other),
        }
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_hold_commas() {
        for (text, want) in [
            ("", &[""][..]),
            ("a=1,b=2", &["a=1", "b=2"]),
            ("a=1,\"b=2,3\",c", &["a=1", "b=2,3", "c"]),
            ("\"a,b", &["a,b"]),
            ("a,", &["a", ""]),
        ] {
            assert_eq!(split_csv(text), want, "{text}");
        }
    }
}
