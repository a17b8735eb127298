//! What each source says, and what all say together.
