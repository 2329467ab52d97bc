//! Everything that is parsed out of a frame or a record: core, header, wraps, receipts, leaves, orders,
//! dispatches.

use bytes::{BufMut, Bytes, BytesMut};
use pouch::{
    merkle::{Tree, sha256},
    record::{Record, administrative::AdministrativeLeaf, content::Content, leaf::Opening},
    seal::{self, OpenedDispatch, Slip},
    wire::{
        convert,
        envelope::{Core, Envelope, parse_header, wrap_leaf},
        order::Order,
        pb,
        receipt::{ReceiptItem, join_parts, split_parts},
    },
};
use prost::Message;

use super::Input;

/// Input: `u8 which || bytes`. Whatever parses reads back the same after it is written again.
pub fn run(bytes: &[u8]) {
    let mut input = Input(bytes);
    match input.byte() % 9 {
        0 => core(input.0),
        1 => whole(input),
        2 => stored_form(input),
        3 => item(input.0),
        4 => parts(input),
        5 => leaves(input.0),
        6 => record(input),
        7 => dispatch(input),
        _ => delivered(input.0),
    }
}

fn core(bytes: &[u8]) {
    if let Ok(core) = Core::decode(bytes) {
        assert!(pb::Core::decode(bytes).is_ok(), "what is read in place is protobuf");
        assert_eq!(Core::decode(&core.encode()), Ok(core));
    }
}

/// A core with wraps and ciphertext under a header whose hashes fit: it is an envelope if and only if there
/// is one wrap for each addressee.
fn whole(mut input: Input<'_>) {
    let core_bytes = Bytes::copy_from_slice(input.counted());
    let wraps = Bytes::copy_from_slice(input.counted());
    let ciphertext = Bytes::copy_from_slice(input.0);
    let Ok(core) = Core::decode(&core_bytes) else { return };
    let split = split_wraps(&wraps);
    let leaves: Vec<_> = core
        .addressees
        .iter()
        .zip(split.iter().flatten())
        .map(|(addressee, (generation, wrap))| wrap_leaf(addressee.party, *generation, wrap))
        .collect();
    let header = pb::Header {
        core: core_bytes,
        ciphertext_hash: Bytes::copy_from_slice(sha256(&ciphertext).as_bytes()),
        wraps_root: Bytes::copy_from_slice(Tree::new(&leaves).root().as_bytes()),
    };
    let proof = pouch::batch::Proof { count: 1, index: 0, path: Vec::new(), signature: [7; 64] };
    let submit = pb::Submit {
        header: header.encode_to_vec().into(),
        proof: Some(convert::proof_frame(&proof)),
        ciphertext,
        wraps: wraps.clone(),
    };
    let fits = split.is_some_and(|wraps| wraps.len() == core.addressees.len());
    match Envelope::from_submit(&submit, &proof) {
        Ok((envelope, parsed)) => {
            assert!(fits);
            assert_eq!(parsed, core);
            let again = Envelope::from_stored(envelope.header.clone(), envelope.stored.clone());
            assert_eq!(again, Ok((envelope.clone(), core.clone())));
            for (index, addressee) in core.addressees.iter().enumerate() {
                let frame = convert::deliver_frame(
                    pouch::wire::Position(1),
                    &envelope,
                    index,
                    Bytes::new(),
                    Bytes::new(),
                );
                let parts = convert::delivered_parts(&frame).expect("what the relay sends can be read");
                assert_eq!(parts.addressee, addressee.party);
            }
        }
        Err(error) => assert!(!fits, "{error}"),
    }
}

/// `u32 generation || u16 length || wrap` each, or nothing where they are cut off: written anew, to be held
/// against the product's own.
fn split_wraps(mut bytes: &[u8]) -> Option<Vec<(u32, &[u8])>> {
    let mut wraps = Vec::new();
    while !bytes.is_empty() {
        let (head, rest) = bytes.split_first_chunk::<6>()?;
        let generation = u32::from_be_bytes([head[0], head[1], head[2], head[3]]);
        let (wrap, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([head[4], head[5]])))?;
        wraps.push((generation, wrap));
        bytes = rest;
    }
    Some(wraps)
}

fn stored_form(mut input: Input<'_>) {
    let header = Bytes::copy_from_slice(input.counted());
    let stored = Bytes::copy_from_slice(input.0);
    let parsed = parse_header(&header);
    if let Ok((envelope, core)) = Envelope::from_stored(header.clone(), stored.clone()) {
        assert_eq!(envelope.stored, stored);
        assert_eq!(parsed.expect("it was parsed just now").0, core);
    }
}

fn item(bytes: &[u8]) {
    if let Ok(item) = ReceiptItem::decode(bytes) {
        assert_eq!(item.encode(), bytes, "a fixed layout has one form");
    }
    if let Ok(order) = Order::decode(bytes) {
        assert_eq!(order.encode(), bytes, "a fixed layout has one form");
    }
}

fn parts(mut input: Input<'_>) {
    let count = usize::from(input.byte());
    let bytes = Bytes::copy_from_slice(input.0);
    if let Ok(parts) = split_parts(bytes.clone(), count) {
        assert_eq!((parts.len(), join_parts(&parts)), (count, bytes));
    }
}

fn leaves(bytes: &[u8]) {
    if let Ok(leaf) = AdministrativeLeaf::decode(bytes) {
        assert_eq!(leaf.encode(), bytes, "a leaf has one form");
    }
    if let Ok(opening) = Opening::decode(bytes) {
        assert_eq!(opening.encode(), bytes, "an opening has one form");
    }
}

/// Any record with a checksum that fits, and what it says.
fn record(mut input: Input<'_>) {
    let mut bytes = BytesMut::new();
    bytes.put_u32(crc32(input.0));
    bytes.put_slice(input.0);
    if let Ok(record) = Record::decode(&bytes.clone().freeze()) {
        let mut again = Vec::new();
        record.encode(&mut again).expect("it was read within its bounds");
        assert_eq!(again, bytes);
    }
    let mut part = || Bytes::copy_from_slice(input.counted());
    let (salt, opening, header, body) = (part(), part(), part(), part());
    let leaf = match (Opening::decode(&opening), <&[u8; 32]>::try_from(&salt[..])) {
        (Ok(opening), Ok(salt)) => Bytes::copy_from_slice(&opening.leaf(salt)),
        _ => body.clone(),
    };
    let record = Record { leaf, salt, opening, header, body };
    if let Ok(content) = Content::from_record(&record) {
        let again = content.to_record();
        assert_eq!(Content::from_record(&again).as_ref(), Ok(&content));
    }
}

fn dispatch(mut input: Input<'_>) {
    let core = Core::decode(input.counted());
    let wrap = input.counted();
    let ciphertext = Bytes::copy_from_slice(input.0);
    if let Ok(slip) = Slip::decode(wrap) {
        assert_eq!(Slip::decode(&slip.encode()), Ok(slip));
    }
    if let Ok(draft) = pb::Draft::decode(ciphertext.clone()) {
        let dispatch = seal::compose(&draft, "reference", "241015ZNOV26");
        if let Ok(opened) = OpenedDispatch::decode(&dispatch) {
            assert_eq!(opened.draft(), &draft);
        }
    }
    if let Ok(core) = core {
        let opened = seal::open(&core, &ciphertext, wrap);
        if let Ok(dispatch) = opened.dispatch {
            assert!(opened.slip.is_some());
            assert_eq!(dispatch.bytes(), &ciphertext);
            assert_eq!(dispatch.draft().exercise, core.exercise);
        }
    }
}

fn delivered(bytes: &[u8]) {
    if let Ok(frame) = pb::Deliver::decode(bytes)
        && let Ok(parts) = convert::delivered_parts(&frame)
    {
        assert!(parts.core.addressees.iter().any(|addressee| addressee.party == parts.addressee));
    }
}

/// CRC32C bit by bit, so that the product's own is held against another.
fn crc32(bytes: &[u8]) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let mut crc = !0;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { (crc >> 1) ^ POLYNOMIAL } else { crc >> 1 };
        }
    }
    !crc
}
