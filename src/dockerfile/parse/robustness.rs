//! No input makes the parser panic, and its time grows with the input only.

use proptest::prelude::*;

use super::super::properties;
use super::*;

/// Pieces of Dockerfiles, to be put together at random.
const TOKENS: [&str; 61] = [
    "FROM",
    "RUN",
    "COPY",
    "ADD",
    "ENV",
    "ARG",
    "CMD",
    "ONBUILD",
    "HEALTHCHECK",
    "SHELL",
    "VOLUME",
    "LABEL",
    "EXPOSE",
    "WORKDIR",
    "from",
    "AS",
    "a",
    "b",
    "scratch",
    "é",
    "\u{a0}",
    " ",
    " ",
    " ",
    "\t",
    "\n",
    "\n",
    "\r\n",
    "\\",
    "\\\n",
    "`",
    "\"",
    "'",
    "=",
    "--",
    "--from=",
    "--link",
    "--mount=",
    "--mount=type=cache,target=/c ",
    "--mount=type=secret,id=$",
    ",target=",
    "type=tmpfs",
    "--interval=1s",
    "<<",
    "<<-",
    "E",
    "<<E",
    "\nE\n",
    "3<<E",
    "[",
    "]",
    "[\"a\"]",
    ",",
    "{",
    "#",
    "# escape=`\n",
    "# check=skip=all\n",
    "# syntax=",
    "$",
    "\0",
    "\u{feff}",
];

fn holds(source: &[u8]) {
    if let Err(fault) = properties::dockerfile(source) {
        panic!("{fault}\n{:?}", String::from_utf8_lossy(source));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes(source in proptest::collection::vec(any::<u8>(), 0..400)) {
        holds(&source);
    }

    #[test]
    fn any_text(source in "\\PC{0,80}(\n\\PC{0,80}){0,6}") {
        holds(source.as_bytes());
    }

    #[test]
    fn token_soup(tokens in proptest::collection::vec(proptest::sample::select(&TOKENS[..]), 0..60)) {
        let soup = tokens.concat();
        holds(soup.as_bytes());
        holds(format!("FROM a\n{soup}").as_bytes());
    }
}

/// Far above what linear work takes without optimisation, far below what quadratic work would.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(20);

#[test]
fn large_files_take_linear_time() {
    let sources = [
        format!("FROM a\n{}", "ARG A=1\n".repeat(100_000)),
        format!("FROM a\nARG {}", "A \\\n".repeat(200_000)),
        format!("FROM a\n{}ARG {}", "# b c\n".repeat(50_000), "A_KEY \\\n".repeat(50_000)),
        format!("FROM a\n{}ARG {}", "# check=skip=a\n".repeat(50_000), "A_KEY \\\n".repeat(50_000)),
        format!("FROM a\nRUN {}", "x\\\n".repeat(300_000)),
        format!("FROM a\nRUN {}x", "--mount=target=/a \\\n".repeat(100_000)),
        format!("FROM a\nRUN cat {}\n{}", "<<E \\\n".repeat(50_000), "E\n".repeat(50_000)),
        format!("FROM a\n{}", "ONBUILD ".repeat(8_000)),
        format!("FROM a\n{}", "ONBUILD \\\n".repeat(100_000) + "RUN <<E\nE\n"),
        "\\\n".repeat(300_000),
        "# a\n".repeat(300_000),
        (0..50_000).map(|n| format!("FROM a AS s{n}\n")).collect(),
    ];
    for source in sources {
        let started = std::time::Instant::now();
        let result = parse(source.as_bytes());
        let start: String = source.chars().take(40).collect();
        assert!(started.elapsed() < PATIENCE, "{start:?}: {:?} {}", started.elapsed(), result.is_ok());
    }
}
