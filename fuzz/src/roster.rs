//! Rosters from note to chain, and trust bundles.

use pouch::{
    note::Note,
    roster::{RosterDraft, TrustBundle, verify_first, verify_next},
};

use super::{
    Input,
    bloc::{BLOC, sign_note},
};

/// Input: `u8 which || text`. What parses reads back the same; what is taken as the next version follows the
/// one in force.
pub fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    match input.byte() % 4 {
        0 => note(input.0),
        1 => bundle(input.0),
        2 => draft(input.0),
        _ => edited(input),
    }
}

fn note(bytes: &[u8]) {
    if let Ok(note) = Note::parse(bytes) {
        let again = Note::parse(&note.to_bytes()).expect("what was written can be read");
        assert_eq!(again, note);
        assert!(note.verify(&BLOC.bundle.roster_keys).is_err() || note.text().ends_with('\n'));
    }
    assert!(verify_first(bytes, &BLOC.bundle).is_err() || bytes == BLOC.note, "nobody else signs version 1");
    assert!(verify_next(bytes, &BLOC.roster).is_err(), "no input holds the roster key");
}

fn bundle(bytes: &[u8]) {
    if let Ok(text) = str::from_utf8(bytes)
        && let Ok(bundle) = text.parse::<TrustBundle>()
    {
        assert_eq!(bundle.to_string().parse::<TrustBundle>().expect("what was written can be read"), bundle);
    }
}

/// Any text, signed by the roster key.
fn draft(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    signed(text);
}

/// The roster in force with some of its lines replaced: `u16 line || u16 length || text` each, and signed.
fn edited(mut input: Input<'_>) {
    let note = Note::parse(&BLOC.note).expect("we made it");
    let next = RosterDraft::next(&BLOC.roster).expect("there is a next version");
    let text = next.text().expect("a draft has a text");
    assert!(note.text() != text);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    while !input.is_empty() {
        let line = usize::from(input.short()) % lines.len();
        lines[line] = String::from_utf8_lossy(input.counted()).into_owned();
    }
    signed(&(lines.join("\n") + "\n"));
}

fn signed(text: &str) {
    if let Ok(draft) = RosterDraft::parse(text)
        && let Ok(written) = draft.text()
    {
        assert_eq!(RosterDraft::parse(&written).expect("what was written can be read"), draft);
    }
    let Some(note) = sign_note(&BLOC.roster_key, text) else { return };
    if let Ok(next) = verify_next(&note, &BLOC.roster) {
        assert_eq!(next.version(), BLOC.roster.version() + 1);
        assert_eq!(next.content().previous, Some(BLOC.roster.hash()));
        for party in BLOC.roster.parties() {
            let same = next.party(party.number).is_some_and(|now| now.id == party.id);
            assert!(same, "no party leaves");
        }
    }
}
