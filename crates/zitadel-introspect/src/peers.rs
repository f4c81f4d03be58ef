//! Several instances: the log of evictions that they read and append to, and which of them reads the issuer's events.

pub(crate) mod apply;
pub(crate) mod lead;
pub(crate) mod publish;
pub(crate) mod read;
pub(crate) mod settings;
pub(crate) mod waiting;
