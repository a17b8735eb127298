//! Our own hook for Claude Code, and how it gets into Claude Code's settings.
//!
//! *The hook* ([`run`]): [`input`] is read, [`event`] makes of it what Claude MPM's hook would post, [`place`] finds the
//! monitor, [`wire`] posts, and what cannot be delivered now waits in the [`spool`]. It has no runtime and reads no more than
//! it needs, for an agent waits for it at every step; what writes to a disk is done [`apart`].
//!
//! *Its place* ([`claude`]) is Claude Code's settings, which are changed without touching what is not ours; [`status`] tells how
//! it is with all of that, and [`ask`] which of the programs that are named there may be run for that.

pub mod apart;
pub mod ask;
pub mod branch;
pub mod claude;
pub mod event;
pub mod input;
pub mod json;
pub mod key;
pub mod place;
pub mod run;
pub mod spool;
pub mod status;
pub mod tool;
pub mod wire;
