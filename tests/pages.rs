//! The bounds that docs/PROTOCOL.md and README.md state are those that the code keeps to.

use std::time::Duration;

use pouch::limits::{self, Limits};

const PROTOCOL: &str = include_str!("../docs/PROTOCOL.md");
const README: &str = include_str!("../README.md");

#[test]
fn the_protocol_page_states_the_bounds_of_frames_and_lists() {
    states(
        PROTOCOL,
        &[
            format!("| any, before Welcome | {} |", kib(limits::FRAME_BEFORE_WELCOME_BYTES_MAX)),
            format!("| Submit, Deliver, Administrative | {} |", kib(limits::FRAME_BYTES_MAX)),
            format!("| any other | {} |", kib(limits::FRAME_CONTROL_BYTES_MAX)),
            format!("covers 1 to {} items of one tag", limits::BATCH_ITEMS_MAX),
            format!("1 to {}, no party twice", limits::ADDRESSEES_MAX),
            format!("the ciphertext at most {}", kib(limits::DISPATCH_BYTES_MAX)),
            format!("at most {} days ahead", limits::EXPIRY_MAX.as_secs() / 86_400),
            format!("n is 1 to {}, all envelopes of one sender", limits::RECEIPT_ENVELOPES_MAX),
            format!("at most {} and for one envelope alone", kib(limits::DETAILS_BYTES_MAX)),
            format!("in clear, at most {}: `01 02", kib(limits::ADMINISTRATIVE_LEAF_BYTES_MAX)),
            format!("The relay remembers the last {} numbers", limits::SUBMISSIONS_REMEMBERED),
            format!("`total_bytes` (at most {} MiB)", limits::ROSTER_BYTES_MAX >> 20),
        ],
    );
}

#[test]
fn the_protocol_page_states_the_bounds_of_the_audit_log() {
    states(
        PROTOCOL,
        &[
            format!(
                "with its cosignatures, at most {} | {} |",
                limits::COSIGNATURES_MAX,
                kib(limits::CHECKPOINT_BYTES_MAX)
            ),
            format!("the checkpoint (tlog-witness) | {} |", kib(limits::ADD_CHECKPOINT_BYTES_MAX)),
            format!("the answer to 18 | {} |", kib(limits::WITNESSED_BYTES_MAX)),
            format!("`roster/VERSION` | {} bytes |", limits::LOG_NAME_BYTES_MAX),
            format!("the longest leaves ({} MiB)", limits::LOG_BUNDLE_BYTES_MAX >> 20),
            format!("at most every {} s while the log grows", Limits::DEFAULT.checkpoint_every.as_secs()),
            format!("every {} s while it does not", Limits::DEFAULT.checkpoint_idle_every.as_secs()),
        ],
    );
}

#[test]
fn the_protocol_page_states_windows_and_times() {
    let limits = Limits::DEFAULT;
    states(
        PROTOCOL,
        &[
            format!(
                "a session with {} envelopes and {} KiB",
                limits.window_envelopes_min,
                limits.window_bytes_min >> 10
            ),
            format!(
                "up to {} envelopes and {} MiB, while a pool of {} MiB",
                limits.window_envelopes_max,
                limits.window_bytes_max >> 20,
                limits.window_pool_bytes >> 20
            ),
            format!("of at most {} records are under way", thousands(limits.receipts_in_flight_max)),
            format!("{} envelopes wait for an addressee", thousands(limits.mailbox_envelopes_max)),
            format!("or {} receipts wait that this desk", thousands(limits.mailbox_receipts_max)),
            format!("{} MiB of state in all mailboxes", limits.lasting_bytes_max >> 20),
            format!(
                "say at most {} envelopes within a minute",
                thousands(usize::try_from(limits.marks_per_minute_max).expect("it is small"))
            ),
            format!("at most {} a second for each party", limits.refusal_records_per_second_max),
            format!("more than {} in a session end it", limits.bad_signatures_max),
            format!(
                "| TLS handshake | {}, and {} at once |",
                seconds(limits.handshake_time_max),
                limits.handshakes_max
            ),
            format!("| Hello after the handshake | {} |", seconds(limits.hello_time_max)),
            format!("| Ping after silence | {};", seconds(limits.ping_every)),
            format!("| silence until the session is dead | {};", seconds(limits.silence_max)),
            format!(
                "| {} at once, and one more each second; then RATE |",
                limits.connections_per_party_burst
            ),
            format!(
                "| {} bytes a second over {}, or PROTOCOL |",
                limits::FRAME_BYTES_PER_SECOND_MIN,
                seconds(limits::FRAME_PACE_OVER)
            ),
            format!("its last | {} min |", limits.publication_time_max.as_secs() / 60),
        ],
    );
}

#[test]
fn the_readme_states_the_limits_that_a_buyer_asks_for() {
    let limits = Limits::DEFAULT;
    states(
        README,
        &[
            format!(
                "| {} in a roster of {} MiB |",
                thousands(limits::ROSTER_PARTIES_MAX),
                limits::ROSTER_BYTES_MAX >> 20
            ),
            format!("| addressees of a dispatch | {} |", limits::ADDRESSEES_MAX),
            format!("at most {} days |", limits::EXPIRY_MAX.as_secs() / 86_400),
            format!("| {} envelopes, or fewer by its quota |", thousands(limits.mailbox_envelopes_max)),
            format!(
                "| {} at once, {} of them in the handshake; of one party {} at once and one more each second |",
                thousands(limits.connections_max),
                limits.handshakes_max,
                limits.connections_per_party_burst
            ),
            format!(
                "outbox | {} dispatches |",
                thousands(usize::try_from(limits::OUTBOX_WAITING_MAX).expect("it is small"))
            ),
        ],
    );
}

/// Asserts that a page holds each sentence, wherever its lines break.
fn states(page: &str, sentences: &[String]) {
    let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
    for sentence in sentences {
        assert!(page.contains(sentence.as_str()), "the code says, and the page does not: {sentence}");
    }
}

fn kib(bytes: usize) -> String {
    format!("{} KiB", bytes >> 10)
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs())
}

fn thousands(number: usize) -> String {
    if number < 1_000 { number.to_string() } else { format!("{},{:03}", number / 1_000, number % 1_000) }
}
