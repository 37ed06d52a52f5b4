//! What was really changed, and how to take it back.

use crate::{Address, DnsUndo, Host, HostError, Journal, Plan, Route, Step};

/// A change that was made to the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// An address was added to a device.
    Address {
        /// Which device.
        device: String,
        /// Which address.
        address: Address,
    },
    /// A route was added.
    Route(Route),
    /// A route was removed.
    Displaced(Route),
    /// What leaves through a device was limited.
    Shaped {
        /// Which device.
        device: String,
    },
    /// The resolver was told about DNS servers.
    Dns(DnsUndo),
}

/// A step that did not work.
#[derive(Debug)]
pub struct Failure {
    /// Which.
    pub step: Step,
    /// Why.
    pub error: HostError,
}

/// The outcome of [`Ledger::apply`].
#[derive(Debug, Default)]
pub struct Applied {
    /// Steps that failed; the others were done all the same. Not empty: "Initialization Sequence Completed With Errors".
    pub failures: Vec<Failure>,
}

impl Applied {
    /// Whether everything was done.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.failures.is_empty()
    }
}

/// The list of changes made, newest last.
///
/// Dropping it undoes nothing (there is no host at hand then): the owner calls [`Ledger::undo`] on every way out, and
/// the journal covers the ways out that run no code.
#[derive(Debug, Default)]
pub struct Ledger {
    changes: Vec<Change>,
    journal: Option<Journal>,
}

impl Ledger {
    /// Returns an empty ledger that lives in memory only.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Returns an empty ledger that also writes to a journal.
    #[must_use]
    pub fn with_journal(journal: Journal) -> Self {
        Self { changes: Vec::new(), journal: Some(journal) }
    }

    /// Returns what has been changed, oldest first.
    #[must_use]
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Applies a plan step by step. A step that fails is reported and the rest goes on. What was there already is left
    /// alone, also by [`Ledger::undo`].
    pub fn apply(&mut self, host: &mut dyn Host, plan: &Plan) -> Applied {
        let mut applied = Applied::default();
        for step in plan.steps() {
            match run(host, step) {
                Ok(Some(change)) => self.record(change),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!("{}", complaint(step, &error));
                    applied.failures.push(Failure { step: step.clone(), error });
                }
            }
        }
        applied
    }

    /// Turns what one plan made into what another one wants: what only the old one has is taken back, newest first, then
    /// what only the new one has is done. What both have is not touched.
    pub fn revise(&mut self, host: &mut dyn Host, old: &Plan, new: &Plan) -> Applied {
        let is_stale = |change: &Change| {
            let made = |step: &&Step| is_made_by(change, step);
            old.steps().iter().find(made).is_some_and(|step| !new.steps().contains(step))
        };
        let (stale, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.changes).into_iter().partition(is_stale);
        self.changes = kept;
        for change in stale.iter().rev() {
            match revert(host, change) {
                Ok(()) => {}
                Err(error) if error.is_gone() => tracing::debug!("already gone: {error}"),
                Err(error) => tracing::warn!("cannot undo: {error}"),
            }
        }
        self.rewrite_journal();
        self.apply(host, &new.steps().iter().filter(|step| !old.steps().contains(step)).cloned().collect())
    }

    /// Takes back everything, newest first. What is gone already is passed over; what cannot be taken back is reported
    /// and forgotten. Calling it again does nothing.
    pub fn undo(&mut self, host: &mut dyn Host) -> Vec<HostError> {
        let mut errors = Vec::new();
        while let Some(change) = self.changes.pop() {
            match revert(host, &change) {
                Ok(()) => {}
                Err(error) if error.is_gone() => tracing::debug!("already gone: {error}"),
                Err(error) => {
                    tracing::warn!("cannot undo: {error}");
                    errors.push(error);
                }
            }
        }
        self.rewrite_journal();
        errors
    }

    /// How the resolver is told that its settings no longer hold; `None`: it was told nothing.
    #[must_use]
    pub fn dns(&self) -> Option<&DnsUndo> {
        self.changes.iter().find_map(|change| if let Change::Dns(undo) = change { Some(undo) } else { None })
    }

    /// Takes over what somebody else told the resolver: it is taken back with the rest.
    pub fn adopt_dns(&mut self, undo: DnsUndo) {
        self.record(Change::Dns(undo));
    }

    /// Leaves [`Self::dns`] to somebody else.
    pub fn forget_dns(&mut self) {
        self.changes.retain(|change| !matches!(change, Change::Dns(_)));
        self.rewrite_journal();
    }

    fn record(&mut self, change: Change) {
        // A limit that is changed needs to be taken back once only.
        if matches!(change, Change::Shaped { .. }) && self.changes.contains(&change) {
            return;
        }
        self.changes.push(change);
        self.rewrite_journal();
    }

    fn rewrite_journal(&mut self) {
        if let Some(journal) = &mut self.journal
            && let Err(error) = journal.write(&self.changes)
        {
            tracing::warn!("{error}: a crash would leave changes behind");
            self.journal = None;
        }
    }

    /// Returns a ledger of changes read from elsewhere.
    pub(crate) fn of(changes: Vec<Change>) -> Self {
        Self { changes, journal: None }
    }
}

/// Whether a change is what a step left behind.
fn is_made_by(change: &Change, step: &Step) -> bool {
    match (change, step) {
        (Change::Address { device, address }, Step::Address { device: on, address: wanted }) => {
            device == on && address == wanted
        }
        (Change::Route(route), Step::Route(wanted)) | (Change::Displaced(route), Step::Displace(wanted)) => {
            route == wanted
        }
        (Change::Shaped { device }, Step::Shape { device: on, .. }) => device == on,
        // A plan tells the resolver once.
        (Change::Dns(_), Step::Dns { .. }) => true,
        _ => false,
    }
}

/// Does one step. `None`: nothing to take back.
fn run(host: &mut dyn Host, step: &Step) -> Result<Option<Change>, HostError> {
    match step {
        Step::Mtu { device, mtu } => {
            tracing::info!("net_iface_mtu_set: mtu {mtu} for {device}");
            host.set_mtu(device, *mtu)?;
            Ok(None)
        }
        Step::LinkAddress { device, mac } => {
            let text = mac.map(|byte| format!("{byte:02x}")).join(":");
            tracing::info!("TUN/TAP link layer address set to {text}");
            host.set_link_address(device, *mac)?;
            Ok(None)
        }
        Step::TxQueueLen { device, packets } => {
            tracing::info!("net_iface_txqlen_set: txqueuelen {packets} for {device}");
            host.set_tx_queue_len(device, *packets)?;
            Ok(None)
        }
        Step::Up { device } => {
            tracing::info!("net_iface_up: set {device} up");
            host.set_up(device)?;
            Ok(None)
        }
        Step::Address { device, address } => {
            tracing::info!("{}_add: {address} dev {device}", address_verb(address));
            let change = Change::Address { device: device.clone(), address: *address };
            unless_exists(host.add_address(device, address), change)
        }
        Step::Route(route) => {
            tracing::info!("net_route_{}_add: {route}", family_word(route));
            unless_exists(host.add_route_first(route), Change::Route(route.clone()))
        }
        Step::Displace(route) => {
            tracing::info!("net_route_{}_del: {route}", family_word(route));
            match host.delete_route(route) {
                Ok(()) => Ok(Some(Change::Displaced(route.clone()))),
                Err(error) if error.is_gone() => Ok(None),
                Err(error) => Err(error),
            }
        }
        // A discipline that is there already is an error here, unlike a route: traffic would not be limited.
        Step::Shape { device, bytes_per_second } => {
            tracing::info!("shaper: {bytes_per_second} bytes per second for {device}");
            host.shape(device, *bytes_per_second)?;
            Ok(Some(Change::Shaped { device: device.clone() }))
        }
        Step::Dns { device, settings } => Ok(Some(Change::Dns(host.set_dns(device, settings)?))),
    }
}

fn unless_exists(result: Result<(), HostError>, change: Change) -> Result<Option<Change>, HostError> {
    match result {
        Ok(()) => Ok(Some(change)),
        Err(error) if error.is_exists() => {
            tracing::info!("NOTE: {error}: it is left as it is, also at the end");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

fn revert(host: &mut dyn Host, change: &Change) -> Result<(), HostError> {
    match change {
        Change::Address { device, address } => {
            tracing::info!("{}_del: {address} dev {device}", address_verb(address));
            host.delete_address(device, address)
        }
        Change::Route(route) => {
            tracing::info!("net_route_{}_del: {route}", family_word(route));
            host.delete_route(route)
        }
        Change::Displaced(route) => {
            tracing::info!("net_route_{}_add: {route}", family_word(route));
            match host.add_route(route) {
                // Somebody set another meanwhile: a renewed lease.
                Err(error) if error.is_exists() => Ok(()),
                other => other,
            }
        }
        Change::Shaped { device } => host.unshape(device),
        Change::Dns(undo) => host.unset_dns(undo),
    }
}

/// OpenVPN's words for a failed step, then the reason.
fn complaint(step: &Step, error: &HostError) -> String {
    match step {
        Step::Route(_) | Step::Displace(_) => format!("ERROR: Linux route command failed: {error}"),
        Step::Address { .. } => format!("ERROR: Linux can't add IP to interface: {error}"),
        Step::Mtu { .. } | Step::LinkAddress { .. } | Step::TxQueueLen { .. } | Step::Up { .. } => {
            format!("ERROR: Linux can't configure interface: {error}")
        }
        Step::Shape { .. } => format!("ERROR: Linux can't limit the traffic: {error}"),
        Step::Dns { .. } => format!("{error}"),
    }
}

fn address_verb(address: &Address) -> &'static str {
    match address {
        Address::V4 { .. } => "net_addr_v4",
        Address::V4Peer { .. } => "net_addr_ptp_v4",
        Address::V6 { .. } => "net_addr_v6",
    }
}

fn family_word(route: &Route) -> &'static str {
    match route.family() {
        crate::Family::V4 => "v4",
        crate::Family::V6 => "v6",
    }
}
