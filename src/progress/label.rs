//! The words that stand for a step, the same in every writer.

use fanfold_platforms::Platform;

use super::escape;
use super::event::Step;

/// Targets named in full; more are counted.
const NAMED_TARGETS: usize = 3;

/// Where a step runs, and for whom if that is not the same:
/// `linux/arm64`, `linux/amd64->arm64,riscv64`, `linux/amd64->7 targets`.
///
/// A target of the same system drops its `linux/`, which only widens the line.
pub(super) fn place(step: &Step) -> String {
    let on = step.platform.to_string();
    match step.platforms.as_slice() {
        [] => on,
        [only] if *only == step.platform => on,
        many if many.len() > NAMED_TARGETS => format!("{on}->{} targets", many.len()),
        few => {
            let names: Vec<String> = few.iter().map(|p| short(p, &step.platform)).collect();
            format!("{on}->{}", names.join(","))
        }
    }
}

fn short(target: &Platform, on: &Platform) -> String {
    let name = target.to_string();
    match name.strip_prefix(on.os()).and_then(|rest| rest.strip_prefix('/')) {
        Some(rest) => rest.to_owned(),
        None => name,
    }
}

/// Place, stage, number and instruction: `[linux/arm64 build 2/5] RUN make`.
pub(super) fn title(step: &Step) -> String {
    let stage = escape::one_line(&step.stage);
    let gap = if stage.is_empty() { "" } else { " " };
    format!("[{}{gap}{stage} {}/{}] {}", place(step), step.number, step.of, escape::one_line(&step.text))
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::event::StepId;
    use super::*;

    pub(in super::super) fn platform(name: &str) -> Platform {
        name.parse().expect("a platform")
    }

    /// A step of stage `build` with number `id` of 5, on line `id`.
    pub(in super::super) fn step(id: u32, on: &str, targets: &[&str], text: &str) -> Step {
        Step {
            id: StepId(id),
            platforms: targets.iter().map(|name| platform(name)).collect(),
            platform: platform(on),
            stage: "build".to_owned(),
            text: text.to_owned(),
            line: id,
            number: id,
            of: 5,
            emulated_by: None,
        }
    }

    #[test]
    fn titles_show_where_and_for_whom() {
        for (on, targets, want) in [
            ("linux/arm64", &["linux/arm64"][..], "[linux/arm64 build 2/5] RUN make"),
            ("linux/amd64", &["linux/arm64"], "[linux/amd64->arm64 build 2/5] RUN make"),
            (
                "linux/amd64",
                &["linux/amd64", "linux/arm/v7"],
                "[linux/amd64->amd64,arm/v7 build 2/5] RUN make",
            ),
            ("linux/amd64", &["windows/amd64"], "[linux/amd64->windows/amd64 build 2/5] RUN make"),
            (
                "linux/amd64",
                &["linux/amd64", "linux/arm64", "linux/s390x", "linux/riscv64"],
                "[linux/amd64->4 targets build 2/5] RUN make",
            ),
        ] {
            assert_eq!(title(&step(2, on, targets, "RUN make")), want);
        }
    }

    #[test]
    fn titles_hold_one_line_without_control_sequences() {
        let mut hostile = step(1, "linux/amd64", &["linux/amd64"], "RUN <<E\n\x1b[2Jx\nE");
        hostile.stage = String::new();
        assert_eq!(title(&hostile), "[linux/amd64 1/5] RUN <<E x E");
    }
}
