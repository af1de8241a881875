//! Commands that need namespaces, passed from one process of a build to another.

use crate::dockerfile::Span;
use crate::plan::RunSite;

/// Writes them, one a line.
pub(super) fn write(sites: &[RunSite]) -> String {
    let line = |site: &RunSite| {
        let text = site.text.replace(['\n', '\r'], " ");
        format!("{} {} {} {text}\n", site.platform, site.span.first, site.span.last)
    };
    sites.iter().map(line).collect()
}

/// Reads what [`write`] has written.
pub(super) fn read(text: &str) -> Vec<RunSite> {
    let site = |line: &str| {
        let mut words = line.splitn(4, ' ');
        Some(RunSite {
            platform: words.next()?.parse().ok()?,
            span: Span { first: words.next()?.parse().ok()?, last: words.next()?.parse().ok()? },
            text: words.next()?.to_owned(),
        })
    };
    text.lines().filter_map(site).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trip() {
        let site = |platform: &str, text: &str| RunSite {
            platform: platform.parse().unwrap(),
            span: Span { first: 3, last: 4 },
            text: text.to_owned(),
        };
        let sites = [site("linux/arm/v7", "ONBUILD RUN a  b"), site("linux/amd64", "")];
        assert_eq!(read(&write(&sites)), sites);
        assert_eq!(read(""), []);
    }
}
