//! A minimal reader of DER, to find an RSA key and its size (PKCS#1, RFC 8017 appendix A.1.2; PKCS#8, RFC 5958).

const INTEGER: u8 = 0x02;
const OCTET_STRING: u8 = 0x04;
const SEQUENCE: u8 = 0x30;

/// `rsaEncryption`, as the content of an object identifier.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

/// The PKCS#1 key inside a PKCS#8 one; `None` if the key is of another kind.
pub(super) fn rsa_of_pkcs8(der: &[u8]) -> Option<&[u8]> {
    let (mut fields, _) = take(der, SEQUENCE)?;
    (_, fields) = take(fields, INTEGER)?;
    let (algorithm, rest) = take(fields, SEQUENCE)?;
    let (name, _) = take(algorithm, 0x06)?;
    if name != RSA {
        return None;
    }
    take(rest, OCTET_STRING).map(|(key, _)| key)
}

/// The bits of a PKCS#1 key's modulus.
pub(super) fn modulus_bits(der: &[u8]) -> Option<usize> {
    let (mut fields, _) = take(der, SEQUENCE)?;
    (_, fields) = take(fields, INTEGER)?;
    let (modulus, _) = take(fields, INTEGER)?;
    let first = modulus.iter().position(|byte| *byte != 0)?;
    let zeros = usize::try_from(modulus[first].leading_zeros()).ok()?;
    Some((modulus.len() - first) * 8 - zeros)
}

/// Reads one element with this tag: its content, and the bytes behind it.
fn take(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = der.split_first()?;
    let (length, rest) = length(rest)?;
    (*found == tag).then_some(())?;
    rest.split_at_checked(length)
}

fn length(der: &[u8]) -> Option<(usize, &[u8])> {
    let (first, rest) = der.split_first()?;
    if *first < 0x80 {
        return Some((usize::from(*first), rest));
    }
    let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
    if bytes.is_empty() || bytes.len() > 4 {
        return None;
    }
    let length = bytes.iter().fold(0, |length, byte| (length << 8) | usize::from(*byte));
    Some((length, rest))
}
