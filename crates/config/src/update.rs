//! PUSH_UPDATE: changes to pushed options while the tunnel is up.
//!
//! An item is `[-][?]option`: `-` takes the option away, `?` marks one that may be left out. The first item of an option in a
//! sequence of messages clears what was there, the following ones add.

use thiserror::Error;

use crate::{
    lexer,
    push::{PushFilter, PushReason, PushRejected, Pushed},
    table::{OptionRow, UPDATE, find},
};

/// Which options a sequence of messages has already cleared.
#[derive(Clone, Debug, Default)]
pub struct UpdateSequence {
    cleared: Vec<&'static str>,
}

/// What one message was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Updated {
    /// The sequence is complete: apply.
    Complete,
    /// More messages follow.
    Continues,
}

/// Why an update cannot be applied: the client restarts.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// Not a PUSH_UPDATE message.
    #[error("not a PUSH_UPDATE message")]
    NotAnUpdate,
    /// An option that must not change, and that is not marked as one to leave out.
    #[error("Pushed option is not updatable: '{0}'.")]
    NotUpdatable(String),
    /// As in a PUSH_REPLY.
    #[error(transparent)]
    Rejected(#[from] PushRejected),
}

struct Item<'m> {
    remove: bool,
    optional: bool,
    option: &'m str,
}

impl PushFilter<'_> {
    /// Applies one PUSH_UPDATE message, its first word included, to what was pushed before.
    ///
    /// # Errors
    /// The update must be refused as a whole; `pushed` is then of no use.
    pub fn update(
        &self,
        message: &str,
        sequence: &mut UpdateSequence,
        pushed: &mut Pushed,
    ) -> Result<Updated, UpdateError> {
        let items = match message.strip_prefix("PUSH_UPDATE") {
            Some("") => "",
            Some(rest) => rest.strip_prefix(',').ok_or(UpdateError::NotAnUpdate)?,
            None => return Err(UpdateError::NotAnUpdate),
        };
        if items.chars().any(char::is_control) {
            return Err(PushRejected::Bytes.into());
        }
        pushed.continuation = 0;
        for text in items.split(',') {
            let text = text.trim_start_matches(lexer::is_blank);
            if text.is_empty() {
                continue;
            }
            let item = parse_item(text)?;
            let row = updatable(item.option);
            match (row, item.optional) {
                (Some(row), _) => self.update_one(&item, row, sequence, pushed)?,
                (None, true) => pushed.note(item.option, PushReason::NotPushable),
                (None, false) => return Err(UpdateError::NotUpdatable(text.to_owned())),
            }
        }
        if pushed.continuation == 2 {
            return Ok(Updated::Continues);
        }
        sequence.cleared.clear();
        pushed.finish();
        Ok(Updated::Complete)
    }

    fn update_one(
        &self,
        item: &Item<'_>,
        row: &'static OptionRow,
        sequence: &mut UpdateSequence,
        pushed: &mut Pushed,
    ) -> Result<(), UpdateError> {
        match self.filter(item.option, pushed) {
            Ok(true) => {}
            Ok(false) => return Ok(()),
            Err(_) if item.optional => return Ok(()),
            Err(rejected) => return Err(rejected.into()),
        }
        let first = !sequence.cleared.contains(&row.name);
        if let Some(reset) = row.reset.filter(|_| item.remove || first) {
            reset(pushed);
            sequence.cleared.push(row.name);
            pushed.forget(row);
        }
        if !item.remove {
            self.take(item.option, pushed, UPDATE);
        }
        Ok(())
    }
}

fn parse_item(text: &str) -> Result<Item<'_>, UpdateError> {
    let wrong = || UpdateError::NotUpdatable(text.to_owned());
    let (remove, rest) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (optional, option) = rest.strip_prefix('?').map_or((false, rest), |rest| (true, rest));
    if option.is_empty() || option.starts_with('-') {
        return Err(wrong());
    }
    Ok(Item { remove, optional, option })
}

fn updatable(option: &str) -> Option<&'static OptionRow> {
    let name = option.split(' ').next()?;
    find(name).filter(|row| row.contexts.has(UPDATE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter() -> PushFilter<'static> {
        PushFilter { filters: &[], route_nopull: false, allow_fqdn: false }
    }

    /// Vector `push_update_parse`.
    #[test]
    fn messages_are_judged_as_openvpn_does() {
        let complete = Ok(Updated::Complete);
        let cases = [
            ("PUSH_UPDATE,dhcp-option DNS 8.8.8.8, route 0.0.0.0 0.0.0.0 10.10.10.1", complete),
            ("PUSH_UPDATEerr,dhcp-option DNS 8.8.8.8", Err(())),
            ("PUSH_UPDATE ,dhcp-option DNS 8.8.8.8", Err(())),
            ("PUSH_UPDATE, -?dns, route something, ?dhcp-option DNS 8.8.8.8", complete),
            ("PUSH_UPDATE, -dhcp-option, ?-dns", Err(())),
            ("PUSH_UPDATE, dev tun", Err(())),
            (
                "PUSH_UPDATE,-dhcp-option,dhcp-option DNS 8.8.8.8,redirect-gateway local,route 192.168.1.0 255.255.255.0",
                complete,
            ),
            ("PUSH_UPDATE, route 10.1.0.0 255.255.0.0,push-continuation 2", Ok(Updated::Continues)),
        ];
        for (message, expected) in cases {
            let result = filter().update(message, &mut UpdateSequence::default(), &mut Pushed::default());
            assert_eq!(result.map_err(drop), expected, "{message}");
        }
    }

    #[test]
    fn the_first_route_of_a_sequence_clears_those_of_before_and_the_next_message_adds() {
        let mut pushed = Pushed::default();
        filter().apply("route 10.0.0.0 255.0.0.0,topology subnet", &mut pushed).unwrap();
        let mut sequence = UpdateSequence::default();
        let first = "PUSH_UPDATE,route 10.1.0.0 255.255.0.0,push-continuation 2";
        filter().update(first, &mut sequence, &mut pushed).unwrap();
        let second = "PUSH_UPDATE,route 10.2.0.0 255.255.0.0,push-continuation 1";
        filter().update(second, &mut sequence, &mut pushed).unwrap();
        assert_eq!(pushed.routes.len(), 2);
        assert!(pushed.topology.is_some());
        filter().update("PUSH_UPDATE,-route,-topology", &mut sequence, &mut pushed).unwrap();
        assert!(pushed.routes.is_empty() && pushed.topology.is_none());
    }

    #[test]
    fn an_option_to_leave_out_does_no_harm() {
        let mut pushed = Pushed::default();
        filter().update("PUSH_UPDATE,?frobnicate 1", &mut UpdateSequence::default(), &mut pushed).unwrap();
        assert_eq!(pushed.notes.len(), 1);
    }
}
