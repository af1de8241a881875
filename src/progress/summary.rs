//! The table at the end of a build.

use super::escape;
use super::event::{Execution, PlatformSummary, Summary};
use super::human;

const HEAD: [&str; 6] = ["PLATFORM", "DIGEST", "SIZE", "TIME", "CACHED", "EXECUTION"];

/// The lines of the table and of what follows it, none wider than it needs.
pub(super) fn lines(summary: &Summary) -> Vec<String> {
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(summary.platforms.iter().map(row));
    let mut widths = [0; HEAD.len()];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let mut lines: Vec<String> = rows.iter().map(|row| align(row, &widths)).collect();
    lines.push(String::new());
    let what = if summary.index { "index" } else { "image" };
    lines.push(format!("{what:<7} {}", escape::one_line(&summary.digest)));
    for name in &summary.names {
        lines.push(format!("name    {}", escape::one_line(name)));
    }
    for output in &summary.outputs {
        lines.push(format!("output  {}", escape::one_line(output)));
    }
    lines.push(format!("time    {}", human::duration(summary.duration)));
    lines
}

fn row(of: &PlatformSummary) -> [String; HEAD.len()] {
    [
        of.platform.to_string(),
        human::short_digest(&escape::one_line(&of.digest)).to_owned(),
        human::bytes(of.size),
        human::duration(of.duration),
        format!("{}/{}", of.cached, of.steps),
        match &of.execution {
            Execution::NotNeeded => "nothing ran".to_owned(),
            Execution::Native => "native".to_owned(),
            Execution::Emulated(by) => format!("emulated ({})", escape::one_line(by)),
        },
    ]
}

/// Numbers stand at the right of their column, words at the left.
fn align(row: &[String; HEAD.len()], widths: &[usize; HEAD.len()]) -> String {
    let mut line = String::new();
    for (column, (cell, &width)) in row.iter().zip(widths).enumerate() {
        match column {
            2..=4 => line.push_str(&format!("{cell:>width$}  ")),
            _ => line.push_str(&format!("{cell:<width$}  ")),
        }
    }
    line.trim_end().to_owned()
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::super::label::tests::platform;
    use super::*;

    /// A build of two platforms, one of them emulated.
    pub(in super::super) fn summary() -> Summary {
        let one = |name: &str, digit: &str, execution| PlatformSummary {
            platform: platform(name),
            digest: format!("sha256:{}", digit.repeat(64)),
            size: 4_321_000,
            duration: Duration::from_millis(4200),
            cached: 3,
            steps: 5,
            execution,
        };
        Summary {
            platforms: vec![
                one("linux/amd64", "a", Execution::Native),
                PlatformSummary {
                    size: 987,
                    duration: Duration::from_secs(75),
                    cached: 10,
                    steps: 12,
                    ..one("linux/arm/v7", "b", Execution::Emulated("qemu-arm 7.2.22".to_owned()))
                },
                one("linux/riscv64", "c", Execution::NotNeeded),
            ],
            digest: format!("sha256:{}", "d".repeat(64)),
            index: true,
            names: vec!["localhost:5000/app:1".to_owned()],
            outputs: vec!["oci ./out.tar".to_owned()],
            duration: Duration::from_millis(76_400),
        }
    }

    #[test]
    fn columns_are_aligned() {
        let want = "\
PLATFORM       DIGEST          SIZE   TIME  CACHED  EXECUTION
linux/amd64    aaaaaaaaaaaa  4.3 MB   4.2s     3/5  native
linux/arm/v7   bbbbbbbbbbbb   987 B  1m15s   10/12  emulated (qemu-arm 7.2.22)
linux/riscv64  cccccccccccc  4.3 MB   4.2s     3/5  nothing ran

index   sha256:dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd
name    localhost:5000/app:1
output  oci ./out.tar
time    1m16s";
        assert_eq!(lines(&summary()).join("\n"), want);
    }
}
