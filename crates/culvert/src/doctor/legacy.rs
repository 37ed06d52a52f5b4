//! Rules of the old interface of the packet filter, which `nft` does not show: as `iptables-legacy-save` prints them, in the form
//! of `nft -j`, so that one examination serves both.

use std::{
    fs,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

/// The family that chains of the old interface are shown with.
pub(super) const FAMILY: [&str; 2] = ["iptables-legacy", "ip6tables-legacy"];

/// What this network namespace has of them. `Err`: there are some, and no program to read them.
pub(super) fn read() -> Result<Vec<Value>, ()> {
    let mut objects = Vec::new();
    for (family, tables) in FAMILY.into_iter().zip(["ip_tables_names", "ip6_tables_names"]) {
        // Asking the program where there is nothing would load the kernel's module.
        let named = fs::read_to_string(format!("/proc/self/net/{tables}")).unwrap_or_default();
        if named.trim().is_empty() {
            continue;
        }
        let mut command = Command::new(format!("{family}-save"));
        let output = command.stdin(Stdio::null()).stderr(Stdio::null()).output();
        let output = output.ok().filter(|output| output.status.success()).ok_or(())?;
        objects.extend(parse(family, &String::from_utf8_lossy(&output.stdout)));
    }
    Ok(objects)
}

/// Reads what the program prints.
fn parse(family: &str, text: &str) -> Vec<Value> {
    let mut table = "";
    let mut objects = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match (words.next(), words.next()) {
            (Some(word), _) if word.starts_with('*') => table = word.trim_start_matches('*'),
            (Some(word), Some(policy)) if word.starts_with(':') && table == "filter" => {
                let name = word.trim_start_matches(':');
                objects.push(json!({"chain": {
                    "family": family, "table": table, "name": name,
                    "hook": name.to_ascii_lowercase(), "policy": policy.to_ascii_lowercase(),
                }}));
            }
            (Some("-A"), Some(_)) if table == "filter" => {
                objects.push(json!({"rule": {"expr": rule(words)}}))
            }
            _ => {}
        }
    }
    objects
}

/// The ports and devices that a rule names, and whether it accepts.
fn rule<'w>(mut words: impl Iterator<Item = &'w str>) -> Vec<Value> {
    let mut expressions = Vec::new();
    while let Some(word) = words.next() {
        let value = match word {
            "--dport" | "--dports" | "-i" | "-o" | "-j" => words.next().unwrap_or_default(),
            _ => continue,
        };
        match word {
            "-j" if value == "ACCEPT" => expressions.push(json!({"accept": null})),
            "-j" => {}
            "-i" | "-o" => expressions.push(json!({"match": {"right": value}})),
            _ => expressions.extend(value.split(',').filter_map(port)),
        }
    }
    expressions
}

/// A port, or a range of them.
fn port(text: &str) -> Option<Value> {
    let number = |text: &str| text.parse::<u16>().ok();
    Some(match text.split_once(':') {
        Some((from, to)) => json!({"range": [number(from)?, number(to)?]}),
        None => json!(number(text)?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_and_rules_have_the_form_of_nft() {
        let text = "# Generated\n*nat\n:PREROUTING DROP [0:0]\n-A PREROUTING -p udp --dport 5 -j ACCEPT\nCOMMIT\n*filter\n\
                    :INPUT DROP [1:2]\n:mine - [0:0]\n-A INPUT -i tun+ -p udp -m multiport --dports 53,1190:1195 -j ACCEPT\n\
                    -A INPUT -p tcp -m tcp --dport 22 -j DROP\nCOMMIT\n";
        let objects = parse(FAMILY[0], text);
        let chain = &objects[0]["chain"];
        assert_eq!(
            (&chain["name"], &chain["hook"], &chain["policy"]),
            (&json!("INPUT"), &json!("input"), &json!("drop"))
        );
        assert_eq!(objects[1]["chain"]["policy"], "-");
        assert_eq!(
            objects[2]["rule"]["expr"],
            json!([{"match": {"right": "tun+"}}, 53, {"range": [1190, 1195]}, {"accept": null}])
        );
        assert_eq!(objects[3]["rule"]["expr"], json!([22]));
        assert_eq!(objects.len(), 4);
    }
}
