//! The report of an unlit vessel, which tests of sealing and of proof files send: what its sender writes, and the core
//! above it. The parent brings the types.

use super::{
    Addressee, Bytes, Core, DispatchId, Hash, PartyNumber, Precedence, Role, Sealing, SubmissionNumber,
    empty_root, pb,
};

/// Of version 1 of a roster that is not named.
pub fn core(sender: PartyNumber, to: PartyNumber, info: PartyNumber) -> Core {
    Core {
        trust_domain: "bloc.example".to_owned(),
        id: DispatchId([1; 16]),
        sender,
        submission: SubmissionNumber(9),
        roster_version: 1,
        roster_hash: Hash([2; 32]),
        addressees: vec![
            Addressee { party: to, role: Role::To },
            Addressee { party: info, role: Role::Info },
        ],
        precedence_action: Precedence::Flash,
        precedence_info: Precedence::Routine,
        topic: "maritime".to_owned(),
        label: "OPEN".to_owned(),
        exercise: true,
        expires_s: 1_800_000_000,
        size_bucket: 0,
        commitment: None,
        attachments: Vec::new(),
        supersedes: None,
        checkpoint_size: 0,
        checkpoint_root: empty_root(),
        sealing: Sealing::Clear,
    }
}

pub fn draft(sender: PartyNumber, to: PartyNumber, info: PartyNumber) -> pb::Draft {
    pb::Draft {
        r#type: pb::DispatchType::Report.into(),
        from: Some(pb::Originator {
            party: sender.0,
            office: "Attaché".to_owned(),
            person: "Col. A".to_owned(),
        }),
        to: vec![to.0],
        info: vec![info.0],
        subject: "Unlit vessel".to_owned(),
        body: "Two miles east.\n".to_owned(),
        language: "en".to_owned(),
        salt: Bytes::from_static(&[5; 32]),
        exercise: true,
        ..pb::Draft::default()
    }
}
