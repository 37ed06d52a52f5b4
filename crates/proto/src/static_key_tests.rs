use culvert_testkit::vectors::vector;

use super::*;

fn vector_text() -> String {
    let hex = vector("static_key_v1").input_str("hex_2048_bits");
    let lines: Vec<_> = hex.as_bytes().chunks(32).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!(
        "#\n# comment\n-----BEGIN OpenVPN Static key V1-----\r\n{}\r\n-----END OpenVPN Static key V1-----\nrest",
        lines.join("\r\n")
    )
}

#[test]
fn a_static_key_has_its_parts_where_the_vector_says() {
    let v = vector("static_key_v1");
    let key = parse_static_key(&vector_text()).unwrap();
    let parts = ["keys[0].cipher", "keys[0].hmac", "keys[1].cipher", "keys[1].hmac"];
    for (part, bytes) in parts.iter().zip(key.as_bytes().chunks(64)) {
        assert_eq!(bytes, v.expected_hex(part), "{part}");
    }
}

#[test]
fn a_static_key_file_parses_to_what_was_printed() {
    let key = generate_static_key().unwrap();
    let text = format_static_key(&key);
    assert_eq!(parse_static_key(&text).unwrap().as_bytes(), key.as_bytes());
    assert_eq!(text.lines().count(), 21);
}

#[test]
fn a_broken_static_key_file_is_explained() {
    let text = vector_text();
    let broken = |from: &str, to: &str| parse_static_key(&text.replace(from, to)).err().unwrap();
    assert_eq!(broken("BEGIN", "BEGUN"), KeyFileError::NoBegin(STATIC_KEY));
    assert_eq!(broken("END", "ENDE"), KeyFileError::NoEnd(STATIC_KEY));
    assert_eq!(broken("37268ea8", "3726 ea8x"), KeyFileError::Hex { line: 4 });
    assert_eq!(broken("37268ea8", ""), KeyFileError::Length { need: 256, have: 252 });
}

#[test]
fn a_tls_crypt_v2_pair_fits_together() {
    let server = parse_tls_crypt_v2_server_key(&generate_tls_crypt_v2_server_key().unwrap()).unwrap();
    let file = generate_tls_crypt_v2_client_key(&server, b"\0alice").unwrap();
    let client = parse_tls_crypt_v2_client_key(&file).unwrap();
    let unwrapped = server.unwrap(&client.wkc).unwrap();
    assert_eq!(unwrapped.key.as_bytes(), client.key.as_bytes());
    assert_eq!(unwrapped.metadata, b"\0alice");
    let other = parse_tls_crypt_v2_server_key(&generate_tls_crypt_v2_server_key().unwrap()).unwrap();
    assert!(other.unwrap(&client.wkc).is_err());
}

#[test]
fn a_client_key_whose_length_field_is_wrong_is_refused() {
    let server = TlsCryptV2ServerKey::from_slice(&[5; 128]).unwrap();
    let key = generate_static_key().unwrap();
    let mut bytes = key.as_bytes().to_vec();
    bytes.extend(server.wrap(&key, &[]).unwrap());
    let file = |bytes: &[u8]| parse_tls_crypt_v2_client_key(&format_base64(V2_CLIENT_KEY, bytes));
    assert!(file(&bytes).is_ok());
    assert!(matches!(file(&bytes[..bytes.len() - 1]).err(), Some(KeyFileError::Length { .. })));
    assert!(matches!(file(&bytes[..200]).err(), Some(KeyFileError::Length { .. })));
    bytes.push(0);
    assert!(matches!(file(&bytes).err(), Some(KeyFileError::Length { .. })));
}

#[test]
fn an_auth_token_key_file_parses_to_what_was_printed() {
    let text = generate_auth_token_key().unwrap();
    parse_auth_token_key(&text).unwrap();
    let short = format_base64(AUTH_TOKEN_KEY, &[0; 127]);
    assert_eq!(parse_auth_token_key(&short).err(), Some(KeyFileError::Length { need: 128, have: 127 }));
}

#[test]
fn a_server_key_of_the_wrong_length_is_refused() {
    let file = |len| parse_tls_crypt_v2_server_key(&format_base64(V2_SERVER_KEY, &vec![1; len]));
    assert!(file(128).is_ok());
    assert_eq!(file(127).err(), Some(KeyFileError::Length { need: 128, have: 127 }));
    assert_eq!(file(129).err(), Some(KeyFileError::Length { need: 128, have: 129 }));
}
