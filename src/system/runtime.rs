//! The asynchronous runtime of this process.

use crate::core::start_error::StartError;

/// Runs `future` to its end on a runtime of this thread.
///
/// # Errors
/// If the runtime cannot be created.
pub fn run<T>(future: impl Future<Output = T>) -> Result<T, StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(StartError::no_room("the runtime"))?;
    let done = runtime.block_on(future);
    // Does not wait for a pending DNS lookup.
    runtime.shutdown_background();
    Ok(done)
}
