//! One record of comma-separated values.

use std::borrow::Cow;

/// Splits a record into its fields. A field that begins with `"` ends at the next single `"`, and
/// `""` in it stands for one quote; blanks belong to their fields.
///
/// # Errors
///
/// A quote inside a field that does not begin with one, or one that does not end its field.
pub(super) fn split(record: &str) -> Result<Vec<Cow<'_, str>>, &'static str> {
    let mut fields = Vec::new();
    let mut rest = record;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => read_quoted(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                let (field, after) = rest.split_at(end);
                if field.contains('"') {
                    return Err("a quote stands inside a field that does not begin with one");
                }
                (Cow::Borrowed(field), after)
            }
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None => return Ok(fields),
        }
    }
}

/// Reads a field behind its first quote, and gives back what follows the last one.
fn read_quoted(text: &str) -> Result<(Cow<'_, str>, &str), &'static str> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (part, after) = rest.split_once('"').ok_or("a quote is not closed")?;
        field.push_str(part);
        match after.strip_prefix('"') {
            Some(next) => {
                field.push('"');
                rest = next;
            }
            None if after.is_empty() || after.starts_with(',') => return Ok((Cow::Owned(field), after)),
            None => return Err("text follows a closing quote"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records() {
        for (record, want) in [
            ("a", Ok(vec!["a"])),
            ("a=b,c", Ok(vec!["a=b", "c"])),
            ("", Ok(vec![""])),
            (",", Ok(vec!["", ""])),
            (" a , b ", Ok(vec![" a ", " b "])),
            ("\"a,b\",c", Ok(vec!["a,b", "c"])),
            ("\"a\"\"b\"", Ok(vec!["a\"b"])),
            ("\"\"", Ok(vec![""])),
            ("\"\"\"\"", Ok(vec!["\""])),
            ("a\"b", Err("a quote stands inside a field that does not begin with one")),
            ("\"a", Err("a quote is not closed")),
            ("\"a\"b", Err("text follows a closing quote")),
            ("\"a\" ,b", Err("text follows a closing quote")),
        ] {
            let found = split(record);
            assert_eq!(found, want.map(|fields| fields.into_iter().map(Cow::from).collect()), "{record}");
        }
    }
}
