//! What people compare: six words, or a short fingerprint (security rules 1.2, 4).

use bip39::Language;
use sha2::{Digest as _, Sha256};

/// The first 66 bits of SHA-256 as six words of the English BIP-39 list.
pub fn words(bytes: &[u8; 32]) -> [&'static str; 6] {
    let hash = Sha256::digest(bytes);
    let list = Language::English.word_list();
    std::array::from_fn(|at| {
        let index = (0..11).fold(0usize, |acc, bit| {
            let bit = at * 11 + bit;
            (acc << 1) | usize::from((hash[bit / 8] >> (7 - bit % 8)) & 1)
        });
        list[index]
    })
}

/// The first 80 bits of SHA-256 in Crockford base32, lower case, in groups of four:
/// `dk4v-81qs-mz6n-3xtp`.
pub fn fingerprint(bytes: &[u8; 32]) -> String {
    const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    let hash = Sha256::digest(bytes);
    let mut out = String::with_capacity(19);
    for at in 0..16 {
        if at > 0 && at % 4 == 0 {
            out.push('-');
        }
        let index = (0..5).fold(0usize, |acc, bit| {
            let bit = at * 5 + bit;
            (acc << 1) | usize::from((hash[bit / 8] >> (7 - bit % 8)) & 1)
        });
        out.push(char::from(ALPHABET[index]));
    }
    out
}
