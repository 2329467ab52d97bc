//! Somebody at a desk's box who writes in another's name, with a certificate and a key that are good.

use pouch::{
    batch::Tag,
    merkle::Hash,
    seal::{self, Slip},
    wire::{envelope::parse_header, pb},
};

use super::{
    bloc::{BLOC, DESKS, DOMAIN},
    checker::number_of,
    world::World,
};

impl World {
    /// Puts an envelope as from another desk in the place of a desk's own, under its own signature.
    pub fn forge(&mut self, desk: usize, submit: &mut pb::Submit) {
        let (mut core, _) = parse_header(&submit.header).expect("a desk's own header");
        core.sender = number_of((desk + 1) % DESKS.len());
        let slip = Slip { epoch: 1, number: 1, previous: Hash::ZERO, voided: Vec::new() };
        let slips = vec![slip; core.addressees.len()];
        let sealed = seal::seal(&core, submit.ciphertext.clone(), &slips);
        let hash = sealed.hash().0;
        let key = &BLOC.keys[desk][self.desks[desk].key];
        let mut proofs = key.sign_batch(DOMAIN, Tag::Envelope, &[hash]);
        self.trace.note(self.now, || format!("desk {desk} writes as {}", core.sender));
        self.checker.forged(hash.as_bytes().to_vec().into());
        *submit = sealed.submit(&proofs.remove(0));
    }
}
