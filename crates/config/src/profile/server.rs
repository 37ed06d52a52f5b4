use std::{net::Ipv4Addr, path::PathBuf, time::Duration};

use culvert_wire::Vlans;

use crate::value::{Command, FileOrInline, Net4, Net6, Port};

/// What only a server does.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent options")]
pub struct Server {
    /// The options pushed to every client, in the order to send them, `server` and `keepalive` expanded.
    pub push: Vec<String>,
    /// `ifconfig-pool`, also from `server`.
    pub pool: Option<IfconfigPool>,
    /// `ifconfig-ipv6-pool`, also from `server-ipv6`.
    pub pool6: Option<Ipv6Pool>,
    /// `ifconfig-pool-persist`.
    pub pool_persist: Option<PoolPersist>,
    /// `ifconfig-push-constraint`.
    pub push_constraint: Option<Net4>,
    /// `client-config-dir`.
    pub client_config_dir: Option<PathBuf>,
    /// `ccd-exclusive`.
    pub ccd_exclusive: bool,
    /// `client-to-client`.
    pub client_to_client: bool,
    /// `duplicate-cn`.
    pub duplicate_cn: bool,
    /// `max-clients`.
    pub max_clients: u32,
    /// `max-routes-per-client`.
    pub max_routes_per_client: u32,
    /// `connect-freq`.
    pub connect_freq: Option<ConnectFreq>,
    /// `connect-freq-initial`, when written.
    pub connect_freq_initial: Option<ConnectFreq>,
    /// `verify-client-cert`.
    pub client_cert: CertPolicy,
    /// `username-as-common-name`.
    pub username_as_common_name: bool,
    /// `auth-user-pass-optional`.
    pub auth_user_pass_optional: bool,
    /// `auth-user-pass-verify`.
    pub auth_user_pass_verify: Option<AuthUserPassVerify>,
    /// `auth-gen-token`.
    pub auth_gen_token: Option<AuthGenToken>,
    /// `auth-gen-token-secret`.
    pub auth_gen_token_secret: Option<FileOrInline>,
    /// `auth-users`: culvert's own file of users, password hashes and second factors.
    pub auth_users: Option<PathBuf>,
    /// `port-share`.
    pub port_share: Option<PortShare>,
    /// `stale-routes-check AGE [INTERVAL]`.
    pub stale_routes: Option<(Duration, Duration)>,
    /// `vlan-tagging`.
    pub vlans: Option<Vlans>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            push: Vec::new(),
            pool: None,
            pool6: None,
            pool_persist: None,
            push_constraint: None,
            client_config_dir: None,
            ccd_exclusive: false,
            client_to_client: false,
            duplicate_cn: false,
            max_clients: 1024,
            max_routes_per_client: 256,
            connect_freq: None,
            connect_freq_initial: None,
            client_cert: CertPolicy::default(),
            username_as_common_name: false,
            auth_user_pass_optional: false,
            auth_user_pass_verify: None,
            auth_gen_token: None,
            auth_gen_token_secret: None,
            auth_users: None,
            port_share: None,
            stale_routes: None,
            vlans: None,
        }
    }
}

/// IPv4 pool: first and last address, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IfconfigPool {
    /// The first address to give out.
    pub start: Ipv4Addr,
    /// The last address to give out.
    pub end: Ipv4Addr,
    /// The netmask to push with them.
    pub netmask: Option<Ipv4Addr>,
}

/// IPv6 pool: the address of the first client. Bits are those of the network, and what clients get.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipv6Pool {
    /// First address with the prefix length.
    pub base: Net6,
}

/// `ifconfig-pool-persist FILE [SECONDS]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolPersist {
    /// The file.
    pub path: PathBuf,
    /// How often it is written; zero: only read.
    pub interval: Duration,
}

/// `port-share HOST PORT [DIR]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortShare {
    /// The other server.
    pub host: String,
    /// Its port.
    pub port: Port,
    /// Where it finds out whom it really talks to.
    pub journal: Option<PathBuf>,
}

/// N in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectFreq {
    /// How many.
    pub count: u32,
    /// In this time.
    pub per: Duration,
}

/// `verify-client-cert`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CertPolicy {
    /// `none`: not asked for.
    None,
    /// `optional`: checked if there.
    Optional,
    /// `require`.
    #[default]
    Require,
}

/// `auth-user-pass-verify CMD via-env|via-file`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthUserPassVerify {
    /// The program.
    pub command: Command,
    /// How it gets the credentials.
    pub via: VerifyVia,
}

/// How a program gets user name and password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerifyVia {
    /// In its environment; needs `script-security 3`.
    Env,
    /// In a file, named in its last argument.
    File,
}

/// `auth-gen-token [LIFETIME [RENEWAL] [external-auth]]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuthGenToken {
    /// How long a user's session lasts; zero: without end.
    pub lifetime: Duration,
    /// How often a new token is made; `None`: as often as keys, `reneg-sec`.
    pub renewal: Option<Duration>,
    /// Tokens do not let anybody in by themselves: the configured judges are asked, and are told what they are worth.
    pub external_auth: bool,
}
