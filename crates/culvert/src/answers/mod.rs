//! Questions that are answered instead of running: `--version`, `--show-ciphers`, `--genkey` and the like.
//!
//! All go where the log goes, without time stamps.

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
        Question::ShowCiphers => Ok(lists::ciphers()),
        Question::ShowDigests => Ok(lists::digests()),
        Question::ShowTls => Ok(lists::tls()),
        Question::ShowGroups => Ok(lists::groups()),
        Question::ShowEngines => Ok(lists::engines()),
        Question::GenKey(request) => genkey::make(request, parsed.tls_crypt_v2()),
        Question::TestCrypto => self_test::run(parsed.cipher()),
        Question::ShowPkcs11Ids { module, login } => {
            culvert_daemon::show_pkcs11_ids(module.as_deref(), *login)
        }
        other => Err(not_yet(other)),
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
            ExitCode::from(FAILURE)
        }
    }
}

fn not_yet(question: &Question) -> String {
    let (option, remedy) = match question {
        Question::ShowGateway(_) => ("show-gateway", "use `ip route show default`"),
        Question::MkTun => ("mktun", "use `ip tuntap add mode tun DEVICE`"),
        Question::RmTun => ("rmtun", "use `ip tuntap del mode tun DEVICE`"),
        _ => ("that question", "see `culvert help`"),
    };
    format!("Options error: --{option} is not yet supported\nhint: {remedy}")
}
