//! How clients come to trust the CA of their node, without a change to their image.
//!
//! - [`NodeFiles`]: what a node shows of its CA, for whoever can be told by [`variables`].
//! - [`Space`]: the mount namespace of a process, where amended copies of its own CA files are mounted over them, and
//!   taken away again. What is amended is in one table, `places`.
//!
//! What is in a container is hostile: paths are resolved within its root, nothing but certificates is copied out of a
//! file, and whatever is shared with the host is left alone. Its readers of such bytes, [`pem`], [`java`] and [`table`],
//! are public for the fuzz targets. Knows neither policies nor cgroups nor Kubernetes.

mod amend;
mod ca;
mod error;
mod files;
pub mod java;
mod mount;
pub mod pem;
mod places;
mod probe;
mod root;
mod space;
pub mod table;
mod tree;
pub mod variables;

pub use ca::Ca;
pub use error::TrustError;
pub use files::NodeFiles;
pub use probe::probe;
pub use space::{Delivered, Space, SpaceId};
