//! What to do about a finding of a build check, where the check's name alone tells.

/// Advice for the findings of `rule`, one sentence without a final period; `None` where the finding
/// itself says what to do, or brings advice of its own.
pub fn advice(rule: &str) -> Option<&'static str> {
    Some(match rule {
        "StageNameCasing" => "write stage names in lower case",
        "FromAsCasing" => "write `AS` in the same case as `FROM`",
        "ConsistentInstructionCasing" => "write all instruction words in the same case",
        "NoEmptyContinuation" => "remove the blank line, or begin it with `#`",
        "RedundantTargetPlatform" => "drop the flag: the target platform is the default",
        "FromPlatformFlagConstDisallowed" => {
            "write --platform=$BUILDPLATFORM, or give --platform on the command line"
        }
        "SecretsUsedInArgOrEnv" => {
            "use `RUN --mount=type=secret`: values of ARG and ENV can be read in the image"
        }
        "MultipleInstructionsDisallowed" => "drop the earlier one: it has no effect",
        "ReservedStageName" => "give the stage another name",
        "DuplicateStageName" => "give the stage a name of its own",
        "LegacyKeyValueFormat" => "write it as `NAME=value`, with quotes around blanks",
        "InvalidJSONForm" => {
            "put every word in double quotes, with commas between them and nothing after the `]`"
        }
        "MaintainerDeprecated" => "write `LABEL org.opencontainers.image.authors=…` instead",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::checks::RULES;

    #[test]
    fn advises_in_one_sentence() {
        let known: Vec<_> = RULES.iter().filter_map(|rule| advice(rule)).collect();
        assert_eq!(known.len(), 13);
        assert!(known.iter().all(|text| !text.ends_with('.')));
        assert_eq!(advice("NoSuchCheck"), None);
    }
}
