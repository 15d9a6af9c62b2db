//! The recorder as a whole: what is recorded comes back, whatever happens in between.

mod crash;
mod full;
mod kill;
mod reading;
mod recording;
mod support;
