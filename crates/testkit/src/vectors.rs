//! Known answers of the protocol: key derivations, packets, limits, negotiations.
//!
//! The file lies beside the crate that uses most of it, `crates/crypto/tests/vectors.json`. Hexadecimal unless a
//! field's name says otherwise; each entry names where its values come from.

#![expect(clippy::expect_used, reason = "a broken file of known answers fails the test that asks for it")]

use std::sync::LazyLock;

use serde_json::Value;

static FILE: LazyLock<Value> = LazyLock::new(|| {
    serde_json::from_str(include_str!("../../crypto/tests/vectors.json")).expect("the file is valid JSON")
});

/// One known answer.
#[derive(Clone, Copy, Debug)]
pub struct Vector {
    inputs: &'static Value,
    expected: &'static Value,
}

/// Finds a vector by name.
///
/// # Panics
/// When there is none of that name.
#[must_use]
pub fn vector(name: &str) -> Vector {
    let entry = entries()
        .iter()
        .find(|entry| entry["name"] == name)
        .unwrap_or_else(|| panic!("no vector is named {name}"));
    Vector { inputs: &entry["inputs"], expected: &entry["expected"] }
}

/// The names of all vectors.
pub fn names() -> impl Iterator<Item = &'static str> {
    entries().iter().map(|entry| entry["name"].as_str().expect("each vector has a name"))
}

fn entries() -> &'static Vec<Value> {
    FILE["vectors"].as_array().expect("the file has a list of vectors")
}

impl Vector {
    /// The inputs.
    #[must_use]
    pub const fn inputs(self) -> &'static Value {
        self.inputs
    }

    /// The expected results.
    #[must_use]
    pub const fn expected(self) -> &'static Value {
        self.expected
    }

    /// The list `expected.cases`.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn cases(self) -> &'static Vec<Value> {
        self.expected["cases"].as_array().expect("the vector has cases")
    }

    /// The bytes of a hexadecimal input.
    #[must_use]
    pub fn input_hex(self, field: &str) -> Vec<u8> {
        hex(&self.inputs[field])
    }

    /// The bytes of a hexadecimal result.
    #[must_use]
    pub fn expected_hex(self, field: &str) -> Vec<u8> {
        hex(&self.expected[field])
    }

    /// An input in plain text.
    ///
    /// # Panics
    /// When it is not a string.
    #[must_use]
    pub fn input_str(self, field: &str) -> &'static str {
        self.inputs[field].as_str().unwrap_or_else(|| panic!("input {field} is a string"))
    }

    /// A whole number among the inputs.
    ///
    /// # Panics
    /// When it is not a whole number.
    #[must_use]
    pub fn input_u64(self, field: &str) -> u64 {
        self.inputs[field].as_u64().unwrap_or_else(|| panic!("input {field} is a number"))
    }

    /// A whole number among the results.
    ///
    /// # Panics
    /// When it is not a whole number.
    #[must_use]
    pub fn expected_u64(self, field: &str) -> u64 {
        self.expected[field].as_u64().unwrap_or_else(|| panic!("result {field} is a number"))
    }
}

/// The bytes of a hexadecimal string.
///
/// # Panics
/// When the value is not a string of an even number of hexadecimal digits.
#[must_use]
pub fn hex(value: &Value) -> Vec<u8> {
    let digits: Vec<u8> = value
        .as_str()
        .expect("a hexadecimal string")
        .chars()
        .map(|c| u8::try_from(c.to_digit(16).expect("a hexadecimal digit")).expect("below 16"))
        .collect();
    assert!(digits.len().is_multiple_of(2), "an even number of digits");
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// The whole numbers of a list.
///
/// # Panics
/// When the value is not a list of whole numbers.
#[must_use]
pub fn numbers(value: &Value) -> Vec<u64> {
    value.as_array().expect("a list").iter().map(|n| n.as_u64().expect("a whole number")).collect()
}
