//! Metrics as text: Prometheus' exposition format, version 0.0.4.
//!
//! Written by hand because it is small: families with HELP and TYPE, samples with labels. Labels are
//! static names and values from small fixed sets; never a party's text.

use std::fmt::{Display, Write};
use std::time::Duration;

/// Media type of the format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A text under construction.
#[derive(Debug, Default)]
pub struct Exposition {
    text: String,
}

impl Exposition {
    /// A number that only rises, with its samples by label value. The name ends in `_total`.
    pub fn counters<'a, V: Display>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        samples: impl IntoIterator<Item = (&'a str, V)>,
    ) {
        self.family(name, "counter", help, label, samples);
    }

    /// A number that only rises. The name ends in `_total`.
    pub fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, "counter", help);
        self.sample(name, &[], value);
    }

    /// A number that goes up and down, with its samples by label value.
    pub fn gauges<'a, V: Display>(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        samples: impl IntoIterator<Item = (&'a str, V)>,
    ) {
        self.family(name, "gauge", help, label, samples);
    }

    /// A number that goes up and down.
    pub fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.head(name, "gauge", help);
        self.sample(name, &[], value);
    }

    /// Durations by class. `counts` has one more than `bounds`: what lies above the last of them.
    pub fn histogram(&mut self, name: &str, help: &str, bounds: &[Duration], counts: &[u64], sum: Duration) {
        debug_assert_eq!(counts.len(), bounds.len() + 1, "a last class without a bound");
        self.head(name, "histogram", help);
        let bucket = format!("{name}_bucket");
        let mut below = 0;
        for (bound, count) in bounds.iter().zip(counts) {
            below += count;
            self.sample(&bucket, &[("le", &bound.as_secs_f64().to_string())], below);
        }
        let all: u64 = counts.iter().sum();
        self.sample(&bucket, &[("le", "+Inf")], all);
        self.sample(&format!("{name}_sum"), &[], sum.as_secs_f64());
        self.sample(&format!("{name}_count"), &[], all);
    }

    /// The whole text.
    pub fn into_text(self) -> String {
        self.text
    }

    fn family<'a, V: Display>(
        &mut self,
        name: &str,
        kind: &str,
        help: &str,
        label: &str,
        samples: impl IntoIterator<Item = (&'a str, V)>,
    ) {
        self.head(name, kind, help);
        for (value, number) in samples {
            self.sample(name, &[(label, value)], number);
        }
    }

    fn head(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        let labels: Vec<String> =
            labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
        match labels.as_slice() {
            [] => self.line(format_args!("{name} {value}")),
            labels => self.line(format_args!("{name}{{{}}} {value}", labels.join(","))),
        }
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.text, "{line}").expect("a String takes every text");
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_written_as_prometheus_reads_them() {
        let mut text = Exposition::default();
        text.counter("pouch_records_total", "Records.", 7u64);
        text.gauges("pouch_waiting", "What waits.", "precedence", [("flash", 1), ("a\"b\\", 2)]);
        let bounds = [Duration::from_millis(1), Duration::from_secs(1)];
        text.histogram("pouch_sync_seconds", "Syncs.", &bounds, &[2, 1, 1], Duration::from_millis(2500));
        assert_eq!(
            text.into_text(),
            "\
# HELP pouch_records_total Records.
# TYPE pouch_records_total counter
pouch_records_total 7
# HELP pouch_waiting What waits.
# TYPE pouch_waiting gauge
pouch_waiting{precedence=\"flash\"} 1
pouch_waiting{precedence=\"a\\\"b\\\\\"} 2
# HELP pouch_sync_seconds Syncs.
# TYPE pouch_sync_seconds histogram
pouch_sync_seconds_bucket{le=\"0.001\"} 2
pouch_sync_seconds_bucket{le=\"1\"} 3
pouch_sync_seconds_bucket{le=\"+Inf\"} 4
pouch_sync_seconds_sum 2.5
pouch_sync_seconds_count 4
"
        );
    }
}
