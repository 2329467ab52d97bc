//! The bounds that docs/PROTOCOL.md and README.md state are those that the code keeps to.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use pouch::{
    alarms::AlarmKind,
    limits::{self, Limits},
};

const PROTOCOL: &str = include_str!("../docs/PROTOCOL.md");
const README: &str = include_str!("../README.md");
const OPERATIONS: &str = include_str!("../docs/OPERATIONS.md");

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
            format!("({} of all senders together", thousands(limits::SUBMISSIONS_REMEMBERED_IN_ALL)),
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
fn the_protocol_page_states_the_bounds_of_rosters() {
    states(
        PROTOCOL,
        &[
            format!("first choice first, at most {} |", limits::ROSTER_ADDRESSES_MAX),
            format!(
                "`threshold` (1 to {}) and `keys` (at most {})",
                limits::ROSTER_THRESHOLD_MAX,
                limits::ROSTER_KEYS_MAX
            ),
            format!("and `keys` (at most {}), each named by the origin", limits::ROSTER_LOG_KEYS_MAX),
            format!("lowest first, at most {} |", limits::ROSTER_LABELS_MAX),
            format!("at most {} topics |", limits::ROSTER_TOPICS_MAX),
            format!("(party numbers, at most {})", limits::ROSTER_LIST_MAX),
            format!("at most {} groups |", thousands(limits::ROSTER_GROUPS_MAX)),
            format!("at most {} parties", thousands(limits::ROSTER_PARTIES_MAX)),
            format!("of whom at most {} are witnesses", limits::ROSTER_WITNESSES_MAX),
            format!("Codes have 1 to {} capital letters", limits::CODE_BYTES_MAX),
            format!("single lines of at most {} bytes", limits::NAME_BYTES_MAX),
            format!("about {} parties at most", thousands(limits::ORDERS_STANDING_MAX)),
            format!("at most {} versions of the roster", thousands(limits::ROSTER_VERSIONS_MAX)),
        ],
    );
}

/// A clerk who reads a key in `pouch alarms` finds it in the page.
#[test]
fn the_operations_page_names_every_alarm() {
    let keys = alarm_keys(Path::new("src/desk"));
    assert!(keys.len() >= 20, "{keys:?}");
    let daemons = AlarmKind::ALL.map(|kind| kind.name().to_owned());
    for key in keys.iter().chain(&daemons) {
        let named = [format!("`{key}`"), format!("`{key}-")];
        assert!(named.iter().any(|name| OPERATIONS.contains(name)), "the page does not name the alarm {key}");
    }
}

/// The keys that a folder's sources raise or hold, without what follows a placeholder.
fn alarm_keys(folder: &Path) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    for entry in fs::read_dir(folder).expect("a folder of the sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "tests") {
                keys.append(&mut alarm_keys(&path));
            }
            continue;
        }
        let source = fs::read_to_string(&path).expect("a source");
        for before in ["alarms::raise(tx, now, ", "alarms::hold(tx, now, ", "known.alarm(", "Doubt { key: "] {
            keys.extend(source.split(before).skip(1).filter_map(key_at));
        }
        // A key with a name of its own: its doc comment says so.
        let named = source.split("/// Key of the alarm").skip(1);
        keys.extend(named.filter_map(|rest| key_at(rest.split_once(": &str = ")?.1)));
    }
    keys
}

/// The text literal that a source goes on with, up to its first placeholder.
fn key_at(source: &str) -> Option<String> {
    let literal = source.trim_start_matches("&format!(").strip_prefix('"')?;
    let key = literal.split(['"', '{']).next()?.trim_end_matches('-');
    Some(key.to_owned())
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
            format!(
                "beyond rosters | {} MiB; closed without Goodbye |",
                limits.connection_backlog_bytes_max >> 20
            ),
            format!("| connections in all | {};", thousands(limits.connections_max)),
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
