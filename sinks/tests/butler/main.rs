//! The Butler sink against real repositories, on SQLite and on PostgreSQL.
//!
//! One repository and one worker for each database are shared by the tests that leave them whole;
//! every test writes into RUNs of its own. What a test breaks is its own.

mod archives;
mod bounded;
mod faults;
mod forms;
mod harness;
mod offenders;
mod registering;
mod removal;
mod stories;
mod story;
mod worker;
