//! BER to DER, as far as PKCS #12 files need it: Firefox and its kin write indefinite lengths and strings in pieces.

use zeroize::Zeroizing;

use super::der;

/// Nesting beyond this is nobody's.
const MAX_DEPTH: usize = 24;
const CONSTRUCTED: u8 = 0x20;
const INDEFINITE: u8 = 0x80;
const END: [u8; 2] = [0, 0];

/// Returns the first element of `bytes` in DER; what follows it is left out. `None`: it is neither.
pub(super) fn to_der(bytes: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    convert(bytes, MAX_DEPTH).map(|(element, _)| element)
}

/// One element, and what follows it.
fn convert(bytes: &[u8], depth: usize) -> Option<(Zeroizing<Vec<u8>>, &[u8])> {
    let depth = depth.checked_sub(1)?;
    let (&tag, after_tag) = bytes.split_first()?;
    let constructed = tag & CONSTRUCTED != 0;
    if tag & 0x1f == 0x1f {
        return None; // tags of several bytes do not occur
    }
    let (mut inner, rest) = if constructed && after_tag.first() == Some(&INDEFINITE) {
        (after_tag.get(1..)?, None)
    } else {
        let (element, rest) = der::split(bytes)?;
        if !constructed {
            return Some((Zeroizing::new(element.whole.to_vec()), rest));
        }
        (element.content, Some(rest))
    };
    // A string in pieces becomes one.
    let joined = tag == der::OCTET_STRING | CONSTRUCTED;
    let mut content = Zeroizing::new(Vec::with_capacity(inner.len()));
    let rest = loop {
        match rest {
            Some(rest) if inner.is_empty() => break rest,
            None if inner.starts_with(&END) => break inner.get(END.len()..)?,
            _ => {}
        }
        let (element, after) = convert(inner, depth)?;
        if joined {
            content.extend_from_slice(der::expect(&element, der::OCTET_STRING)?.0);
        } else {
            content.extend_from_slice(&element);
        }
        inner = after;
    };
    let tag = if joined { der::OCTET_STRING } else { tag };
    let mut element = Zeroizing::new(Vec::with_capacity(content.len() + 6));
    element.push(tag);
    push_len(&mut element, content.len())?;
    element.extend_from_slice(&content);
    Some((element, rest))
}

fn push_len(out: &mut Vec<u8>, len: usize) -> Option<()> {
    let bytes = u32::try_from(len).ok()?.to_be_bytes();
    match len {
        0..0x80 => out.push(bytes[3]),
        _ => {
            let digits = bytes.iter().skip_while(|byte| **byte == 0);
            out.push(0x80 | u8::try_from(digits.clone().count()).ok()?);
            out.extend(digits);
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indefinite_lengths_and_pieces_become_definite_and_whole() {
        // SEQUENCE { [0] { OCTET STRING in two pieces }, INTEGER 5 }, all of indefinite length
        let ber = [
            0x30, 0x80, 0xa0, 0x80, 0x24, 0x80, 4, 1, b'a', 4, 2, b'b', b'c', 0, 0, 0, 0, 2, 1, 5, 0, 0, 0xff,
        ];
        let der = [0x30, 10, 0xa0, 5, 4, 3, b'a', b'b', b'c', 2, 1, 5];
        assert_eq!(to_der(&ber).unwrap()[..], der);
        assert_eq!(to_der(&der).unwrap()[..], der, "DER stays as it is");
        for len in 0..ber.len() - 1 {
            assert!(to_der(&ber[..len]).is_none(), "cut off after {len}");
        }
    }

    #[test]
    fn lengths_beyond_127_and_deep_nesting() {
        let long = [&[0x24, 0x80, 4, 0x81, 200][..], &[7; 200], &[0, 0]].concat();
        let der = to_der(&long).unwrap();
        assert_eq!(der[..3], [4, 0x81, 200]);
        assert!(to_der(&[0x30, 0x80].repeat(100)).is_none());
    }
}
