/// Features of the protocol that both ends of a session have to use alike, as `protocol-flags` pushes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "independent words of one option")]
pub struct ProtocolFlags {
    /// `cc-exit`: exit notification over the control channel.
    pub cc_exit: bool,
    /// `tls-ekm`: data keys by TLS exporter.
    pub tls_ekm: bool,
    /// `dyn-tls-crypt`: renegotiations wrapped by keys of the session.
    pub dyn_tls_crypt: bool,
    /// `aead-epoch`: the epoch data format.
    pub aead_epoch: bool,
}
