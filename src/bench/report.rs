//! What comes out: one line for each workload, and one for what the machine itself can do.

use std::time::Duration;

use serde::Serialize;

/// A line of `pouch bench --json`.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Line {
    /// Of a workload.
    Figures(Figures),
    /// Of idle sessions.
    Sessions(Sessions),
    /// Of the audit log.
    Log(LogCost),
    /// Of the machine.
    Limits(Ceilings),
}

/// What a workload reached. A key that does not apply is left out.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// `w1`, `w2` or `w3`.
    pub workload: &'static str,
    /// Whether both ends verified what they got: signatures, hashes, paths.
    pub verify: bool,
    /// Sessions that submitted.
    pub publishers: usize,
    /// Addressees of each envelope; each settles it.
    pub addressees: usize,
    /// Envelopes accepted.
    pub envelopes: u64,
    /// Accepted a second, from the first submission to the last Accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub envelopes_per_s: Option<u64>,
    /// Delivered a second, from the first submission to the last delivery.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deliveries_per_s: Option<u64>,
    /// W1 and W3: from submission to Accepted. W2: from submission until it was accepted and delivered.
    pub p50_us: u32,
    /// As `p50_us`.
    pub p99_us: u32,
    /// W2: from submission to Accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted_p50_us: Option<u32>,
    /// W2: from submission to the delivery at the addressee.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delivered_p50_us: Option<u32>,
    /// Processor seconds of the relay, user and system, for a million envelopes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay_cpu_s_per_million: Option<f64>,
    /// Accepted and not delivered, to each addressee counted.
    pub lost: u64,
    /// Delivered again within the session.
    pub duplicated: u64,
}

impl Figures {
    /// Takes in what the relay's process used.
    pub(super) fn charge(&mut self, used: Option<Duration>) {
        let envelopes = self.envelopes.max(1) as f64;
        let per_million = |used: Duration| (used.as_secs_f64() * 1e8 / envelopes).round() / 100.0;
        self.relay_cpu_s_per_million = used.map(per_million);
    }
}

/// What W4 found. What cannot be seen of the relay's process is left out.
#[derive(Clone, Debug, Serialize)]
pub struct Sessions {
    /// `w4`.
    pub workload: &'static str,
    /// How many were open at once.
    pub sessions: usize,
    /// Connections that came as far as Welcome in a second, both ends on this machine.
    pub handshakes_per_s: u64,
    /// Milliseconds of processor time, user and system, from accept to Welcome.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay_cpu_ms_per_handshake: Option<f64>,
    /// KiB by which the relay's process grew for each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub relay_kib_per_session: Option<f64>,
}

/// What the audit log costs, and how fast it is verified.
#[derive(Clone, Debug, Serialize)]
pub struct LogCost {
    /// `log`.
    pub workload: &'static str,
    /// W1 once more, in two runs: accepted a second.
    pub w1_envelopes_per_s: u64,
    /// The same in two runs between, at a relay of the same build with the tree switched off: it hashes no leaf for it,
    /// signs nothing and writes no tile.
    pub w1_without_tree_envelopes_per_s: u64,
    /// How much slower the former is, in hundredths of the latter; below 0 where chance was larger than the cost.
    pub log_cost_percent: f64,
    /// Processor seconds of the relay, user and system, for a million envelopes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub w1_relay_cpu_s_per_million: Option<f64>,
    /// The same with the tree switched off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub w1_without_tree_relay_cpu_s_per_million: Option<f64>,
    /// Processor time to hash a leaf and append it to a tree in memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tree_us_per_leaf: Option<f64>,
    /// The same, and its share of tiles and bundles made, written and synced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub append_us_per_leaf: Option<f64>,
    /// Tiles and bundles by the clock, with all the waiting for the disk: no envelope waits for it.
    pub tiles_durable_us_per_leaf: f64,
    /// Leaves of the log that W1 left behind.
    pub leaves: u64,
    /// Of these, how many `pouch audit verify` checks in a second: each leaf, all tiles and bundles.
    pub verify_leaves_per_s: u64,
}

/// What disk, network and cipher do here without a relay: no relay can do better.
#[derive(Clone, Debug, Serialize)]
pub struct Ceilings {
    /// `limits`.
    pub workload: &'static str,
    /// 4 KiB written behind the last and synced, in a file filled before.
    pub append_fdatasync_p50_us: f64,
    /// 64 bytes there and back over TLS 1.3 on loopback.
    pub tls_round_trip_p50_us: f64,
    /// One batch signature made.
    pub sign_us: f64,
    /// One batch signature verified.
    pub verify_us: f64,
    /// Hashing.
    pub sha256_us_per_kib: f64,
}

/// Microseconds of many rounds.
#[derive(Clone, Debug, Default)]
pub(super) struct Latencies(Vec<u32>);

impl Latencies {
    pub(super) fn push(&mut self, micros: u32) {
        self.0.push(micros);
    }

    pub(super) fn extend(&mut self, micros: &[u32]) {
        self.0.extend_from_slice(micros);
    }

    /// The least values that half and 99 in 100 do not exceed; 0 where there are none.
    pub(super) fn p50_p99(mut self) -> (u32, u32) {
        self.0.sort_unstable();
        let at = |hundredths: usize| {
            let rank = (self.0.len() * hundredths).div_ceil(100).max(1);
            self.0.get(rank - 1).copied().unwrap_or(0)
        };
        (at(50), at(99))
    }
}

/// Whole microseconds, at most an hour.
pub(super) fn micros(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).unwrap_or(u32::MAX)
}

/// The same for people: workload, figure, value. The last rows say how far W2 is from what it is made of.
pub fn rows(lines: &[Line]) -> Vec<[String; 3]> {
    let mut rows = Vec::new();
    for line in lines {
        match line {
            Line::Figures(figures) => figure_rows(figures, &mut rows),
            Line::Sessions(sessions) => session_rows(sessions, &mut rows),
            Line::Log(cost) => log_rows(cost, &mut rows),
            Line::Limits(ceilings) => ceiling_rows(ceilings, &mut rows),
        }
    }
    let parts = lines.iter().find_map(|line| match line {
        Line::Limits(ceilings) => Some(ceilings),
        Line::Figures(_) | Line::Sessions(_) | Line::Log(_) => None,
    });
    for line in lines {
        if let (Line::Figures(figures), Some(parts)) = (line, parts)
            && figures.workload == "w2"
        {
            let ratio = f64::from(figures.p50_us) / w2_parts_us(parts);
            rows.push([
                name(figures),
                "p50 / (append, sync, 40 us, sign, verify)".to_owned(),
                format!("{ratio:.2}"),
            ]);
        }
    }
    rows
}

/// What W2 consists of at least: one append with its sync, 40 us for the line, a signature and its
/// verification (issue 4).
fn w2_parts_us(ceilings: &Ceilings) -> f64 {
    ceilings.append_fdatasync_p50_us + 40.0 + ceilings.sign_us + ceilings.verify_us
}

fn name(figures: &Figures) -> String {
    let verify = if figures.verify { " verified" } else { "" };
    format!("{}{verify}", figures.workload)
}

fn figure_rows(figures: &Figures, rows: &mut Vec<[String; 3]>) {
    let mut row = |what: &str, value: Option<String>| {
        rows.extend(value.map(|value| [name(figures), what.to_owned(), value]));
    };
    row("publishers", Some(figures.publishers.to_string()));
    row("addressees", Some(figures.addressees.to_string()));
    row("envelopes", Some(figures.envelopes.to_string()));
    row("envelopes/s", figures.envelopes_per_s.map(|n| n.to_string()));
    row("deliveries/s", figures.deliveries_per_s.map(|n| n.to_string()));
    row("p50", Some(format!("{} us", figures.p50_us)));
    row("p99", Some(format!("{} us", figures.p99_us)));
    row("accepted p50", figures.accepted_p50_us.map(|us| format!("{us} us")));
    row("delivered p50", figures.delivered_p50_us.map(|us| format!("{us} us")));
    row("relay CPU per million", figures.relay_cpu_s_per_million.map(|s| format!("{s:.2} s")));
    row("lost", Some(figures.lost.to_string()));
    row("duplicated", Some(figures.duplicated.to_string()));
}

fn session_rows(sessions: &Sessions, rows: &mut Vec<[String; 3]>) {
    let mut row = |what: &str, value: Option<String>| {
        rows.extend(value.map(|value| [sessions.workload.to_owned(), what.to_owned(), value]));
    };
    row("idle sessions", Some(sessions.sessions.to_string()));
    row("relay memory each", sessions.relay_kib_per_session.map(|kib| format!("{kib:.1} KiB")));
    row("handshakes/s", Some(sessions.handshakes_per_s.to_string()));
    row("relay CPU per handshake", sessions.relay_cpu_ms_per_handshake.map(|ms| format!("{ms:.2} ms")));
}

fn log_rows(cost: &LogCost, rows: &mut Vec<[String; 3]>) {
    let mut row = |what: &str, value: Option<String>| {
        rows.extend(value.map(|value| [cost.workload.to_owned(), what.to_owned(), value]));
    };
    let seconds = |s: f64| format!("{s:.2} s");
    row("w1, envelopes/s", Some(cost.w1_envelopes_per_s.to_string()));
    row("w1 without the tree", Some(cost.w1_without_tree_envelopes_per_s.to_string()));
    row("cost", Some(format!("{:.1} %", cost.log_cost_percent)));
    row("w1, relay CPU per million", cost.w1_relay_cpu_s_per_million.map(seconds));
    row("w1 without the tree, relay CPU", cost.w1_without_tree_relay_cpu_s_per_million.map(seconds));
    let micros = |us: f64| format!("{us:.2} us");
    row("tree, CPU per leaf", cost.tree_us_per_leaf.map(micros));
    row("tree and tiles, CPU per leaf", cost.append_us_per_leaf.map(micros));
    row("tiles durable, per leaf", Some(micros(cost.tiles_durable_us_per_leaf)));
    row("leaves", Some(cost.leaves.to_string()));
    row("verified leaves/s", Some(cost.verify_leaves_per_s.to_string()));
}

fn ceiling_rows(ceilings: &Ceilings, rows: &mut Vec<[String; 3]>) {
    let mut row = |what: &str, us: f64| {
        rows.push([ceilings.workload.to_owned(), what.to_owned(), format!("{us:.1} us")]);
    };
    row("append and fdatasync p50", ceilings.append_fdatasync_p50_us);
    row("TLS round trip p50", ceilings.tls_round_trip_p50_us);
    row("sign", ceilings.sign_us);
    row("verify", ceilings.verify_us);
    row("SHA-256 of a KiB", ceilings.sha256_us_per_kib);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.clone().p50_p99(), (0, 0));
        latencies.push(7);
        assert_eq!(latencies.clone().p50_p99(), (7, 7));
        let rising: Vec<u32> = (1..=200).rev().collect();
        let mut latencies = Latencies::default();
        latencies.extend(&rising);
        assert_eq!(latencies.p50_p99(), (100, 198));
    }

    #[test]
    fn w2_is_held_against_the_sum_of_its_parts() {
        let figures = Figures {
            workload: "w2",
            verify: false,
            publishers: 1,
            addressees: 1,
            envelopes: 100,
            envelopes_per_s: None,
            deliveries_per_s: None,
            p50_us: 500,
            p99_us: 900,
            accepted_p50_us: Some(480),
            delivered_p50_us: Some(490),
            relay_cpu_s_per_million: Some(30.0),
            lost: 0,
            duplicated: 0,
        };
        let ceilings = Ceilings {
            workload: "limits",
            append_fdatasync_p50_us: 120.0,
            tls_round_trip_p50_us: 38.0,
            sign_us: 31.0,
            verify_us: 59.0,
            sha256_us_per_kib: 0.8,
        };
        let rows = rows(&[Line::Figures(figures), Line::Limits(ceilings)]);
        assert_eq!(rows.last().map(|row| row[2].as_str()), Some("2.00"));
    }
}
