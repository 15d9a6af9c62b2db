//! The object with the kernel programs, and the maps that it shares by their pins.

use aya::maps::{HashMap, MapData, MapError};
use aya::{Ebpf, EbpfLoader, include_bytes_aligned};
use callgate_ebpf_common::Enrolment;
use callgate_model::CgroupId;

use crate::pins::Pins;
use crate::{Config, RedirectError, links, maps};

/// The object, its programs loaded.
pub(crate) fn load_object(pins: &Pins, config: &Config) -> Result<Ebpf, RedirectError> {
    let mut object = open_object(pins, config)?;
    maps::check_layout(pins)?;
    for hook in links::all() {
        links::load(&mut object, hook.name)?;
    }
    Ok(object)
}

/// The object with its maps made or taken over; its programs are not loaded yet.
pub(crate) fn open_object(pins: &Pins, config: &Config) -> Result<Ebpf, RedirectError> {
    static PROGRAMS: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/redirect"));
    let level = config.log_level as u8;
    let mut loader = EbpfLoader::new();
    loader.default_map_pin_directory(pins.maps()).override_global("AYA_LOG_LEVEL", &level, true);
    for map in maps::PINNED_BY_LOADER {
        loader.map_pin_path(map, pins.map(map));
    }
    loader.load(PROGRAMS).map_err(|error| RedirectError::Object(Box::new(error)))
}

/// A pinned map.
pub(crate) fn open(pins: &Pins, map: &'static str) -> Result<MapData, RedirectError> {
    MapData::from_pin(pins.map(map)).map_err(failed(map))
}

/// A map by its type.
pub(crate) fn typed<T>(data: MapData, map: &'static str) -> Result<T, RedirectError>
where
    T: TryFrom<aya::maps::Map, Error = MapError>,
{
    aya::maps::Map::from_map_data(data).and_then(T::try_from).map_err(failed(map))
}

/// The error of a map.
pub(crate) fn failed(map: &'static str) -> impl Fn(MapError) -> RedirectError {
    move |source| RedirectError::Map { map, source: Box::new(source) }
}

/// Takes a cgroup out of the pinned map of an instance that nobody has loaded.
pub(crate) fn forget_enrolment(pins: &Pins, cgroup: CgroupId) -> Result<(), RedirectError> {
    let mut enrolments: HashMap<MapData, u64, Enrolment> = typed(open(pins, "ENROLMENTS")?, "ENROLMENTS")?;
    enrolments.remove(&cgroup.0).or_else(absent).map_err(failed("ENROLMENTS"))
}

/// Removing what is not there is done.
pub(crate) fn absent(error: MapError) -> Result<(), MapError> {
    match &error {
        MapError::KeyNotFound | MapError::ElementNotFound => Ok(()),
        MapError::SyscallError(call) if call.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        _ => Err(error),
    }
}
