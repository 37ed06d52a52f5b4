//! The least of DER that certificates' neighbours need: one element after another, definite lengths only.

/// One element: its tag, its content, and itself with tag and length.
#[derive(Clone, Copy)]
pub(super) struct Element<'a> {
    pub tag: u8,
    pub content: &'a [u8],
    pub whole: &'a [u8],
}

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OID: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;

/// Splits the first element off. `None`: there is none, or its length lies.
pub(super) fn split(bytes: &[u8]) -> Option<(Element<'_>, &[u8])> {
    let (&tag, after_tag) = bytes.split_first()?;
    let (&first, after_first) = after_tag.split_first()?;
    let (len, body) = if first < 0x80 {
        (usize::from(first), after_first)
    } else {
        let count = usize::from(first & 0x7f);
        if count == 0 || count > 4 {
            return None;
        }
        let (digits, body) = after_first.split_at_checked(count)?;
        (digits.iter().fold(0_usize, |len, &digit| (len << 8) | usize::from(digit)), body)
    };
    let (content, rest) = body.split_at_checked(len)?;
    let whole = bytes.get(..bytes.len() - rest.len())?;
    Some((Element { tag, content, whole }, rest))
}

/// As [`split`], for an element of a known tag; gives its content.
pub(super) fn expect(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (element, rest) = split(bytes)?;
    (element.tag == tag).then_some((element.content, rest))
}

/// A BIT STRING's bytes; only whole bytes, as keys and signatures are.
pub(super) fn whole_bits(content: &[u8]) -> Option<&[u8]> {
    content.split_first().filter(|(unused, _)| **unused == 0).map(|(_, bytes)| bytes)
}
