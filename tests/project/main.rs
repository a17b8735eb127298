//! The project itself: what its documents say, what is released, and the formula for Homebrew.

mod docs;
mod homebrew;
mod release;
