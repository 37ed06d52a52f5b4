//! VLANs (IEEE 802.1Q) of an Ethernet device: what the option says and the data plane does.

/// VLANs of the device: the peers' own frames are never tagged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vlans {
    /// Which frames the device exchanges.
    pub accept: VlanAccept,
    /// The VLAN of its untagged frames.
    pub pvid: u16,
}

/// `vlan-accept`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum VlanAccept {
    /// All frames: those of the device's own VLAN untagged, others tagged.
    #[default]
    All,
    /// Tagged ones only.
    Tagged,
    /// Untagged ones, and those that are tagged with a priority only.
    Untagged,
}
