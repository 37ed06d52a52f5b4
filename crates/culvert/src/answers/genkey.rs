//! `--genkey`: key files for the control channel and for tokens.

use std::{
    io,
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use culvert_config::{GenKey, GenKeyKind, Parsed, value::FileOrInline};
use culvert_crypto::TlsCryptV2ServerKey;
use culvert_daemon::ovlog;
use culvert_proto::static_key;
use zeroize::Zeroizing;

/// Metadata that users give begins with this byte; with the other, eight bytes of creation time follow.
const METADATA_USER: u8 = 0;
const METADATA_TIME: u8 = 1;

/// Makes the key; returns it as text where no file was named.
pub(super) fn make(request: &GenKey, parsed: &Parsed) -> Result<String, String> {
    let request = &with_old_file(request, parsed.secret_file())?;
    let text = match request.kind {
        GenKeyKind::Static => {
            static_key::generate_static_key().map(|key| static_key::format_static_key(&key))
        }
        GenKeyKind::TlsCryptV2Server => static_key::generate_tls_crypt_v2_server_key(),
        GenKeyKind::AuthToken => static_key::generate_auth_token_key(),
        GenKeyKind::TlsCryptV2Client => {
            return client_key(request, parsed.tls_crypt_v2()).and_then(|text| deliver(&text, request));
        }
    };
    deliver(&text.map_err(|error| format!("Cannot make the key: {error}"))?, request)
}

/// Takes the file of `--genkey --secret FILE`, the only form before 2.5.
fn with_old_file(request: &GenKey, secret: Option<&Path>) -> Result<GenKey, String> {
    let Some(secret) = secret.filter(|_| request.kind == GenKeyKind::Static) else {
        return Ok(request.clone());
    };
    if request.path.is_some() {
        return Err(
            "Options error: You must provide a filename to either --genkey or --secret, not both\nhint: \
                    write `--genkey secret FILE`"
                .to_owned(),
        );
    }
    ovlog!(
        warn 1,
        "WARNING: Using --genkey --secret filename is DEPRECATED.  Use --genkey secret filename instead."
    );
    Ok(GenKey { path: Some(secret.to_owned()), ..request.clone() })
}

/// `server` is the `tls-crypt-v2` of the command line.
fn client_key(request: &GenKey, server: Option<&FileOrInline>) -> Result<Zeroizing<String>, String> {
    let server = server.ok_or_else(|| {
        "Options error: --genkey tls-crypt-v2-client requires a server key to be set via --tls-crypt-v2 to create a \
         client key\nhint: add `--tls-crypt-v2 SERVER.key`; make one by `--genkey tls-crypt-v2-server SERVER.key`"
            .to_owned()
    })?;
    let (name, text) = match server {
        FileOrInline::File(path) => (path.display().to_string(), read(path)?),
        FileOrInline::Inline(text) => ("[inline]".to_owned(), Zeroizing::new(text.expose().to_owned())),
    };
    let key = static_key::parse_tls_crypt_v2_server_key(&text)
        .map_err(|error| format!("ERROR: could not load tls-crypt-v2 server key '{name}': {error}"))?;
    let metadata = match &request.metadata {
        Some(base64) => {
            let bytes =
                STANDARD.decode(base64).map_err(|_| "ERROR: failed to base64 decode provided metadata")?;
            let most = TlsCryptV2ServerKey::MAX_METADATA - 1;
            if bytes.len() > most {
                return Err(format!("ERROR: metadata too long ({} bytes, max {most} bytes)", bytes.len()));
            }
            [&[METADATA_USER], bytes.as_slice()].concat()
        }
        None => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
            [&[METADATA_TIME], now.to_be_bytes().as_slice()].concat()
        }
    };
    static_key::generate_tls_crypt_v2_client_key(&key, &metadata)
        .map_err(|error| format!("ERROR: could not generate tls-crypt-v2 client key: {error}"))
}

fn deliver(text: &str, request: &GenKey) -> Result<String, String> {
    match &request.path {
        None => Ok(text.to_owned()),
        Some(path) => write(path, text).map(|()| String::new()),
    }
}

fn read(path: &Path) -> Result<Zeroizing<String>, String> {
    let text = std::fs::read_to_string(path).map(Zeroizing::new);
    text.map_err(|error| format!("ERROR: cannot read key file '{}': {error}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    let written: io::Result<()> = culvert_sys::process::write_private(path, text.as_bytes());
    written.map_err(|error| format!("ERROR: cannot write key file '{}': {error}", path.display()))
}
