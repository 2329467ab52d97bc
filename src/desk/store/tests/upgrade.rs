//! A store of the version before goes on with this one; any other is refused.

use std::collections::BTreeSet;

use rusqlite::Connection;

use prost::Message;

use super::*;
use crate::{
    merkle::leaf_hash,
    record::leaf::traffic_leaf,
    wire::receipt::{ReceiptItem, ReceiptKind, ReceiptPart, join_parts},
};

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
    made_by(include_str!("version_2.sql"), version, rows)
}

fn made_by(tables: &str, version: i64, rows: &str) -> TempDir {
    let folder = TempDir::new().unwrap();
    let connection = Connection::open(folder.path().join("desk.sqlite")).unwrap();
    connection.execute_batch(tables).unwrap();
    connection.execute_batch(rows).unwrap();
    connection.pragma_update(None, "user_version", version).unwrap();
    folder
}

/// Every column of every table with its type, whether it may be absent, its default and its place in the key; and every
/// index.
fn shape(store: &Store) -> BTreeSet<(String, String)> {
    let sql = "SELECT tables.name, columns.name || ' ' || columns.type || iif(\"notnull\", ' NOT NULL', '')
            || coalesce(' DEFAULT ' || dflt_value, '') || iif(pk > 0, ' KEY ' || pk, '')
        FROM sqlite_schema AS tables, pragma_table_info(tables.name) AS columns
        WHERE tables.type = 'table' UNION SELECT name, coalesce(sql, '') FROM sqlite_schema WHERE type = 'index'";
    let mut statement = store.connection.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    rows.map(Result::unwrap).collect()
}

#[test]
fn a_store_of_each_earlier_version_gets_the_very_tables_of_this_one() {
    let bloc = Bloc::new();
    let expected = shape(&bloc.desk("IDN").store);
    assert!(
        expected
            .iter()
            .any(|(table, column)| table == "log" && column == "published INTEGER NOT NULL DEFAULT 0")
    );
    for (tables, of) in [(include_str!("version_2.sql"), 2), (include_str!("version_3.sql"), 3)] {
        for version in of..super::schema::VERSION {
            // Between those two and this one a store has no tables of its own but those that the steps made.
            let folder = made_by(tables, of, "");
            let connection = Connection::open(folder.path().join("desk.sqlite")).unwrap();
            (of..version).for_each(|from| super::upgrades::step(&connection, from).unwrap());
            connection.pragma_update(None, "user_version", version).unwrap();
            drop(connection);
            let store = Store::open(folder.path(), id("IDN"), &bloc.bundle).unwrap();
            assert_eq!(shape(&store), expected, "from version {of} by way of {version}");
        }
    }
}

/// FAULTS 39: up.
#[test]
fn a_store_of_an_earlier_version_is_brought_up_and_loses_nothing() {
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
fn a_store_that_knew_no_proofs_owes_one_for_each_leaf_and_finds_its_receipts() {
    let bloc = Bloc::new();
    let tables = include_str!("version_3.sql");
    let rows = ROWS.replace("x'00', x'00', x'', x'', x'')", "x'00', x'00', x'', x'01', x'02')");
    let folder = made_by(tables, 3, &rows);
    let connection = Connection::open(folder.path().join("desk.sqlite")).unwrap();
    let (envelope, position) = (crate::wire::EnvelopeHash(Hash([5; 32])), Position(40));
    let (from, to) = (bloc.number("MOD"), bloc.number("IDN"));
    let item = ReceiptItem::own(ReceiptKind::Delivered, from, to, 1, 1, vec![(envelope, Position(9))]);
    let (hash, bytes) = (sha256(&item.encode()), item.encode());
    let sql = "INSERT INTO receipts_in VALUES (?1, ?2, ?3, x'00', x'', x'01', x'03')";
    connection.execute(sql, rusqlite::params![position, hash, &bytes[..]]).unwrap();
    let part = ReceiptPart { bytes, details: Bytes::new(), item };
    let items = join_parts(std::slice::from_ref(&part));
    let frame = pb::Stored { number: 4, count: 1, items, signature: vec![0; 64].into() };
    let sql = "INSERT INTO stored (number, receipts, position, salt, opening, frame) VALUES (4, 1, 41, x'01', x'04', ?1)";
    connection.execute(sql, [frame.encode_to_vec()]).unwrap();
    drop(connection);
    let store = Store::open(folder.path(), id("IDN"), &bloc.bundle).unwrap();
    assert_eq!(shape(&store), shape(&bloc.desk("IDN").store), "as if it had been made by this version");
    let mut statement =
        store.connection.prepare("SELECT position, leaf FROM proofs ORDER BY position, leaf").unwrap();
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let owed: BTreeSet<(u64, Hash)> = rows.map(Result::unwrap).collect();
    let leaf = |opening| leaf_hash(&traffic_leaf(&[1], &[opening]));
    assert_eq!(owed, BTreeSet::from([(40, leaf(2)), (40, leaf(3)), (41, leaf(4))]));
    let sql = "SELECT position, hash FROM receipts_of WHERE envelope = ?1";
    let of = store.connection.query_row(sql, [envelope], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!(of, (position, hash));
    let sql = "SELECT log, number FROM stored_of WHERE envelope = ?1";
    let of = store.connection.query_row(sql, [envelope], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!(of, (1, 4));
}

#[test]
fn a_store_that_has_met_two_logs_owes_nothing_of_which_the_log_is_not_known() {
    let bloc = Bloc::new();
    let rows = ROWS.replace("x'00', x'00', x'', x'', x'')", "x'00', x'00', x'', x'01', x'02')")
        + "UPDATE desk SET log = 2;";
    let folder = made_by(include_str!("version_3.sql"), 3, &rows);
    let store = Store::open(folder.path(), id("IDN"), &bloc.bundle).unwrap();
    let owed: u32 = store.connection.query_row("SELECT count(*) FROM proofs", [], |row| row.get(0)).unwrap();
    assert_eq!(owed, 0, "positions of the one log are other leaves in the other");
}

#[test]
fn a_store_that_held_no_claims_begins_with_none() {
    let bloc = Bloc::new();
    let folder = made_by(include_str!("version_5.sql"), 5, ROWS);
    let store = Store::open(folder.path(), id("IDN"), &bloc.bundle).unwrap();
    assert_eq!(shape(&store), shape(&bloc.desk("IDN").store), "as if it had been made by this version");
    assert_eq!(store.alarms().unwrap().len(), 1);
}

/// FAULTS 39: down, to the program that made it.
#[test]
fn a_store_of_any_other_version_is_refused_with_what_to_do_and_stays_as_it_is() {
    let bloc = Bloc::new();
    for version in [1, 8] {
        let folder = made(version, ROWS);
        let before = std::fs::read(folder.path().join("desk.sqlite")).unwrap();
        let error = Store::open(folder.path(), id("IDN"), &bloc.bundle).unwrap_err();
        assert_eq!(error.exit_code(), 78);
        assert!(
            error.to_string().contains(&format!("has version {version}, this pouch knows 7; run the pouch"))
        );
        let connection = Connection::open(folder.path().join("desk.sqlite")).unwrap();
        let kept: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        assert_eq!(
            (kept, std::fs::read(folder.path().join("desk.sqlite")).unwrap().len()),
            (version, before.len())
        );
    }
}
