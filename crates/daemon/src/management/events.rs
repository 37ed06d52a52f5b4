//! What happens, as JSON: one object a line, for `culvert watch`.

use culvert_mgmt::{ClientEvent, Notification, StateLine};
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::Management;

/// Events that may wait for a watcher; who reads too slowly is told how many it missed.
pub(super) const BACKLOG: usize = 1024;

impl Management {
    /// Tells watchers a state.
    pub(super) fn emit_state(&self, line: &StateLine) {
        let mut event = json!({ "event": "state", "time": line.time, "state": line.state.name() });
        let mut set = |name: &str, value: Option<String>| {
            if let (Some(value), Some(event)) = (value.filter(|v| !v.is_empty()), event.as_object_mut()) {
                event.insert(name.to_owned(), Value::String(value));
            }
        };
        set("detail", Some(line.detail.clone()));
        set("tunnel_ipv4", line.tunnel4.map(|a| a.to_string()));
        set("tunnel_ipv6", line.tunnel6.map(|a| a.to_string()));
        set("remote", line.remote.map(|a| a.to_string()));
        self.emit(&event);
    }

    /// Tells watchers what clients of the management interface are told, where that is an event.
    pub(super) fn emit_notification(&self, notification: &Notification) {
        let event = match notification {
            Notification::Client { event, env } => client_event(event, env),
            Notification::ClientAddress { client, address, primary } => {
                json!({ "event": "client-address", "client": client, "address": address, "primary": primary })
            }
            Notification::Hold(pause) => json!({ "event": "hold", "pause": pause }),
            Notification::UpDown { up, .. } => json!({ "event": if *up { "up" } else { "down" } }),
            _ => return,
        };
        self.emit(&event);
    }

    /// Whether anybody is told what happens to clients: it costs something to put that together.
    pub(crate) fn has_audience(&self) -> bool {
        self.shared.events.receiver_count() > 0
            || self.lock().watchers.values().any(|watcher| watcher.greeted)
    }

    /// Tells watchers alone what clients of the management interface are not told.
    pub(crate) fn tell_watchers(&self, notification: &Notification) {
        self.emit_notification(notification);
    }

    fn emit(&self, event: &Value) {
        // Nobody watches, most of the time.
        let _nobody = self.shared.events.send(event.to_string());
    }
}

fn client_event(event: &ClientEvent, env: &[(String, Zeroizing<String>)]) -> Value {
    let (name, client) = match event {
        ClientEvent::Connect(key) => ("client-connect", key.client),
        ClientEvent::Reauth(key) => ("client-reauth", key.client),
        ClientEvent::Established(client) => ("client-established", *client),
        ClientEvent::Disconnect(client) => ("client-disconnect", *client),
        ClientEvent::CrResponse(key, _) => ("client-cr-response", key.client),
    };
    // A list of what is of use to everybody; passwords are none of it.
    const SHOWN: &[&str] = &[
        "common_name",
        "username",
        "trusted_ip",
        "trusted_ip6",
        "trusted_port",
        "ifconfig_pool_remote_ip",
        "ifconfig_pool_remote_ip6",
        "time_duration",
        "bytes_received",
        "bytes_sent",
    ];
    let mut object = Map::new();
    object.insert("event".to_owned(), json!(name));
    object.insert("client".to_owned(), json!(client));
    for (name, value) in env.iter().filter(|(name, _)| SHOWN.contains(&name.as_str())) {
        object.insert(name.clone(), json!(**value));
    }
    Value::Object(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_names_the_client_and_keeps_secrets() {
        let env = [("common_name", "alice"), ("password", "x")]
            .map(|(n, v)| (n.to_owned(), Zeroizing::new(v.to_owned())));
        let event = client_event(&ClientEvent::Established(3), &env).to_string();
        assert_eq!(event, r#"{"client":3,"common_name":"alice","event":"client-established"}"#);
    }
}
