//! On what, when and beside what it was measured.

use std::fs;

use anyhow::Result;
use serde::Serialize;

/// The machine.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    pub cores: usize,
    pub kernel: String,
    pub date: String,
    /// Whether this program was built without optimisation: then the figures mean little.
    pub debug: bool,
    /// Processes that wanted to run in the minute before the run, and in its last one.
    pub load: (String, String),
    /// What the hypervisor took of the run, of all cores together. Unit: seconds.
    pub stolen_s: f64,
}

impl Machine {
    /// Before the run.
    pub fn look() -> Result<Machine> {
        Ok(Machine {
            cores: std::thread::available_parallelism()?.get(),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            date: jiff::Zoned::now().strftime("%Y-%m-%d %H:%M %Z").to_string(),
            debug: cfg!(debug_assertions),
            load: (load()?, String::new()),
            stolen_s: stolen()?,
        })
    }

    /// The same, after the run.
    pub fn after(self) -> Result<Machine> {
        Ok(Machine { load: (self.load.0, load()?), stolen_s: stolen()? - self.stolen_s, ..self })
    }
}

/// The average of one minute.
fn load() -> Result<String> {
    Ok(fs::read_to_string("/proc/loadavg")?.split(' ').next().unwrap_or_default().to_owned())
}

fn stolen() -> Result<f64> {
    let stat = fs::read_to_string("/proc/stat")?;
    // cpu user nice system idle iowait irq softirq steal
    let steal = stat.lines().next().and_then(|line| line.split_whitespace().nth(8)?.parse::<f64>().ok());
    Ok(steal.unwrap_or(0.0) / 100.0)
}
