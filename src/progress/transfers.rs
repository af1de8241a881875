//! What the writers for people remember of transfers, one by one and summed up.

use std::collections::BTreeMap;
use std::time::Duration;

use super::event::{Event, TransferEnd, TransferId, TransferKind};
use super::{escape, human};

/// A group that has been idle this long is over: blobs follow one another with
/// short gaps, and a line for each gap would tell nothing.
const SETTLED: Duration = Duration::from_millis(500);

/// One transfer under way.
#[derive(Debug)]
pub(super) struct Moving {
    kind: TransferKind,
    what: String,
    registry: String,
    total: Option<u64>,
    started: Duration,
    /// Bytes so far.
    pub(super) bytes: u64,
}

impl Moving {
    /// From [`Event::TransferStarted`]; nothing from another event.
    pub(super) fn start(at: Duration, event: &Event) -> Option<Self> {
        match event {
            Event::TransferStarted { kind, what, registry, total, .. } => Some(Self {
                kind: *kind,
                what: escape::one_line(what),
                registry: escape::one_line(registry),
                total: *total,
                started: at,
                bytes: 0,
            }),
            _ => None,
        }
    }

    /// `pull 3f4a5b6c7d8e from docker.io: 1.0 MB of 4.0 MB, 10.0s`.
    pub(super) fn so_far(&self, at: Duration) -> String {
        format!(
            "{} {}{}: {}, {}",
            verb(self.kind).0,
            self.what,
            with(self.kind, &self.registry),
            amount(self.bytes, self.total),
            human::duration(at.saturating_sub(self.started))
        )
    }

    /// `pulled 3f4a5b6c7d8e from docker.io: 4.0 MB, 12.0s`.
    pub(super) fn ended(&self, at: Duration, how: TransferEnd, bytes: u64) -> String {
        let (now, past) = verb(self.kind);
        let time = human::duration(at.saturating_sub(self.started));
        let (verb, result) = match how {
            TransferEnd::Transferred => (past, format!("{}, {time}", human::bytes(bytes))),
            TransferEnd::Mounted => (now, "mounted from another repository".to_owned()),
            TransferEnd::AlreadyThere => (now, "already there".to_owned()),
            TransferEnd::Abandoned => (now, format!("given up after {time}")),
        };
        let with = with(self.kind, &self.registry);
        format!("{verb} {}{with}: {result}", self.what)
    }
}

fn verb(kind: TransferKind) -> (&'static str, &'static str) {
    match kind {
        TransferKind::Pull => ("pull", "pulled"),
        TransferKind::Push => ("push", "pushed"),
        TransferKind::Unpack => ("unpack", "unpacked"),
        TransferKind::Compress => ("compress", "compressed"),
    }
}

fn with(kind: TransferKind, registry: &str) -> String {
    match kind {
        _ if registry.is_empty() => String::new(),
        TransferKind::Push => format!(" to {registry}"),
        _ => format!(" from {registry}"),
    }
}

fn amount(bytes: u64, total: Option<u64>) -> String {
    match total {
        Some(total) => format!("{} of {}", human::bytes(bytes), human::bytes(total)),
        None => human::bytes(bytes),
    }
}

/// Transfers of one kind with one registry.
#[derive(Debug, Default)]
struct Group {
    active: BTreeMap<TransferId, Moving>,
    first: Duration,
    last: Duration,
    moved: u32,
    bytes: u64,
    mounted: u32,
    there: u32,
    abandoned: u32,
}

impl Group {
    fn live(&self, kind: TransferKind, registry: &str) -> String {
        let bytes = self.bytes + self.active.values().map(|m| m.bytes).sum::<u64>();
        // A total that leaves out a transfer of unknown size would mislead.
        let total = self.active.values().try_fold(self.bytes, |sum, moving| Some(sum + moving.total?));
        let what = match self.active.values().next() {
            Some(only) if self.active.len() == 1 => only.what.clone(),
            _ => format!("{} objects", self.active.len()),
        };
        format!("{} {what}{}: {}", verb(kind).0, with(kind, registry), amount(bytes, total))
    }

    fn done(&self, kind: TransferKind, registry: &str) -> String {
        let mut parts = Vec::new();
        if self.moved > 0 {
            let s = if self.moved == 1 { "" } else { "s" };
            let bytes = human::bytes(self.bytes);
            parts.push(format!("{} object{s}, {bytes}", self.moved));
        }
        for (count, word) in
            [(self.mounted, "mounted"), (self.there, "already there"), (self.abandoned, "given up")]
        {
            if count > 0 {
                parts.push(format!("{count} {word}"));
            }
        }
        let verb = if self.moved > 0 { verb(kind).1 } else { verb(kind).0 };
        format!("{verb}{}: {}", with(kind, registry), parts.join(", "))
    }
}

/// All transfers, summed up by kind and registry.
#[derive(Debug, Default)]
pub(super) struct Transfers {
    groups: BTreeMap<(TransferKind, String), Group>,
}

impl Transfers {
    /// Takes in an event; those that are about something else do nothing.
    pub(super) fn event(&mut self, at: Duration, event: &Event) {
        match event {
            Event::TransferStarted { id, .. } => {
                if let Some(moving) = Moving::start(at, event) {
                    let key = (moving.kind, moving.registry.clone());
                    let group =
                        self.groups.entry(key).or_insert_with(|| Group { first: at, ..Group::default() });
                    group.active.insert(*id, moving);
                }
            }
            Event::TransferProgress { id, bytes } => {
                if let Some(moving) = self.groups.values_mut().find_map(|g| g.active.get_mut(id)) {
                    moving.bytes = *bytes;
                }
            }
            Event::TransferFinished { id, how, bytes } => {
                for group in self.groups.values_mut() {
                    if group.active.remove(id).is_none() {
                        continue;
                    }
                    group.last = at;
                    match how {
                        TransferEnd::Transferred => {
                            group.moved += 1;
                            group.bytes += bytes;
                        }
                        TransferEnd::Mounted => group.mounted += 1,
                        TransferEnd::AlreadyThere => group.there += 1,
                        TransferEnd::Abandoned => group.abandoned += 1,
                    }
                }
            }
            _ => {}
        }
    }

    /// A line and a time for each group that is moving bytes.
    pub(super) fn live(&self, at: Duration) -> Vec<(String, Duration)> {
        let moving = self.groups.iter().filter(|(_, g)| !g.active.is_empty());
        moving
            .map(|((kind, registry), group)| {
                let time = at.saturating_sub(group.first);
                (group.live(*kind, registry), time)
            })
            .collect()
    }

    /// Takes out the groups that are over, each as a line and a time; with
    /// `all`, also those that ended only just now.
    pub(super) fn settle(&mut self, at: Duration, all: bool) -> Vec<(String, Duration)> {
        let over =
            |group: &Group| group.active.is_empty() && (all || at.saturating_sub(group.last) >= SETTLED);
        self.groups
            .extract_if(.., |_, group| over(group))
            .map(|((kind, registry), group)| {
                let time = group.last.saturating_sub(group.first);
                (group.done(kind, &registry), time)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transfers_are_summed_up_by_kind_and_registry() {
        let mut transfers = Transfers::default();
        let seconds = Duration::from_secs;
        for (id, total) in [(1, Some(4_000_000)), (2, Some(6_000_000)), (3, None)] {
            let event = Event::TransferStarted {
                id: TransferId(id),
                kind: TransferKind::Push,
                what: format!("layer{id}"),
                registry: "r.example".to_owned(),
                total,
            };
            transfers.event(seconds(id), &event);
        }
        let finish = |id, how, bytes| Event::TransferFinished { id: TransferId(id), how, bytes };
        let bytes = 1_000_000;
        transfers.event(seconds(4), &Event::TransferProgress { id: TransferId(1), bytes });
        let text = |lines: Vec<(String, Duration)>| -> Vec<String> {
            lines.into_iter().map(|(line, time)| format!("{line} {}", time.as_secs())).collect()
        };
        assert_eq!(text(transfers.live(seconds(4))), ["push 3 objects to r.example: 1.0 MB 3"]);
        transfers.event(seconds(5), &finish(3, TransferEnd::Mounted, 0));
        assert_eq!(text(transfers.live(seconds(5))), ["push 2 objects to r.example: 1.0 MB of 10.0 MB 4"]);
        transfers.event(seconds(6), &finish(1, TransferEnd::Transferred, 4_000_000));
        assert_eq!(text(transfers.live(seconds(6))), ["push layer2 to r.example: 4.0 MB of 10.0 MB 5"]);
        transfers.event(seconds(7), &finish(2, TransferEnd::Transferred, 6_000_000));
        assert!(transfers.settle(seconds(7), false).is_empty());
        assert_eq!(
            text(transfers.settle(seconds(8), false)),
            ["pushed to r.example: 2 objects, 10.0 MB, 1 mounted 6"]
        );
        assert!(transfers.settle(seconds(9), true).is_empty());
    }
}
