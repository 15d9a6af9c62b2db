//! Social security numbers of the United States, written with their separators.
//!
//! Nine digits without separators are any number; what was never issued (area 000, 666 and 900 on, group 00, serial
//! 0000) is none. Source: SSA, numbering scheme since 2011.

use super::words::{digits, goes_on, is_glued};
use super::{Detector, Find, Gate, Leading, Outcome, Partial, Sample};
use crate::gate::Shapes;
use crate::kinds::Group;
use crate::window::{NeedMore, Window};

pub(super) const DETECTOR: Detector = Detector {
    name: "us_ssn",
    bit: 6,
    groups: &[Group::Pii],
    label: "[masked:us_ssn]",
    gate: Gate::shapes(Shapes::SSN),
    longest: 14,
    leading: Leading::NONE,
    find: Find::By(find),
    unbounded: false,
    partial: Partial::Last(4),
    samples: &[
        Sample { text: "123-45-6789", masked: "[masked:us_ssn]" },
        Sample { text: "ssn: 078 05 1120.", masked: "ssn: [masked:us_ssn]." },
        Sample { text: r#"{"ssn":"219-09-9999"}"#, masked: r#"{"ssn":"[masked:us_ssn]"}"# },
        Sample { text: r"\n123-45-6789\n", masked: r"\n[masked:us_ssn]\n" },
    ],
    near_misses: &[
        "000-45-6789",
        "666-45-6789",
        "900-45-6789",
        "123-00-6789",
        "123-45-0000",
        "123-45 6789",
        "123-45-67890",
        "0123-45-6789",
        "1-123-45-6789",
        "123-45-6789-1",
        "123456789",
        "123-456-7890",
    ],
};

fn find(window: &Window<'_>) -> Result<Outcome, NeedMore> {
    let start = window.anchor();
    let separator = window.at(start + 3)?;
    let (area, area_end) = digits(window, start, 4)?;
    let (group, group_end) = digits(window, start + 4, 3)?;
    let whole = area_end == start + 3
        && group_end == start + 6
        && matches!(separator, Some(b'-' | b' '))
        && window.at(start + 6)? == separator;
    if !whole || is_glued(window, start, b"-.+") {
        return Ok(Outcome::Nothing);
    }
    let (serial, end) = digits(window, start + 7, 5)?;
    let issued = !matches!(area, 0 | 666 | 900..) && group != 0 && serial != 0;
    let part = window.at(end)? == Some(b'-');
    if end != start + 11 || !issued || part || goes_on(window, end, b"")? {
        return Ok(Outcome::Nothing);
    }
    Ok(Outcome::Found(start..end))
}
