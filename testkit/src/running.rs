//! A whole service inside the test's process.

use std::time::Duration;

use chassis::lifecycle::{Drain, Lifecycle};

/// A running service. Dropped, it begins to stop; [`Running::stop`] also waits, and fails the test when the
/// service does not drain.
#[derive(Debug)]
pub struct Running {
    lifecycle: Lifecycle,
}

impl Running {
    /// Starts a service with a lifecycle of its own.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub async fn start<F: Future<Output = anyhow::Result<()>>>(service: impl FnOnce(Lifecycle) -> F) -> Self {
        let lifecycle = Lifecycle::default();
        if let Err(error) = service(lifecycle.clone()).await {
            panic!("the service did not start: {error:#}");
        }
        Self { lifecycle }
    }

    /// The lifecycle that the service was started with.
    pub fn lifecycle(&self) -> &Lifecycle {
        &self.lifecycle
    }

    /// Stops the service and waits for the end of everything that it had under way.
    ///
    /// # Panics
    ///
    /// When a task of it failed, or it is not done within 10 s.
    pub async fn stop(self) {
        self.lifecycle.stop();
        let drain = Drain { delay: Duration::ZERO, timeout: Duration::from_secs(10) };
        if let Err(error) = self.lifecycle.clone().run(drain).await {
            panic!("the service did not stop cleanly: {error:#}");
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.lifecycle.stop();
        self.lifecycle.stopping().cancel();
        self.lifecycle.closing().cancel();
    }
}
