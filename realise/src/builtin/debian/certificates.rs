//! What `update-ca-certificates` makes of the certificates that packages bring: the bundle, a link for each certificate,
//! and the links by which OpenSSL finds one in a directory: the hash of its subject.
//!
//! ```text
//! /etc/ssl/certs/ca-certificates.crt      all of them
//! /etc/ssl/certs/ISRG_Root_X1.pem      -> /usr/share/ca-certificates/mozilla/ISRG_Root_X1.crt
//! /etc/ssl/certs/4042bcee.0            -> ISRG_Root_X1.pem
//! ```
//!
//! The hash is of the subject's canonical form: its values as UTF-8 in small letters, without blanks at their ends and with
//! single ones between. Source: OpenSSL's manual, `x509 -subject_hash` and `rehash`; checked against what `openssl rehash`
//! makes of Debian's certificates.

use std::collections::BTreeMap;

use ampoule_store::{Hash, HashAlgo, base64_decode};

use super::Composed;
use crate::builtin::BuiltinError;
use crate::unpack::{Found, RelPath, UnpackError};

const FROM: &str = "usr/share/ca-certificates";
const BUNDLE: &str = "etc/ssl/certs/ca-certificates.crt";
/// Where OpenSSL looks when nothing is said.
const DEFAULT_FILE: &str = "usr/lib/ssl/cert.pem";

impl Composed<'_> {
    pub(super) fn write_ca_bundle(&mut self) -> Result<(), BuiltinError> {
        let mut bundle = String::new();
        let mut taken: BTreeMap<String, u32> = BTreeMap::new();
        for (path, name) in self.certificates()? {
            let Some(text) = self.text(&path) else { continue };
            bundle.push_str(text.trim_end());
            bundle.push('\n');
            let pem = format!("{}.pem", name.trim_end_matches(".crt").replace(' ', "_"));
            self.link(&format!("etc/ssl/certs/{pem}"), &format!("/{path}"))?;
            if let Some(hash) = decode(&text).and_then(|der| subject_hash(&der)) {
                let number = taken.entry(hash.clone()).or_insert(0);
                self.link(&format!("etc/ssl/certs/{hash}.{number}"), &pem)?;
                *number += 1;
            }
        }
        if bundle.is_empty() {
            return Ok(());
        }
        self.write(BUNDLE, &bundle)?;
        if self.exists("/usr/lib/ssl") && !self.exists(&format!("/{DEFAULT_FILE}")) {
            self.link(DEFAULT_FILE, &format!("/{BUNDLE}"))?;
        }
        Ok(())
    }

    /// Returns the certificates that packages bring: path, file name.
    fn certificates(&mut self) -> Result<Vec<(String, String)>, BuiltinError> {
        let mut found = Vec::new();
        let top = RelPath::parse(FROM.as_bytes()).expect("a good path");
        for dir in self.tree.names(&top) {
            let dir = String::from_utf8_lossy(&dir).into_owned();
            let below = RelPath::parse(format!("{FROM}/{dir}").as_bytes())
                .map_err(|p| UnpackError::name(dir.as_bytes(), p))?;
            let names = self.tree.names(&below).into_iter().filter_map(|name| String::from_utf8(name).ok());
            found.extend(
                names
                    .filter(|name| name.ends_with(".crt"))
                    .map(|name| (format!("{FROM}/{dir}/{name}"), name)),
            );
        }
        Ok(found)
    }

    /// Makes a link unless something is there, or it is left out.
    fn link(&mut self, path: &str, target: &str) -> Result<(), BuiltinError> {
        let path = self.settings.layout.absolute(path)?;
        if self.tree.look(&path) == Found::Nothing && !self.settings.layout.exclude.covers(&path) {
            self.tree.symlink(&path, target.as_bytes())?;
        }
        Ok(())
    }
}

/// Returns the bytes of the first certificate of a PEM file.
fn decode(pem: &str) -> Option<Vec<u8>> {
    let (_, rest) = pem.split_once("-----BEGIN CERTIFICATE-----")?;
    let (body, _) = rest.split_once("-----END CERTIFICATE-----")?;
    base64_decode(&body.split_whitespace().collect::<String>()).ok()
}

const INTEGER: u8 = 0x02;
const UTF8_STRING: u8 = 0x0c;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;

/// Takes one element off the front: its tag, its content, what follows it.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = match first {
        0..=0x7f => (usize::from(first), rest),
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (digits.iter().fold(0, |len, digit| len << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(len)?;
    Some((tag, content, rest))
}

fn push_element(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
    out.push(tag);
    let len = content.len();
    match len {
        0..=0x7f => out.push(u8::try_from(len).expect("below 128")),
        _ => {
            let bytes = len.to_be_bytes();
            let digits = &bytes[bytes.iter().position(|b| *b != 0).expect("not zero")..];
            out.push(0x80 | u8::try_from(digits.len()).expect("at most eight"));
            out.extend_from_slice(digits);
        }
    }
    out.extend_from_slice(content);
}

/// Returns the name under which OpenSSL looks for a certificate.
fn subject_hash(der: &[u8]) -> Option<String> {
    let (_, certificate, _) = element(der)?;
    let (_, mut fields, _) = element(certificate)?;
    if element(fields)?.0 == VERSION {
        fields = element(fields)?.2;
    }
    if element(fields)?.0 != INTEGER {
        return None;
    }
    // Serial number, signature, issuer, validity.
    for _ in 0..4 {
        fields = element(fields)?.2;
    }
    let (tag, mut subject, _) = element(fields)?;
    let mut canonical = Vec::new();
    while tag == SEQUENCE && !subject.is_empty() {
        let (_, mut attributes, rest) = element(subject)?;
        let mut set = Vec::new();
        while !attributes.is_empty() {
            let (_, attribute, next) = element(attributes)?;
            push_element(&mut set, SEQUENCE, &canonical_attribute(attribute)?);
            attributes = next;
        }
        push_element(&mut canonical, SET, &set);
        subject = rest;
    }
    let digest = Hash::of(HashAlgo::Sha1, &canonical);
    let first: [u8; 4] = digest.as_bytes()[..4].try_into().ok()?;
    Some(format!("{:08x}", u32::from_le_bytes(first)))
}

/// `name, value` with the value in its canonical form.
fn canonical_attribute(attribute: &[u8]) -> Option<Vec<u8>> {
    let (tag, name, value) = element(attribute)?;
    let mut out = Vec::new();
    push_element(&mut out, tag, name);
    let (kind, content, _) = element(value)?;
    match text(kind, content) {
        Some(text) => {
            let words: Vec<&str> = text.split(|c: char| c.is_ascii_whitespace() || c == '\x0b').collect();
            let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
            push_element(&mut out, UTF8_STRING, words.join(" ").to_ascii_lowercase().as_bytes());
        }
        None => push_element(&mut out, kind, content),
    }
    Some(out)
}

/// Returns a string of any of the kinds that are compared as text.
fn text(kind: u8, content: &[u8]) -> Option<String> {
    let wide = |width: usize| {
        let numbers = content.chunks(width).map(|c| c.iter().fold(0, |n, b| n << 8 | u32::from(*b)));
        numbers.map(char::from_u32).collect::<Option<String>>()
    };
    match kind {
        UTF8_STRING => String::from_utf8(content.to_vec()).ok(),
        // PrintableString, TeletexString, IA5String, VisibleString: a letter a byte.
        0x13 | 0x14 | 0x16 | 0x1a => Some(content.iter().map(|b| char::from(*b)).collect()),
        0x1c => wide(4),
        0x1e => wide(2),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate as far as its subject: version, then four fields of which only the first is looked at.
    fn certificate(subject: &[u8]) -> Vec<u8> {
        let mut fields = Vec::new();
        push_element(&mut fields, VERSION, &[2, 1, 2]);
        push_element(&mut fields, INTEGER, &[1]);
        for _ in 0..3 {
            push_element(&mut fields, SEQUENCE, &[]);
        }
        push_element(&mut fields, SEQUENCE, subject);
        let mut inner = Vec::new();
        push_element(&mut inner, SEQUENCE, &fields);
        let mut der = Vec::new();
        push_element(&mut der, SEQUENCE, &inner);
        der
    }

    fn common_name(kind: u8, value: &[u8]) -> Vec<u8> {
        let mut attribute = vec![0x06, 3, 0x55, 4, 3];
        push_element(&mut attribute, kind, value);
        let mut sequence = Vec::new();
        push_element(&mut sequence, SEQUENCE, &attribute);
        let mut set = Vec::new();
        push_element(&mut set, SET, &sequence);
        set
    }

    #[test]
    fn names_that_compare_equal_have_one_hash() {
        let hash = |kind, value: &[u8]| subject_hash(&certificate(&common_name(kind, value)));
        let expected = hash(UTF8_STRING, b"example root");
        assert!(expected.as_ref().is_some_and(|h| h.len() == 8));
        assert_eq!(hash(0x13, b" Example   ROOT "), expected);
        assert_eq!(hash(0x1e, b"\0E\0x\0a\0m\0p\0l\0e\0 \0r\0o\0o\0t"), expected);
        assert_ne!(hash(0x13, b"Example Root 2"), expected);
    }

    #[test]
    fn what_is_no_certificate_has_no_hash() {
        let whole = certificate(&common_name(0x13, b"x"));
        for len in 0..whole.len() {
            assert_eq!(subject_hash(&whole[..len]), None, "{len}");
        }
        assert_eq!(decode("-----BEGIN CERTIFICATE-----\n*\n-----END CERTIFICATE-----"), None);
    }
}
