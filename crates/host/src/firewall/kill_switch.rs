//! The kill switch: what this machine may send while its tunnel is meant to be up.
//!
//! Its table is nobody's: it stays when the process dies, for that is what it is for. `nft list table inet
//! culvert-kill-switch` shows:
//!
//! ```text
//! table inet culvert-kill-switch {
//!     chain output {
//!         type filter hook output priority filter; policy accept;
//!         oifname "lo" accept
//!         oifname "tun0" accept
//!         meta mark 0x00006376 accept
//!         meta nfproto ipv4 udp sport 68 udp dport 67 accept
//!         meta nfproto ipv6 udp sport 546 udp dport 547 accept
//!         icmpv6 type nd-router-solicit accept
//!         icmpv6 type nd-neighbor-solicit accept
//!         icmpv6 type nd-neighbor-advert accept
//!         ip daddr 192.0.2.53 udp dport 53 accept
//!         ip daddr 192.0.2.53 tcp dport 53 accept
//!         ip daddr 192.0.2.53 tcp dport 853 accept
//!         counter packets 0 bytes 0 drop
//!     }
//!     chain forward {
//!         type filter hook forward priority filter; policy accept;
//!         oifname "tun0" accept
//!         iifname "tun0" accept
//!         counter packets 0 bytes 0 drop
//!     }
//! }
//! ```
//!
//! The marked packets are the tunnel's own. Ports 53 and 853 are open only while a name is looked up.

use std::{
    io,
    net::IpAddr,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
};

use netlink_bindings::nftables::Request;
use netlink_socket2::ReplyError;

use super::{
    Batch, Firewall, NF_INET_FORWARD, NF_INET_LOCAL_OUT, NF_IP_PRI_FILTER, family,
    rule::{Rule, Transport, name_key},
};
use crate::{Family, HostError};

/// What may leave.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KillSwitchRules {
    /// The tunnel's device, while it is up.
    pub device: Option<String>,
    /// The firewall mark of the tunnel's own packets.
    pub mark: u32,
    /// Who may be asked for names, which is done outside of the tunnel.
    pub lookups: Lookups,
}

/// To whom the ports of name servers are open.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Lookups {
    /// Nobody: no name is being looked up.
    #[default]
    Closed,
    /// These name servers, also over TLS.
    At(Vec<IpAddr>),
    /// Anybody: who is asked is not known.
    Anywhere,
}

/// Says that a process stands behind the kill switch of this network namespace, and ends with that process.
#[derive(Debug)]
pub struct KillSwitchHold {
    _socket: UnixDatagram,
}

/// The name of the socket that says so, among the abstract ones: each network namespace has its own, and nothing is left
/// of it when its process dies, as there would be of a file.
const HOLD: &str = "culvert/kill-switch";

/// The table of the kill switch. It outlives this value.
#[derive(Debug)]
pub struct KillSwitch {
    firewall: Firewall,
}

impl KillSwitch {
    /// Connects to the kernel's nftables; changes nothing yet.
    ///
    /// # Errors
    /// As [`Firewall::open`].
    pub fn open() -> Result<Self, HostError> {
        Ok(Self { firewall: Firewall::open_with("kill-switch", false)? })
    }

    /// Returns the table's name.
    #[must_use]
    pub fn table(&self) -> &str {
        self.firewall.table()
    }

    /// Returns whether it is in force, whoever made it so.
    ///
    /// # Errors
    /// When the kernel cannot be asked.
    pub fn stands(&mut self) -> Result<bool, HostError> {
        let mut request = Request::new().op_gettable_do(&family());
        request.encode().push_name_bytes(self.firewall.table.as_bytes());
        let asked = self.firewall.socket.request(&request).map_err(ReplyError::from);
        match asked.and_then(|mut reply| reply.recv_one().map(drop)) {
            Ok(()) => Ok(true),
            Err(error) if error.as_io_error().raw_os_error() == Some(ENOENT) => Ok(false),
            Err(error) => Err(self.firewall.explain(error)),
        }
    }

    /// Replaces all rules at once: no packet meets half of them.
    ///
    /// # Errors
    /// As [`Firewall::set`]; the rules of before stay.
    pub fn set(&mut self, rules: &KillSwitchRules) -> Result<(), HostError> {
        if let Some(device) = &rules.device {
            name_key(device).ok_or_else(|| HostError::NoDevice(device.clone()))?;
        }
        let mut batch = self.without_table();
        self.firewall.push_table(&mut batch);
        self.push_output(&mut batch, rules);
        self.push_forward(&mut batch, rules);
        self.send(batch)
    }

    /// Lets everything leave again.
    ///
    /// # Errors
    /// As [`Firewall::set`].
    pub fn lift(&mut self) -> Result<(), HostError> {
        let batch = self.without_table();
        self.send(batch)
    }

    /// Makes known that a process stands behind it, for as long as the answer lives.
    ///
    /// # Errors
    /// When another process does already.
    pub fn hold() -> io::Result<KillSwitchHold> {
        let name = SocketAddr::from_abstract_name(HOLD)?;
        UnixDatagram::bind_addr(&name).map(|socket| KillSwitchHold { _socket: socket })
    }

    /// Returns whether a process stands behind it. Where that cannot be found out, one does: who asks wants to lift it.
    #[must_use]
    pub fn is_held() -> bool {
        Self::hold().is_err()
    }

    fn without_table(&self) -> Batch {
        let mut batch = Batch::new();
        // It can be deleted when it is there only.
        self.firewall.push_table(&mut batch);
        let mut delete = Request::new().op_deltable_do(&family());
        delete.encode().push_name_bytes(self.firewall.table.as_bytes());
        batch.push(&delete);
        batch
    }

    fn send(&mut self, batch: Batch) -> Result<(), HostError> {
        let batch = batch.finish(&mut self.firewall.socket);
        let sent = self.firewall.socket.request_chained(&batch).map_err(ReplyError::from);
        sent.and_then(|mut replies| replies.recv_all()).map_err(|error| self.firewall.explain(error))
    }

    fn push_output(&self, batch: &mut Batch, rules: &KillSwitchRules) {
        self.firewall.push_chain(batch, "output", NF_INET_LOCAL_OUT, NF_IP_PRI_FILTER);
        let mut push = |write: &dyn Fn(Rule<'_>)| self.firewall.push_rule(batch, "output", write);
        push(&|rule| rule.outgoing("lo").accept());
        if let Some(device) = &rules.device {
            push(&|rule| rule.outgoing(device).accept());
        }
        push(&|rule| rule.marked(rules.mark).accept());
        // What the link itself lives on.
        push(&|rule| rule.family(Family::V4).ports(Transport::Udp, Some(68), 67).accept());
        push(&|rule| rule.family(Family::V6).ports(Transport::Udp, Some(546), 547).accept());
        for kind in [ROUTER_SOLICITATION, NEIGHBOUR_SOLICITATION, NEIGHBOUR_ADVERTISEMENT] {
            push(&|rule| rule.icmpv6(kind).accept());
        }
        let lookup = [(Transport::Udp, DNS), (Transport::Tcp, DNS)];
        match &rules.lookups {
            Lookups::Closed => {}
            Lookups::At(servers) => {
                // systemd-resolved may ask over TLS.
                for (transport, port) in lookup.into_iter().chain([(Transport::Tcp, DNS_OVER_TLS)]) {
                    for server in servers {
                        push(&|rule| rule.to(*server).ports(transport, None, port).accept());
                    }
                }
            }
            Lookups::Anywhere => {
                for (transport, port) in lookup {
                    push(&|rule| rule.ports(transport, None, port).accept());
                }
            }
        }
        push(&|rule| rule.counter().drop_packet());
    }

    /// What this machine forwards for others: into the tunnel, and out of it.
    fn push_forward(&self, batch: &mut Batch, rules: &KillSwitchRules) {
        self.firewall.push_chain(batch, "forward", NF_INET_FORWARD, NF_IP_PRI_FILTER);
        if let Some(device) = &rules.device {
            self.firewall.push_rule(batch, "forward", |rule| rule.outgoing(device).accept());
            self.firewall.push_rule(batch, "forward", |rule| rule.incoming(device).accept());
        }
        self.firewall.push_rule(batch, "forward", |rule| rule.counter().drop_packet());
    }
}

/// There is no such table.
const ENOENT: i32 = 2;
/// Where name servers listen.
const DNS: u16 = 53;
/// The same for those that are asked over TLS (RFC 7858).
const DNS_OVER_TLS: u16 = 853;

// ICMPv6 types of neighbour discovery (RFC 4861).
const ROUTER_SOLICITATION: u8 = 133;
const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
