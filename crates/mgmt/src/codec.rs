use std::collections::VecDeque;

use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, Zeroizing};

use crate::{KeyName, Request};

/// The longest line of a client (SEC-MGMT-1).
pub const MAX_LINE: usize = 16 * 1024;
/// The largest block of lines up to `END` (SEC-MGMT-1).
pub const MAX_BLOCK: usize = 256 * 1024;
/// Wrong passwords after which a client is sent away, as by OpenVPN.
pub const PASSWORD_TRIES: u32 = 3;

/// What a command that goes on over several lines is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockOf {
    /// `client-auth`: options for this client and key.
    ClientAuth(KeyName),
    /// `pk-sig` or `rsa-sig`: a signature in base64.
    Signature,
    /// `certificate`: PEM.
    Certificate,
    /// `password TYPE`: a password in base64.
    Password(String),
}

/// What a client said.
#[derive(Debug, PartialEq, Eq)]
pub enum Input {
    /// A command, as typed and as understood. The driver answers it, or begins its block.
    Request(Zeroizing<String>, Request),
    /// A line that is no command; the answer to it.
    Malformed(String),
    /// The lines of a block, without `END`.
    Block(BlockOf, Vec<Zeroizing<String>>),
    /// It knows the password: it is to be greeted.
    LoggedIn,
    /// It does not. With `true` it had its last try.
    WrongPassword(bool),
}

/// Why a client is sent away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// A line goes on and on.
    #[error("a line is longer than {MAX_LINE} bytes")]
    LongLine,
    /// A block does.
    #[error("a block of lines is larger than {MAX_BLOCK} bytes")]
    LargeBlock,
}

/// What one client of the interface sends, from bytes to commands. Nothing it says is looked at before it knows the
/// password (SEC-MGMT-1). All buffers are wiped: lines may hold passwords.
#[derive(Debug)]
pub struct Codec {
    partial: Zeroizing<Vec<u8>>,
    lines: VecDeque<Zeroizing<String>>,
    /// `None`: none is needed, or it was given.
    password: Option<Zeroizing<String>>,
    tries: u32,
    block: Option<Block>,
}

#[derive(Debug)]
struct Block {
    of: BlockOf,
    lines: Vec<Zeroizing<String>>,
    len: usize,
}

impl Codec {
    /// Begins with a client that has to give this password, if any.
    #[must_use]
    pub fn new(password: Option<Zeroizing<String>>) -> Self {
        Self { partial: Zeroizing::default(), lines: VecDeque::new(), password, tries: 0, block: None }
    }

    /// Whether the client still has to give the password: then it is prompted for after each answer.
    #[must_use]
    pub fn needs_password(&self) -> bool {
        self.password.is_some()
    }

    /// Takes bytes as they came. Drain [`Self::poll`] then.
    ///
    /// # Errors
    /// When a line is too long: nothing more can be understood.
    pub fn handle_bytes(&mut self, bytes: &[u8]) -> Result<(), CodecError> {
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            if self.partial.len().saturating_add(part.len()) > MAX_LINE {
                return Err(CodecError::LongLine);
            }
            if self.partial.capacity() == 0 {
                // At once: a vector that grows leaves copies of a password behind.
                self.partial.reserve_exact(MAX_LINE);
            }
            self.partial.extend_from_slice(part);
            if part.ends_with(b"\n") {
                let line = String::from_utf8_lossy(&self.partial).into_owned();
                self.lines.push_back(Zeroizing::new(line.trim_end_matches(['\r', '\n']).to_owned()));
                let mut line = line;
                line.zeroize();
                self.partial.zeroize();
            }
        }
        Ok(())
    }

    /// Returns what the client said next, as far as it is complete.
    ///
    /// # Errors
    /// When a block is too large.
    pub fn poll(&mut self) -> Result<Option<Input>, CodecError> {
        while let Some(line) = self.lines.pop_front() {
            if let Some(password) = &self.password {
                if bool::from(password.as_bytes().ct_eq(line.as_bytes())) {
                    self.password = None;
                    return Ok(Some(Input::LoggedIn));
                }
                self.tries = self.tries.saturating_add(1);
                return Ok(Some(Input::WrongPassword(self.tries >= PASSWORD_TRIES)));
            }
            if let Some(mut block) = self.block.take() {
                if *line == "END" {
                    return Ok(Some(Input::Block(block.of, block.lines)));
                }
                block.len = block.len.saturating_add(line.len()).saturating_add(1);
                if block.len > MAX_BLOCK {
                    return Err(CodecError::LargeBlock);
                }
                block.lines.push(line);
                self.block = Some(block);
                continue;
            }
            match Request::parse(&line) {
                Ok(Some(request)) => return Ok(Some(Input::Request(line, request))),
                Ok(None) => {}
                Err(answer) => return Ok(Some(Input::Malformed(answer.to_string()))),
            }
        }
        Ok(None)
    }

    /// The command that [`Self::poll`] gave last goes on: the lines that follow, up to `END`, belong to it.
    pub fn begin_block(&mut self, of: BlockOf) {
        self.block = Some(Block { of, lines: Vec::new(), len: 0 });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn inputs(codec: &mut Codec, bytes: &[u8]) -> Vec<Input> {
        codec.handle_bytes(bytes).unwrap();
        std::iter::from_fn(|| codec.poll().unwrap()).collect()
    }

    fn command(line: &str, request: Request) -> Input {
        Input::Request(Zeroizing::new(line.to_owned()), request)
    }

    #[test]
    fn lines_end_with_lf_or_crlf_and_may_come_in_pieces() {
        let mut codec = Codec::new(None);
        assert_eq!(inputs(&mut codec, b"pi"), []);
        assert_eq!(
            inputs(&mut codec, b"d\r\nnclients\n\n"),
            [command("pid", Request::Pid), command("nclients", Request::NClients)]
        );
    }

    /// SEC-MGMT-1
    #[test]
    fn before_the_password_nothing_is_a_command() {
        let mut codec = Codec::new(Some(Zeroizing::new("open sesame".to_owned())));
        assert_eq!(inputs(&mut codec, b"signal SIGTERM\n"), [Input::WrongPassword(false)]);
        assert_eq!(
            inputs(&mut codec, b"open sesame\npid\n"),
            [Input::LoggedIn, command("pid", Request::Pid)]
        );
        let mut codec = Codec::new(Some(Zeroizing::new("x".to_owned())));
        assert_eq!(
            inputs(&mut codec, b"a\nb\nxx\n"),
            [Input::WrongPassword(false), Input::WrongPassword(false), Input::WrongPassword(true)]
        );
    }

    #[test]
    fn a_block_is_handed_over_as_it_came() {
        let mut codec = Codec::new(None);
        codec.handle_bytes(b"client-auth 3 0\npush \"route 192.0.2.0\"\n# no comment\n\nEND\npid\n").unwrap();
        let key = KeyName { client: 3, key: 0 };
        assert_eq!(codec.poll().unwrap(), Some(command("client-auth 3 0", Request::ClientAuth(key))));
        codec.begin_block(BlockOf::ClientAuth(key));
        let lines = ["push \"route 192.0.2.0\"", "# no comment", ""].map(|l| Zeroizing::new(l.to_owned()));
        assert_eq!(codec.poll().unwrap(), Some(Input::Block(BlockOf::ClientAuth(key), lines.to_vec())));
        assert_eq!(codec.poll().unwrap(), Some(command("pid", Request::Pid)));
    }

    /// SEC-MGMT-1
    #[test]
    fn what_goes_on_and_on_ends() {
        let mut codec = Codec::new(None);
        codec.handle_bytes(&vec![b'x'; MAX_LINE]).unwrap();
        assert_eq!(codec.handle_bytes(b"x"), Err(CodecError::LongLine));

        let mut codec = Codec::new(None);
        codec.begin_block(BlockOf::Signature);
        let line = [vec![b'x'; MAX_LINE - 1], vec![b'\n']].concat();
        let outcome = (0..17).find_map(|_| {
            codec.handle_bytes(&line).unwrap();
            codec.poll().err()
        });
        assert_eq!(outcome, Some(CodecError::LargeBlock));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..8)) {
            let mut codec = Codec::new(None);
            for piece in pieces {
                prop_assert!(codec.handle_bytes(&piece).is_ok());
                while codec.poll().unwrap().is_some() {}
            }
        }
    }
}
