//! Signatures that a lenient verifier takes: small order, S+L, mixed order, other encodings.

use curve25519_dalek::constants::{ED25519_BASEPOINT_POINT as B, EIGHT_TORSION};
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use qb_model::dsse::{Purpose, pae};
use qb_model::ids::PublicKey;
use sha2::{Digest as _, Sha512};

/// A forged signature and what is wrong with it.
pub(crate) struct Forged {
    pub(crate) name: &'static str,
    pub(crate) key: PublicKey,
    pub(crate) body: Vec<u8>,
    pub(crate) sig: [u8; 64],
    /// Whether the key passes when it is added.
    pub(crate) key_ok: bool,
}

const PURPOSE: Purpose = Purpose::Intent;
/// The order of the group, little endian.
const ORDER: [u8; 32] = [
    0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0,
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
];

fn challenge(r: &[u8; 32], a: &[u8; 32], body: &[u8]) -> Scalar {
    let mut hash = Sha512::new();
    hash.update(r);
    hash.update(a);
    hash.update(pae(PURPOSE.media_type(), body));
    Scalar::from_bytes_mod_order_wide(&hash.finalize().into())
}

fn join(r: &[u8; 32], s: &Scalar) -> [u8; 64] {
    let mut out = [0; 64];
    out[..32].copy_from_slice(r);
    out[32..].copy_from_slice(s.as_bytes());
    out
}

fn scalar(n: u8) -> Scalar {
    Scalar::from_bytes_mod_order([n; 32])
}

/// `R = r B`, `S = r + k a` under any encoding of the key.
fn signature(secret: &Scalar, encoded: &[u8; 32], body: &[u8]) -> [u8; 64] {
    let nonce = scalar(77);
    let r = (B * nonce).compress().to_bytes();
    join(&r, &(nonce + challenge(&r, encoded, body) * secret))
}

fn add_order(sig: &mut [u8; 64]) {
    let mut carry = 0u16;
    for (byte, order) in sig[32..].iter_mut().zip(ORDER) {
        let sum = u16::from(*byte) + u16::from(order) + carry;
        *byte = sum.to_le_bytes()[0];
        carry = sum >> 8;
    }
}

/// y = p + `small`: a second encoding of the point with y = `small`.
fn above_p(small: u8) -> [u8; 32] {
    let mut out = [0xff; 32];
    out[0] = 0xed + small;
    out[31] = 0x7f;
    out
}

pub(crate) fn forged() -> Vec<Forged> {
    let secret = scalar(5);
    let point = B * secret;
    let good = point.compress().to_bytes();
    let body = b"{}".to_vec();
    let mut all = Vec::new();
    let mut push = |name, key: [u8; 32], body: &[u8], sig, key_ok| {
        all.push(Forged { name, key: PublicKey(key), body: body.to_vec(), sig, key_ok });
    };

    // The identity as key: R = s B, S = s verifies for every message.
    let identity = EdwardsPoint::default().compress().to_bytes();
    push("small_order_a", identity, &body, signature(&Scalar::ZERO, &identity, &body), false);
    let eight = EIGHT_TORSION[1].compress().to_bytes();
    push("small_order_a_of_order_8", eight, &body, signature(&Scalar::ZERO, &eight, &body), false);

    // A valid equation with R of small order.
    let k = challenge(&identity, &good, &body);
    push("small_order_r", good, &body, join(&identity, &(k * secret)), true);

    let mut high = signature(&secret, &good, &body);
    add_order(&mut high);
    push("s_plus_l", good, &body, high, true);

    let other = above_p(1);
    push("non_canonical_a", other, &body, signature(&Scalar::ZERO, &other, &body), false);
    let lasting = (2..19)
        .map(above_p)
        .find(|e| CompressedEdwardsY(*e).decompress().is_some_and(|p| !p.is_small_order()))
        .expect("some y below 19 is on the curve");
    push("non_canonical_a_not_small", lasting, &body, signature(&secret, &lasting, &body), false);

    // A = a B + T: strict verification takes a signature whose challenge is a multiple of 8.
    let mixed = (point + EIGHT_TORSION[1]).compress().to_bytes();
    push("mixed_order_a", mixed, &body, signature(&secret, &mixed, &body), false);
    let nonce = (B * scalar(77)).compress().to_bytes();
    let lucky = (0..1000)
        .map(|n| format!("{{\"n\":{n}}}").into_bytes())
        .find(|b| challenge(&nonce, &mixed, b).as_bytes()[0].is_multiple_of(8))
        .expect("one in eight is");
    push("mixed_order_a_lucky", mixed, &lucky, signature(&secret, &mixed, &lucky), false);
    all
}

/// A signature under [`forged`]'s honest key, to show that the forgeries differ by their flaw alone.
pub(crate) fn honest() -> Forged {
    let secret = scalar(5);
    let key = (B * secret).compress().to_bytes();
    let body = b"{}".to_vec();
    let sig = signature(&secret, &key, &body);
    Forged { name: "honest", key: PublicKey(key), body, sig, key_ok: true }
}
