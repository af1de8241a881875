//! One compact JSON object a line.
//!
//! The order of the fields is part of the form: `event` first, then `platform`
//! and `step` where there are any. The last line of a failed build is the error
//! and begins with `error` instead.

use std::collections::BTreeMap;
use std::time::Duration;

use fanfold_platforms::Platform;
use serde_json::{Value, json};

use super::event::{
    ErrorReport, Event, Execution, Step, StepId, Summary, TransferEnd, TransferId, TransferKind,
};
use super::renderer::Renderer;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Json {
    steps: BTreeMap<StepId, Step>,
    transfers: BTreeMap<TransferId, Pending>,
    /// Held back to be the last line.
    error: Option<ErrorReport>,
}

#[derive(Debug)]
struct Pending {
    kind: TransferKind,
    what: String,
    registry: String,
    started: Duration,
}

impl Json {
    fn step(&self, event: &str, id: StepId) -> Line {
        let step = self.steps.get(&id);
        Line::new(event)
            .field("platform", step.map(|s| s.platform.to_string()).into())
            .field("step", step.map(|s| s.text.as_str()).into())
    }

    /// The fields that tell a step from others of the same text.
    fn place(&self, line: Line, id: StepId) -> Line {
        match self.steps.get(&id) {
            Some(step) => line.field("stage", step.stage.as_str().into()).field("line", step.line.into()),
            None => line,
        }
    }

    fn transfer(&mut self, at: Duration, event: &Event) -> Option<Line> {
        match event {
            Event::TransferStarted { id, kind, what, registry, .. } => {
                let pending =
                    Pending { kind: *kind, what: what.clone(), registry: registry.clone(), started: at };
                self.transfers.insert(*id, pending);
                None
            }
            Event::TransferFinished { id, how, bytes } => {
                let pending = self.transfers.remove(id)?;
                let event = match pending.kind {
                    TransferKind::Pull => "pulled",
                    TransferKind::Push => "pushed",
                    TransferKind::Unpack => "unpacked",
                    TransferKind::Compress => "compressed",
                };
                let how = match how {
                    TransferEnd::Transferred => "transferred",
                    TransferEnd::Mounted => "mounted",
                    TransferEnd::AlreadyThere => "already there",
                    // Nothing was pulled: the error or the retry says the rest.
                    TransferEnd::Abandoned => return None,
                };
                let registry = Some(pending.registry).filter(|host| !host.is_empty());
                Some(
                    Line::new(event)
                        .field("what", pending.what.into())
                        .field("registry", registry.into())
                        .field("how", how.into())
                        .field("bytes", (*bytes).into())
                        .field("seconds", seconds(at.saturating_sub(pending.started))),
                )
            }
            _ => None,
        }
    }

    fn line(&mut self, at: Duration, event: &Event) -> Option<Line> {
        Some(match event {
            Event::Plan { platforms, steps } => {
                self.steps.extend(steps.iter().map(|step| (step.id, step.clone())));
                Line::new("plan").field("platforms", names(platforms)).field("steps", steps.len().into())
            }
            Event::StepStarted { id } => {
                let line = self.place(self.step("started", *id), *id);
                match self.steps.get(id) {
                    Some(step) => line
                        .field("number", step.number.into())
                        .field("of", step.of.into())
                        .field("targets", names(&step.platforms))
                        .field("emulated_by", step.emulated_by.clone().into()),
                    None => line,
                }
            }
            // These four fields and no more: the form is promised to the letter.
            Event::StepOutput { id, text, .. } => {
                let text = text.strip_suffix(b"\r").unwrap_or(text);
                self.step("output", *id).field("text", String::from_utf8_lossy(text).into())
            }
            Event::StepFinished { id, duration } => {
                let line = self.place(self.step("finished", *id), *id);
                line.field("seconds", seconds(*duration))
            }
            Event::StepCached { id } => self.place(self.step("cached", *id), *id),
            Event::StepCancelled { id } => self.place(self.step("cancelled", *id), *id),
            Event::StepFailed { id, message } => {
                let line = self.place(self.step("failed", *id), *id);
                line.field("message", message.as_str().into())
            }
            Event::TransferStarted { .. }
            | Event::TransferProgress { .. }
            | Event::TransferFinished { .. } => return self.transfer(at, event),
            Event::Retry { host, operation, wait, attempt, of, reason } => Line::new("retry")
                .field("host", host.as_str().into())
                .field("operation", operation.as_str().into())
                .field("wait", seconds(*wait))
                .field("attempt", (*attempt).into())
                .field("of", (*of).into())
                .field("reason", reason.as_str().into()),
            Event::Note { text } => Line::new("note").field("text", text.as_str().into()),
            Event::Warning(warning) => {
                let place = warning.place.as_ref();
                Line::new("warning")
                    .field("platform", name(warning.platform.as_ref()))
                    .field("rule", warning.rule.clone().into())
                    .field("file", place.map(|place| place.file.as_str()).into())
                    .field("line", place.map(|place| place.line).into())
                    .field("column", place.map(|place| place.column).into())
                    .field("text", warning.text.as_str().into())
                    .field("hint", warning.hint.clone().into())
            }
            Event::Written { kind, destination } => Line::new("written")
                .field("type", kind.as_str().into())
                .field("destination", destination.as_str().into()),
            Event::Finished(summary) => result(summary),
            Event::Failed(report) => {
                self.error = Some(report.clone());
                return None;
            }
        })
    }
}

impl Renderer for Json {
    fn event(&mut self, at: Duration, event: &Event, out: &mut Vec<u8>) {
        if let Some(line) = self.line(at, event) {
            line.end(out);
        }
    }

    fn finish(&mut self, _at: Duration, out: &mut Vec<u8>) {
        if let Some(report) = self.error.take() {
            error(&report).end(out);
        }
    }
}

fn result(summary: &Summary) -> Line {
    let platforms: Vec<Value> = summary
        .platforms
        .iter()
        .map(|of| {
            let (execution, by) = match &of.execution {
                Execution::NotNeeded => ("none", None),
                Execution::Native => ("native", None),
                Execution::Emulated(by) => ("emulated", Some(by)),
            };
            json!({
                "platform": of.platform.to_string(),
                "digest": of.digest,
                "size": of.size,
                "seconds": seconds(of.duration),
                "cached": of.cached,
                "steps": of.steps,
                "execution": execution,
                "emulated_by": by,
            })
        })
        .collect();
    Line::new("result")
        .field("digest", summary.digest.as_str().into())
        .field("index", summary.index.into())
        .field("names", summary.names.clone().into())
        .field("outputs", summary.outputs.clone().into())
        .field("seconds", seconds(summary.duration))
        .field("platforms", platforms.into())
}

fn error(report: &ErrorReport) -> Line {
    let fields = Line(String::new())
        .field("code", report.code.into())
        .field("kind", report.kind.as_str().into())
        .field("platform", name(report.platform.as_ref()))
        .field("file", report.file.clone().into())
        .field("line", report.line.into())
        .field("column", report.column.into())
        .field("message", report.message.as_str().into())
        .field("hint", report.hint.clone().into())
        .field("retryable", report.retryable.into());
    Line(format!("\"error\":{{{}}}", fields.0))
}

fn name(platform: Option<&Platform>) -> Value {
    platform.map(ToString::to_string).into()
}

fn names(platforms: &[Platform]) -> Value {
    platforms.iter().map(ToString::to_string).collect()
}

/// Seconds with milliseconds after the point.
fn seconds(span: Duration) -> Value {
    // A time in milliseconds is exact in a double for 285,000 years.
    (span.as_millis() as f64 / 1000.0).into()
}

/// An object that is being written, without its braces: a map would need a
/// feature of `serde_json` to keep the order of the fields.
struct Line(String);

impl Line {
    fn new(event: &str) -> Self {
        Self(String::new()).field("event", event.into())
    }

    fn field(mut self, key: &str, value: Value) -> Self {
        if !self.0.is_empty() {
            self.0.push(',');
        }
        self.0.push_str(&format!("\"{key}\":{value}"));
        self
    }

    /// Serialised JSON holds control characters only inside strings, and the
    /// first 32 are escaped already. The rest acts on terminals too, so it gets
    /// the same treatment: the value is unchanged for whoever parses it.
    fn end(self, out: &mut Vec<u8>) {
        let mut line = String::with_capacity(self.0.len() + 3);
        line.push('{');
        for c in self.0.chars() {
            if super::escape::acts(c) {
                line.push_str(&format!("\\u{:04x}", u32::from(c)));
            } else {
                line.push(c);
            }
        }
        line.push_str("}\n");
        out.extend_from_slice(line.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::Stream;
    use super::super::label::tests::{platform, step};
    use super::super::summary::tests::summary;
    use super::super::warning::tests::warning;
    use super::*;

    fn render(script: Vec<(u64, Event)>) -> String {
        let mut json = Json::default();
        let mut out = Vec::new();
        for (at, event) in script {
            json.event(Duration::from_millis(at), &event, &mut out);
        }
        json.finish(Duration::ZERO, &mut out);
        let text = String::from_utf8(out).expect("utf-8");
        for line in text.lines() {
            serde_json::from_str::<Value>(line).expect("each line is JSON");
        }
        text
    }

    fn plan() -> Event {
        Event::Plan {
            platforms: vec![platform("linux/amd64"), platform("linux/arm64")],
            steps: vec![
                step(1, "linux/amd64", &["linux/amd64", "linux/arm64"], "COPY . ."),
                step(2, "linux/arm64", &["linux/arm64"], "RUN make"),
            ],
        }
    }

    #[test]
    fn fields_stand_in_their_order_and_the_error_is_last() {
        let id = StepId(2);
        let output = |text: &[u8]| Event::StepOutput { id, stream: Stream::Stderr, text: text.to_vec() };
        let report = ErrorReport {
            code: 1,
            kind: "step".to_owned(),
            platform: Some(platform("linux/arm64")),
            file: Some("Dockerfile".to_owned()),
            line: Some(2),
            column: Some(5),
            message: "exit code 2".to_owned(),
            hint: None,
            retryable: false,
        };
        let got = render(vec![
            (0, plan()),
            (1, Event::StepCached { id: StepId(1) }),
            (2, Event::StepStarted { id }),
            (3, output(b"cc \"a\"\xff \x1b[1m\r")),
            (4, output("c1 \u{9b}2J".as_bytes())),
            (5, Event::Warning(warning())),
            (5, Event::Failed(report)),
            (6, Event::StepFailed { id, message: "exit code 2".to_owned() }),
            (7, Event::StepFinished { id, duration: Duration::from_millis(1310) }),
        ]);
        let want = r#"{"event":"plan","platforms":["linux/amd64","linux/arm64"],"steps":2}
{"event":"cached","platform":"linux/amd64","step":"COPY . .","stage":"build","line":1}
{"event":"started","platform":"linux/arm64","step":"RUN make","stage":"build","line":2,"number":2,"of":5,"targets":["linux/arm64"],"emulated_by":null}
{"event":"output","platform":"linux/arm64","step":"RUN make","text":"cc \"a\"� \u001b[1m"}
{"event":"output","platform":"linux/arm64","step":"RUN make","text":"c1 \u009b2J"}
{"event":"warning","platform":null,"rule":"StageNameCasing","file":"Dockerfile","line":12,"column":11,"text":"Stage name 'B' should be lowercase","hint":"write it small"}
{"event":"failed","platform":"linux/arm64","step":"RUN make","stage":"build","line":2,"message":"exit code 2"}
{"event":"finished","platform":"linux/arm64","step":"RUN make","stage":"build","line":2,"seconds":1.31}
{"error":{"code":1,"kind":"step","platform":"linux/arm64","file":"Dockerfile","line":2,"column":5,"message":"exit code 2","hint":null,"retryable":false}}
"#;
        assert_eq!(got, want);
    }

    #[test]
    fn transfers_and_the_result_are_events() {
        let id = TransferId(1);
        let got = render(vec![
            (
                100,
                Event::TransferStarted {
                    id,
                    kind: TransferKind::Push,
                    what: "aaaaaaaaaaaa".to_owned(),
                    registry: "localhost:5000".to_owned(),
                    total: None,
                },
            ),
            (200, Event::TransferProgress { id, bytes: 1 }),
            (350, Event::TransferFinished { id, how: TransferEnd::Mounted, bytes: 0 }),
            (400, Event::Written { kind: "oci".to_owned(), destination: "out".to_owned() }),
            (500, Event::Finished(Summary { platforms: summary().platforms.split_off(2), ..summary() })),
        ]);
        let (c, d) = ("c".repeat(64), "d".repeat(64));
        let want = format!(
            r#"{{"event":"pushed","what":"aaaaaaaaaaaa","registry":"localhost:5000","how":"mounted","bytes":0,"seconds":0.25}}
{{"event":"written","type":"oci","destination":"out"}}
{{"event":"result","digest":"sha256:{d}","index":true,"names":["localhost:5000/app:1"],"outputs":["oci ./out.tar"],"seconds":76.4,"platforms":[{{"platform":"linux/riscv64","digest":"sha256:{c}","size":4321000,"seconds":4.2,"cached":3,"steps":5,"execution":"none","emulated_by":null}}]}}
"#
        );
        assert_eq!(got, want);
    }
}
