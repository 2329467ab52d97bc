#[path = "../../tests/support/unlit_vessel.rs"]
mod unlit_vessel;

use super::*;
use crate::{
    limits,
    merkle::empty_root,
    roster::PartyNumber,
    wire::{
        DispatchId, Precedence, Role, SubmissionNumber,
        envelope::{Addressee, Envelope, Sealing},
        receipt::SetAsideReason,
    },
};

const SENDER: PartyNumber = PartyNumber(3);
const TO: PartyNumber = PartyNumber(1);
const INFO: PartyNumber = PartyNumber(4);

fn core() -> Core {
    Core {
        precedence_info: Precedence::Flash,
        label: "BLOC RESTRICTED".to_owned(),
        ..unlit_vessel::core(SENDER, TO, INFO)
    }
}

fn draft() -> pb::Draft {
    unlit_vessel::draft(SENDER, TO, INFO)
}

fn slip() -> Slip {
    Slip { epoch: 1, number: 7, previous: Hash([6; 32]), voided: vec![5, 6] }
}

/// What opens of a draft that a sender put under this core.
fn opened(draft: &pb::Draft, core: &Core) -> Result<OpenedDispatch, SetAsideReason> {
    open(core, &compose(draft, "IDN/2026/0001", "241015ZNOV26"), &slip().encode()).dispatch
}

fn changed(change: impl FnOnce(&mut pb::Draft)) -> Result<OpenedDispatch, SetAsideReason> {
    let mut draft = draft();
    change(&mut draft);
    opened(&draft, &core())
}

#[test]
fn what_is_sealed_opens_to_the_same_dispatch_and_slip() {
    let content = compose(&draft(), "IDN/2026/0001", "241015ZNOV26");
    let slips = [slip(), Slip { number: 1, previous: Hash::ZERO, voided: vec![], ..slip() }];
    let sealed = seal(&core(), content.clone(), &slips);
    let hash = sealed.hash();
    let proof = Proof { count: 1, index: 0, path: Vec::new(), signature: [0; 64] };
    let submit = sealed.clone().submit(&proof);
    assert!(submit.encoded_len() <= sealed.bytes());
    assert_eq!(hash.0, batch::item_leaf(Tag::Envelope, &submit.header));
    let (envelope, read) = Envelope::from_submit(&submit, &proof).unwrap();
    assert_eq!(read, core());
    for (index, slip) in slips.into_iter().enumerate() {
        let opened = open(&read, &envelope.ciphertext(), &envelope.wrap(index).bytes);
        assert_eq!(opened.slip, Some(slip));
        let dispatch = opened.dispatch.unwrap();
        assert_eq!((dispatch.draft(), dispatch.bytes()), (&draft(), &content));
        assert_eq!(dispatch.release().reference, "IDN/2026/0001");
    }
}

#[test]
fn the_same_arguments_give_the_same_bytes() {
    let compose = || compose(&draft(), "IDN/2026/0001", "241015ZNOV26");
    assert_eq!(compose(), compose());
}

#[test]
fn a_dispatch_that_does_not_fit_its_core_does_not_open() {
    let unopened = Err(SetAsideReason::Unopened);
    assert!(changed(|_| {}).is_ok());
    assert_eq!(changed(|draft| draft.from = None), unopened);
    assert_eq!(changed(|draft| draft.from.as_mut().unwrap().party = TO.0), unopened);
    assert_eq!(changed(|draft| draft.to = vec![INFO.0]), unopened);
    assert_eq!(changed(|draft| draft.info = vec![]), unopened);
    assert_eq!(changed(|draft| draft.to.push(INFO.0)), unopened);
    assert_eq!(changed(|draft| draft.exercise = false), unopened);
    assert_eq!(changed(|draft| draft.attachments.push(pb::Attachment::default())), unopened);
    let committed = Core { commitment: Some(Hash::ZERO), ..core() };
    assert_eq!(opened(&draft(), &committed), unopened);
    assert_eq!(opened(&draft(), &Core { size_bucket: 1024, ..core() }), unopened);
}

/// FAULTS 61: what a sender that follows no rule puts into a dispatch.
#[test]
fn every_bound_of_a_dispatch_is_checked() {
    let unopened = Err(SetAsideReason::Unopened);
    assert_eq!(changed(|draft| draft.subject = String::new()), unopened);
    assert_eq!(changed(|draft| draft.subject = "two\nlines".to_owned()), unopened);
    assert_eq!(changed(|draft| draft.subject = "\u{1b}[2J".to_owned()), unopened);
    assert_eq!(changed(|draft| draft.subject = "NUL\0".to_owned()), unopened);
    assert_eq!(changed(|draft| draft.subject = "\u{202e}lessev tilnU".to_owned()), unopened);
    assert_eq!(changed(|draft| draft.subject = "\u{2067}left to right".to_owned()), unopened);
    assert!(changed(|draft| draft.body = "\u{2067}سلام\u{2069}\u{200f}".to_owned()).is_ok());
    assert!(changed(|draft| draft.subject = "x".repeat(200)).is_ok());
    assert_eq!(changed(|draft| draft.subject = "x".repeat(201)), unopened);
    assert!(changed(|draft| draft.body = "x".repeat(BODY_BYTES_MAX)).is_ok());
    assert_eq!(changed(|draft| draft.body = "x".repeat(BODY_BYTES_MAX + 1)), unopened);
    assert_eq!(changed(|draft| draft.r#type = 0), unopened);
    assert_eq!(changed(|draft| draft.r#type = 99), unopened);
    assert_eq!(changed(|draft| draft.salt = Bytes::new()), unopened);
    assert_eq!(changed(|draft| draft.in_reply_to = Bytes::from_static(&[1])), unopened);
    assert_eq!(changed(|draft| draft.references = vec![Bytes::from_static(&[1; 16]); 17]), unopened);
    assert_eq!(changed(|draft| draft.from.as_mut().unwrap().office = "x".repeat(101)), unopened);
    let release = |reference: &str| compose(&draft(), reference, "241015ZNOV26");
    let long = open(&core(), &release(&"x".repeat(65)), &slip().encode());
    assert_eq!(long.dispatch, unopened);
}

#[test]
fn a_release_of_another_draft_does_not_open() {
    let dispatch = compose(&draft(), "IDN/2026/0001", "241015ZNOV26");
    let mut forged = pb::Dispatch::decode(dispatch).unwrap();
    forged.draft = pb::Draft { body: "Stand down.".to_owned(), ..draft() }.encode_to_vec().into();
    let opened = open(&core(), &forged.encode_to_vec().into(), &slip().encode());
    assert_eq!(opened.dispatch, Err(SetAsideReason::Unopened));
    assert_eq!(opened.slip, Some(slip()), "the slip counts all the same");
}

#[test]
fn text_that_is_not_utf8_and_bytes_that_are_no_dispatch_do_not_open() {
    let dispatch = compose(&draft(), "IDN/2026/0001", "241015ZNOV26");
    let mut latin1 = dispatch.to_vec();
    let at = latin1.windows(5).position(|window| window == b"Unlit").unwrap();
    latin1[at] = 0xe9;
    for bytes in [latin1, vec![0xff; 40], vec![0; limits::DISPATCH_BYTES_MAX + 1]] {
        let opened = open(&core(), &bytes.into(), &slip().encode());
        assert_eq!(opened.dispatch, Err(SetAsideReason::Unopened));
    }
    for end in 0..dispatch.len() {
        assert!(open(&core(), &dispatch.slice(..end), &slip().encode()).dispatch.is_err(), "cut at {end}");
    }
}

#[test]
fn a_draft_of_more_fields_than_its_lists_may_have_is_not_even_parsed() {
    let bomb = |draft: Bytes| {
        let release = pb::Release {
            draft_hash: Bytes::copy_from_slice(merkle::sha256(&draft).as_bytes()),
            ..pb::Release::default()
        };
        let dispatch =
            pb::Dispatch { draft, release: release.encode_to_vec().into(), ..pb::Dispatch::default() };
        OpenedDispatch::decode(&dispatch.encode_to_vec().into())
    };
    let empty_attachments = |count: usize| Bytes::from([0x72, 0].repeat(count));
    assert_eq!(bomb(empty_attachments(16)).expect("within the bound").draft().attachments.len(), 16);
    assert_eq!(bomb(empty_attachments(100_000)).expect_err("refused").what, "draft");
    let unknown_fields = Bytes::from([0xf8, 0x7f, 0].repeat(50_000));
    assert_eq!(bomb(unknown_fields).expect_err("refused").what, "draft");
}

#[test]
fn a_slip_with_everything_at_its_bound_is_read_and_a_longer_wrap_is_not() {
    let most = i64::MAX.unsigned_abs();
    let longest = Slip { epoch: u32::MAX, number: most, voided: vec![most; SLIP_VOIDED_MAX], ..slip() };
    assert_eq!(Slip::decode(&longest.encode()), Ok(longest.clone()));
    let mut padded = longest.encode().to_vec();
    padded.extend([0xf8, 0x7f, 0].repeat(200));
    assert!(padded.len() > SLIP_BYTES_MAX);
    assert_eq!(Slip::decode(&padded).expect_err("refused").what, "slip");
}

#[test]
fn a_slip_out_of_bounds_is_malformed() {
    let content = compose(&draft(), "IDN/2026/0001", "241015ZNOV26");
    let bad = [
        Slip { epoch: 0, ..slip() },
        Slip { number: 0, ..slip() },
        Slip { number: 1 << 63, ..slip() },
        Slip { voided: vec![0], ..slip() },
        Slip { voided: vec![1; SLIP_VOIDED_MAX + 1], ..slip() },
    ];
    for slip in bad {
        let opened = open(&core(), &content, &slip.encode());
        assert_eq!((opened.slip, opened.dispatch), (None, Err(SetAsideReason::Malformed)));
    }
    assert!(open(&core(), &content, &[0xff]).slip.is_none());
    assert!(open(&core(), &content, &[]).slip.is_none());
}
