//! Which signatures count, by `tls-cert-profile`.

use aws_lc_rs::signature::{self, UnparsedPublicKey, VerificationAlgorithm};
use rustls::{SignatureScheme, crypto::WebPkiSupportedAlgorithms};
use rustls_pki_types::{AlgorithmIdentifier, InvalidSignature, SignatureVerificationAlgorithm, alg_id};
use webpki::aws_lc_rs as strong;

use super::{CertProfile, TlsVersion};

/// Returns the algorithms for chains and handshakes; `max` is the highest version that may be negotiated.
pub(super) fn of_profile(profile: CertProfile, max: TlsVersion) -> &'static WebPkiSupportedAlgorithms {
    match profile {
        // TLS 1.3 signs with PSS, which the library verifies from 2048 bits on only. Where 1.3 is out of question PSS is
        // not offered, so that a peer with a shorter key signs with PKCS #1.
        CertProfile::Insecure if max < TlsVersion::V1_3 => &INSECURE_1_2,
        CertProfile::Insecure => &INSECURE,
        CertProfile::Legacy | CertProfile::Preferred => &STRONG,
        CertProfile::SuiteB => &SUITE_B,
    }
}

/// Returns the shortest RSA modulus in bits that a profile takes.
pub(super) const fn min_rsa_bits(profile: CertProfile) -> usize {
    match profile {
        CertProfile::Insecure => 1024,
        CertProfile::Legacy | CertProfile::Preferred | CertProfile::SuiteB => 2048,
    }
}

/// The longest RSA modulus in bits (SEC-AUTH-7).
pub(super) const MAX_RSA_BITS: usize = 8192;

type Algorithms = &'static [&'static dyn SignatureVerificationAlgorithm];

static STRONG: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[
        strong::ECDSA_P256_SHA256,
        strong::ECDSA_P256_SHA384,
        strong::ECDSA_P256_SHA512,
        strong::ECDSA_P384_SHA256,
        strong::ECDSA_P384_SHA384,
        strong::ECDSA_P384_SHA512,
        strong::ECDSA_P521_SHA256,
        strong::ECDSA_P521_SHA384,
        strong::ECDSA_P521_SHA512,
        strong::ED25519,
        strong::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
        strong::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
        strong::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
        strong::RSA_PKCS1_2048_8192_SHA256,
        strong::RSA_PKCS1_2048_8192_SHA384,
        strong::RSA_PKCS1_2048_8192_SHA512,
        strong::RSA_PKCS1_2048_8192_SHA256_ABSENT_PARAMS,
        strong::RSA_PKCS1_2048_8192_SHA384_ABSENT_PARAMS,
        strong::RSA_PKCS1_2048_8192_SHA512_ABSENT_PARAMS,
    ],
    mapping: &[
        ECDSA_P384,
        ECDSA_P256,
        ECDSA_P521,
        (SignatureScheme::ED25519, &[strong::ED25519]),
        RSA_PSS[0],
        RSA_PSS[1],
        RSA_PSS[2],
        (SignatureScheme::RSA_PKCS1_SHA512, &[strong::RSA_PKCS1_2048_8192_SHA512]),
        (SignatureScheme::RSA_PKCS1_SHA384, &[strong::RSA_PKCS1_2048_8192_SHA384]),
        (SignatureScheme::RSA_PKCS1_SHA256, &[strong::RSA_PKCS1_2048_8192_SHA256]),
    ],
};

/// webpki takes the first algorithm that matches the identifier, so the weak ones stand *instead of* the strong ones.
static INSECURE: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: INSECURE_ALL,
    mapping: &[
        ECDSA_P384,
        ECDSA_P256,
        ECDSA_P521,
        (SignatureScheme::ED25519, &[strong::ED25519]),
        RSA_PSS[0],
        RSA_PSS[1],
        RSA_PSS[2],
        WEAK_PKCS1[0],
        WEAK_PKCS1[1],
        WEAK_PKCS1[2],
    ],
};

static INSECURE_1_2: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: INSECURE_ALL,
    mapping: &[
        ECDSA_P384,
        ECDSA_P256,
        ECDSA_P521,
        (SignatureScheme::ED25519, &[strong::ED25519]),
        WEAK_PKCS1[0],
        WEAK_PKCS1[1],
        WEAK_PKCS1[2],
    ],
};

const INSECURE_ALL: Algorithms = &[
    strong::ECDSA_P256_SHA256,
    strong::ECDSA_P256_SHA384,
    strong::ECDSA_P256_SHA512,
    strong::ECDSA_P384_SHA256,
    strong::ECDSA_P384_SHA384,
    strong::ECDSA_P384_SHA512,
    strong::ECDSA_P521_SHA256,
    strong::ECDSA_P521_SHA384,
    strong::ECDSA_P521_SHA512,
    strong::ED25519,
    strong::RSA_PSS_2048_8192_SHA256_LEGACY_KEY,
    strong::RSA_PSS_2048_8192_SHA384_LEGACY_KEY,
    strong::RSA_PSS_2048_8192_SHA512_LEGACY_KEY,
    &WEAK_RSA_SHA1,
    &WEAK_RSA_SHA256,
    strong::RSA_PKCS1_2048_8192_SHA384,
    &WEAK_RSA_SHA512,
];

const WEAK_PKCS1: [(SignatureScheme, Algorithms); 3] = [
    (SignatureScheme::RSA_PKCS1_SHA512, &[&WEAK_RSA_SHA512]),
    (SignatureScheme::RSA_PKCS1_SHA384, &[strong::RSA_PKCS1_2048_8192_SHA384]),
    (SignatureScheme::RSA_PKCS1_SHA256, &[&WEAK_RSA_SHA256]),
];

static SUITE_B: WebPkiSupportedAlgorithms = WebPkiSupportedAlgorithms {
    all: &[
        strong::ECDSA_P256_SHA256,
        strong::ECDSA_P256_SHA384,
        strong::ECDSA_P384_SHA256,
        strong::ECDSA_P384_SHA384,
    ],
    mapping: &[
        (SignatureScheme::ECDSA_NISTP384_SHA384, &[strong::ECDSA_P384_SHA384, strong::ECDSA_P256_SHA384]),
        (SignatureScheme::ECDSA_NISTP256_SHA256, &[strong::ECDSA_P256_SHA256, strong::ECDSA_P384_SHA256]),
    ],
};

/// TLS 1.3 binds scheme and curve and takes the first algorithm; TLS 1.2 binds the hash only and tries all.
const ECDSA_P256: (SignatureScheme, Algorithms) = (
    SignatureScheme::ECDSA_NISTP256_SHA256,
    &[strong::ECDSA_P256_SHA256, strong::ECDSA_P384_SHA256, strong::ECDSA_P521_SHA256],
);
const ECDSA_P384: (SignatureScheme, Algorithms) = (
    SignatureScheme::ECDSA_NISTP384_SHA384,
    &[strong::ECDSA_P384_SHA384, strong::ECDSA_P256_SHA384, strong::ECDSA_P521_SHA384],
);
const ECDSA_P521: (SignatureScheme, Algorithms) = (
    SignatureScheme::ECDSA_NISTP521_SHA512,
    &[strong::ECDSA_P521_SHA512, strong::ECDSA_P384_SHA512, strong::ECDSA_P256_SHA512],
);
const RSA_PSS: [(SignatureScheme, Algorithms); 3] = [
    (SignatureScheme::RSA_PSS_SHA512, &[strong::RSA_PSS_2048_8192_SHA512_LEGACY_KEY]),
    (SignatureScheme::RSA_PSS_SHA384, &[strong::RSA_PSS_2048_8192_SHA384_LEGACY_KEY]),
    (SignatureScheme::RSA_PSS_SHA256, &[strong::RSA_PSS_2048_8192_SHA256_LEGACY_KEY]),
];

/// RSA from 1024 bits, PKCS #1 v1.5.
#[derive(Debug)]
struct WeakRsa {
    signature: AlgorithmIdentifier,
    verification: &'static dyn VerificationAlgorithm,
}

static WEAK_RSA_SHA1: WeakRsa = WeakRsa {
    // sha1WithRSAEncryption (1.2.840.113549.1.1.5) with NULL parameters.
    signature: AlgorithmIdentifier::from_slice(&[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 5, 5, 0]),
    verification: &signature::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
};
static WEAK_RSA_SHA256: WeakRsa = WeakRsa {
    signature: alg_id::RSA_PKCS1_SHA256,
    verification: &signature::RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
};
static WEAK_RSA_SHA512: WeakRsa = WeakRsa {
    signature: alg_id::RSA_PKCS1_SHA512,
    verification: &signature::RSA_PKCS1_1024_8192_SHA512_FOR_LEGACY_USE_ONLY,
};

impl SignatureVerificationAlgorithm for WeakRsa {
    fn public_key_alg_id(&self) -> AlgorithmIdentifier {
        alg_id::RSA_ENCRYPTION
    }

    fn signature_alg_id(&self) -> AlgorithmIdentifier {
        self.signature
    }

    fn verify_signature(
        &self,
        public_key: &[u8],
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), InvalidSignature> {
        UnparsedPublicKey::new(self.verification, public_key)
            .verify(message, signature)
            .map_err(|_| InvalidSignature)
    }
}
