//! The logger against a real MongoDB.

mod faults;
mod reading;
mod running;
mod writing;
