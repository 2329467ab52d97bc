//! A store of the version before goes on with this one; any other is refused.

use std::collections::BTreeSet;

use rusqlite::Connection;

use super::*;

/// What a store of version 2 held: one dispatch that expired at MYS and was delivered to MOD, one alarm, one
/// receipt at position 40.
const ROWS: &str = "
INSERT INTO desk (one, store_id, incarnation, last_submission, last_stored, position)
    VALUES (1, x'0102030405060708090a0b0c0d0e0f10', 3, 9, 4, 33);
INSERT INTO alarms (key, at, sentence) VALUES ('clock', 1, 'set the clock');
INSERT INTO shorts VALUES ('K7QF');
INSERT INTO outbox (seq, id, wire_id, short, reference, dtg, precedence, info_precedence, state, topic, label, kind,
    exercise, acknowledgement, answer_due_s, expires_s, queued_at, accepted_at, position, language, office, person,
    salt, subject, body) VALUES (1, x'0190f0000000700080000000000000a1', x'0190f0000000700080000000000000a1', 'K7QF', 'IDN/1', '241015ZNOV26', 1, 1, 2, 'maritime', '', 1,
    0, 0, 0, 1, 1, 2, 3, 'en', '', '', x'00', 's', 'b');
INSERT INTO addressees (dispatch, code, ordinal, role, party, delivered_at) VALUES (1, 'MOD', 0, 1, 2, 5);
INSERT INTO addressees (dispatch, code, ordinal, role, party, set_aside_at, set_aside_reason)
    VALUES (1, 'MYS', 1, 2, 4, 6, 'expired at the relay before it was fetched');
INSERT INTO receipts_in VALUES (40, x'00', x'00', x'00', x'', x'', x'');
";

fn made(version: i64, rows: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    let connection = Connection::open(folder.path().join("desk.sqlite")).unwrap();
    connection.execute_batch(include_str!("version_2.sql")).unwrap();
    connection.execute_batch(rows).unwrap();
    connection.pragma_update(None, "user_version", version).unwrap();
    folder
}

/// Every column of every table, and every index.
fn shape(store: &Store) -> BTreeSet<(String, String)> {
    let sql = "SELECT tables.name, columns.name FROM sqlite_schema AS tables, pragma_table_info(tables.name) AS columns
        WHERE tables.type = 'table' UNION SELECT name, coalesce(sql, '') FROM sqlite_schema WHERE type = 'index'";
    let mut statement = store.connection.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

#[test]
fn a_store_of_the_version_before_is_brought_up_and_loses_nothing() {
    let bloc = Bloc::new();
    let folder = made(2, ROWS);
    for _ in 0..2 {
        let store = Store::open(folder.path(), id("IDN"), &bloc.bundle).unwrap();
        let facts = store.facts().unwrap();
        assert_eq!((facts.incarnation, facts.last_submission, facts.last_stored), (3, 9, 4));
        assert_eq!((facts.position, facts.confirmed, facts.store_id[0]), (33, 40, 1));
        let states: Vec<(String, String)> = store.outbox(9).unwrap()[0]
            .addressees
            .iter()
            .map(|addressee| (addressee.code.clone(), addressee.state.clone()))
            .collect();
        let expected = [("MOD", "delivered"), ("MYS", "expired")];
        assert_eq!(states, expected.map(|(code, state)| (code.to_owned(), state.to_owned())));
        assert_eq!(store.alarms().unwrap().len(), 1);
        assert_eq!(shape(&store), shape(&bloc.desk("IDN").store), "as if it had been made by this version");
    }
}

#[test]
fn a_store_of_any_other_version_is_refused_with_what_to_do_and_stays_as_it_is() {
    let bloc = Bloc::new();
    for version in [1, 5] {
        let folder = made(version, ROWS);
        let before = std::fs::read(folder.path().join("desk.sqlite")).unwrap();
        let error = Store::open(folder.path(), id("IDN"), &bloc.bundle).unwrap_err();
        assert_eq!(error.exit_code(), 78);
        assert!(
            error.to_string().contains(&format!("has version {version}, this pouch knows 4; run the pouch"))
        );
        let connection = Connection::open(folder.path().join("desk.sqlite")).unwrap();
        let kept: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        assert_eq!(
            (kept, std::fs::read(folder.path().join("desk.sqlite")).unwrap().len()),
            (version, before.len())
        );
    }
}
