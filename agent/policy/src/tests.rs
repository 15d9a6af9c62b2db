//! Decisions and load errors, from policy text to answer.

mod again;
mod arguments;
mod asking;
mod closed;
mod cluster;
mod decisions;
mod examples;
mod hostile;
mod index;
mod lineage;
mod loading;

pub(crate) use asking::*;
