//! Every check fires on a sample, and is silenced in each of the three ways.

use std::collections::BTreeMap;
use std::sync::Arc;

use fanfold_platforms::Platform;

use super::super::{
    ContextError, FileSource, ImageName, Network, Request, ResolvedImage, Resolver, Survey, survey,
};
use crate::dockerfile::ignore::Ignore;
use crate::dockerfile::{self, CheckOptions, Selection};
use crate::image::{Descriptor, Digest, ImageConfig, media_type};

/// Every image exists, empty, with what `config` sets; the context has `*.log` ignored.
struct World {
    shell: Option<Vec<String>>,
    cwd: &'static str,
}

impl Resolver for World {
    fn image(&self, name: &ImageName, platform: &Platform) -> Option<Arc<ResolvedImage>> {
        let mut config = ImageConfig::scratch(platform.clone());
        config.config.shell = self.shell.clone();
        self.cwd.clone_into(&mut config.config.working_dir);
        let digest = Digest::of(format!("{name} {platform}").as_bytes());
        Some(Arc::new(ResolvedImage {
            name: name.clone(),
            platform: platform.clone(),
            manifest: Descriptor::new(media_type::OCI_MANIFEST, digest, 0),
            config,
            layers: vec![Descriptor::new(media_type::OCI_MANIFEST, digest, 0)],
        }))
    }

    fn files_digest(&self, _: &FileSource, _: &Selection) -> Result<Option<Digest>, ContextError> {
        Ok(Some(Digest::of(b"files")))
    }

    fn ignored(&self, _: &FileSource, source: &str) -> Option<String> {
        Ignore::parse(b"*.log\n").unwrap().hides_source(source)
    }
}

fn request(platforms: &[&str]) -> Request {
    Request {
        platforms: platforms.iter().map(|platform| platform.parse().unwrap()).collect(),
        explicit_platforms: true,
        build_platform: "linux/amd64".parse().unwrap(),
        build_args: BTreeMap::new(),
        target: None,
        labels: Vec::new(),
        network: Network::Host,
        extra_hosts: Vec::new(),
        shm_size: None,
        ulimits: Vec::new(),
        contexts: Vec::new(),
        secrets: Default::default(),
        agents: Default::default(),
        no_cache_stages: Vec::new(),
        shared_caches: Default::default(),
        epoch: None,
    }
}

/// What is found in a Dockerfile, as `RULE: message` by line; with the options in the place of the
/// directive's.
fn found_with(text: &str, options: Option<&str>, world: &World) -> Vec<(u32, String)> {
    let options = options.map(|options| CheckOptions::parse(options).unwrap());
    let dockerfile = dockerfile::parse_with_checks(text.as_bytes(), options).unwrap();
    let Survey { graph, .. } = survey(&dockerfile, &request(&["linux/amd64", "linux/arm64"]), world);
    let parsed = dockerfile.warnings.iter();
    let mut found: Vec<_> = parsed.map(|w| (w.span.first, format!("{}: {}", w.rule, w.message))).collect();
    found.extend(graph.warnings.iter().map(|warning| {
        (warning.span.map_or(0, |span| span.first), format!("{}: {}", warning.rule.unwrap(), warning.message))
    }));
    found.sort();
    found
}

const PLAIN: World = World { shell: None, cwd: "/" };

fn found(text: &str) -> Vec<(u32, String)> {
    found_with(text, None, &PLAIN)
}

/// A Dockerfile, the line of its only finding, and the finding.
const TABLE: [(&str, u32, &str); 27] = [
    ("FROM a AS One", 1, "StageNameCasing: Stage name 'One' should be lowercase"),
    ("FROM a as b", 1, "FromAsCasing: 'as' and 'FROM' keywords' casing do not match"),
    ("FROM a\nRUN b \\\n\n c", 2, "NoEmptyContinuation: Empty continuation line"),
    (
        "FROM a\nrun b",
        2,
        "ConsistentInstructionCasing: Command 'run' should match the case of the command majority (uppercase)",
    ),
    (
        "FROM a AS x\nFROM a AS x",
        2,
        "DuplicateStageName: Duplicate stage name \"x\", stage names should be unique",
    ),
    (
        "FROM a AS context",
        1,
        "ReservedStageName: Stage name should not use the same name as reserved stage \"context\"",
    ),
    (
        "FROM a\nCMD b c",
        2,
        "JSONArgsRecommended: JSON arguments recommended for CMD to prevent unintended behavior related to OS signals",
    ),
    (
        "FROM a\nENTRYPOINT b c",
        2,
        "JSONArgsRecommended: JSON arguments recommended for ENTRYPOINT to prevent unintended behavior related to OS signals",
    ),
    (
        "FROM a\nMAINTAINER me",
        2,
        "MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label",
    ),
    (
        "ARG BASE=a\nFROM a:x$BAES",
        2,
        "UndefinedArgInFrom: FROM argument 'BAES' is not declared (did you mean BASE?)",
    ),
    (
        "FROM a\nWORKDIR b\nWORKDIR c",
        2,
        "WorkdirRelativePath: Relative workdir \"b\" can have unexpected results if the base image changes",
    ),
    (
        "FROM a\nENV NAME=1\nLABEL b=$NAEM",
        3,
        "UndefinedVar: Usage of undefined variable '$NAEM' (did you mean $NAME?)",
    ),
    (
        "FROM a\nCMD [\"b\"]\nCMD [\"c\"]",
        2,
        "MultipleInstructionsDisallowed: Multiple CMD instructions should not be used in the same stage because only the last one will be used",
    ),
    (
        "FROM a\nENV b c",
        2,
        "LegacyKeyValueFormat: \"ENV key=value\" should be used instead of legacy \"ENV key value\" format",
    ),
    (
        "FROM --platform=$TARGETPLATFORM a",
        1,
        "RedundantTargetPlatform: Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
    ),
    (
        "FROM a\nARG B_TOKEN",
        2,
        "SecretsUsedInArgOrEnv: Do not use ARG or ENV instructions for sensitive data (ARG \"B_TOKEN\")",
    ),
    (
        "ARG BASE\nFROM a:$BASE",
        2,
        "InvalidDefaultArgInFrom: Default value for ARG a:$BASE results in empty or invalid base image name",
    ),
    (
        "FROM --platform=linux/s390x a AS b\nFROM a",
        1,
        "FromPlatformFlagConstDisallowed: FROM --platform flag should not use constant value \"linux/s390x\"",
    ),
    (
        "FROM a\nCOPY b.log c d/",
        2,
        "CopyIgnoredFile: Attempting to Copy file \"b.log\" that is excluded by .dockerignore",
    ),
    (
        "FROM a\nADD /b.log d/",
        2,
        "CopyIgnoredFile: Attempting to Add file \"/b.log\" that is excluded by .dockerignore",
    ),
    (
        "FROM a\nEXPOSE 443/TCP",
        2,
        "ExposeProtoCasing: Defined protocol '443/TCP' in EXPOSE instruction should be lowercase",
    ),
    (
        "FROM a\nEXPOSE 80:80",
        2,
        "ExposeInvalidFormat: EXPOSE instruction should not define an IP address or host-port mapping, found '80:80'",
    ),
    (
        "FROM a\nRUN <<E\nb\nc\nE",
        2,
        "HeredocWithoutErrexit: a heredoc goes on after a command that fails, and succeeds if the last one does",
    ),
    (
        "FROM a\nRUN b ${TARGETARCH:-c}",
        2,
        "UndeclaredPlatformArg: RUN uses $TARGETARCH, which the builder knows but this stage does not declare, so it is empty",
    ),
    (
        "ARG V=1\nFROM a\nRUN b $V",
        3,
        "UndeclaredGlobalArg: RUN uses $V, which is declared before the first FROM but not in this stage, so it is empty",
    ),
    (
        "FROM a AS b\nRUN c\nFROM a\nCOPY --from=b d e",
        1,
        "EmulatedBuildStage: Stage 'b' runs its commands for linux/arm64, although only its files are taken; on the build platform they need no emulation",
    ),
    (
        "FROM a\nCMD ['b']",
        2,
        "InvalidJSONForm: CMD arguments look like a JSON array but are not a valid one; they are not read as JSON",
    ),
];

fn rule(finding: &str) -> &str {
    finding.split(':').next().unwrap()
}

#[test]
fn each_fires_on_its_sample() {
    for (text, line, want) in TABLE {
        let own: Vec<_> = found(text).into_iter().filter(|(_, text)| rule(text) == rule(want)).collect();
        assert_eq!(own, [(line, want.to_owned())], "{text}");
    }
}

#[test]
fn each_is_silenced_in_three_ways() {
    for (text, line, want) in TABLE {
        let rule = rule(want);
        let silent = |found: Vec<(u32, String)>| !found.iter().any(|(_, text)| self::rule(text) == rule);
        let directive = format!("# check=skip={rule}\n{text}");
        assert!(silent(found(&directive)), "{directive}");
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.insert(line as usize - 1, format!("# check=skip={rule}"));
        // A comment on the first line would be a directive.
        let above = format!("# a comment\n\n{}", lines.join("\n"));
        assert!(silent(found(&above)), "{above}");
        let argument = format!("skip={rule}");
        assert!(silent(found_with(text, Some(&argument), &PLAIN)), "{text}");
        // The argument stands for the directive, which counts no more.
        assert!(!silent(found_with(&directive, Some("error=false"), &PLAIN)), "{directive}");
    }
}

#[test]
fn the_experimental_one_is_off() {
    let text = "# something else\nFROM a AS b\n";
    assert_eq!(found(text), []);
    let on = found_with(text, Some("experimental=all"), &PLAIN);
    let want = "InvalidDefinitionDescription: Comment for FROM should follow the format: `# b <description>`";
    assert_eq!(on, [(2, want.to_owned())]);
    assert_eq!(found_with(text, Some("experimental=all;skip=InvalidDefinitionDescription"), &PLAIN), []);
}

#[test]
fn clean_files_have_no_findings() {
    for text in [
        "FROM a\nWORKDIR /b\nWORKDIR c",
        "FROM a AS one\nWORKDIR /b\nFROM one\nWORKDIR c",
        "FROM a\nARG TARGETARCH\nRUN b $TARGETARCH",
        "FROM a\nRUN TARGETARCH=$(uname -m); b $TARGETARCH",
        "FROM a\nRUN for TARGETOS in b; do c $TARGETOS; done",
        "FROM a\nRUN export TARGETARCH=x; b $TARGETARCH",
        "FROM a\nRUN read -r TARGETARCH < /x; b $TARGETARCH",
        "FROM a\nRUN b '$TARGETARCH' \\$TARGETARCH",
        "FROM a\nRUN [\"b\", \"$TARGETARCH\"]",
        "FROM a\nRUN <<E\nset -e\nb\nc\nE",
        "FROM a\nRUN <<E\nb\nE",
        "FROM a\nSHELL [\"/bin/bash\", \"-ec\"]\nRUN <<E\nb\nc\nE",
        "FROM a\nSHELL [\"/bin/bash\", \"-c\"]\nCMD b",
        "FROM a\nCOPY <<b.log c\nx\nb.log",
        "FROM a\nCOPY --from=b c.log d",
        "ARG BASE=a\nFROM $BASE",
        "FROM $BUILDARCH",
        "FROM --platform=$BUILDPLATFORM a AS b\nRUN c\nFROM a\nCOPY --from=b d e",
        "FROM a AS b\nRUN c\nFROM b\nCOPY --from=b d e",
        "FROM a AS b\nCOPY c d\nFROM a\nCOPY --from=b d e",
        "FROM a AS b\nRUN c\nFROM a",
    ] {
        assert_eq!(found(text), [], "{text}");
    }
}

#[test]
fn an_argument_assigns_nothing() {
    for script in
        ["echo TARGETARCH=$TARGETARCH", "TARGETARCH=$TARGETARCH make", "echo \"(TARGETARCH=$TARGETARCH)\""]
    {
        let found = found(&format!("FROM a\nRUN {script}"));
        assert_eq!(found.len(), 1, "{script}: {found:?}");
        assert_eq!(rule(&found[0].1), "UndeclaredPlatformArg", "{script}");
    }
}

#[test]
fn what_a_trigger_does_names_it() {
    let prefix = "in the base's trigger `ONBUILD WORKDIR b`: ";
    let text = "FROM a AS b\nONBUILD WORKDIR b\nFROM b";
    let found = found(text);
    let want = format!("WorkdirRelativePath: {prefix}Relative workdir \"b\"");
    assert!(found.iter().any(|(line, text)| *line == 3 && text.starts_with(&want)), "{found:?}");
    let long = "x".repeat(200);
    for (trigger, shown) in [
        ("STOPSIGNAL x".to_owned(), "ONBUILD STOPSIGNAL x`: ".to_owned()),
        (format!("EXPOSE {long}"), format!("ONBUILD EXPOSE {}…`: ", &long[..85])),
    ] {
        let dockerfile =
            dockerfile::parse(format!("FROM a AS b\nONBUILD {trigger}\nFROM b").as_bytes()).unwrap();
        let survey = survey(&dockerfile, &request(&["linux/amd64"]), &PLAIN);
        let messages: Vec<_> = survey.faults.iter().map(|fault| fault.message.as_str()).collect();
        let want = format!("in the base's trigger `{shown}");
        assert!(matches!(messages[..], [one] if one.starts_with(&want)), "{messages:?}");
    }
}

#[test]
fn the_base_counts() {
    let shell = Some(vec!["/bin/bash".to_owned(), "-c".to_owned()]);
    assert_eq!(found_with("FROM a\nCMD b", None, &World { shell, cwd: "/" }), []);
    // The base may change, so its WORKDIR does not make a relative one right.
    let found = found_with("FROM a\nWORKDIR b", None, &World { shell: None, cwd: "/srv" });
    assert_eq!(found.len(), 1);
}

#[test]
fn planning_goes_on_behind_faults() {
    let text = "FROM a\nEXPOSE x\nCOPY --from=9 a b\nFROM $NO AS c\nSTOPSIGNAL x\nFROM c\nRUN --mount=from=7,target=/x y\n";
    let dockerfile = dockerfile::parse(text.as_bytes()).unwrap();
    let survey = survey(&dockerfile, &request(&["linux/amd64", "linux/arm64"]), &PLAIN);
    let faults: Vec<_> = survey
        .faults
        .iter()
        .map(|fault| {
            (fault.span.unwrap().first, fault.word.as_deref().unwrap_or(""), fault.platform.is_some())
        })
        .collect();
    let want = [(2, "x", false), (3, "9", false), (4, "$NO", false), (5, "x", false), (7, "7", false)];
    assert_eq!(faults, want);
    assert_eq!(survey.stages.len(), 6);
    assert!(survey.stages.iter().all(|on| on.needed == (on.stage > 0)));
}

#[test]
fn a_fault_of_one_platform_names_it() {
    let dockerfile = dockerfile::parse(b"FROM --platform=linux/amd64 a AS amd64\n").unwrap();
    let survey = survey(&dockerfile, &request(&["linux/amd64", "linux/arm64"]), &PLAIN);
    assert_eq!(survey.faults.len(), 1);
    assert_eq!(survey.faults[0].platform.as_ref().unwrap().to_string(), "linux/arm64");
}

#[test]
fn stages_tell_what_they_share() {
    let text = "FROM --platform=$BUILDPLATFORM a AS b\nRUN c\nFROM a\nRUN d\nCOPY --from=b e f\n";
    let dockerfile = dockerfile::parse(text.as_bytes()).unwrap();
    let survey = survey(&dockerfile, &request(&["linux/amd64", "linux/arm64"]), &PLAIN);
    let steps: Vec<_> = survey.stages.iter().map(|on| on.steps.clone()).collect();
    assert_eq!(steps[0], steps[1]);
    assert_eq!((steps[0].len(), steps[2].len()), (1, 2));
    assert!(steps[2].iter().all(|step| !steps[3].contains(step)));
    assert_eq!(survey.stages[1].platform.to_string(), "linux/amd64");
}

#[test]
fn hostile_files_end() {
    // As much stack as the main thread has; those of tests have less.
    let big = std::thread::Builder::new().stack_size(8 << 20);
    big.spawn(plan_hostile_files).unwrap().join().unwrap();
}

fn plan_hostile_files() {
    let chain: String =
        (1..2000).map(|n| format!("FROM s{} AS s{n}\nCOPY --from=s{0} a b\n", n - 1)).collect();
    let dockerfile = dockerfile::parse(format!("FROM a AS s0\n{chain}").as_bytes()).unwrap();
    let deep = survey(&dockerfile, &request(&["linux/amd64"]), &PLAIN);
    assert!(deep.faults[0].message.contains("more than 128 stages"), "{:?}", deep.faults[0]);
    assert!(super::super::foresee_runs(&dockerfile, &request(&["linux/amd64"])).is_err());
    let many: String = (0..5000).map(|n| format!("LABEL a=$U{n}\nSTOPSIGNAL X{n}\n")).collect();
    let dockerfile = dockerfile::parse(format!("FROM a\n{many}").as_bytes()).unwrap();
    let found = survey(&dockerfile, &request(&["linux/amd64"]), &PLAIN);
    assert_eq!((found.graph.warnings.len(), found.faults.len(), found.cut), (1001, 1000, true));
    assert!(!deep.cut);
}
