//! The program `dbb`: named dataflows, their configuration, and the command line.

pub mod config;
pub mod demo;
