//! The systems, each as its users would set it up.

#[cfg(any(feature = "groupcache", feature = "groupcache-ng"))]
mod grpc;
pub mod memcached;
#[cfg(feature = "groupcache-ng")]
pub use grpc::ng;
#[cfg(feature = "groupcache")]
pub use grpc::original;
pub mod ours;
#[cfg(feature = "redis")]
pub mod redis;

use std::{future::Future, pin::Pin};

use anyhow::{Result, bail};

use crate::setting::Setting;

/// A server that answers for as long as this is polled, and in fact longer.
pub type Serving = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// Starts the server of a system that is a library. It listens when this returns.
pub async fn serve(setting: &Setting) -> Result<Serving> {
    match setting.system.as_str() {
        "ours" => ours::serve(setting).await,
        #[cfg(feature = "groupcache")]
        "groupcache" => original::serve(setting).await,
        #[cfg(feature = "groupcache-ng")]
        "groupcache-ng" => ng::serve(setting).await,
        other => bail!("this program was built without a server for {other}"),
    }
}
