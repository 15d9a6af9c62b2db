//! Everything that is tried, one file a family of vectors; a new one is one row.

mod dial;
mod doors;
mod families;
mod handed;
mod kernel;
mod options;
mod other_ip;
mod outside;
mod place;
mod ring;
mod starters;
mod sweep;
mod tcp;
mod udp;

pub use place::after;
pub use starters::{DIAL, SERVICE};

use crate::Vector;

/// The tables, in the order of the exam.
pub const VECTORS: &[&[Vector]] = &[
    tcp::ROWS,
    ring::ROWS,
    udp::ROWS,
    other_ip::ROWS,
    families::ROWS,
    sweep::ROWS,
    options::ROWS,
    place::ROWS,
    handed::ROWS,
    outside::ROWS,
    doors::ROWS,
    kernel::ROWS,
    starters::ROWS,
];

/// Every row.
pub fn all() -> impl Iterator<Item = &'static Vector> {
    VECTORS.iter().flat_map(|rows| rows.iter())
}

/// The row called `name`.
pub fn find(name: &str) -> Option<&'static Vector> {
    all().find(|vector| vector.name == name)
}

/// Its place in the tables.
pub fn position(name: &str) -> usize {
    all().position(|vector| vector.name == name).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_enough() {
        let names: Vec<&str> = all().map(|vector| vector.name).collect();
        let unique: std::collections::BTreeSet<&str> = names.iter().copied().collect();
        assert_eq!(names.len(), unique.len(), "a name is used twice");
        assert!(names.len() >= 80, "{} vectors", names.len());
    }

    #[test]
    fn what_is_outside_the_model_is_tried_that_way() {
        for row in crate::outside::OUTSIDE {
            for name in row.vectors {
                let tried = all().any(|vector| vector.name == *name && vector.ways.contains(&row.way));
                assert!(tried, "no vector `{name}` is tried as {}", row.way.name());
            }
        }
    }
}
