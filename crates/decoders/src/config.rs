use culvert_config::{MemoryFiles, PushFilter, Pushed, UpdateSequence, parse, parse_ccd, profile::Client};

use crate::as_text;

/// A configuration file as far as every check and every message.
pub(crate) fn config_file(bytes: &[u8]) {
    let files = MemoryFiles::default().with("file.conf", bytes);
    let args = ["--config", "file.conf"].map(str::to_owned);
    let checked = parse(&args, &files).check(&files);
    for diagnostic in checked.errors.iter().chain(&checked.notes) {
        let _ = diagnostic.render();
    }
}

pub(crate) fn config_files() -> Vec<Vec<u8>> {
    let texts: [&[u8]; 3] = [
        b"client\ndev tun\nproto udp\nremote vpn.example.com 1194\n<ca>\n-----BEGIN CERTIFICATE-----\nAAAA\n</ca>\nverb 3\n",
        b"\xEF\xBB\xBFserver 10.8.0.0 255.255.255.0\r\ndev tun\r\npush \"route 10.0.0.0 255.0.0.0\"\r\nkeepalive 10 60\r\n",
        b"# comment\nremote-cert-tls server\n<connection>\nremote a 1 tcp\n</connection>\nsetenv opt x 'y z'\n",
    ];
    texts.map(<[u8]>::to_vec).to_vec()
}

pub(crate) fn ccd_file(bytes: &[u8]) {
    as_text(bytes, |text| {
        let (_, notes) = parse_ccd(text, "client");
        for note in notes {
            let _ = note.render();
        }
    });
}

pub(crate) fn ccd_files() -> Vec<Vec<u8>> {
    vec![b"ifconfig-push 10.8.0.5 255.255.255.0\niroute 10.9.0.0 255.255.0.0\npush-reset\ndisable\n".to_vec()]
}

pub(crate) fn push_reply(bytes: &[u8]) {
    as_text(bytes, |text| {
        let client = Client::default();
        let _ = PushFilter::new(&client).apply(text, &mut Pushed::default());
    });
}

pub(crate) fn push_replies() -> Vec<Vec<u8>> {
    vec![
        b"topology subnet,ping 1,ping-restart 10,ifconfig 10.50.0.2 255.255.255.0,peer-id 0,cipher AES-256-GCM,\
          protocol-flags cc-exit tls-ekm dyn-tls-crypt aead-epoch,tun-mtu 1500"
            .to_vec(),
        b"route-gateway 10.8.0.1,route 10.0.0.0 255.0.0.0 vpn_gateway 5,dhcp-option DNS 10.8.0.1,redirect-gateway def1"
            .to_vec(),
        b"dns server 1 address 10.0.0.1,dns search-domains example.com,ifconfig-ipv6 fd00::2/64 fd00::1".to_vec(),
    ]
}

pub(crate) fn push_update(bytes: &[u8]) {
    as_text(bytes, |text| {
        let client = Client::default();
        let _ = PushFilter::new(&client).update(text, &mut UpdateSequence::default(), &mut Pushed::default());
    });
}

pub(crate) fn push_updates() -> Vec<Vec<u8>> {
    vec![
        b"PUSH_UPDATE, -?dns, route 10.0.0.0 255.0.0.0, ?dhcp-option DNS 8.8.8.8".to_vec(),
        b"PUSH_UPDATE, route 10.1.0.0 255.255.0.0,push-continuation 2".to_vec(),
    ]
}
