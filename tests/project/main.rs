//! The project itself: what its documents say, what its parts import, what is released, and the formula for Homebrew.

mod docs;
mod homebrew;
mod layers;
mod release;
