//! The kernel programs' own log, into tracing.

use aya::Ebpf;
use aya_log::EbpfLogger;
use log::{Level, Log, Metadata, Record};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tracing::{debug, error, info, trace, warn};

use crate::RedirectError;

/// What the kernel programs log at [`Config::log_level`](crate::Config::log_level) and above.
pub struct KernelLogs(EbpfLogger<ToTracing>);

impl KernelLogs {
    /// None when the programs log nothing.
    pub(crate) fn of(object: &mut Ebpf) -> Option<Self> {
        EbpfLogger::init_with_logger(object, ToTracing).ok().map(Self)
    }

    /// Hands each line to tracing, target `callgate::kernel`. Ends with an error only.
    ///
    /// # Errors
    /// [`RedirectError::Events`] when the buffer cannot be waited for.
    /// # Cancel safety
    /// Dropping the future loses the lines to come, nothing else.
    pub async fn forward(self) -> Result<(), RedirectError> {
        // SAFETY: the logger owns its map's descriptor and always answers with that one.
        let registered = unsafe { AsyncFd::register_with_interest(self.0, Interest::READABLE) };
        let mut logger = registered.map_err(|error| RedirectError::Events(error.into_parts().1))?;
        loop {
            let mut ready = logger.readable_mut().await.map_err(RedirectError::Events)?;
            ready.get_inner_mut().flush();
            ready.clear_ready();
        }
    }
}

impl std::fmt::Debug for KernelLogs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KernelLogs")
    }
}

struct ToTracing;

impl Log for ToTracing {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let line = record.args();
        match record.level() {
            Level::Error => error!(target: "callgate::kernel", "{line}"),
            Level::Warn => warn!(target: "callgate::kernel", "{line}"),
            Level::Info => info!(target: "callgate::kernel", "{line}"),
            Level::Debug => debug!(target: "callgate::kernel", "{line}"),
            Level::Trace => trace!(target: "callgate::kernel", "{line}"),
        }
    }

    fn flush(&self) {}
}
