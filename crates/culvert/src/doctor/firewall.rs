//! What the machine's packet filter drops, as far as its rules can be read: nftables, which iptables also writes today, and the
//! old interface besides.

use std::process::{Command, Stdio};

use culvert_config::{Profile, profile::ConnectionEntry, value::Proto};
use culvert_daemon::probe::port_number;
use culvert_host::KillSwitch;
use serde_json::Value;

use super::legacy;
use crate::finding::Finding;

const NAME: &str = "firewall";

/// Whether packets to the server's ports, and from its clients onward, pass.
pub(super) fn of_server(profile: &Profile) -> Vec<Finding> {
    let Some(rules) = Rules::read() else { return vec![unknown()] };
    let mut findings = Vec::new();
    let Some(entry) = profile.connections.first() else { return findings };
    for (port, transport) in listeners(entry) {
        match rules.drops("input").filter(|_| !rules.accepts_number(u64::from(port))) {
            Some(chain) => findings.push(Finding::warning(
                NAME,
                format!("{chain} drops what no rule accepts, and no rule names port {port}"),
                accept(
                    &chain,
                    &format!("{transport} dport {port}"),
                    &format!("-p {transport} --dport {port}"),
                ),
            )),
            None => findings
                .push(Finding::good(NAME, format!("no chain drops packets to port {port} by its policy"))),
        }
    }
    if let Some(chain) = rules.drops("forward").filter(|_| !rules.names_text(&device_name(profile))) {
        findings.push(Finding::warning(
            NAME,
            format!("{chain} drops what no rule accepts, and no rule names the tunnel device: clients reach nothing behind this machine"),
            accept(&chain, &format!("iifname \"{}*\"", device_name(profile)), &format!("-i {}+", device_name(profile))),
        ));
    }
    findings
}

/// What lets packets through a chain, in the words of the program that wrote it.
fn accept(chain: &str, nft: &str, iptables: &str) -> String {
    let command = match legacy::FAMILY.into_iter().find(|family| chain.starts_with(family)) {
        Some(family) => {
            let name = chain.rsplit(' ').next().unwrap_or_default();
            format!("{family} -I {name} {iptables} -j ACCEPT")
        }
        None => format!("nft insert rule {chain} {nft} accept"),
    };
    format!("accept it, for example: {command}")
}

/// The ports that a server listens on, and the word for each one's transport.
fn listeners(entry: &ConnectionEntry) -> Vec<(u16, &'static str)> {
    let word = |proto: &Proto| if proto.transport.is_tcp() { "tcp" } else { "udp" };
    let own = entry.local_port.iter().filter(|_| entry.locals.is_empty()).map(|port| (port, &entry.proto));
    let locals = entry.locals.iter().map(|local| (&local.port, &local.proto));
    own.chain(locals).filter_map(|(port, proto)| Some((port_number(port).ok()?, word(proto)))).collect()
}

/// A kill switch that is in force.
pub(super) fn kill_switch(profile: Option<&Profile>) -> Option<Finding> {
    let stands = KillSwitch::open().and_then(|mut switch| switch.stands()).unwrap_or(false);
    stands.then(|| of_kill_switch(profile.map(|profile| profile.link.kill_switch), KillSwitch::is_held()))
}

/// What is to be said about a kill switch. `wanted`: the profile has one as well, and gets through. `is_held`: its process
/// runs.
fn of_kill_switch(wanted: Option<bool>, is_held: bool) -> Finding {
    let lift = "lift it: culvert unblock";
    let text = "a kill switch is in force: nothing leaves this machine outside of the tunnel, lookups of names neither";
    match (is_held, wanted) {
        (true, _) => Finding::note("kill-switch", text, "it ends with the culvert that runs here"),
        (false, Some(true) | None) => Finding::warning(
            "kill-switch",
            format!("{text}. Its culvert runs no more: it ended unasked"),
            format!("start culvert again, or {lift}"),
        ),
        (false, Some(false)) => Finding::error(
            "kill-switch",
            format!(
                "{text}. Its culvert runs no more: it ended unasked, and this configuration has no `kill-switch`"
            ),
            lift,
        ),
    }
}

/// Whether a client's packets leave.
pub(super) fn of_client() -> Vec<Finding> {
    let Some(rules) = Rules::read() else { return vec![unknown()] };
    rules
        .drops("output")
        .map(|chain| {
            Finding::note(
                NAME,
                format!("{chain} drops what no rule accepts"),
                "see that it accepts packets to the server, and through the tunnel device",
            )
        })
        .into_iter()
        .collect()
}

fn unknown() -> Finding {
    Finding::note(
        NAME,
        "the rules of the packet filter cannot be read from here",
        "run as root, with nft installed, and iptables-legacy where that wrote rules",
    )
}

/// `tun` of `tun0`: what rules name.
fn device_name(profile: &Profile) -> String {
    profile.device.dev.trim_end_matches(|c: char| c.is_ascii_digit()).to_owned()
}

/// The whole rule set, as `nft -j` prints it.
struct Rules(Vec<Value>);

impl Rules {
    fn read() -> Option<Self> {
        let Self(mut objects) = Self::of_nft()?;
        // Half of the rules would tell half of the truth.
        objects.extend(legacy::read().ok()?);
        Some(Self(objects))
    }

    fn of_nft() -> Option<Self> {
        let mut command = Command::new("nft");
        command.args(["-j", "list", "ruleset"]).stdin(Stdio::null()).stderr(Stdio::null());
        let output = command.output().ok().filter(|output| output.status.success())?;
        let text: Value = serde_json::from_slice(&output.stdout).ok()?;
        Some(Self(text["nftables"].as_array()?.clone()))
    }

    /// The first base chain of a hook whose policy is to drop: `inet filter input`.
    fn drops(&self, hook: &str) -> Option<String> {
        let chains = self.0.iter().map(|object| &object["chain"]);
        let mut dropping = chains.filter(|chain| chain["hook"] == hook && chain["policy"] == "drop");
        dropping.next().map(|chain| {
            let word = |key: &str| chain[key].as_str().unwrap_or_default().to_owned();
            format!("{} {} {}", word("family"), word("table"), word("name"))
        })
    }

    fn rules(&self) -> impl Iterator<Item = &Value> {
        self.0.iter().map(|object| &object["rule"]["expr"]).filter(|expr| expr.is_array())
    }

    /// Whether a rule that accepts names the number, alone, in a set or in a range.
    fn accepts_number(&self, number: u64) -> bool {
        self.rules().any(|rule| contains_key(rule, "accept") && contains_number(rule, number))
    }

    /// Whether a rule that accepts names a text that begins so.
    fn names_text(&self, start: &str) -> bool {
        self.rules().any(|rule| contains_key(rule, "accept") && contains_text(rule, start))
    }
}

fn contains_key(value: &Value, key: &str) -> bool {
    match value {
        Value::Object(members) => {
            members.contains_key(key) || members.values().any(|member| contains_key(member, key))
        }
        Value::Array(items) => items.iter().any(|item| contains_key(item, key)),
        _ => false,
    }
}

fn contains_number(value: &Value, number: u64) -> bool {
    match value {
        Value::Number(found) => found.as_u64() == Some(number),
        Value::Object(members) => match members.get("range").and_then(Value::as_array).map(Vec::as_slice) {
            Some([from, to]) => (from.as_u64()..=to.as_u64()).contains(&Some(number)),
            _ => members.values().any(|member| contains_number(member, number)),
        },
        Value::Array(items) => items.iter().any(|item| contains_number(item, number)),
        _ => false,
    }
}

fn contains_text(value: &Value, start: &str) -> bool {
    match value {
        Value::String(text) => text.starts_with(start),
        Value::Object(members) => members.values().any(|member| contains_text(member, start)),
        Value::Array(items) => items.iter().any(|item| contains_text(item, start)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::finding::Level;

    fn rules(right: &Value) -> Rules {
        Rules(vec![
            json!({"chain": {"family": "inet", "table": "filter", "name": "input", "hook": "input", "policy": "drop"}}),
            json!({"rule": {"chain": "input", "expr": [
                {"match": {"op": "==", "left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": right}},
                {"accept": null},
            ]}}),
        ])
    }

    #[test]
    fn a_port_is_found_alone_in_a_set_and_in_a_range() {
        for right in [
            json!(1194),
            json!({"set": [53, 1194]}),
            json!({"range": [1000, 2000]}),
            json!({"set": [{"range": [1190, 1194]}]}),
        ] {
            let rules = rules(&right);
            assert_eq!(rules.drops("input").as_deref(), Some("inet filter input"));
            assert!(rules.accepts_number(1194), "{right}");
            assert!(!rules.accepts_number(22), "{right}");
        }
        assert_eq!(rules(&json!(1)).drops("forward"), None);
    }

    #[test]
    fn a_kill_switch_is_worst_where_it_was_left_over_and_is_not_wanted() {
        let level = |wanted, is_held| of_kill_switch(wanted, is_held).level;
        assert_eq!(level(Some(false), true), Level::Note);
        assert_eq!((level(Some(true), false), level(None, false)), (Level::Warning, Level::Warning));
        assert_eq!(level(Some(false), false), Level::Error);
    }

    #[test]
    fn a_chain_of_the_old_interface_is_mended_by_its_own_program() {
        let remedy = accept("iptables-legacy filter INPUT", "udp dport 1194", "-p udp --dport 1194");
        assert_eq!(remedy, "accept it, for example: iptables-legacy -I INPUT -p udp --dport 1194 -j ACCEPT");
        let remedy = accept("inet filter input", "udp dport 1194", "-p udp --dport 1194");
        assert_eq!(remedy, "accept it, for example: nft insert rule inet filter input udp dport 1194 accept");
    }

    #[test]
    fn each_listener_has_its_own_transport() {
        let arguments =
            "--dev tun --server 10.8.0.0 255.255.255.0 --ca a --cert a --key a --dh none --proto tcp-server";
        let arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
        let files = culvert_config::MemoryFiles::default().with("a", "");
        let profile = culvert_config::parse(&arguments, &files).check(&files).profile;
        assert_eq!(listeners(&profile.connections[0]), [(1194, "tcp")]);
    }
}
