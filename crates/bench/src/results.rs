//! Results of `culvert bench path`, and their file.
//!
//! ```text
//! { "format": 1,
//!   "machine":  { "cpu": "…", "cores": "2", "kernel": "…", … },     facts that the figures depend on
//!   "settings": { "rounds": "5", "underlay": "mtu", … },
//!   "contenders": [ { "name": "openvpn", "version": "OpenVPN 2.6.14",
//!                     "samples": { "tcp1_up": [0.51, 0.5, 0.52], … } },     one number for each round
//!                   { "name": "wireguard-go", "absent": "why it was not measured" } ],
//!   "errors": [ "openvpn tcp1: …" ] }
//! ```

use std::{collections::BTreeMap, fs, path::Path};

use serde_json::{Value, json};

use crate::{BenchError, metric::Metric};

const FORMAT: u64 = 1;

/// Everything that one measurement found.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Results {
    /// Facts about the machine and the moment.
    pub(crate) machine: BTreeMap<String, String>,
    pub(crate) settings: BTreeMap<String, String>,
    /// In the order in which they were asked for.
    pub(crate) contenders: Vec<Outcome>,
    /// What went wrong.
    pub(crate) errors: Vec<String>,
}

/// What was found of one contender.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Outcome {
    pub(crate) name: String,
    /// What the program says it is; empty for the path without VPN.
    pub(crate) version: String,
    /// Why it was not measured.
    pub(crate) absent: Option<String>,
    /// By the metric's key: a number for each round.
    pub(crate) samples: BTreeMap<String, Vec<f64>>,
}

impl Outcome {
    /// Adds a round's number.
    pub(crate) fn add(&mut self, metric: &Metric, value: f64) {
        self.samples.entry(metric.key.to_owned()).or_default().push(value);
    }

    /// The median over the rounds.
    pub(crate) fn median(&self, metric: &Metric) -> Option<f64> {
        median(self.samples.get(metric.key)?)
    }
}

impl Results {
    /// Contenders that were measured.
    pub(crate) fn measured(&self) -> impl Iterator<Item = &Outcome> {
        self.contenders.iter().filter(|contender| !contender.samples.is_empty())
    }

    /// The first measured contender of a kind: what ratios refer to.
    pub(crate) fn reference(&self, kind: &str) -> Option<&Outcome> {
        self.measured().find(|contender| {
            contender.name.strip_prefix(kind).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
        })
    }

    /// Reads a file of results.
    ///
    /// # Errors
    /// No file, or not one of these.
    pub(crate) fn read(path: &Path) -> Result<Self, BenchError> {
        let file = |source| BenchError::File { path: path.to_owned(), source };
        let text = fs::read_to_string(path).map_err(file)?;
        Self::parse(&text).map_err(|why| BenchError::Results { path: path.to_owned(), why })
    }

    /// Writes the file.
    ///
    /// # Errors
    /// As the system says.
    pub(crate) fn write(&self, path: &Path) -> Result<(), BenchError> {
        fs::write(path, self.to_json()).map_err(|source| BenchError::File { path: path.to_owned(), source })
    }

    /// Reads the text of a file.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if value["format"] != FORMAT {
            return Err(format!("its format is {}, not {FORMAT}", value["format"]));
        }
        let contenders = value["contenders"].as_array().ok_or("no list of contenders")?;
        Ok(Self {
            machine: texts(&value["machine"]),
            settings: texts(&value["settings"]),
            contenders: contenders.iter().map(outcome).collect::<Result<_, _>>()?,
            errors: value["errors"].as_array().into_iter().flatten().map(text_of).collect(),
        })
    }

    /// The text of the file.
    pub(crate) fn to_json(&self) -> String {
        let contenders: Vec<Value> = self
            .contenders
            .iter()
            .map(|contender| {
                let Outcome { name, version, absent, samples } = contender;
                match absent {
                    Some(why) => json!({ "name": name, "absent": why }),
                    None => json!({ "name": name, "version": version, "samples": samples }),
                }
            })
            .collect();
        let (machine, settings, errors) = (&self.machine, &self.settings, &self.errors);
        let value = json!({
            "format": FORMAT, "machine": machine, "settings": settings, "contenders": contenders, "errors": errors,
        });
        format!("{value:#}\n")
    }
}

fn outcome(value: &Value) -> Result<Outcome, String> {
    let mut samples = BTreeMap::new();
    for (key, numbers) in value["samples"].as_object().into_iter().flatten() {
        let numbers: Option<Vec<f64>> =
            numbers.as_array().and_then(|list| list.iter().map(Value::as_f64).collect());
        samples.insert(key.clone(), numbers.ok_or_else(|| format!("samples of {key} are not numbers"))?);
    }
    Ok(Outcome {
        name: value["name"].as_str().ok_or("a contender without name")?.to_owned(),
        version: text_of(&value["version"]),
        absent: value["absent"].as_str().map(str::to_owned),
        samples,
    })
}

fn texts(value: &Value) -> BTreeMap<String, String> {
    let entries = value.as_object().into_iter().flatten();
    entries.map(|(key, value)| (key.clone(), text_of(value))).collect()
}

fn text_of(value: &Value) -> String {
    value.as_str().map(str::to_owned).unwrap_or_default()
}

/// The middle of the numbers, or of the two in the middle; `None` for no numbers.
pub(crate) fn median(numbers: &[f64]) -> Option<f64> {
    let mut sorted = numbers.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let upper = *sorted.get(sorted.len() / 2)?;
    Some(if sorted.len() % 2 == 1 { upper } else { (sorted[sorted.len() / 2 - 1] + upper) / 2.0 })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::metric::{TCP1_CPU, TCP1_UP};

    /// Two rounds of three contenders, one of them absent.
    pub(crate) fn sample() -> Results {
        let measured = |name: &str, version: &str, up: [f64; 2], cpu: f64| {
            let mut outcome =
                Outcome { name: name.to_owned(), version: version.to_owned(), ..Outcome::default() };
            for value in up {
                outcome.add(&TCP1_UP, value);
                outcome.add(&TCP1_CPU, cpu);
            }
            outcome
        };
        let absent = Outcome {
            name: "wireguard-go".to_owned(),
            absent: Some("no program wireguard-go".to_owned()),
            ..Outcome::default()
        };
        let texts = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        Results {
            machine: texts(&[
                ("cpu", "Z80 <2 & more>"),
                ("cores", "2"),
                ("kernel", "6.1"),
                ("date", "2026-01-02"),
            ]),
            settings: texts(&[
                ("underlay", "mtu"),
                ("rounds", "2"),
                ("cipher", "AES-256-GCM"),
                ("proto", "udp"),
            ]),
            contenders: vec![
                measured("none", "", [9.0, 11.0], 0.0),
                measured("openvpn-2.6", "OpenVPN 2.6.14", [0.4, 0.6], 26.0),
                measured("culvert", "culvert 0.1", [4.9, 5.1], 2.6),
                absent,
            ],
            errors: vec!["openvpn-2.6 ping: no reply".to_owned()],
        }
    }

    #[test]
    fn medians_are_the_middle_whatever_the_order() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[9.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 100.0]), Some(3.0));
    }

    #[test]
    fn results_come_back_from_their_file_as_they_were() {
        assert_eq!(Results::parse(&sample().to_json()).unwrap(), sample());
    }

    #[test]
    fn other_json_is_refused_with_a_reason() {
        assert!(Results::parse("{}").unwrap_err().contains("format"));
        assert!(Results::parse("[").is_err());
        let text = sample().to_json().replace("26.0", "\"many\"");
        assert_eq!(Results::parse(&text).unwrap_err(), "samples of tcp1_cpu are not numbers");
    }

    #[test]
    fn a_reference_is_the_first_of_its_kind_that_was_measured() {
        let results = sample();
        assert_eq!(results.reference("openvpn").unwrap().name, "openvpn-2.6");
        assert_eq!(results.reference("none").unwrap().name, "none");
        assert!(results.reference("wireguard").is_none());
        assert!(results.reference("wireguard-go").is_none());
    }
}
