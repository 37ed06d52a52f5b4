use crate::value::FileOrInline;

/// What only a pulling client does.
#[derive(Clone, Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "independent options")]
pub struct Client {
    /// `pull`, also from `client`.
    pub pull: bool,
    /// `pull-filter`, in order; the first match decides.
    pub pull_filters: Vec<PullFilter>,
    /// `route-nopull`.
    pub route_nopull: bool,
    /// `allow-pull-fqdn`.
    pub allow_pull_fqdn: bool,
    /// `auth-user-pass`.
    pub auth_user_pass: Option<AuthUserPass>,
    /// `auth-retry`.
    pub auth_retry: AuthRetry,
    /// `auth-nocache`.
    pub auth_nocache: bool,
    /// `push-peer-info`.
    pub push_peer_info: bool,
    /// `static-challenge`.
    pub static_challenge: Option<StaticChallenge>,
}

/// `pull-filter VERDICT TEXT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PullFilter {
    /// What happens to a match.
    pub verdict: PullVerdict,
    /// The beginning of the options that match.
    pub prefix: String,
}

/// What happens to a pushed option that a filter matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullVerdict {
    /// It is applied.
    Accept,
    /// It is left out.
    Ignore,
    /// The whole push is refused; the client restarts.
    Reject,
}

/// `auth-user-pass`.
#[derive(Clone, Debug)]
pub enum AuthUserPass {
    /// Ask the user.
    Ask,
    /// `username-only`: ask for the name, send no password.
    UsernameOnly,
    /// Two lines; missing ones are asked for.
    Stored(FileOrInline),
}

/// `auth-retry`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthRetry {
    /// A refused login ends the process.
    #[default]
    None,
    /// Try again with the same credentials.
    NoInteract,
    /// Ask again.
    Interact,
}

/// `static-challenge TEXT ECHO [FORMAT]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticChallenge {
    /// The question.
    pub text: String,
    /// Whether the answer is shown while it is typed.
    pub echo: bool,
    /// `concat` instead of `scrv1`.
    pub concat: bool,
}
