//! Claude Code's settings: what hooks they hold ([`settings`], pure), changing the files safely ([`file`]), and putting ours in
//! and taking it out again ([`change`]).

pub mod change;
pub mod file;
pub mod settings;
