//! `ifconfig-pool-persist`: lines `CN,IPv4,IPv6`; a family that the pool lacks is empty. `#` and `;` begin comments.

use std::{fmt::Write as _, net::IpAddr};

use super::{LeaseV4, Pool};

impl Pool {
    /// Reads the file's text: who had which address last. Accepted: `CN,IPv4,IPv6`, `CN,IPv4`, `CN,,IPv6`. The IPv4
    /// address decides where they contradict each other. Returns a sentence for each line that could not be used.
    pub(crate) fn load(&mut self, text: &str) -> Vec<String> {
        let mut complaints = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Err(reason) = self.remember(line) {
                complaints.push(format!("line {}: {reason}: {line}", index + 1));
            }
        }
        complaints
    }

    fn remember(&mut self, line: &str) -> Result<(), &'static str> {
        // Names may hold commas; addresses cannot.
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let (name, addresses) = match fields.as_slice() {
            [name, four] => (*name, [*four, ""]),
            [name, four, six] => (*name, [*four, *six]),
            _ => return Err("expected NAME,IPV4,IPV6"),
        };
        if name.is_empty() {
            return Err("no name");
        }
        let mut numbers = Vec::new();
        for word in addresses.into_iter().filter(|word| !word.is_empty()) {
            let address: IpAddr = word.parse().map_err(|_| "not an address")?;
            numbers.push(self.number_of(address));
        }
        if numbers.is_empty() {
            return Err("no address");
        }
        let number = numbers.into_iter().flatten().next().ok_or("not an address of this pool")?;
        if self.owners.contains_key(name) {
            return Err("this name has an address already");
        }
        if self.places.get(&number).is_some_and(|place| place.owner.is_some()) {
            return Err("this address has a name already");
        }
        if !self.sticky {
            return Ok(());
        }
        self.places.entry(number).or_default().owner = Some(name.to_owned());
        self.owners.insert(name.to_owned(), number);
        self.leave(number);
        Ok(())
    }

    /// Returns the file's text, by address.
    #[must_use]
    pub(crate) fn save(&self) -> String {
        let mut text = String::new();
        for (number, place) in &self.places {
            let Some(name) = place.owner.as_ref().filter(|name| is_storable(name)) else { continue };
            let lease = self.lease(*number);
            let four = lease.v4.map(|LeaseV4 { remote, .. }| remote.to_string()).unwrap_or_default();
            let six = lease.v6.map(|address| address.to_string()).unwrap_or_default();
            let _ = writeln!(text, "{name},{four},{six}");
        }
        text
    }
}

/// A name that reads back as itself. Others get an address by luck at the next start.
fn is_storable(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with(['#', ';'])
        && name.trim() == name
        && !name.contains([',', '\n', '\r'])
}
