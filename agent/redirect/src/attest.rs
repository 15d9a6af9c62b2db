//! Whether our programs are still where they were attached, and putting back what somebody took away.
//!
//! The kernel is asked what is attached to each cgroup; the pins alone tell nothing, since a link can be detached, or
//! given another program, while its pin stays. Programs of others in the same lists are left alone.

use std::io;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::programs::ProgramError;
use callgate_ebpf_common::Enrolment;
use callgate_model::CgroupId;

use crate::cgroup::Cgroup;
use crate::links::{self, Hook};
use crate::redirect::lock;
use crate::syscall::attached;
use crate::{Redirect, RedirectError};

/// What [`Repair::missing`] calls the cgroup's entry in the programs' map.
pub const ENTRY: &str = "its entry in the map of enrolments";

/// What was found missing, and became of it.
#[derive(Debug)]
pub struct Repair {
    /// The cgroup.
    pub cgroup: CgroupId,
    /// Its directory.
    pub path: PathBuf,
    /// Programs that were not attached, or whose pin was gone; and [`ENTRY`], where that was gone or changed.
    pub missing: Vec<&'static str>,
    /// Why they could not be attached again; none: they are.
    pub error: Option<RedirectError>,
}

/// The programs of one cgroup, as the kernel has them now.
#[derive(Debug)]
pub struct Attached {
    /// The cgroup.
    pub cgroup: CgroupId,
    /// Its directory.
    pub path: PathBuf,
    /// Each program that belongs there, by name, and whether it is attached and pinned.
    pub programs: Vec<(&'static str, bool)>,
}

/// What stays attached to one cgroup, by the folder of its pins.
#[derive(Clone, Debug)]
pub struct Kept {
    pub cgroup: CgroupId,
    pub path: PathBuf,
    pub hooks: &'static [Hook],
}

/// Ids that the kernel gave the loaded programs.
#[derive(Debug)]
pub struct Programs(Vec<(&'static str, u32)>);

impl Programs {
    /// # Errors
    /// [`RedirectError::Program`] for one that is not loaded.
    pub fn of(object: &Ebpf) -> Result<Self, RedirectError> {
        let id = |hook: Hook| -> Result<(&'static str, u32), RedirectError> {
            let info = object.program(hook.name).ok_or(ProgramError::NotLoaded).and_then(|program| program.info());
            let failed = |source| RedirectError::Program { program: hook.name, source: Box::new(source) };
            Ok((hook.name, info.map_err(failed)?.id()))
        };
        Ok(Self(links::all().map(id).collect::<Result<_, _>>()?))
    }

    fn id(&self, name: &str) -> Option<u32> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, id)| *id)
    }
}

impl Redirect {
    /// Looks at every cgroup that has programs of ours by this process's doing, and attaches again what is missing.
    /// Gives what was found missing; nothing, as a rule. A cgroup that is gone is not missed.
    ///
    /// Costs about 30 µs for each cgroup. Blocking.
    #[must_use]
    pub fn attest(&self) -> Vec<Repair> {
        let folders: Vec<PathBuf> = lock(&self.kept).keys().cloned().collect();
        let mut repairs = self.attest_entries();
        repairs.extend(folders.iter().filter_map(|folder| self.attest_one(folder)));
        repairs
    }

    /// Asks the kernel which programs are attached to each cgroup that has some by this process's doing.
    ///
    /// # Errors
    /// [`RedirectError::Cgroup`] if the kernel does not say. Blocking.
    pub fn inspect(&self) -> Result<Vec<Attached>, RedirectError> {
        let kept = lock(&self.kept).clone();
        let mut found = Vec::new();
        for (folder, Kept { cgroup, path, hooks }) in kept {
            // One that is gone has none, and is not missed.
            let Some(open) = Cgroup::look(&path).ok().filter(|open| open.id == cgroup) else { continue };
            let missing = self.missing(&folder, &open, hooks);
            let missing = missing.map_err(|source| RedirectError::Cgroup { path: path.clone(), source })?;
            let there = |hook: &Hook| (hook.name, missing.iter().all(|missing| missing.name != hook.name));
            found.push(Attached { cgroup, path, programs: hooks.iter().map(there).collect() });
        }
        Ok(found)
    }

    /// Without its entry the programs take a cgroup's tasks for strangers, and refuse them; with another one, they do as
    /// that says.
    fn attest_entries(&self) -> Vec<Repair> {
        let kept = lock(&self.kept);
        let path_of = |cgroup| kept.values().find(|kept| kept.cgroup == cgroup).map(|kept| kept.path.clone());
        let repair = |(cgroup, done): (CgroupId, Result<(), RedirectError>)| Repair {
            cgroup,
            path: path_of(cgroup).unwrap_or_default(),
            missing: vec![ENTRY],
            error: done.err(),
        };
        self.put_back_entries().into_iter().map(repair).collect()
    }

    /// Puts back what somebody else took out of the map, or changed there; of which cgroups.
    fn put_back_entries(&self) -> Vec<(CgroupId, Result<(), RedirectError>)> {
        let entries = lock(&self.entries);
        let mut map = lock(&self.enrolments);
        let is_there = |id: &CgroupId, entry: &Enrolment| map.get(&id.0, 0).is_ok_and(|found| found == *entry);
        let lost: Vec<_> = entries.iter().filter(|(id, entry)| !is_there(id, entry)).collect();
        let failed = |source| RedirectError::Map { map: "ENROLMENTS", source: Box::new(source) };
        lost.into_iter().map(|(id, entry)| (*id, map.insert(id.0, *entry, 0).map_err(failed))).collect()
    }

    fn attest_one(&self, folder: &Path) -> Option<Repair> {
        // Held throughout, so that what is just being ended is not attached again.
        let kept = lock(&self.kept);
        let Kept { cgroup, path, hooks } = kept.get(folder)?.clone();
        let open = Cgroup::look(&path).ok().filter(|open| open.id == cgroup)?;
        let missing = self.missing(folder, &open, hooks);
        if matches!(&missing, Ok(missing) if missing.is_empty()) || !still_there(&path, cgroup) {
            return None;
        }
        let missing = match missing {
            Ok(missing) => missing,
            Err(source) => {
                let error = Some(RedirectError::Cgroup { path: path.clone(), source });
                return Some(Repair { cgroup, path, missing: Vec::new(), error });
            }
        };
        let error = links::attach(&mut lock(&self.object), folder, &open, missing.iter().copied()).err();
        if error.is_some() && !still_there(&path, cgroup) {
            return None;
        }
        Some(Repair { cgroup, path, missing: missing.iter().map(|hook| hook.name).collect(), error })
    }

    fn missing(&self, folder: &Path, cgroup: &Cgroup, hooks: &[Hook]) -> io::Result<Vec<Hook>> {
        let mut missing = Vec::new();
        for hook in hooks {
            let found = attached(cgroup.folder.as_fd(), hook.kind)?;
            let ours = self.programs.id(hook.name).is_some_and(|id| found.contains(&id));
            // Without its pin a link ends when the kernel gets to it, or with whoever still holds it.
            if !ours || !folder.join(hook.name).exists() {
                missing.push(*hook);
            }
        }
        Ok(missing)
    }
}

/// A cgroup that is being removed has no programs any more, and takes none.
fn still_there(path: &Path, cgroup: CgroupId) -> bool {
    Cgroup::look(path).is_ok_and(|now| now.id == cgroup)
}
