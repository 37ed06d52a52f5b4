use subtle::ConstantTimeEq as _;
use zeroize::Zeroize;

/// A value that is wiped when dropped and that cannot be printed, compared or copied by accident (SEC-KEY-3).
pub struct Secret<T: Zeroize>(T);

impl<T: Zeroize> Secret<T> {
    /// Takes the value in custody. The caller's own copies stay the caller's to wipe.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// Lends the value, for the moment in which it is used.
    pub const fn expose(&self) -> &T {
        &self.0
    }
}

impl<T: Zeroize> Drop for Secret<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Compares without telling by its duration where the difference is; different lengths are unequal at once.
#[must_use]
pub fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparison_sees_each_bit_and_the_length() {
        let a = [0x5A_u8; 16];
        assert!(constant_time_eq(&a, &a));
        for bit in 0..128 {
            let mut b = a;
            b[bit / 8] ^= 1 << (bit % 8);
            assert!(!constant_time_eq(&a, &b));
        }
        assert!(!constant_time_eq(&a, &a[..15]));
    }
}
