//! Logins: user name and password, or a token in the password's place, to a verdict.
//!
//! The order: a token is judged here and now, as long as its user is there; then culvert's own users, plugins, and
//! `auth-user-pass-verify`, of whom all that are configured must agree; at last, where it is to be asked, the management
//! interface ([`super::management`]). Two of them may answer later, through files; meanwhile the client may be asked for
//! more (`auth_pending_file`), and its answer goes to `client-crresponse`. Every login runs in a task of its own: one
//! that hangs delays nobody else, and is refused when its time is over (SEC-AUTH-1).

use std::{net::IpAddr, sync::Arc};

use culvert_plugin::PluginHook;
use culvert_proto::{AuthRequest, Authorization, Command, PeerInfo};
use culvert_wire::KeyId;
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument as _, debug};
use zeroize::Zeroizing;

use super::{
    Server,
    admission::{Admission, Decision},
    client::State,
    turned_away::come_back,
    under_way::PendingLogin,
    users::{Earlier, KnownUser},
};
use crate::{
    auth::{
        plugins::PluginLogin,
        throttle::{LONGEST, Turn, is_guess},
        tokens::{EXPIRED, Shown, TokenSession},
        users::UserVerdict,
    },
    clock, ovlog,
    scripts::{AuthAnswer, DeferredAuth, Hook, LoginVerdict, Pending, ScriptEnv},
    session_task::SessionKey,
};

/// What a server remembers of a client's login.
#[derive(Debug, Default)]
pub(super) struct LoginState {
    tokens: TokenSession,
    /// `session_state`, where tokens are in use.
    state: Option<&'static str>,
    /// The token that is to be pushed.
    token: Option<Zeroizing<String>>,
    /// The login was empty: there is nothing that a token could take the place of.
    is_anonymous: bool,
    /// Who it is, where the file of users has to do with it.
    pub(super) user: Option<KnownUser>,
}

impl LoginState {
    /// The option that hands the token out.
    pub(super) fn token_option(&self) -> Option<String> {
        self.token.as_ref().map(|token| format!("auth-token {}", token.as_str()))
    }

    /// Sets `session_id` and `session_state`.
    pub(super) fn export(&self, env: &mut ScriptEnv) {
        if let Some(state) = self.state {
            env.set("session_state", state);
            self.tokens.export(env);
        }
    }
}

/// Everything that the judges of a login are told.
struct Login {
    session: SessionKey,
    from: IpAddr,
    /// The first of its session: later ones are those of renegotiations, by who is in already.
    is_first: bool,
    request: AuthRequest,
    /// The token that came in place of the password (`external-auth`).
    earlier: Earlier,
    env: ScriptEnv,
    deadline: Instant,
}

impl Server {
    /// A login arrived.
    pub(super) fn authenticate(&mut self, key: SessionKey, request: AuthRequest) {
        if request.username.contains(char::is_control) {
            // Judges would each make something else of it (SEC-AUTH-4).
            ovlog!(warn 1, "TLS Auth Error: the user name has control characters; nobody is asked about it");
            return self.login_decided(key, request.key, Authorization::Deny(None));
        }
        let Some(client) = self.clients.get_mut(&key) else { return };
        // Later logins are those of renegotiations: the name that was settled stays (`override-username`).
        let is_first = matches!(client.state, State::Handshaking);
        if is_first {
            // A name that nobody vouches for is none.
            client.username =
                if self.admission.has_judges() { request.username.clone() } else { String::new() };
        }
        client.peer_info = Arc::clone(&request.peer_info);
        client.login.is_anonymous =
            request.username.is_empty() && request.password.is_empty() || !self.admission.has_judges();
        let is_certified = !client.identity.chain.is_empty();
        let mut earlier = Earlier::Nothing;
        if let Some(tokens) = &self.tokens {
            let now = u64::from(clock::unix_seconds());
            let shown = tokens.examine(&client.login.tokens, &request.username, &request.password, now);
            client.login.tokens.begin(&request.username, shown, now);
            client.login.state = Some(shown.session_state());
            if is_first && matches!(shown.session_state(), "AuthenticatedEmptyUser" | "ExpiredEmptyUser") {
                // Nobody vouched for the name that stands here.
                client.username.clear();
            }
            earlier = Earlier::of(shown);
            if !tokens.is_external()
                && let Some(authorization) = token_verdict(shown, &request.username)
            {
                self.note_user(key, &request, earlier);
                return self.admission.confirm_token(key, request, (authorization, earlier), !is_first);
            }
        }
        self.note_user(key, &request, earlier);
        self.keep_for_management(key, &request);
        let Some(client) = self.clients.get(&key) else { return };
        let from = client.remote.ip();
        let env = || {
            let mut env = Self::environment(&self.admission, client, &client.identity);
            env.set_peer_info(&client.peer_info);
            client.login.export(&mut env);
            env
        };
        self.admission.judge_login(key, (from, is_first), is_certified, (request, earlier), env);
    }

    /// A login is decided: makes the token that takes the password's place from here on.
    pub(super) fn login_decided(&mut self, key: SessionKey, id: KeyId, authorization: Authorization) {
        if let Authorization::Deny(reason) = &authorization {
            // The state of a challenge stands for a password that was right.
            let shown = reason.as_deref().filter(|reason| !reason.starts_with("CRV1:"));
            debug!("login refused: {}", shown.unwrap_or("no reason to show"));
        }
        let accepted = authorization == Authorization::Accept;
        if matches!(authorization, Authorization::Deny(_))
            && let Some(client) = self.clients.get_mut(&key)
        {
            // Nobody will be asked about it any more.
            client.password = None;
        }
        self.tell(key, Command::AuthVerdict(id, authorization));
        if accepted {
            self.renew_token(key);
        }
    }

    /// Makes a client's next token. One that is connected is told at once, others with the push reply.
    fn renew_token(&mut self, key: SessionKey) {
        let (Some(tokens), Some(client)) = (&self.tokens, self.clients.get_mut(&key)) else { return };
        if client.login.is_anonymous {
            return;
        }
        client.login.token = Some(tokens.renew(&mut client.login.tokens, u64::from(clock::unix_seconds())));
        if client.connected().is_some()
            && let Some(option) = client.login.token_option()
        {
            self.tell(key, Command::SendMessage(format!("PUSH_REPLY,{option}")));
        }
    }

    /// Replaces the tokens that are due, also where keys are renegotiated less often.
    pub(super) fn renew_tokens(&mut self) {
        let Some(tokens) = &self.tokens else { return };
        let now = u64::from(clock::unix_seconds());
        let is_due = |client: &super::Client| {
            client.connected().is_some()
                && client.login.tokens.is_accepted()
                && tokens.is_due(&client.login.tokens, now)
        };
        let due: Vec<_> =
            self.clients.iter().filter(|(_, client)| is_due(client)).map(|(&key, _)| key).collect();
        for key in due {
            self.renew_token(key);
        }
    }
}

/// What a token is worth by itself; `None`: it is none.
fn token_verdict(shown: Shown, username: &str) -> Option<Authorization> {
    use culvert_crypto::TokenUser::Named;
    let failed = || {
        ovlog!(warn 1, "TLS: Username/auth-token authentication failed for username '{username}'");
    };
    match shown {
        Shown::Password => None,
        Shown::Good(_, Named) => {
            ovlog!(1, "TLS: Username/auth-token authentication succeeded for username '{username}'");
            Some(Authorization::Accept)
        }
        Shown::Expired(_) => {
            ovlog!(1, "--auth-gen-token: auth-token from client expired");
            failed();
            Some(Authorization::Deny(Some(EXPIRED.to_owned())))
        }
        Shown::Good(..) | Shown::Invalid => {
            failed();
            Some(Authorization::Deny(None))
        }
    }
}

impl Admission {
    /// Judges a login by everything that is configured for it.
    fn judge_login(
        &self,
        session: SessionKey,
        (from, is_first): (IpAddr, bool),
        is_certified: bool,
        (request, earlier): (AuthRequest, Earlier),
        env: impl FnOnce() -> ScriptEnv,
    ) {
        let key = request.key;
        let is_anonymous = request.username.is_empty() && request.password.is_empty();
        if is_anonymous && self.has_judges() && !self.password_optional {
            ovlog!(warn 1, "TLS Error: Auth Username/Password was not provided by peer");
            let reason = Some("this server wants a user name and a password".to_owned());
            return self.decide(Decision::Login(session, key, Authorization::Deny(reason)));
        }
        // The file of users has no opinion about who gives no name.
        let is_judged = self.has_programs() || self.asks_management || self.users.is_some() && !is_anonymous;
        if !is_judged {
            let authorization = if is_certified {
                Authorization::Accept
            } else {
                ovlog!(warn 1, "refused: the client has no certificate, and nobody judges its login");
                Authorization::Deny(None)
            };
            return self.decide(Decision::Login(session, key, authorization));
        }
        let deadline = Instant::now() + self.patience;
        let login = Login { session, from, is_first, request, earlier, env: env(), deadline };
        self.spawn_for(session, move |this: Self| async move {
            let authorization = this.run_login(&login).await;
            this.under_way.login_decided(session, key);
            Decision::Login(session, key, authorization)
        });
    }

    /// Whether anybody judges logins.
    pub(super) fn has_judges(&self) -> bool {
        self.has_programs() || self.users.is_some() || self.asks_management
    }

    /// Whether a program or a plugin judges logins.
    fn has_programs(&self) -> bool {
        self.verify.is_some() || self.hooks.plugins.want(PluginHook::AuthUserPassVerify)
    }

    /// A token is judged; a good one counts only while its user is there. `is_in`: this is a renegotiation.
    fn confirm_token(
        &self,
        session: SessionKey,
        request: AuthRequest,
        (authorization, earlier): (Authorization, Earlier),
        is_in: bool,
    ) {
        let key = request.key;
        let users = self.users.clone().filter(|_| authorization == Authorization::Accept);
        let (Some(users), Earlier::Since(since)) = (users, earlier) else {
            return self.decide(Decision::Token(session, key, authorization));
        };
        self.spawn_for(session, move |this: Self| async move {
            let verdict = this.confirm_user(&users, &request.username, since, is_in).await;
            Decision::Token(session, key, verdict)
        });
    }

    /// Asks all judges, unless too many guesses came before (SEC-AUTH-8). Whom a renegotiation is about is in already, and
    /// whoever shows a good token guesses nothing: guesses of others must not put them out.
    async fn run_login(&self, login: &Login) -> Authorization {
        let (username, from) = (login.request.username.as_str(), login.from);
        let has_token = matches!(login.earlier, Earlier::Since(_));
        // Neither does who shows one that was good, though it lets nobody in.
        let may_guess = login.earlier == Earlier::Nothing;
        let mut turn = if login.is_first && !has_token {
            let Some(turn) = self.throttle.admit(username, from).await else {
                ovlog!(warn 1, "too many failed logins of '{username}' or from its network; refused without a look");
                return Authorization::Deny(Some(come_back(LONGEST, "too many failed logins")));
            };
            if !turn.wait.is_zero() {
                let seconds = turn.wait.as_secs_f32();
                ovlog!(
                    2,
                    "after failed logins of '{username}' or from its network, this one waits {seconds:.1} s"
                );
                tokio::time::sleep(turn.wait).await;
            }
            Some(turn)
        } else {
            None
        };
        let authorization = self.ask_judges(login, turn.as_mut()).await;
        let now = clock::now().mono;
        // Who was not answered in time guessed nothing.
        let (authorization, may_guess) = match authorization {
            Some(authorization) => (authorization, may_guess),
            None => (Authorization::Deny(None), false),
        };
        match &authorization {
            Authorization::Deny(reason) if may_guess && is_guess(reason.as_deref()) => {
                self.throttle.failed(username, from, now);
                return authorization;
            }
            // The management interface has the last word.
            Authorization::Accept if !self.asks_management => self.throttle.succeeded(username, from),
            _ => {}
        }
        if let Some(turn) = &turn {
            self.throttle.give_back(turn, now);
        }
        authorization
    }

    /// Asks all judges; the first that refuses decides. `None`: one that put its answer off gave none in time.
    async fn ask_judges(&self, login: &Login, turn: Option<&mut Turn>) -> Option<Authorization> {
        let AuthRequest { username, password, peer_info, .. } = &login.request;
        let is_anonymous = username.is_empty() && password.is_empty();
        // An empty login got here because it is allowed: plugins and programs may have something against it, users not.
        if let Some(users) = self.users.as_ref().filter(|_| !is_anonymous) {
            let verdict = match login.earlier {
                Earlier::Since(since) => self.confirm_user(users, username, since, !login.is_first).await,
                Earlier::Expired => Authorization::Deny(Some(EXPIRED.to_owned())),
                Earlier::Nothing => match users.judge(username, password).await {
                    UserVerdict::Accept => Authorization::Accept,
                    UserVerdict::Reject(reason) => Authorization::Deny(reason),
                },
            };
            if verdict != Authorization::Accept {
                return Some(verdict);
            }
        }
        let plugins = &self.hooks.plugins;
        let credentials = (username.as_str(), password.as_str());
        let by_plugin =
            match plugins.judge_login(&self.tmp_dir, credentials, &login.env, login.session.0).await {
                PluginLogin::Accept => None,
                PluginLogin::Reject(reason) => return Some(Authorization::Deny(reason)),
                PluginLogin::Deferred(files, env) => Some((files, env)),
            };
        let by_script = match &self.verify {
            None => None,
            Some(verify) => {
                let runner = self.hooks.runner.for_client(login.session.0);
                match runner.verify_login(verify, &self.tmp_dir, username, password, &login.env).await {
                    LoginVerdict::Accept => None,
                    LoginVerdict::Reject(reason) => return Some(Authorization::Deny(reason)),
                    LoginVerdict::Deferred(files, env) => Some((files, env)),
                }
            }
        };
        if by_plugin.is_none() && by_script.is_none() {
            return Some(Authorization::Accept);
        }
        if let Some(turn) = turn {
            turn.give_up_place();
        }
        let (plugin, script) = (by_plugin.as_ref(), by_script.as_ref());
        let env = |judge: Option<&(_, ScriptEnv)>| judge.map(|(_, env)| env.clone());
        let pending = PendingLogin::new(login.request.key, env(plugin), env(script));
        self.under_way.defer_login(login.session, pending);
        for (files, _) in plugin.into_iter().chain(script) {
            if let Some(refused) = self.ask_for_more(login, peer_info, files) {
                return Some(refused);
            }
        }
        for (files, _) in plugin.into_iter().chain(script) {
            match timeout_at(login.deadline, files.wait(&self.answers)).await {
                Ok(AuthAnswer::Accept) => {}
                Ok(AuthAnswer::Reject(reason)) => return Some(Authorization::Deny(reason)),
                Err(_elapsed) => {
                    ovlog!(warn 1, "TLS Auth Error: no answer came for the login of '{username}' in time");
                    return None;
                }
            }
        }
        Some(Authorization::Accept)
    }

    /// Tells the client what a judge wants besides the password, if it does. Returns a refusal where the client cannot
    /// do that: it would wait for nothing.
    fn ask_for_more(
        &self,
        login: &Login,
        peer_info: &PeerInfo,
        files: &DeferredAuth,
    ) -> Option<Authorization> {
        let Pending { timeout, method, extra } = files.pending()?;
        let announced = peer_info.value("IV_SSO").unwrap_or_default();
        if !announced.split(',').any(|known| known.trim() == method) {
            ovlog!(
                warn 1,
                "TLS Auth Error: the client of '{}' does not support the method '{method}' of auth_pending_file (IV_SSO={announced})",
                login.request.username
            );
            let reason =
                format!("Authentication failed, required pending auth method '{method}' not supported");
            return Some(Authorization::Deny(Some(reason)));
        }
        let timeout = u32::try_from(timeout.as_secs()).unwrap_or(u32::MAX);
        let wait = Authorization::Pending { timeout, extra: Some(extra) };
        self.decide(Decision::Login(login.session, login.request.key, wait));
        None
    }

    /// A client answers a challenge: hands the answer to the plugin or script that asked; returns whether one did.
    pub(super) fn answer_challenge(&self, session: SessionKey, response: &str) -> bool {
        let Some(pending) = self.under_way.deferred_login(session) else { return false };
        if pending.begin_answer() {
            ovlog!(warn 1, "an answer to a challenge came before the last was heard; it is dropped");
            return true;
        }
        let (this, response) = (self.clone(), Zeroizing::new(response.to_owned()));
        let handing_over = async move {
            let handed = this.hand_over(session, &pending, &response);
            let Some(taken) = this.under_way.while_there(session, handed).await else { return };
            pending.end_answer();
            // That it was taken is no verdict: that one comes through the files.
            if !taken {
                this.decide(Decision::Login(session, pending.key, Authorization::Deny(None)));
            }
        };
        tokio::spawn(handing_over.in_current_span());
        true
    }

    /// Hands the answer to a challenge to who asked; returns whether all took it.
    async fn hand_over(&self, session: SessionKey, pending: &PendingLogin, response: &str) -> bool {
        let mut taken = true;
        if let Some(env) = &pending.plugin {
            let mut env = env.clone();
            env.set("crresponse", response);
            taken = self.hooks.plugins_agree(Some(session), Hook::ClientCrResponse, &[], &env).await;
        }
        if let (Some(env), Some(command)) = (&pending.script, &self.hooks.scripts.client_crresponse) {
            let runner = self.hooks.runner.for_client(session.0);
            taken &= runner.challenge_answered(command, &self.tmp_dir, response, env).await;
        }
        taken
    }
}

#[cfg(test)]
#[path = "login_tests.rs"]
pub(super) mod tests;
