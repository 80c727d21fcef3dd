//! The program `dbb`: named dataflows, their configuration, and the command line.

pub mod checkpoint;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod demo;
pub mod reconcile;
pub mod replay;
pub mod runtime;
pub mod site;
pub mod views;
