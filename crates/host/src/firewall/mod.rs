//! Rules of packet filtering around tunnel devices: client isolation, MSS clamping and the refusal of IPv6.
//!
//! A kernel that carries the data packets itself forwards between clients like between any two hosts, looks into no TCP
//! header and answers no packets. All three are done by nftables here, in a table of its own that this process **owns**: the kernel removes it
//! when the netlink socket closes, which `kill -9` does too. No other process can change it, and `nft flush ruleset`
//! passes it over. `nft list table inet culvert-LABEL` shows:
//!
//! ```text
//! table inet culvert-LABEL {
//!     flags owner
//!     set isolated { type ifname; elements = { "tun0", "tun1" } }
//!     chain forward {
//!         type filter hook forward priority filter; policy accept;
//!         oifname "tun0" meta nfproto ipv6 counter packets 0 bytes 0 reject with icmpv6 no-route
//!         iifname "tun0" meta nfproto ipv6 counter packets 0 bytes 0 reject with icmpv6 no-route
//!         iifname @isolated oifname @isolated counter packets 0 bytes 0 drop
//!     }
//!     chain output {
//!         type filter hook output priority filter; policy accept;
//!         oifname "tun0" meta nfproto ipv6 icmpv6 type destination-unreachable accept
//!         oifname "tun0" meta nfproto ipv6 counter packets 0 bytes 0 reject with icmpv6 no-route
//!     }
//!     chain input {
//!         type filter hook input priority filter; policy accept;
//!         iifname "tun0" meta nfproto ipv6 counter packets 0 bytes 0 reject with icmpv6 no-route
//!     }
//!     chain mss-in {
//!         type filter hook prerouting priority mangle; policy accept;
//!         iifname "tun0" meta nfproto ipv4 tcp flags syn / syn,rst tcp option maxseg size set 1300
//!     }
//!     chain mss-out {
//!         type filter hook postrouting priority mangle; policy accept;
//!         oifname "tun0" meta nfproto ipv4 tcp flags syn / syn,rst tcp option maxseg size set 1300
//!     }
//! }
//! ```
//!
//! All see routed packets only: what a bridge passes between its ports meets none of them.
//!
//! Rules match names, not indexes: a device that is closed and opened again under its name stays covered.

mod batch;
mod kill_switch;
mod rule;

use std::io;

use netlink_bindings::nftables::{ChainFlags, Nfgenmsg, Request, TableFlags};
use netlink_socket2::{NetlinkSocket, ReplyError};

pub use kill_switch::{KillSwitch, KillSwitchHold, KillSwitchRules, Lookups};

use self::{
    batch::Batch,
    rule::{Rule, name_key},
};
use crate::{Family, HostError};

// linux/netfilter.h, linux/netfilter_ipv4.h
const NFPROTO_INET: u8 = 1;
const NF_INET_PRE_ROUTING: u32 = 0;
const NF_INET_LOCAL_IN: u32 = 1;
const NF_INET_FORWARD: u32 = 2;
const NF_INET_LOCAL_OUT: u32 = 3;
const NF_INET_POST_ROUTING: u32 = 4;
const NF_ACCEPT: u32 = 1;
const NF_IP_PRI_MANGLE: i32 = -150;
const NF_IP_PRI_FILTER: i32 = 0;

/// nft(8)'s number of the type "ifname"; the kernel keeps it for nft alone.
const TYPE_IFNAME: u32 = 41;
/// Tells nft(8) that keys are in host byte order, as strings are (libnftnl's `NFTNL_UDATA_SET_KEYBYTEORDER`: type,
/// length, value).
const KEYS_IN_HOST_ORDER: [u8; 6] = [0, 4, 1, 0, 0, 0];

const ISOLATED: &str = "isolated";

/// What the table of a [`Firewall`] should say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FirewallRules {
    /// Devices between which, and inside which, nothing is forwarded: OpenVPN without `client-to-client`.
    pub isolated: Vec<String>,
    /// Where TCP is told to send smaller segments: OpenVPN's `mssfix`.
    pub mss: Vec<MssClamp>,
    /// Devices through which no IPv6 packet passes: OpenVPN's `block-ipv6`.
    pub refused_ipv6: Vec<Ipv6Refusal>,
}

impl FirewallRules {
    /// Whether nothing is to be filtered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.isolated.is_empty() && self.clamps().next().is_none() && self.refused_ipv6.is_empty()
    }

    /// Returns the names of all devices that rules are about.
    fn devices(&self) -> impl Iterator<Item = &String> {
        let clamped = self.mss.iter().map(|clamp| &clamp.device);
        self.isolated.iter().chain(clamped).chain(self.refused_ipv6.iter().map(|refusal| &refusal.device))
    }

    /// Returns device, family and largest segment of everything to be clamped.
    fn clamps(&self) -> impl Iterator<Item = (&str, Family, u16)> {
        let both = |clamp: &MssClamp| [(Family::V4, clamp.v4), (Family::V6, clamp.v6)];
        self.mss
            .iter()
            .flat_map(move |clamp| both(clamp).map(|(family, size)| (clamp.device.as_str(), family, size)))
            .filter(|(_, _, size)| *size != 0)
    }
}

/// The largest segment that TCP connections through a device may announce, both ways.
///
/// A SYN that announces more is rewritten; one that announces less, or nothing, is left alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MssClamp {
    /// Name of the device.
    pub device: String,
    /// Bytes of payload per segment over IPv4; 0 leaves IPv4 alone.
    pub v4: u16,
    /// The same over IPv6.
    pub v6: u16,
}

/// A device whose IPv6 packets are answered with "no route to destination" (ICMPv6 type 1, code 0: what OpenVPN says)
/// instead of passing.
///
/// Where an answer is not allowed (RFC 4443, 2.4: to multicasts, to other errors) the packet is dropped in silence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ipv6Refusal {
    /// Name of the device.
    pub device: String,
    /// Which way.
    pub direction: Refused,
}

/// The packets that an [`Ipv6Refusal`] is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Those that would leave through the device: of this machine, and of those that it forwards for.
    Leaving,
    /// Also those that come out of the device: a server refuses what its clients send. The answers leave through the device.
    BothWays,
}

/// One nftables table of the calling thread's network namespace, which lives as long as this value.
///
/// It works on with any user that keeps `CAP_NET_ADMIN`, when it was opened with that right.
pub struct Firewall {
    socket: NetlinkSocket,
    table: String,
    /// The table goes with the socket.
    owned: bool,
}

impl std::fmt::Debug for Firewall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Firewall").field("table", &self.table).finish_non_exhaustive()
    }
}

impl Firewall {
    /// Connects to the kernel's nftables; makes no table yet. `label` becomes part of the table's name
    /// (`culvert-LABEL`) and should be the tunnel device's.
    ///
    /// # Errors
    /// [`HostError::Unavailable`] when the kernel has no nftables; [`HostError::Refused`] without `CAP_NET_ADMIN`.
    pub fn open(label: &str) -> Result<Self, HostError> {
        Self::open_with(label, true)
    }

    fn open_with(label: &str, owned: bool) -> Result<Self, HostError> {
        let mut socket = NetlinkSocket::new();
        // The library opens its socket at the first request. The kernel looks at the opener's rights too: do it before
        // they are dropped. The question itself tells whether nf_tables is there.
        let request = Request::new().op_getgen_do(&Nfgenmsg::new());
        match socket.request(&request) {
            // The socket cannot be had, or not be written to: no CONFIG_NETFILTER_NETLINK. The library reports any
            // reason as EPERM, so that the number says nothing.
            Err(source) => return Err(no_nftables(source)),
            Ok(mut reply) => match reply.recv_one() {
                Ok(_) => {}
                // EINVAL: nobody registered for this part of nfnetlink.
                Err(error) => match io::Error::from(error) {
                    source if matches!(source.raw_os_error(), Some(22 | 95)) => {
                        return Err(no_nftables(source));
                    }
                    source => return Err(refused("access to nftables".to_owned(), None, source)),
                },
            },
        }
        Ok(Self { socket, table: format!("culvert-{label}"), owned })
    }

    /// Returns the table's name.
    #[must_use]
    pub fn table(&self) -> &str {
        &self.table
    }

    /// Replaces everything in the table at once: no packet meets half of the rules. Without rules there is no table.
    ///
    /// # Errors
    /// When the kernel refuses, in which case the rules of before stay; [`HostError::Unavailable`] when it lacks a part
    /// of nftables that is needed; [`HostError::NoDevice`] for a name that no device can have.
    pub fn set(&mut self, rules: &FirewallRules) -> Result<(), HostError> {
        for device in rules.devices() {
            name_key(device).ok_or_else(|| HostError::NoDevice(device.clone()))?;
        }
        let batch = self.compose(rules).finish(&mut self.socket);
        let sent = self.socket.request_chained(&batch).map_err(ReplyError::from);
        sent.and_then(|mut replies| replies.recv_all()).map_err(|error| self.explain(error))
    }

    /// Puts the whole table into messages.
    fn compose(&self, rules: &FirewallRules) -> Batch {
        let mut batch = Batch::new();
        // A table can be deleted when it is there only: make it, delete it with what it held, make it anew.
        self.push_table(&mut batch);
        let mut delete = Request::new().op_deltable_do(&family());
        delete.encode().push_name_bytes(self.table.as_bytes());
        batch.push(&delete);
        if rules.is_empty() {
            return batch;
        }
        self.push_table(&mut batch);
        if !rules.isolated.is_empty() || !rules.refused_ipv6.is_empty() {
            self.push_chain(&mut batch, "forward", NF_INET_FORWARD, NF_IP_PRI_FILTER);
        }
        // Before isolation: between clients, too, IPv6 is answered where it is refused.
        self.push_refusals(&mut batch, &rules.refused_ipv6);
        if !rules.isolated.is_empty() {
            self.push_set(&mut batch, &rules.isolated);
            self.push_rule(&mut batch, "forward", |rule| {
                rule.incoming_in(ISOLATED).outgoing_in(ISOLATED).counter().drop_packet();
            });
        }
        self.push_clamps(&mut batch, rules);
        batch
    }

    fn push_refusals(&self, batch: &mut Batch, refusals: &[Ipv6Refusal]) {
        if refusals.is_empty() {
            return;
        }
        self.push_chain(batch, "output", NF_INET_LOCAL_OUT, NF_IP_PRI_FILTER);
        self.push_chain(batch, "input", NF_INET_LOCAL_IN, NF_IP_PRI_FILTER);
        for Ipv6Refusal { device, direction } in refusals {
            if *direction == Refused::BothWays {
                // The kernel's own answers to what came in. It cannot answer one hook earlier, before routing.
                self.push_rule(batch, "output", |rule| {
                    rule.outgoing(device).family(Family::V6).icmpv6_unreachable().accept();
                });
                for chain in ["input", "forward"] {
                    self.push_rule(batch, chain, |rule| {
                        rule.incoming(device).family(Family::V6).counter().reject_no_route();
                    });
                }
            }
            for chain in ["output", "forward"] {
                self.push_rule(batch, chain, |rule| {
                    rule.outgoing(device).family(Family::V6).counter().reject_no_route();
                });
            }
        }
    }

    fn push_clamps(&self, batch: &mut Batch, rules: &FirewallRules) {
        let mut clamps = rules.clamps().peekable();
        if clamps.peek().is_some() {
            // These two see what is forwarded as well as what begins or ends here.
            self.push_chain(batch, "mss-in", NF_INET_PRE_ROUTING, NF_IP_PRI_MANGLE);
            self.push_chain(batch, "mss-out", NF_INET_POST_ROUTING, NF_IP_PRI_MANGLE);
        }
        for (device, family, size) in clamps {
            self.push_rule(batch, "mss-in", |rule| {
                rule.incoming(device).family(family).tcp_syn().clamp_mss(size);
            });
            self.push_rule(batch, "mss-out", |rule| {
                rule.outgoing(device).family(family).tcp_syn().clamp_mss(size);
            });
        }
    }

    fn push_table(&self, batch: &mut Batch) {
        let mut request = Request::new().set_create().op_newtable_do(&family());
        let flags = if self.owned { TableFlags::Owner as u32 } else { 0 };
        request.encode().push_name_bytes(self.table.as_bytes()).push_flags(flags);
        batch.push(&request);
    }

    /// Adds the set of isolated devices.
    fn push_set(&self, batch: &mut Batch, devices: &[String]) {
        let mut set = Request::new().set_create().op_newset_do(&family());
        set.encode()
            .push_table_bytes(self.table.as_bytes())
            .push_name_bytes(ISOLATED.as_bytes())
            .push_id(1)
            .push_key_type(TYPE_IFNAME)
            .push_key_len(rule::IFNAMSIZ)
            .push_userdata(&KEYS_IN_HOST_ORDER);
        batch.push(&set);
        let mut elements = Request::new().set_create().op_newsetelem_do(&family());
        let mut list = elements
            .encode()
            .push_table_bytes(self.table.as_bytes())
            .push_set_bytes(ISOLATED.as_bytes())
            .nested_elements();
        for key in devices.iter().filter_map(|device| name_key(device)) {
            list = list.nested_elem().nested_key().push_value(&key).end_nested().end_nested();
        }
        drop(list);
        batch.push(&elements);
    }

    fn push_chain(&self, batch: &mut Batch, name: &str, hook: u32, priority: i32) {
        let mut request = Request::new().set_create().op_newchain_do(&family());
        request
            .encode()
            .push_table_bytes(self.table.as_bytes())
            .push_name_bytes(name.as_bytes())
            .push_type(c"filter")
            .push_flags(ChainFlags::Base as u32)
            .push_policy(NF_ACCEPT)
            .nested_hook()
            .push_num(hook)
            .push_priority(priority);
        batch.push(&request);
    }

    fn push_rule(&self, batch: &mut Batch, chain: &str, write: impl FnOnce(Rule<'_>)) {
        let mut request = Request::new().set_create().set_append().op_newrule_do(&family());
        let attributes = request
            .encode()
            .push_table_bytes(self.table.as_bytes())
            .push_chain_bytes(chain.as_bytes())
            .nested_expressions();
        write(Rule::new(attributes));
        batch.push(&request);
    }

    fn explain(&self, error: ReplyError) -> HostError {
        let detail = error
            .ext_ack()
            .and_then(|attributes| attributes.get_msg().ok())
            .map(|text| text.to_string_lossy().into_owned());
        let source = io::Error::from(error);
        match source.raw_os_error() {
            // ENOENT: an expression that no module provides. EAFNOSUPPORT, EOPNOTSUPP: no tables for both families, no
            // owned tables, or (the same number) a table of this name that nobody owns.
            Some(2 | 95 | 97) => HostError::Unavailable {
                what: format!("nftables as {} needs it", self.table),
                remedy: "use Linux 5.12 or newer with the modules nf_tables (CONFIG_NF_TABLES_INET), nft_exthdr and \
                         nft_reject_inet, and delete a table of this name if there is one",
                source,
            },
            // EPERM says no more than that.
            Some(1) => {
                let detail = "it needs CAP_NET_ADMIN, and another process may own a table of this name";
                refused(format!("nftables table {}", self.table), Some(detail.to_owned()), source)
            }
            _ => refused(format!("nftables table {}", self.table), detail, source),
        }
    }
}

fn family() -> Nfgenmsg {
    Nfgenmsg { nfgen_family: NFPROTO_INET, ..Nfgenmsg::new() }
}

fn no_nftables(source: io::Error) -> HostError {
    HostError::Unavailable {
        what: "nftables".to_owned(),
        remedy: "load the module nf_tables, or use a kernel built with CONFIG_NF_TABLES",
        source,
    }
}

fn refused(what: String, detail: Option<String>, source: io::Error) -> HostError {
    HostError::Refused { what, detail, source }
}
