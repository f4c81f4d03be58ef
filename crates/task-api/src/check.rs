//! `task-api check`
use crate::settings::Settings;
use std::{path::Path, process::ExitCode};
pub(crate) async fn run(_settings: &Settings, _token: Option<&Path>) -> ExitCode {
    ExitCode::SUCCESS
}
