//! Tests of notes, against independently computed vectors and by breaking each part.

use ring::signature::{Ed25519KeyPair, KeyPair};
use serde::Deserialize;

use super::*;

#[derive(Deserialize)]
struct Vector {
    seed: u8,
    vkey: String,
    cosigner_seed: u8,
    cosigner_vkey: String,
    time: u64,
    text: String,
    note: String,
}

fn vector() -> Vector {
    serde_json::from_str(include_str!("../../tests/vectors/note.json")).unwrap()
}

fn pair(seed: u8) -> Ed25519KeyPair {
    Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap()
}

fn vkey(name: &str, kind: KeyKind, seed: u8) -> Vkey {
    Vkey::new(name, kind, pair(seed).public_key().as_ref().try_into().unwrap()).unwrap()
}

fn signature(key: &Vkey, seed: u8, text: &str) -> NoteSignature {
    let blob = pair(seed).sign(signed_bytes(text)).as_ref().to_vec();
    NoteSignature { name: key.name().to_owned(), key_id: key.key_id(), blob }
}

#[test]
fn keys_signatures_and_notes_equal_those_computed_elsewhere() {
    let vector = vector();
    let log = vkey("bloc.example/log", KeyKind::Ed25519, vector.seed);
    let witness = vkey("bloc.example/mission/idn", KeyKind::Cosignature, vector.cosigner_seed);
    assert_eq!((log.to_string(), witness.to_string()), (vector.vkey, vector.cosigner_vkey));

    let mut note = Note::new(&vector.text).unwrap();
    note.add(signature(&log, vector.seed, &vector.text)).unwrap();
    let made = pair(vector.cosigner_seed).sign(&cosigned_bytes(vector.time, &vector.text));
    let blob = [&vector.time.to_be_bytes(), made.as_ref()].concat();
    note.add(NoteSignature { name: witness.name().to_owned(), key_id: witness.key_id(), blob }).unwrap();
    assert_eq!(note.to_string(), vector.note);

    let read = Note::parse(vector.note.as_bytes()).unwrap();
    assert_eq!(read, note);
    let keys = [log.clone(), witness.clone()];
    let expected = [Verified { key: &log, time: None }, Verified { key: &witness, time: Some(vector.time) }];
    assert_eq!(read.verify(&keys).unwrap(), expected);
}

#[test]
fn the_example_of_the_standard_verifies() {
    let key =
        "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k".parse::<Vkey>().unwrap();
    let note = "This is an example message.\n\n\u{2014} example.com/foo \
                Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";
    let note = Note::parse(note.as_bytes()).unwrap();
    assert_eq!(note.verify(std::slice::from_ref(&key)).unwrap(), [Verified { key: &key, time: None }]);
}

#[test]
fn a_note_cut_short_anywhere_never_verifies() {
    let vector = vector();
    let keys: [Vkey; 1] = [vector.vkey.parse().unwrap()];
    let whole = vector.note.as_bytes();
    let first_line_ends = vector.note.find("\n\u{2014} bloc.example/mission").unwrap() + 1;
    for end in (0..whole.len()).filter(|end| *end != first_line_ends) {
        assert!(Note::parse(&whole[..end]).is_err(), "{end}");
    }
    let first_line_alone = Note::parse(&whole[..first_line_ends]).unwrap();
    assert_eq!(first_line_alone.verify(&keys).unwrap().len(), 1);
}

#[test]
fn a_flipped_bit_anywhere_in_the_text_or_a_signature_is_seen() {
    let vector = vector();
    let keys: [Vkey; 2] = [vector.vkey.parse().unwrap(), vector.cosigner_vkey.parse().unwrap()];
    for bit in 0..vector.note.len() * 8 {
        let mut bytes = vector.note.clone().into_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let verified = Note::parse(&bytes).and_then(|note| note.verify(&keys).map(|found| found.len()));
        // A changed name or key id makes a stranger of one signer; all else is an error.
        assert!(verified.is_err() || verified == Ok(1), "bit {bit}: {verified:?}");
    }
}

#[test]
fn strangers_are_ignored_and_a_wrong_signature_by_a_known_key_refuses_the_note() {
    let (known, stranger) = (vkey("a", KeyKind::Ed25519, 1), vkey("b", KeyKind::Ed25519, 2));
    let mut note = Note::new("text\n").unwrap();
    note.add(signature(&stranger, 2, "another text\n")).unwrap();
    assert_eq!(note.verify(std::slice::from_ref(&known)), Ok(vec![]));
    note.add(signature(&known, 1, "another text\n")).unwrap();
    assert_eq!(note.verify(std::slice::from_ref(&known)), Err(NoteError::Signature));
    note.add(signature(&known, 1, "text\n")).unwrap();
    assert_eq!(note.signatures().len(), 2, "a new signature takes the place of the old one");
    assert_eq!(note.verify(std::slice::from_ref(&known)).unwrap().len(), 1);
}

#[test]
fn a_key_that_signed_twice_counts_once() {
    let key = vkey("a", KeyKind::Ed25519, 1);
    let line = signature(&key, 1, "text\n").to_string();
    let note = Note::parse(format!("text\n\n{line}{line}").as_bytes()).unwrap();
    assert_eq!(note.verify(std::slice::from_ref(&key)).unwrap().len(), 1);
}

#[test]
fn a_signature_of_one_kind_is_none_of_the_other() {
    let (plain, witness) = (vkey("a", KeyKind::Ed25519, 1), vkey("a", KeyKind::Cosignature, 1));
    assert_ne!(plain.key_id(), witness.key_id());
    let mut note = Note::new("text\n").unwrap();
    note.add(NoteSignature { key_id: witness.key_id(), ..signature(&plain, 1, "text\n") }).unwrap();
    assert_eq!(note.verify(&[witness]), Err(NoteError::Signature));
}

#[test]
fn text_with_control_characters_or_without_a_final_newline_is_refused() {
    for text in ["", "text", "a\tb\n", "a\r\n", "a\0\n"] {
        assert_eq!(Note::new(text), Err(NoteError::Text), "{text:?}");
    }
    assert_eq!(Note::parse(b"\xff\n\n\xe2\x80\x94 a AAAAAAA=\n"), Err(NoteError::Text));
    assert!(Note::new("an empty line\n\nand more \u{0639}\n").is_ok());
}

#[test]
fn the_last_empty_line_ends_the_text() {
    let key = vkey("a", KeyKind::Ed25519, 1);
    let text = "one\n\ntwo\n";
    let mut note = Note::new(text).unwrap();
    note.add(signature(&key, 1, text)).unwrap();
    let read = Note::parse(&note.to_bytes()).unwrap();
    assert_eq!((read.text(), read.verify(&[key]).unwrap().len()), (text, 1));
}

#[test]
fn malformed_signature_lines_are_refused() {
    for line in [
        "- a AAAAAAA=\n",
        "\u{2014}  a AAAAAAA=\n",
        "\u{2014} a  AAAAAAA=\n",
        "\u{2014} AAAAAAA=\n",
        "\u{2014} a+b AAAAAAA=\n",
        "\u{2014} a\u{a0}b AAAAAAA=\n",
        "\u{2014} a AAAAAAA=",
        "\u{2014} a AAAAAAA\n",
        "\u{2014} a AAAAAAB=\n",
        "\u{2014} a AAAAAA==\n",
        "\u{2014} a AAAAAAA= \n",
        "\u{2014} a AAAAAAA=AAAA\n",
        "\u{2014} a AAAAAAA=AAAAAAA=\n",
    ] {
        assert_eq!(line.parse::<NoteSignature>(), Err(NoteError::Line), "{line:?}");
    }
    assert!("\u{2014} a AAAAAAA=\n".parse::<NoteSignature>().is_ok());
}

#[test]
fn more_than_sixteen_signatures_are_refused() {
    let line = |n: usize| signature_line(&format!("signer-{n}"), KeyId([0; 4]), &[1]);
    let note = |count| format!("text\n\n{}", (0..count).map(line).collect::<String>());
    let mut full = Note::parse(note(16).as_bytes()).unwrap();
    assert_eq!(Note::parse(note(17).as_bytes()), Err(NoteError::SignaturesCount));
    assert_eq!(Note::parse(note(0).as_bytes()), Err(NoteError::SignaturesCount));
    assert_eq!(full.add(line(16).parse().unwrap()), Err(NoteError::SignaturesCount));
}

#[test]
fn verifier_keys_with_a_wrong_id_name_kind_or_length_are_refused() {
    let good = vector().vkey;
    assert_eq!(good.parse::<Vkey>().unwrap().to_string(), good);
    let (name, rest) = good.split_once('+').unwrap();
    let (id, key) = rest.split_once('+').unwrap();
    for (text, error) in [
        (format!("{name}+{id}"), NoteError::Vkey),
        (format!("+{id}+{key}"), NoteError::Vkey),
        (format!("other+{id}+{key}"), NoteError::Vkey),
        (format!("{name}+00000000+{key}"), NoteError::Vkey),
        (format!("{name}+{}+{key}", id.to_uppercase()), NoteError::Vkey),
        (format!("{name}+{id}+{}", &key[..40]), NoteError::Vkey),
        (format!("{name}+{id}+"), NoteError::Vkey),
        (format!("{name}+{id}+A{key}"), NoteError::Vkey),
        (format!("{name}+{id}+C{}", &key[1..]), NoteError::Kind),
    ] {
        assert_eq!(text.parse::<Vkey>(), Err(error), "{text}");
    }
}
