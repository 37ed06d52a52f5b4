use thiserror::Error;

/// Why an input was not processed. None of these ends the session by itself: that is [`crate::Event::Closed`].
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProtoError {
    /// The packet was dropped.
    #[error("packet dropped: {0}")]
    Dropped(&'static str),
}
