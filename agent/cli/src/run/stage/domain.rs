//! The Landlock domain: CMD can signal, trace and reach by abstract sockets only what is in it, that is, CMD's own.

use anyhow::{Context as _, Result, anyhow};
use landlock::{
    ABI, Access as _, CompatLevel, Compatible as _, Ruleset, RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _,
    RulesetError, Scope,
};

/// Enters a new domain with the scopes of ABI 6, and no file system or network rules.
///
/// A domain by itself already shuts ptrace, `/proc/PID/mem`, `/proc/PID/root`, `process_vm_readv` and `pidfd_getfd`
/// towards processes outside of it. File system rules are left out on purpose: with them the kernel forbids every
/// mount, which would break programs that sandbox their own children.
///
/// # Errors
/// When the kernel has no Landlock, or one older than ABI 6 (Linux 6.12).
pub(super) fn enter() -> Result<()> {
    let created =
        ruleset().map_err(|error| anyhow!("{error}; `--without-landlock` runs CMD without, and is recorded"))?;
    created.no_new_privs(false).restrict_self().map(drop).context("cannot enter a Landlock domain")
}

/// Whether this kernel has the scopes that [`enter`] needs, found by making a domain without entering it.
///
/// # Errors
/// One sentence on what is missing.
pub fn landlock_scopes() -> Result<String, String> {
    ruleset().map(|_| "abstract unix sockets, signals".into())
}

fn ruleset() -> Result<RulesetCreated, String> {
    let missing = |error: RulesetError| {
        format!(
            "no Landlock scopes ({error}): they need Linux 6.12 with `landlock` among its security modules (`lsm=`)"
        )
    };
    let strict = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    strict.scope(Scope::from_all(ABI::V6)).and_then(Ruleset::create).map_err(missing)
}
