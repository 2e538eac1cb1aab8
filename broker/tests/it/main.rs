//! The broker against services of the test's own making, and a real RabbitMQ.

mod downstream;
mod faults;
mod queued;
mod stand;
