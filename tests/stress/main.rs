//! The program under load and under attack. They measure memory and times of one process and print them.

mod hostile;
mod load;
