//! As much of OpenPGP as it takes to believe an archive's `InRelease`.
//!
//! Keys are a file of public keys that the caller trusts; a message is believed if
//! one of them made one of its signatures over exactly the text that is returned.
//! Version 4 keys and signatures, RSA and Ed25519, SHA-256 and longer. The
//! mathematics is ring's, which the fetcher's TLS brings anyway: a whole OpenPGP
//! library would add 150 crates for the packet headers read here.
//!
//! Source: RFC 9580, "5.2 Signature", "5.5 Key Material", "7 Cleartext Signature
//! Framework"; tried on the archives' own files.

use ring::{digest, signature};

/// Why a text is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The text is not framed as a signed message, or has something around it.
    #[error("not a signed message: {0}")]
    NotSigned(&'static str),
    /// None of the signatures is by a key of the keyring.
    #[error("signed by {}, none of which is in the keyring", list(.issuers))]
    UnknownKeys {
        /// Key ids as the signatures name them.
        issuers: Vec<String>,
    },
    /// A key of the keyring is named, but the text is not what it signed.
    #[error("the signature by key {key} does not match: the text was changed")]
    Mismatch {
        /// The key's id.
        key: String,
    },
    /// The keyring cannot be read.
    #[error("the keyring cannot be read: {0}")]
    BadKeyring(&'static str),
}

fn list(issuers: &[String]) -> String {
    if issuers.is_empty() { "nobody".to_owned() } else { issuers.join(", ") }
}

/// Public keys that are trusted.
#[derive(Clone, Debug)]
pub struct Keyring {
    keys: Vec<PublicKey>,
}

#[derive(Clone, Debug)]
struct PublicKey {
    /// The last eight bytes of the fingerprint.
    id: [u8; 8],
    material: Material,
}

#[derive(Clone, Debug)]
enum Material {
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    Ed25519 { point: Vec<u8> },
}

/// A text whose signature holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedText {
    /// What was signed; lines without blanks at their ends.
    pub text: String,
    /// Ids of the keys whose signatures hold, base 16.
    pub signers: Vec<String>,
}

struct Packet<'a> {
    tag: u8,
    body: &'a [u8],
}

struct Signature<'a> {
    hash_algorithm: u8,
    key_algorithm: u8,
    hashed_head: &'a [u8],
    issuer: Option<[u8; 8]>,
    numbers: Vec<&'a [u8]>,
}

const TAG_SIGNATURE: u8 = 2;
const TAG_PUBLIC_KEY: u8 = 6;
const TAG_PUBLIC_SUBKEY: u8 = 14;
const TYPE_TEXT: u8 = 1;
const ALGORITHM_RSA: u8 = 1;
const ALGORITHM_EDDSA: u8 = 22;
const ALGORITHM_ED25519: u8 = 27;
const OID_ED25519: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0xda, 0x47, 0x0f, 0x01];

impl Keyring {
    /// Reads a keyring, binary or in ASCII armour. Keys of other kinds are left out.
    ///
    /// # Errors
    /// [`SignatureError::BadKeyring`] if the packets do not parse or hold no key.
    pub fn read(bytes: &[u8]) -> Result<Self, SignatureError> {
        let armoured;
        let mut bytes = bytes;
        if bytes.starts_with(b"-----BEGIN") {
            let text = std::str::from_utf8(bytes).map_err(|_| SignatureError::BadKeyring("not text"))?;
            armoured = unarmour(text).ok_or(SignatureError::BadKeyring("the armour is damaged"))?;
            bytes = &armoured;
        }
        let packets = read_packets(bytes).ok_or(SignatureError::BadKeyring("a packet is cut short"))?;
        let keys: Vec<PublicKey> = packets
            .iter()
            .filter(|packet| matches!(packet.tag, TAG_PUBLIC_KEY | TAG_PUBLIC_SUBKEY))
            .filter_map(|packet| PublicKey::read(packet.body))
            .collect();
        if keys.is_empty() {
            return Err(SignatureError::BadKeyring("it holds no key that can be used"));
        }
        Ok(Self { keys })
    }

    /// Checks a cleartext-signed message and returns the text that was signed.
    ///
    /// # Errors
    /// See [`SignatureError`]. Text before or after the message is an error too.
    pub fn verify(&self, message: &str) -> Result<SignedText, SignatureError> {
        let (lines, armour) = split_message(message)?;
        let bytes = unarmour(armour).ok_or(SignatureError::NotSigned("the signature's armour is damaged"))?;
        let packets = read_packets(&bytes).ok_or(SignatureError::NotSigned("a packet is cut short"))?;
        let signed = lines.join("\r\n");
        let mut issuers = Vec::new();
        let mut signers = Vec::new();
        let mut mismatch = None;
        for packet in packets.iter().filter(|packet| packet.tag == TAG_SIGNATURE) {
            let Some(found) = Signature::read(packet.body) else { continue };
            issuers.extend(found.issuer.map(hex));
            for key in self.keys.iter().filter(|key| found.issuer.is_none_or(|id| id == key.id)) {
                if key.has_made(&found, signed.as_bytes()) {
                    signers.push(hex(key.id));
                } else if found.issuer.is_some() {
                    mismatch = Some(hex(key.id));
                }
            }
        }
        if let Some(key) = mismatch {
            return Err(SignatureError::Mismatch { key });
        }
        if signers.is_empty() {
            return Err(SignatureError::UnknownKeys { issuers });
        }
        Ok(SignedText { text: lines.join("\n") + "\n", signers })
    }
}

impl PublicKey {
    fn read(body: &[u8]) -> Option<Self> {
        let (&[version, _, _, _, _, algorithm], rest) = body.split_first_chunk()?;
        if version != 4 {
            return None;
        }
        let material = match algorithm {
            ALGORITHM_RSA => {
                let (modulus, rest) = read_number(rest)?;
                let (exponent, _) = read_number(rest)?;
                Material::Rsa { modulus: modulus.to_vec(), exponent: exponent.to_vec() }
            }
            ALGORITHM_EDDSA => {
                let (&oid_bytes, rest) = rest.split_first()?;
                let (oid, rest) = rest.split_at_checked(usize::from(oid_bytes))?;
                let (point, _) = read_number(rest)?;
                let (&0x40, point) = point.split_first()? else { return None };
                (oid == OID_ED25519).then(|| Material::Ed25519 { point: point.to_vec() })?
            }
            ALGORITHM_ED25519 => Material::Ed25519 { point: rest.get(..32)?.to_vec() },
            _ => return None,
        };
        let mut hashed = vec![0x99];
        hashed.extend_from_slice(&u16::try_from(body.len()).ok()?.to_be_bytes());
        hashed.extend_from_slice(body);
        let fingerprint = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &hashed);
        let id = fingerprint.as_ref()[12..].try_into().expect("a SHA-1 has twenty bytes");
        Some(Self { id, material })
    }

    fn has_made(&self, found: &Signature<'_>, text: &[u8]) -> bool {
        let mut signed = text.to_vec();
        signed.extend_from_slice(found.hashed_head);
        signed.extend_from_slice(&[4, 0xff]);
        signed.extend_from_slice(&(found.hashed_head.len() as u32).to_be_bytes());
        match &self.material {
            Material::Rsa { modulus, exponent } if found.key_algorithm == ALGORITHM_RSA => {
                let parameters = match found.hash_algorithm {
                    8 => &signature::RSA_PKCS1_2048_8192_SHA256,
                    9 => &signature::RSA_PKCS1_2048_8192_SHA384,
                    10 => &signature::RSA_PKCS1_2048_8192_SHA512,
                    _ => return false,
                };
                let [number] = found.numbers.as_slice() else { return false };
                let key = signature::RsaPublicKeyComponents { n: modulus, e: exponent };
                key.verify(parameters, &signed, &padded(number, modulus.len())).is_ok()
            }
            Material::Ed25519 { point } if found.key_algorithm != ALGORITHM_RSA => {
                let algorithm = match found.hash_algorithm {
                    8 => &digest::SHA256,
                    9 => &digest::SHA384,
                    10 => &digest::SHA512,
                    _ => return false,
                };
                let digest = digest::digest(algorithm, &signed);
                let [r, s] = found.numbers.as_slice() else { return false };
                let value = [padded(r, 32), padded(s, 32)].concat();
                let key = signature::UnparsedPublicKey::new(&signature::ED25519, point);
                key.verify(digest.as_ref(), &value).is_ok()
            }
            _ => false,
        }
    }
}

impl<'a> Signature<'a> {
    fn read(body: &'a [u8]) -> Option<Self> {
        let &[version, kind, key_algorithm, hash_algorithm, high, low] = body.first_chunk()?;
        if version != 4 || kind != TYPE_TEXT {
            return None;
        }
        let head_bytes = 6 + usize::from(u16::from_be_bytes([high, low]));
        let (hashed_head, rest) = body.split_at_checked(head_bytes)?;
        let (unhashed_bytes, rest) = rest.split_first_chunk::<2>()?;
        let (unhashed, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*unhashed_bytes)))?;
        let mut rest = rest.get(2..)?;
        let mut numbers = Vec::new();
        if key_algorithm == ALGORITHM_ED25519 {
            let (r, s) = rest.get(..64)?.split_at(32);
            numbers.extend([r, s]);
        } else {
            while !rest.is_empty() {
                let (number, tail) = read_number(rest)?;
                numbers.push(number);
                rest = tail;
            }
        }
        let issuer = issuer_in(&hashed_head[6..]).or_else(|| issuer_in(unhashed));
        Some(Self { hash_algorithm, key_algorithm, hashed_head, issuer, numbers })
    }
}

/// Subpacket 33 (fingerprint) or 16 (key id).
fn issuer_in(mut subpackets: &[u8]) -> Option<[u8; 8]> {
    while let Some((&first, rest)) = subpackets.split_first() {
        let (length, rest) = match first {
            0..192 => (usize::from(first), rest),
            192..255 => {
                let (&second, rest) = rest.split_first()?;
                (((usize::from(first) - 192) << 8) + usize::from(second) + 192, rest)
            }
            255 => {
                let (length, rest) = rest.split_first_chunk::<4>()?;
                (u32::from_be_bytes(*length) as usize, rest)
            }
        };
        let (subpacket, rest) = rest.split_at_checked(length)?;
        match subpacket.split_first() {
            Some((16, id)) => return id.try_into().ok(),
            Some((33, fingerprint)) if fingerprint.len() == 21 => return fingerprint[13..].try_into().ok(),
            _ => subpackets = rest,
        }
    }
    None
}

fn hex(id: [u8; 8]) -> String {
    id.iter().map(|byte| format!("{byte:02X}")).collect()
}

fn padded(number: &[u8], length: usize) -> Vec<u8> {
    let mut whole = vec![0; length.saturating_sub(number.len())];
    whole.extend_from_slice(number);
    whole
}

/// A number with its length in bits before it.
fn read_number(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (bits, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(usize::from(u16::from_be_bytes(*bits)).div_ceil(8))
}

fn read_packets(mut bytes: &[u8]) -> Option<Vec<Packet<'_>>> {
    let mut packets = Vec::new();
    while let Some((&head, rest)) = bytes.split_first() {
        if head & 0x80 == 0 {
            return None;
        }
        let (tag, length, rest) = if head & 0x40 == 0 {
            let length_bytes = 1 << (head & 3);
            let (length, rest) = rest.split_at_checked(length_bytes)?;
            // Kind 3 means "until the end": nobody writes it in these files.
            let length = (length_bytes < 8)
                .then(|| length.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte)))?;
            ((head >> 2) & 0xf, length, rest)
        } else {
            let (length, rest) = read_new_length(rest)?;
            (head & 0x3f, length, rest)
        };
        let (body, rest) = rest.split_at_checked(length)?;
        packets.push(Packet { tag, body });
        bytes = rest;
    }
    Some(packets)
}

fn read_new_length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    match first {
        0..192 => Some((usize::from(first), rest)),
        192..224 => {
            let (&second, rest) = rest.split_first()?;
            Some((((usize::from(first) - 192) << 8) + usize::from(second) + 192, rest))
        }
        255 => {
            let (length, rest) = rest.split_first_chunk::<4>()?;
            Some((u32::from_be_bytes(*length) as usize, rest))
        }
        // Partial lengths are for streams.
        _ => None,
    }
}

/// The signed lines, and the armour that follows them.
fn split_message(message: &str) -> Result<(Vec<String>, &str), SignatureError> {
    let rest = message.trim_start_matches('\u{feff}').trim_start();
    let rest = rest
        .strip_prefix("-----BEGIN PGP SIGNED MESSAGE-----")
        .ok_or(SignatureError::NotSigned("it does not begin with a signed message"))?;
    let head_end = blank_line(rest).ok_or(SignatureError::NotSigned("it has no text"))?;
    let rest = &rest[head_end..];
    let end = rest
        .find("\n-----BEGIN PGP SIGNATURE-----")
        .ok_or(SignatureError::NotSigned("it has no signature"))?;
    let (text, armour) = rest.split_at(end);
    let armour = &armour[1..];
    let armour_end = armour
        .find("-----END PGP SIGNATURE-----")
        .ok_or(SignatureError::NotSigned("its signature has no end"))?;
    let after = &armour[armour_end + "-----END PGP SIGNATURE-----".len()..];
    if !after.trim().is_empty() {
        return Err(SignatureError::NotSigned("something follows the signature"));
    }
    let mut lines = Vec::new();
    for line in text.split('\n') {
        let line = line.trim_end_matches([' ', '\t', '\r']);
        match line.strip_prefix("- ") {
            Some(line) => lines.push(line.to_owned()),
            None if line.starts_with('-') => {
                return Err(SignatureError::NotSigned("a line that begins with a dash is not escaped"));
            }
            None => lines.push(line.to_owned()),
        }
    }
    Ok((lines, &armour[..armour_end]))
}

/// Where the line after the first blank line begins.
fn blank_line(text: &str) -> Option<usize> {
    let mut offset = text.find('\n')? + 1;
    for line in text[offset..].split_inclusive('\n') {
        offset += line.len();
        if line.trim().is_empty() {
            return Some(offset);
        }
    }
    None
}

/// Bytes of an armoured block: the lines between the head and the checksum.
fn unarmour(text: &str) -> Option<Vec<u8>> {
    let body_start = blank_line(text)?;
    let body: String = text[body_start..]
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with('=') && !line.starts_with('-'))
        .collect();
    decode_base64(&body)
}

fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut held) = (0_u32, 0);
    for byte in text.trim_end_matches('=').bytes() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use ring::signature::{Ed25519KeyPair, KeyPair};

    const CREATED: [u8; 4] = [0x60, 0, 0, 0];

    fn number(bytes: &[u8]) -> Vec<u8> {
        let bytes: Vec<u8> = bytes.iter().copied().skip_while(|&byte| byte == 0).collect();
        let bits = 8 * bytes.len() as u16 - bytes[0].leading_zeros() as u16;
        [&bits.to_be_bytes()[..], &bytes].concat()
    }

    fn packet(tag: u8, body: &[u8]) -> Vec<u8> {
        [&[0xc0 | tag, 0xff][..], &(body.len() as u32).to_be_bytes(), body].concat()
    }

    fn base64(bytes: &[u8]) -> String {
        const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        bytes
            .chunks(3)
            .flat_map(|chunk| {
                let word = chunk.iter().fold(0_u32, |sum, &byte| sum << 8 | u32::from(byte))
                    << (8 * (3 - chunk.len()));
                (0..4).map(move |i| {
                    if i > chunk.len() {
                        '='
                    } else {
                        char::from(LETTERS[(word >> (18 - 6 * i) & 63) as usize])
                    }
                })
            })
            .collect()
    }

    /// A keyring of one key, and `text` signed by it.
    pub(crate) fn signed(seed: u8, text: &str) -> (Vec<u8>, String) {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).expect("32 bytes are a seed");
        let point = [&[0x40], pair.public_key().as_ref()].concat();
        let key_body =
            [&[4], &CREATED[..], &[ALGORITHM_EDDSA, OID_ED25519.len() as u8], OID_ED25519, &number(&point)]
                .concat();
        let keyring = packet(TAG_PUBLIC_KEY, &key_body);
        let id = Keyring::read(&keyring).expect("one key").keys[0].id;
        let subpackets = [&[9, 16][..], &id].concat();
        let head =
            [&[4, TYPE_TEXT, ALGORITHM_EDDSA, 10, 0, subpackets.len() as u8][..], &subpackets].concat();
        let canonical: Vec<&str> = text.lines().map(str::trim_end).collect();
        let hashed =
            [canonical.join("\r\n").as_bytes(), &head, &[4, 0xff], &(head.len() as u32).to_be_bytes()]
                .concat();
        let made = pair.sign(digest::digest(&digest::SHA512, &hashed).as_ref());
        let (r, s) = made.as_ref().split_at(32);
        let body = [&head[..], &[0, 0], &[1, 2], &number(r), &number(s)].concat();
        let escaped: String = text
            .lines()
            .map(|line| if line.starts_with('-') { format!("- {line}\n") } else { format!("{line}\n") })
            .collect();
        let armour = base64(&packet(TAG_SIGNATURE, &body));
        let message = format!(
            "-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n{escaped}-----BEGIN PGP SIGNATURE-----\n\n{armour}\n=AAAA\n-----END PGP SIGNATURE-----\n"
        );
        (keyring, message)
    }

    #[test]
    fn a_signed_text_comes_back_as_it_was_signed() {
        let (keyring, message) = signed(1, "Suite: a  \n- item\n\nlast");
        let found =
            Keyring::read(&keyring).and_then(|keyring| keyring.verify(&message)).expect("it is signed");
        assert_eq!(found.text, "Suite: a\n- item\n\nlast\n");
        assert_eq!(found.signers.len(), 1);
    }

    #[test]
    fn line_ends_and_an_armoured_keyring_make_no_difference() {
        let (keyring, message) = signed(1, "a\nb");
        let armoured = format!("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n{}\n-----END PGP", base64(&keyring));
        let keyring = Keyring::read(armoured.as_bytes()).expect("one key");
        assert!(keyring.verify(&message.replace('\n', "\r\n")).is_ok());
    }

    #[test]
    fn a_changed_text_and_an_unknown_key_are_told_apart() {
        let (keyring, message) = signed(1, "a: 1\nb: 2");
        let keyring = Keyring::read(&keyring).expect("one key");
        assert!(matches!(
            keyring.verify(&message.replace("b: 2", "b: 3")),
            Err(SignatureError::Mismatch { .. })
        ));
        let (other, _) = signed(2, "");
        let other = Keyring::read(&other).expect("one key");
        assert!(matches!(other.verify(&message), Err(SignatureError::UnknownKeys { .. })));
    }

    #[test]
    fn nothing_may_stand_around_the_message() {
        let (keyring, message) = signed(1, "a");
        let keyring = Keyring::read(&keyring).expect("one key");
        for changed in [
            format!("b: 1\n{message}"),
            format!("{message}\nb: 1"),
            message.replace("\na\n", "\n-a\n"),
            String::new(),
        ] {
            assert!(matches!(keyring.verify(&changed), Err(SignatureError::NotSigned(_))), "{changed}");
        }
    }

    #[test]
    fn cut_packets_are_errors_not_panics() {
        let (keyring, message) = signed(1, "a");
        for end in 0..keyring.len() {
            assert!(Keyring::read(&keyring[..end]).is_err());
        }
        let keyring = Keyring::read(&keyring).expect("one key");
        for end in 0..message.trim_end().len() {
            assert!(keyring.verify(&message[..end]).is_err());
        }
    }
}
