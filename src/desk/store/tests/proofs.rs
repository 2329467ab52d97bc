//! Proofs owed and paid: what a store keeps of the log, and what it can prove with no relay at hand.

use data_encoding::BASE64;

use super::*;
use crate::{
    audit::{Follower, LeafProof, LogTrust, TilePath, witness_name},
    batch::Tag,
    desk::store::{FetchedTiles, Progress, Proved, proofs::proof_of},
    merkle::{Tree, leaf_hash},
    record::{
        administrative::{Act, AdministrativeLeaf, ChainHead},
        leaf::traffic_leaf,
    },
    wire::{
        EnvelopeHash,
        receipt::{ReceiptItem, ReceiptKind},
    },
};

/// A bloc whose missions are witnesses, a desk of IDN, and the log that a relay shows it.
struct Watched {
    bloc: Bloc,
    idn: Desk,
    leaves: Vec<Bytes>,
    follower: Follower,
    /// Leaves before this one were given to the store.
    given: usize,
}

impl Watched {
    fn new() -> Watched {
        let mut bloc = Bloc::new();
        let mut idn = bloc.desk("IDN");
        let (roster, note) = bloc.next(|draft| {
            draft.parties.iter_mut().for_each(|party| {
                party.is_witness = party.id.kind() == crate::identity::Kind::Mission;
            });
        });
        idn.store.learn_roster(None, roster.clone(), &note).unwrap();
        bloc.roster = roster;
        Watched { bloc, idn, leaves: Vec::new(), follower: Follower::new(), given: 0 }
    }

    fn trust(&self) -> LogTrust {
        LogTrust::of(&self.bloc.roster)
    }

    /// The log takes a record of the desk's; gives its position, salt and opening.
    fn record(&mut self, kind: OpeningKind, hash: Hash) -> (u64, Bytes, Bytes) {
        let position = self.leaves.len() as u64;
        let salt = sha256(&position.to_be_bytes());
        let opening = Opening { kind, log_time_us: 1, roster_version: 2, hash };
        let (salt, opening) = (salt.as_bytes().to_vec(), opening.encode().to_vec());
        self.leaves.push(Bytes::copy_from_slice(&traffic_leaf(&salt, &opening)));
        (position, salt.into(), opening.into())
    }

    /// Records of others, up to so many leaves in all.
    fn grow(&mut self, to: usize) {
        while self.leaves.len() < to {
            self.record(OpeningKind::Receipts, sha256(b"others"));
        }
    }

    /// The desk sends something, which the log takes at once.
    fn send(&mut self) -> (String, u64, Hash) {
        let short = self.idn.send(dispatch("MYS", "routine", "x"));
        let submit = self.bloc.seal(&mut self.idn).remove(0);
        let (position, salt, opening) = self.record(OpeningKind::Envelope, hash(&submit));
        let frame =
            pb::Accepted { salt: salt.clone(), opening: opening.clone(), ..accepted(&submit, position) };
        self.idn.store.accepted(vec![frame], now()).unwrap();
        (short, position, leaf_hash(&traffic_leaf(&salt, &opening)))
    }

    fn checkpoint(&self, witnesses: &[&str]) -> Bytes {
        let hashes: Vec<Hash> = self.leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
        let checkpoint = crate::audit::Checkpoint {
            origin: "bloc.example/log".to_owned(),
            size: self.leaves.len() as u64,
            root: Tree::new(&hashes).root(),
        };
        let text = checkpoint.to_string();
        let mut note = Note::new(&text).unwrap();
        note.add(self.bloc.log.sign_note("bloc.example/log", &text).unwrap()).unwrap();
        for code in witnesses {
            let name = witness_name(&id(code));
            note.add(self.bloc.witnesses[code].cosign(&name, 9, &text).unwrap()).unwrap();
        }
        note.to_bytes().into()
    }

    /// The desk follows the log, and the checkpoint over it is published with these cosignatures.
    fn publish(&mut self, witnesses: &[&str], at: Timestamp) {
        let mut leaves = Vec::new();
        for leaf in &self.leaves[self.given..] {
            self.follower.take(leaf).unwrap();
            leaves.push(leaf_hash(leaf));
        }
        self.given = self.leaves.len();
        let witnessed = self.checkpoint(witnesses);
        let verified =
            Verified { follower: self.follower.clone(), note: self.checkpoint(&[]), witnessed, ahead: None };
        let follower = self.follower.clone();
        let progress = Progress { follower, leaves, verified: Some(verified), is_published: true };
        self.idn.store.published(self.leaves.len() as u64, at).unwrap();
        self.idn.store.follow(&progress, at).unwrap();
    }

    fn prove(&mut self) -> Proved {
        self.idn.store.prove(&FetchedTiles::new(), None, now()).unwrap()
    }

    fn proof(&self, position: u64, leaf: Hash) -> Option<LeafProof> {
        proof_of(&self.idn.store.read(), Position(position), leaf, None).unwrap()
    }

    /// The bytes of a tile, as the log has them.
    fn tile(&self, path: TilePath) -> Bytes {
        let span = 256_usize.pow(path.level.into());
        let hashes: Vec<Hash> = self.leaves.iter().map(|leaf| leaf_hash(leaf)).collect();
        let first = usize::try_from(path.index).unwrap() * 256;
        let nodes = hashes.chunks(span).map(crate::merkle::root).skip(first).take(path.width.into());
        nodes.flat_map(|node| node.0).collect()
    }
}

fn without_tiles(watched: &Watched) {
    watched.idn.store.connection.execute("DELETE FROM tiles", []).unwrap();
}

#[test]
fn what_was_accepted_is_proven_under_the_next_checkpoint_that_a_quorum_signed() {
    let mut watched = Watched::new();
    watched.grow(250);
    let mut sent = vec![watched.send()];
    watched.grow(300);
    sent.push(watched.send());
    watched.publish(&["IDN"], after(10));
    assert_eq!(watched.prove(), Proved::default());
    assert_eq!(watched.proof(sent[0].1, sent[0].2), None, "one of two witnesses is no quorum");
    watched.grow(700);
    sent.push(watched.send());
    watched.grow(800);
    watched.publish(&["IDN", "MYS"], after(20));
    assert_eq!(watched.prove(), Proved::default());
    watched.idn = watched.idn.killed(&watched.bloc);
    for (_, position, leaf) in &sent {
        let proof = watched.proof(*position, *leaf).unwrap();
        let proof: LeafProof = proof.to_string().parse().unwrap();
        let signed = proof.verify(*leaf, &watched.trust()).unwrap();
        assert_eq!((proof.index, signed.checkpoint.size, signed.witnesses.len()), (*position, 800, 2));
    }
    assert_eq!(watched.proof(sent[0].1, sent[1].2), None, "it proves its own leaf alone");
}

#[test]
fn a_log_in_which_something_else_stands_is_an_alarm_and_no_proof_and_is_kept() {
    let mut watched = Watched::new();
    watched.grow(3);
    let (_, position, leaf) = watched.send();
    watched.leaves[3] = Bytes::copy_from_slice(&traffic_leaf(&[1; 32], b"another"));
    let other = leaf_hash(&watched.leaves[3]);
    watched.publish(&["IDN", "MYS"], after(10));
    watched.prove();
    assert_eq!(watched.proof(position, leaf), None);
    let alarm = watched.idn.status().alarms.remove(0);
    for words in ["another leaf at position 3", "mail goes on", "save this desk's folder", "telephone"] {
        assert!(alarm.contains(words), "{alarm}");
    }
    let sql = "SELECT found, path, note FROM proofs JOIN checkpoints ON checkpoint = id WHERE position = 3";
    let (found, path, note): (Hash, Vec<u8>, Vec<u8>) = watched
        .idn
        .store
        .connection
        .query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .unwrap();
    let path = path.as_chunks::<32>().0.iter().copied().map(Hash).collect();
    let checkpoint = String::from_utf8(note).unwrap();
    let evidence = LeafProof { extra: None, index: 3, path, checkpoint };
    evidence.verify(other, &watched.trust()).unwrap();
    assert_eq!(found, other);
}

#[test]
fn a_tile_that_is_not_kept_is_asked_for_and_believed_only_if_it_makes_the_root() {
    let mut watched = Watched::new();
    watched.grow(600);
    let (_, position, leaf) = watched.send();
    watched.publish(&["IDN", "MYS"], after(10));
    without_tiles(&watched);
    let mut fetched = FetchedTiles::new();
    let mut asked = Vec::new();
    loop {
        let proved = watched.idn.store.prove(&fetched, None, now()).unwrap();
        let Some(path) = proved.missing.keys().next().copied() else { break };
        asked.push(path.to_string());
        let mut tile = watched.tile(path).to_vec();
        if path.level == 1 {
            tile[0] ^= 1;
        }
        fetched.insert((path.level, path.index), tile.into());
    }
    assert_eq!(asked, ["tile/0/002.p/89", "tile/1/000.p/2"]);
    let proved = watched.idn.store.prove(&fetched, None, now()).unwrap();
    let damaged: Vec<String> = proved.damaged.iter().map(ToString::to_string).collect();
    assert_eq!(damaged, asked, "one of them");
    assert_eq!(watched.proof(position, leaf), None);
    assert!(watched.idn.status().alarms.is_empty(), "a damaged tile is no lie");
    let path = TilePath { level: 1, index: 0, width: 2 };
    fetched.insert((1, 0), watched.tile(path));
    watched.idn.store.prove(&fetched, None, now()).unwrap();
    watched.proof(position, leaf).unwrap().verify(leaf, &watched.trust()).unwrap();
}

#[test]
fn a_tile_of_our_own_that_was_damaged_is_given_up_and_asked_for() {
    let mut watched = Watched::new();
    watched.grow(10);
    let (_, position, leaf) = watched.send();
    watched.publish(&["IDN", "MYS"], after(10));
    let sql = "UPDATE tiles SET hashes = zeroblob(length(hashes))";
    watched.idn.store.connection.execute(sql, []).unwrap();
    assert_eq!(watched.prove(), Proved::default());
    let missing = watched.prove().missing;
    assert_eq!(missing.keys().map(ToString::to_string).collect::<Vec<_>>(), ["tile/0/000.p/11"]);
    assert_eq!(watched.proof(position, leaf), None);
}

#[test]
fn leaves_that_were_followed_on_the_way_to_a_lie_are_written_anew() {
    let mut watched = Watched::new();
    watched.grow(200);
    watched.publish(&["IDN", "MYS"], after(10));
    // What a relay shows on the way to a checkpoint that it then does not make.
    let mut ahead = watched.follower.clone();
    let lies: Vec<Hash> = (0..400_u32)
        .map(|n| {
            let leaf = traffic_leaf(&n.to_be_bytes(), b"lie");
            ahead.take(&leaf).unwrap();
            leaf_hash(&leaf)
        })
        .collect();
    let step = Progress { follower: ahead.clone(), leaves: lies, verified: None, is_published: false };
    watched.idn.store.follow(&step, now()).unwrap();
    // It stays when more have cosigned what was verified before.
    let again = watched.idn.store.verified().unwrap();
    let (follower, verified) = (again.follower.clone(), Some(again.clone()));
    let step = Progress { follower, leaves: Vec::new(), verified, is_published: true };
    watched.idn.store.follow(&step, now()).unwrap();
    assert_eq!(watched.idn.store.verified().unwrap().ahead, Some(ahead));
    let (_, position, leaf) = watched.send();
    watched.grow(700);
    watched.publish(&["IDN", "MYS"], after(20));
    assert_eq!(watched.idn.store.verified().unwrap().ahead, None);
    assert_eq!(watched.prove(), Proved::default());
    watched.proof(position, leaf).unwrap().verify(leaf, &watched.trust()).unwrap();
}

#[test]
fn a_turn_cuts_so_many_and_says_where_the_next_goes_on() {
    let mut watched = Watched::new();
    let sent: Vec<_> = (0..40).map(|_| watched.send()).collect();
    watched.publish(&["IDN", "MYS"], after(10));
    let proved = watched.prove();
    assert_eq!(proved, Proved { next: Some(Position(31)), ..Proved::default() });
    let proven = |watched: &Watched| {
        sent.iter().filter(|(_, position, leaf)| watched.proof(*position, *leaf).is_some()).count()
    };
    assert_eq!(proven(&watched), 32);
    assert_eq!(watched.idn.store.prove(&FetchedTiles::new(), proved.next, now()).unwrap().next, None);
    assert_eq!(proven(&watched), 40);
}

#[test]
fn evidence_of_what_was_sent_holds_all_that_a_proof_file_needs() {
    let mut watched = Watched::new();
    let (short, position, leaf) = watched.send();
    let before = watched.idn.store.exhibits(&short).unwrap();
    assert_eq!((before.envelope.leaf.position, before.envelope.leaf.proof), (Some(position), None));
    // MYS takes it and gives a receipt.
    let mut mys = watched.bloc.desk("MYS");
    let frame: Vec<u8> = watched
        .idn
        .store
        .connection
        .query_row("SELECT frame FROM submissions", [], |row| row.get(0))
        .unwrap();
    let submit = <pb::Submit as prost::Message>::decode(&frame[..]).unwrap();
    let submit = SealedSubmit { number: 1, precedence: crate::wire::Precedence::Routine, submit };
    mys.store.deliver(vec![watched.bloc.delivery(&submit, "MYS", position)], now()).unwrap();
    let stored = mys.store.make_stored(watched.bloc.sign("MYS"), now()).unwrap().unwrap();
    let root = crate::wire::receipt::VerifiedReceipts::verify(
        stored.clone(),
        DOMAIN,
        &watched.bloc.sign("MYS").public(),
    )
    .unwrap()
    .root();
    let (at, salt, opening) = watched.record(OpeningKind::Receipts, root);
    let answer =
        pb::StoredAt { number: stored.number, position: at, salt: salt.clone(), opening: opening.clone() };
    mys.store.stored_at(&answer, now()).unwrap();
    let receipts = watched.bloc.receipts(stored, "MYS", at);
    let receipts = receipts
        .into_iter()
        .map(|receipt| ReceivedReceipt { salt: salt.clone(), opening: opening.clone(), ..receipt })
        .collect();
    watched.idn.store.receipts(receipts, now()).unwrap();
    watched.publish(&["IDN", "MYS"], after(10));
    watched.prove();

    let evidence = watched.idn.store.exhibits(&short).unwrap();
    let proof: LeafProof = evidence.envelope.leaf.proof.unwrap().parse().unwrap();
    proof.verify(leaf, &watched.trust()).unwrap();
    let opens = |leaf: &crate::desk::view::ProvenLeaf| {
        let of = |text: &String| BASE64.decode(text.as_bytes()).unwrap();
        [of(&leaf.salt), of(&leaf.opening)].concat()
    };
    assert_eq!(proof.extra, Some([&sha256(&position.to_be_bytes()).0[..], &opening_of(&submit)].concat()));
    assert_eq!(BASE64.decode(evidence.envelope.header.as_bytes()).unwrap(), submit.submit.header);
    let [receipt] = &evidence.receipts[..] else { panic!("{:?}", evidence.receipts) };
    assert_eq!((receipt.kind.as_str(), receipt.from.as_str()), ("delivered", "MYS"));
    let proof: LeafProof = receipt.leaf.proof.clone().unwrap().parse().unwrap();
    assert_eq!(proof.extra, Some(opens(&receipt.leaf)));
    proof.verify(leaf_hash(&traffic_leaf(&salt, &opening)), &watched.trust()).unwrap();
    assert_eq!(evidence.rosters, [1, 2]);

    // The addressee has the same of its own: the envelope as it came, and what it said.
    let theirs = mys.store.exhibits(&short).unwrap();
    assert_eq!(theirs.envelope.header, evidence.envelope.header);
    assert_eq!(theirs.envelope.signature, evidence.envelope.signature);
    assert_eq!(theirs.receipts.len(), 1);
    assert_eq!(
        (&theirs.receipts[0].item, &theirs.receipts[0].signature),
        (&receipt.item, &receipt.signature)
    );
    assert_eq!(theirs.receipts[0].leaf.position, Some(at));
}

#[test]
fn evidence_of_a_refusal_that_the_log_holds_is_what_the_relay_signed_and_one_without_a_record_is_none() {
    let mut watched = Watched::new();
    let [short, counted] = ["x", "y"].map(|subject| watched.idn.send(dispatch("MYS", "routine", subject)));
    let submits = watched.bloc.seal(&mut watched.idn);
    let (position, salt, opening) = watched.record(OpeningKind::Refusal, hash(&submits[0]));
    let relay = watched.bloc.roster.relay().unwrap().number;
    let own = watched.bloc.roster.party_by_code("IDN").unwrap().number;
    let named = vec![(EnvelopeHash(hash(&submits[0])), Position::NONE)];
    let item = ReceiptItem {
        kind: ReceiptKind::Refused,
        addressee: own,
        ..ReceiptItem::own(ReceiptKind::Delivered, relay, own, 1, 2, named)
    };
    let item = item.encode();
    let leaf = crate::batch::item_leaf(Tag::Receipt, &item);
    let proof = watched.bloc.sign("RELAY-A").sign_batch(DOMAIN, Tag::Receipt, &[leaf]).remove(0);
    let frame = pb::Refused {
        item: item.clone(),
        proof: Some(crate::wire::convert::proof_frame(&proof)),
        recorded: true,
        position,
        salt: salt.clone(),
        opening: opening.clone(),
        ..refused(&submits[0], pb::RefusalCode::Topic)
    };
    watched.idn.store.refused(frame.clone(), now()).unwrap();
    watched.idn.store.refused(frame, now()).unwrap();
    watched.idn.store.refused(refused(&submits[1], pb::RefusalCode::Topic), now()).unwrap();
    assert_eq!(watched.idn.status().proofs_owed, 1);
    watched.publish(&["IDN", "MYS"], after(10));
    watched.prove();

    let evidence = watched.idn.store.exhibits(&short).unwrap();
    let proof: LeafProof = evidence.envelope.leaf.proof.clone().unwrap().parse().unwrap();
    proof.verify(leaf_hash(&traffic_leaf(&salt, &opening)), &watched.trust()).unwrap();
    let [receipt] = &evidence.receipts[..] else { panic!("{:?}", evidence.receipts) };
    assert_eq!((receipt.kind.as_str(), &receipt.leaf), ("refused", &evidence.envelope.leaf));
    assert_eq!(BASE64.decode(receipt.item.as_bytes()).unwrap(), item);
    let unproven = watched.idn.store.exhibits(&counted).unwrap_err();
    let words = unproven.to_string();
    assert!(
        words.starts_with(&format!("{counted} was refused (TOPIC)")) && words.contains("with a count"),
        "{words}"
    );
    assert_eq!(unproven.code(), "not-proven");
}

fn opening_of(submit: &SealedSubmit) -> Vec<u8> {
    let opening =
        Opening { kind: OpeningKind::Envelope, log_time_us: 1, roster_version: 2, hash: hash(submit) };
    opening.encode().to_vec()
}

#[test]
fn there_is_no_evidence_of_what_the_relay_has_not_accepted() {
    let mut watched = Watched::new();
    let short = watched.idn.send(dispatch("MYS", "routine", "x"));
    assert_eq!(watched.idn.store.exhibits(&short).unwrap_err().code(), "not-proven");
    watched.bloc.seal(&mut watched.idn);
    assert_eq!(watched.idn.store.exhibits(&short).unwrap_err().code(), "not-proven");
    assert_eq!(watched.idn.store.exhibits("K7QF").unwrap_err().code(), "not-found");
}

#[test]
fn a_roster_that_the_log_holds_is_proven_as_well() {
    let mut watched = Watched::new();
    let leaf = Bytes::from_static(b"\x01\x02 a leaf in clear");
    watched.idn.store.learn_roster_leaf(2, Position(0), &leaf, now()).unwrap();
    watched.idn.store.learn_roster_leaf(2, Position(0), &leaf, now()).unwrap();
    let roster = watched.idn.store.proven_roster(2).unwrap();
    assert_eq!((roster.position, roster.proof), (Some(0), None));
    assert_eq!(BASE64.decode(roster.leaf.unwrap().as_bytes()).unwrap(), leaf);
    // The log's hash of it is what counts here.
    let mut leaves = vec![leaf_hash(&leaf)];
    let mut tree = crate::merkle::Frontier::new();
    tree.append(leaves[0]);
    watched.leaves.push(leaf.clone());
    watched.follower = Follower::at(tree, ChainHead::START);
    watched.given = 1;
    let step = Progress {
        follower: watched.follower.clone(),
        leaves: std::mem::take(&mut leaves),
        verified: None,
        is_published: false,
    };
    watched.idn.store.follow(&step, now()).unwrap();
    watched.grow(5);
    watched.publish(&["IDN", "MYS"], after(10));
    watched.prove();
    let proof: LeafProof = watched.idn.store.proven_roster(2).unwrap().proof.unwrap().parse().unwrap();
    proof.verify(leaf_hash(&leaf), &watched.trust()).unwrap();
    assert_eq!(watched.idn.store.proven_roster(9).unwrap_err().code(), "not-found");
}

#[test]
fn a_log_that_names_another_roster_of_a_version_than_this_desk_holds_is_an_alarm_and_cosigned_no_more() {
    let mut watched = Watched::new();
    let hash = sha256(&watched.bloc.note);
    let mut leaf_of = |version: u32, hash: Hash, position: u64| {
        let act = Act::Roster { version, hash, length: 9 };
        let leaf = AdministrativeLeaf { log_time_us: 5, previous: ChainHead::START, act }.encode();
        watched.idn.store.learn_roster_leaf(version, Position(position), &leaf, now()).unwrap();
        (watched.idn.status().alarms, watched.idn.store.trusts_log().unwrap())
    };
    assert_eq!(leaf_of(1, hash, 0), (vec![], true));
    assert_eq!(leaf_of(9, sha256(b"unknown"), 1), (vec![], true), "it holds none of this version");
    let (alarms, trusts) = leaf_of(1, sha256(b"another"), 2);
    assert!(alarms[0].contains("another roster of version 1 at position 2"), "{alarms:?}");
    assert!(!trusts);
}

#[test]
fn what_was_sent_is_shown_as_not_yet_witnessed_and_then_by_how_many() {
    use crate::desk::view::Witnessed;
    let mut watched = Watched::new();
    let (short, ..) = watched.send();
    let shown = |watched: &Watched| {
        let outgoing = watched.idn.store.outgoing(&short).unwrap();
        (outgoing.witnessed, outgoing.addressees[0].witnessed, watched.idn.status().proofs_owed)
    };
    assert_eq!(shown(&watched), (None, None, 1));
    watched.publish(&["IDN", "MYS"], after(10));
    watched.prove();
    let by_all = Some(Witnessed { by: 2, of: 2 });
    assert_eq!(shown(&watched), (by_all, by_all, 0));
    assert_eq!(Witnessed::words(by_all), "witnessed by 2 of 2");
    assert_eq!(Witnessed::words(None), "not yet witnessed");
    assert_eq!(Witnessed::words(Some(Witnessed { by: 0, of: 0 })), "no witness yet");
}

#[test]
fn a_proof_that_two_checkpoints_did_not_pay_is_an_alarm_until_it_is_paid() {
    let mut watched = Watched::new();
    watched.grow(5);
    watched.publish(&["IDN", "MYS"], after(10));
    // Told of, and left out of the checkpoints that follow.
    let (_, position, leaf) = watched.send();
    let hidden = watched.leaves.pop().unwrap();
    let prove = |watched: &mut Watched, at: i64| {
        watched.publish(&["IDN", "MYS"], after(at));
        watched.idn.store.prove(&FetchedTiles::new(), None, after(at)).unwrap();
        watched.idn.status().alarms
    };
    assert!(prove(&mut watched, 12).is_empty(), "the same, published again with more cosignatures");
    assert!(prove(&mut watched, 21).is_empty());
    let alarms = prove(&mut watched, 32);
    for words in ["1 records", "position 5", "mail goes on", "save this desk's folder", "telephone"] {
        assert!(alarms[0].contains(words), "{alarms:?}");
    }
    watched.leaves.push(hidden);
    assert_eq!(prove(&mut watched, 42), Vec::<String>::new(), "it ends by itself");
    assert!(watched.proof(position, leaf).is_some());
}

#[test]
fn a_proof_is_not_overdue_because_this_desk_follows_slowly_or_lacks_tiles() {
    let mut watched = Watched::new();
    watched.grow(5);
    watched.send();
    watched.grow(300);
    for at in [10, 20, 40] {
        watched.idn.store.published(300, after(at)).unwrap();
        assert_eq!(watched.idn.status().alarms, Vec::<String>::new(), "covered, and not followed yet");
    }
    watched.publish(&["IDN", "MYS"], after(60));
    without_tiles(&watched);
    assert!(!watched.idn.store.prove(&FetchedTiles::new(), None, after(80)).unwrap().missing.is_empty());
    assert_eq!(watched.idn.status().alarms, Vec::<String>::new());
}

#[test]
fn a_checkpoint_that_came_before_the_relay_told_of_a_leaf_does_not_count_whenever_it_is_verified() {
    let mut watched = Watched::new();
    watched.grow(5);
    for at in [10, 20] {
        watched.idn.store.published(5, after(at)).unwrap();
    }
    watched.send();
    watched.idn.store.published(5, after(40)).unwrap();
    assert_eq!(watched.idn.status().alarms, Vec::<String>::new(), "one since");
    watched.idn.store.published(5, after(50)).unwrap();
    assert!(watched.idn.status().alarms[0].contains("1 records"), "two");
}

#[test]
fn a_checkpoint_that_is_overdue_is_an_alarm_until_it_is_no_more_and_the_next_session_knows_of_it() {
    let mut watched = Watched::new();
    assert_eq!(watched.idn.store.facts().unwrap().owed, Owed::default());
    let position = Position(watched.send().1);
    watched.idn.store.uncovered(Some(position), after(20)).unwrap();
    let alarms = watched.idn.status().alarms;
    let place = format!("over position {position}, ");
    for words in
        ["its log hangs, or", "holds checkpoints back", "mail goes on", &place, "nothing to save", "call"]
    {
        assert!(alarms[0].contains(words), "{alarms:?}");
    }
    let owed = Owed { last: Some(position), is_overdue: true };
    assert_eq!(watched.idn.store.facts().unwrap().owed, owed);
    watched.idn.store.uncovered(None, after(30)).unwrap();
    assert_eq!(watched.idn.status().alarms, Vec::<String>::new());
    assert_eq!(watched.idn.store.facts().unwrap().owed, Owed { is_overdue: false, ..owed });
    watched.publish(&["IDN", "MYS"], after(40));
    watched.prove();
    assert_eq!(watched.idn.store.facts().unwrap().owed, Owed::default());
}

#[test]
fn what_no_quorum_has_signed_for_ten_minutes_is_an_alarm_until_one_does() {
    let mut watched = Watched::new();
    let (_, position, leaf) = watched.send();
    watched.publish(&["IDN"], after(20));
    let unproven = |watched: &mut Watched, at: u64| {
        // The wall clock is set meanwhile, back and forth.
        let wall = after(if at.is_multiple_of(2) { -100_000 } else { 100_000 });
        watched.idn.store.look_at_proofs(Duration::from_secs(at), wall).unwrap();
        watched.idn.status().alarms
    };
    for at in [5, 6, 599, 604] {
        assert_eq!(unproven(&mut watched, at), Vec::<String>::new());
    }
    let alarms = unproven(&mut watched, 605);
    for words in ["for 10 minutes", "covered 1 records", "mail goes on", "nothing to save", "telephone"] {
        assert!(alarms[0].contains(words), "{alarms:?}");
    }
    // A desk that was off meanwhile has nobody to blame yet.
    watched.idn.store.oldest_owed = None;
    assert_eq!(unproven(&mut watched, 650), Vec::<String>::new());
    assert_eq!(unproven(&mut watched, 1_250).len(), 1);
    watched.publish(&["IDN", "MYS"], after(700));
    watched.prove();
    assert_eq!(unproven(&mut watched, 1_251), Vec::<String>::new());
    assert!(watched.proof(position, leaf).is_some());
}
