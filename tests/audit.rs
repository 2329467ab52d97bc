//! Whole logs, as an auditor gets them: what is good verifies, every flipped bit is caught and its leaf named, and a
//! log that brings its own trust proves nothing.

#![expect(clippy::unwrap_used, reason = "a test that cannot set up its world has failed")]

#[path = "audit/bloc.rs"]
mod bloc;

use pouch::{
    audit::Checkpoint,
    merkle::sha256,
    note::Note,
    tiles::{self, Fault, Folder, roster_file},
};

use bloc::{Bloc, Files, ORIGIN};

fn index_of(fault: &Fault) -> u64 {
    match fault {
        Fault::Index { index, .. } => *index,
        other => panic!("no index: {other}"),
    }
}

#[test]
fn logs_of_all_shapes_verify() {
    let bloc = Bloc::new();
    for sizes in [&[1][..], &[255], &[1, 255, 256], &[257], &[100, 300, 600]] {
        let found = tiles::verify(&bloc.log(sizes), &bloc.trust, None).unwrap();
        assert_eq!(found.checkpoint.size, *sizes.last().unwrap());
        assert_eq!((found.witnesses.len(), found.quorum, found.is_witnessed), (3, 2, true));
        assert_eq!(found.roster.version(), 1);
    }
    let missing = tiles::verify(&Files::default(), &bloc.trust, None);
    assert!(matches!(missing, Err(Fault::NoCheckpoint)));
}

#[test]
fn every_flipped_bit_of_a_log_is_caught_and_the_leaf_named() {
    let bloc = Bloc::new();
    let size = 20;
    let good = bloc.log(&[size]).all();
    for (path, bytes) in &good {
        for bit in 0..bytes.len() * 8 {
            let mut files = good.clone();
            files.get_mut(path).unwrap()[bit / 8] ^= 1 << (bit % 8);
            match tiles::verify(&Files::of(files), &bloc.trust, None) {
                // A witness's line that nobody knows any more does not count, and the quorum is still there.
                Ok(found) => {
                    assert_eq!(path, "checkpoint", "bit {bit} of {path}");
                    assert_eq!(found.witnesses.len(), 2, "bit {bit}");
                }
                Err(fault) if path.starts_with("tile") => {
                    let at = bit as u64 / 8;
                    let index = index_of(&fault);
                    if path == "tile/0/000.p/20" {
                        assert_eq!(index, at / 32, "bit {bit} of {path}");
                    }
                    assert!(index < size, "{fault}");
                }
                Err(_) => {}
            }
        }
    }
}

#[test]
fn the_first_wrong_leaf_is_named_in_bundles_and_in_tiles_of_every_level() {
    let bloc = Bloc::new();
    let good = bloc.log(&[600]).all();
    let flipped = |path: &str, at: usize| {
        let mut files = good.clone();
        files.get_mut(path).unwrap()[at] ^= 1;
        index_of(&tiles::verify(&Files::of(files), &bloc.trust, None).unwrap_err())
    };
    // Past the two administrative leaves every entry takes 36 bytes.
    assert_eq!(flipped("tile/entries/001", 36 * 7 + 20), 256 + 7);
    assert_eq!(flipped("tile/entries/002.p/88", 36 * 87 + 35), 599);
    assert_eq!(flipped("tile/0/001", 32 * 9), 256 + 9);
    assert_eq!(flipped("tile/1/000.p/2", 32 + 5), 256, "all that lies under the second hash");
    for gone in ["tile/entries/001", "tile/0/001"] {
        let mut files = good.clone();
        files.remove(gone);
        assert_eq!(
            index_of(&tiles::verify(&Files::of(files), &bloc.trust, None).unwrap_err()),
            256,
            "{gone}"
        );
    }
}

/// FAULTS 83: no false OK.
#[test]
fn too_few_witnesses_prove_nothing_and_strangers_do_not_count() {
    let bloc = Bloc::new();
    let (files, stranger) = (bloc.log(&[20]), Bloc::new());
    let found = tiles::verify(&files, &bloc.trust, None).unwrap();
    for count in 0..=3 {
        let note = bloc.checkpoint(&found.checkpoint, count);
        files.put(&[("checkpoint".into(), note)]).unwrap();
        let found = tiles::verify(&files, &bloc.trust, None).unwrap();
        assert_eq!((found.witnesses.len(), found.is_witnessed), (count, count >= 2));
    }
    let mut note = Note::parse(&bloc.checkpoint(&found.checkpoint, 1)).unwrap();
    let (_, forger) = &stranger.witnesses[1];
    let text = found.checkpoint.to_string();
    note.add(forger.cosign("bloc.example/mission/xyz", 9, &text).unwrap()).unwrap();
    files.put(&[("checkpoint".into(), note.to_bytes())]).unwrap();
    assert!(!tiles::verify(&files, &bloc.trust, None).unwrap().is_witnessed);
}

#[test]
fn a_log_that_brings_its_own_trust_proves_nothing() {
    let (bloc, forger) = (Bloc::new(), Bloc::new());
    let forged = forger.log(&[20]);
    assert!(tiles::verify(&forged, &forger.trust, None).is_ok());
    let fault = tiles::verify(&forged, &bloc.trust, None).unwrap_err();
    assert!(matches!(fault, Fault::Roster { version: 1, .. }), "{fault}");
    // The right roster beside it does not help.
    forged.put(&[(roster_file(1), bloc.note.clone())]).unwrap();
    let fault = tiles::verify(&forged, &bloc.trust, None).unwrap_err();
    assert!(matches!(fault, Fault::Checkpoint { .. }), "{fault}");
}

#[test]
fn an_older_checkpoint_that_somebody_kept_must_be_the_logs_beginning() {
    let bloc = Bloc::new();
    let files = bloc.log(&[100, 600]);
    let other = |size| Checkpoint { origin: ORIGIN.into(), size, root: sha256(b"another history") };
    // Within full bundles, at their ends and within the last one.
    for size in [1, 255, 256, 257, 300, 511, 512, 513, 600] {
        let kept = bloc.log(&[size]).all()["checkpoint"].clone();
        assert!(tiles::verify(&files, &bloc.trust, Some(&kept)).is_ok(), "{size}");
        let fault = tiles::verify(&files, &bloc.trust, Some(&bloc.checkpoint(&other(size), 3))).unwrap_err();
        let is_told =
            matches!(&fault, Fault::Root { size: told, which: "older checkpoint" } if *told == size);
        assert!(is_told, "{size}: {fault}");
    }
    let longer = other(601);
    let fault = tiles::verify(&files, &bloc.trust, Some(&bloc.checkpoint(&longer, 3))).unwrap_err();
    assert!(matches!(fault, Fault::Root { size: 601, .. }), "the log was cut: {fault}");
    assert!(tiles::verify(&files, &bloc.trust, Some(b"no note")).is_err());
}

#[test]
fn a_log_whose_leaf_names_another_roster_than_the_one_beside_it_is_refused() {
    let bloc = Bloc::new();
    let other = Bloc::new();
    // The forger signs with the stolen log key, and has no roster key: its leaves name its own roster.
    let right = bloc.note.clone();
    let stolen = Bloc { note: other.note, ..bloc };
    let files = stolen.log(&[20]);
    files.put(&[(roster_file(1), right)]).unwrap();
    let fault = tiles::verify(&files, &stolen.trust, None).unwrap_err();
    assert_eq!(index_of(&fault), 0, "{fault}");
}

#[test]
fn leaves_are_shown_without_what_they_commit_to() {
    let bloc = Bloc::new();
    let mut seen = Vec::new();
    tiles::leaves(&bloc.log(&[4]), &mut |index, leaf| {
        seen.push((index, leaf.map(|leaf| leaf.log_time_us)));
        Ok::<_, Fault>(())
    })
    .unwrap();
    assert_eq!(seen, [(0, Some(5)), (1, Some(6)), (2, None), (3, None)]);
}
