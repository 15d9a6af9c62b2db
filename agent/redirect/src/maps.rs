//! Names and layouts of the pinned maps, and taking them out of aya's object.

use aya::Ebpf;
use aya::maps::{Map, MapData, MapError};
use callgate_ebpf_common::{Enrolment, Marker, OriginRecord, Past, Ports, Settings, SocketState, TupleKey};

use crate::RedirectError;
use crate::pins::Pins;

/// Pinned maps with the sizes of their keys and values. Must say what `ebpf/redirect/src/maps.rs` says.
const LAYOUT: [(&str, usize, usize); 11] = [
    ("SETTINGS", 4, size_of::<Settings>()),
    ("HEARTBEAT", 4, 8),
    ("ENROLMENTS", 8, size_of::<Enrolment>()),
    ("LISTENERS", 8, size_of::<Ports>()),
    ("ORIGINS", size_of::<TupleKey>(), size_of::<OriginRecord>()),
    ("ASKERS", size_of::<TupleKey>(), size_of::<OriginRecord>()),
    ("PAST", 8, size_of::<Past>()),
    ("EVENTS", 0, 0),
    ("STATS", 4, 8),
    ("SOCKETS", 4, size_of::<SocketState>()),
    ("MARKERS", 4, size_of::<Marker>()),
];

/// Maps that the loader must be told to pin: BTF maps cannot say so themselves.
pub const PINNED_BY_LOADER: [&str; 2] = ["SOCKETS", "MARKERS"];

/// Refuses pins of another layout: aya opens them unseen, and the programs would read past their ends.
pub fn check_layout(pins: &Pins) -> Result<(), RedirectError> {
    for (map, key, value) in LAYOUT {
        let failed = |source: MapError| RedirectError::Map { map, source: Box::new(source) };
        let info = MapData::from_pin(pins.map(map)).and_then(|data| data.info()).map_err(failed)?;
        if (info.key_size() as usize, info.value_size() as usize) != (key, value) {
            return Err(RedirectError::Layout { map, instance: pins.instance().into() });
        }
    }
    Ok(())
}

/// Takes a map out of the object. Only after every program is loaded: a map that is dropped earlier breaks that.
pub fn take<T>(object: &mut Ebpf, map: &'static str) -> Result<T, RedirectError>
where
    T: TryFrom<Map, Error = MapError>,
{
    let failed = |source: MapError| RedirectError::Map { map, source: Box::new(source) };
    let taken = object.take_map(map).ok_or_else(|| failed(MapError::InvalidName { name: map.into() }))?;
    T::try_from(taken).map_err(failed)
}
