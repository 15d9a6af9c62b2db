//! Strict mode: below one cgroup, what is neither enrolled nor exempt is refused.

use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use callgate_ebpf_common::{MODE_EXEMPT, MODE_STRICT};
use callgate_model::CgroupId;

use crate::cgroup::{Cgroup, own_line};
use crate::redirect::lock;
use crate::{Redirect, RedirectError, links};

impl Redirect {
    /// Refuses from now on whatever is in the cgroup at `path`, or below it, and neither enrolled nor exempt. Pinned:
    /// it outlives the process, and holds until [`Redirect::unguard`].
    ///
    /// What is to go on is enrolled or [exempt](Redirect::exempt) before. The cgroup of this process is exempt by itself,
    /// if it lies below.
    ///
    /// # Errors
    /// Those that speak of the cgroup; [`RedirectError::Program`], [`RedirectError::Pin`], [`RedirectError::Map`].
    pub fn guard(&self, path: &Path) -> Result<CgroupId, RedirectError> {
        let open = Cgroup::look(path)?;
        let own = own_line(&open.path).map_err(|source| RedirectError::Cgroup { path: path.into(), source })?;
        if own.first() == Some(&open.id) {
            return Err(RedirectError::OwnCgroup(path.into()));
        }
        if let Some(here) = own.first().filter(|_| own.contains(&open.id)) {
            self.tell_of(*here, MODE_EXEMPT)?;
        }
        let folder = self.pins.strict(open.id);
        let mut kept = lock(&self.kept);
        let above = folder.parent().unwrap_or(&folder);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(above);
        made.map_err(|source| RedirectError::Pin { path: above.into(), source })?;
        // Where the cgroup itself is enrolled, so is all below it.
        if self.mode_of(open.id).is_none_or(|mode| mode == MODE_EXEMPT) {
            self.tell_of(open.id, MODE_STRICT)?;
        }
        self.keep(&mut kept, &folder, path, &open, links::STRICT)?;
        Ok(open.id)
    }

    /// Ends strict mode at a cgroup, also one that is gone; without any, does nothing.
    ///
    /// # Errors
    /// [`RedirectError::Pin`], [`RedirectError::Map`].
    pub fn unguard(&self, id: CgroupId) -> Result<(), RedirectError> {
        let folder = self.pins.strict(id);
        let mut kept = lock(&self.kept);
        kept.remove(&folder);
        links::detach(&folder, links::STRICT)?;
        self.forget_but(id, |mode| mode == MODE_STRICT)
    }

    /// Cgroups at which strict mode stands, from the pins.
    ///
    /// # Errors
    /// [`RedirectError::Pin`].
    pub fn guarded(&self) -> Result<Vec<CgroupId>, RedirectError> {
        self.pins.guarded()
    }

    /// Exempts a cgroup, and what is below it, from strict mode. An enrolled one stays enrolled.
    ///
    /// # Errors
    /// [`RedirectError::Map`].
    pub fn exempt(&self, id: CgroupId) -> Result<(), RedirectError> {
        let _turn = lock(&self.kept);
        match self.mode_of(id) {
            None => self.tell_of(id, MODE_EXEMPT),
            Some(_) => Ok(()),
        }
    }

    /// Exempts the cgroup of this process, where strict mode of an earlier one stands: it is not classified yet, and what
    /// it classifies others by comes over the network.
    ///
    /// # Errors
    /// [`RedirectError::Pin`], [`RedirectError::Map`].
    pub fn exempt_own(&self) -> Result<(), RedirectError> {
        match self.own_cgroup() {
            Some(own) if !self.guarded()?.is_empty() => self.exempt(own),
            _ => Ok(()),
        }
    }

    /// Takes back every exemption but those of `cgroups` and of this process: of cgroups that are gone, and of an
    /// earlier process.
    ///
    /// # Errors
    /// [`RedirectError::Map`].
    pub fn exempt_only(&self, cgroups: &BTreeSet<CgroupId>) -> Result<(), RedirectError> {
        let _turn = lock(&self.kept);
        let mut still = cgroups.clone();
        still.extend(self.own_cgroup());
        for (id, mode) in self.told() {
            if mode == MODE_EXEMPT && !still.contains(&id) {
                self.forget(id)?;
            }
        }
        Ok(())
    }

    /// Takes back the exemption of one cgroup; without any, does nothing.
    ///
    /// # Errors
    /// [`RedirectError::Map`].
    pub fn unexempt(&self, id: CgroupId) -> Result<(), RedirectError> {
        let _turn = lock(&self.kept);
        self.forget_but(id, |mode| mode == MODE_EXEMPT)
    }

    /// Of how many cgroups the programs were told something: enrolments, strict mode and exemptions.
    #[must_use]
    pub fn known_cgroups(&self) -> usize {
        self.told().len()
    }

    fn forget_but(&self, id: CgroupId, wanted: impl Fn(u32) -> bool) -> Result<(), RedirectError> {
        match self.mode_of(id) {
            Some(mode) if wanted(mode) => self.forget(id),
            _ => Ok(()),
        }
    }
}
