//! Every setting: its name, its environment variable, how its value is read.
