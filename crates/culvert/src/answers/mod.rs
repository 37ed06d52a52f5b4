//! Questions that are answered instead of running: `--version`, `--show-ciphers`, `--genkey` and the like.
//!
//! All go where the log goes, without time stamps.

mod device;
mod gateway;
mod genkey;
pub(crate) mod help;
mod lists;
mod self_test;
mod version;

use std::process::ExitCode;

use culvert_config::{Parsed, Question};
use culvert_daemon::log::Logger;

use crate::start::FAILURE;

/// Answers.
pub(crate) fn answer(question: &Question, parsed: &Parsed, logger: &Logger) -> ExitCode {
    let answered = match question {
        Question::Help => {
            logger.plain(culvert_config::help().trim_end());
            return ExitCode::from(FAILURE);
        }
        Question::Version => Ok(version::text()),
        Question::ShowCiphers => Ok(lists::ciphers(parsed.legacy_provider())),
        Question::ShowDigests => Ok(lists::digests()),
        Question::ShowTls => Ok(lists::tls()),
        Question::ShowGroups => Ok(lists::groups()),
        Question::ShowEngines => Ok(lists::engines()),
        Question::GenKey(request) => genkey::make(request, parsed),
        Question::TestCrypto => self_test::run(parsed.cipher(), parsed.legacy_provider()),
        Question::ShowGateway(towards) => gateway::show(*towards),
        Question::MkTun => device::make(parsed),
        Question::RmTun => device::remove(parsed),
        Question::ShowPkcs11Ids { module, login } => {
            culvert_daemon::show_pkcs11_ids(module.as_deref(), *login)
        }
    };
    match answered {
        Ok(text) => {
            if !text.is_empty() {
                logger.plain(text.trim_end_matches('\n'));
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            logger.plain_error(&error);
            if !error.starts_with("Options error") {
                logger.plain_error("Exiting due to fatal error");
            }
            ExitCode::from(FAILURE)
        }
    }
}
