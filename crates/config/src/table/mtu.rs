//! Sizes of packets.

use super::*;
use crate::{
    args::{Args, Set, problem},
    draft::Draft,
    profile::{MssFix, MtuDiscovery},
};

pub(super) const ROWS: &[OptionRow] = &[
row("tun-mtu", "N [OCC_MTU]", "device MTU, 100..65536; OCC_MTU is the value announced to old peers")
.group(Group::Mtu)
.reset(|p| p.tun_mtu = None)
.also(CONNECTION).also(UPDATE)
.default("1500")
.offload(&[blocks(LINUX, "the device of the module is smaller", "write at most 65451")
    .when("more than 65451", |p| p.connections.iter().any(|c| c.mtu.tun_mtu > MODULE_MTU_MAX))])
.set(|d, a| {
    d.ce.entry.mtu.tun_mtu = read::tun_mtu(a)?;
    d.ce.entry.mtu.tun_mtu_defined = true;
    d.ce.entry.mtu.occ_mtu =
        a.get(1).map(|_| a.within(1, "tun-mtu occ-mtu", 100..=65_536)).transpose()?;
    Ok(())
})
.pushed(|p, a| {
    p.pushed.tun_mtu = Some(read::tun_mtu(a)?);
    Ok(())
}),
row("tun-mtu-max", "N", "largest MTU a server may push to us")
.group(Group::Mtu)
.also(CONNECTION)
.default("1600")
.set(|d, a| {
    d.ce.entry.mtu.tun_mtu_max = a.within(0, a.name, 1600..=65_536)?;
    Ok(())
}),
row("tun-mtu-extra", "N", "extra read headroom; meaningful for tap")
.group(Group::Mtu)
.also(CONNECTION)
.default("tun 0, tap 32")
.set(|d, a| {
    d.ce.entry.mtu.tun_mtu_extra = Some(a.within(0, a.name, 0..=65_536)?);
    Ok(())
}),
row("link-mtu", "N", "deprecated outer size; kept for old configs")
.group(Group::Mtu)
.also(CONNECTION)
.default("1500")
.status(Status::NoEffect("the size follows from tun-mtu"))
.set(|d, a| {
    a.number(0)?;
    d.ce.link_mtu = true;
    Ok(())
}),
row("udp-mtu", "N", "old spelling of link-mtu")
.group(Group::Mtu)
.also(CONNECTION)
.default("1500")
.status(Status::NoEffect("the size follows from tun-mtu"))
.set(|d, a| {
    a.number(0)?;
    d.ce.link_mtu = true;
    Ok(())
}),
row("max-packet-size", "N", "control packet size cap, 154..2048; also sets mssfix")
.group(Group::Mtu)
.also(CONNECTION)
.default("1250")
.set(|d, a| {
    let asked = a.number(0)?;
    let size = asked.clamp(154, 2048);
    if size != asked {
        d.warn(format!(
            "Note: max-packet-size value outside of allowed control channel packet size (154 to 2048), will use {size} \
             instead."
        ));
    }
    d.ce.entry.mtu.max_packet_size = size;
    d.ce.entry.mtu.mssfix = MssFix::Mtu(asked);
    Ok(())
}),
row("fragment", "N [mtu]", "own UDP fragmentation layer, N at least 68")
.group(Group::Mtu)
.also(CONNECTION)
.default("off")
.offload(&[blocks(KERNEL, "the kernel never splits packets", "use mssfix on both ends")
    .note(Note::Lines(&["Note: --fragment disables data channel offload."]))])
.set(|d, a| {
    let size = a.within(0, a.name, 68..=i32::MAX)?;
    let mtu = match a.get(1) {
        None => false,
        Some("mtu") => true,
        Some(word) => return Err(problem(format!("Unknown parameter to --fragment: {word}")).at(1)),
    };
    d.ce.entry.mtu.fragment = Some((size, mtu));
    Ok(())
}),
row("mtu-disc", "no|maybe|yes", "path MTU discovery mode of the UDP socket")
.group(Group::Mtu)
.also(CONNECTION)
.default("no")
.offload(&[ignores(LINUX, "packets may always be split on their way", "lower tun-mtu to what the path carries")])
.set(|d, a| {
    let choices = [("no", MtuDiscovery::No), ("maybe", MtuDiscovery::Maybe), ("yes", MtuDiscovery::Yes)];
    let wrong = |word: &str| format!("invalid --mtu-disc type: '{word}' -- valid types are 'yes', 'maybe', or 'no'");
    d.ce.entry.mtu.discovery = Some(a.one_of(0, &choices, wrong)?);
    Ok(())
}),
row("mtu-test", "", "probe the usable packet sizes")
.group(Group::Mtu)
.default("off")
.offload(&[ignores(KERNEL, "probes are packets of userspace", "")])
.set(|d, _| {
    d.profile.link.mtu_test = true;
    Ok(())
}),
row("mssfix", "[N [mtu|fixed]]", "clamp TCP MSS of tunnelled connections; 0 turns off")
.group(Group::Mtu)
.also(CONNECTION)
.default("1492 mtu")
.offload(&[kept(LINUX, "a rule of nftables clamps TCP connections through the tunnel")
    .presence(Presence::Either)
    .when("other than 0", |p| p.connections.iter().any(|c| c.mtu.mssfix != MssFix::Off))])
.set(mssfix),
];

/// The largest MTU of a device of the Linux module.
const MODULE_MTU_MAX: u32 = 65_451;

/// The smallest size that a control packet needs, and that `mssfix` takes.
const SMALLEST: u32 = 154;

/// `mssfix [N [mtu|fixed]]`.
fn mssfix(d: &mut Draft, a: &Args<'_>) -> Set {
    let size = match a.get(0) {
        None => None,
        Some(_) => Some(a.within(0, a.name, 0..=0xFFFF)?),
    };
    if let Some(size @ 1..SMALLEST) = size {
        return Err(problem(format!("mssfix needs to be >= {SMALLEST}, not {size}"))
            .at(0)
            .remedy("write 0 to turn it off"));
    }
    d.ce.entry.mtu.mssfix = match (size, a.get(1)) {
        (None, _) => MssFix::Default,
        (_, Some(word)) if word != "mtu" && word != "fixed" => {
            return Err(problem(format!("Unknown parameter to --mssfix: {word}")).at(1));
        }
        (Some(0), _) => MssFix::Off,
        (Some(size), None) => MssFix::Payload(size),
        (Some(size), Some("mtu")) => MssFix::Mtu(size),
        (Some(size), Some(_)) => MssFix::Fixed(size),
    };
    Ok(())
}
