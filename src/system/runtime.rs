//! The asynchronous runtime of this process.

use crate::core::start_error::StartError;

/// Runs `future` to its end on a runtime of this thread.
///
/// # Errors
/// If the machine has no room for a runtime.
pub fn run<T>(future: impl Future<Output = T>) -> Result<T, StartError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(StartError::no_room("the runtime"))?;
    let done = runtime.block_on(future);
    // A name that is being looked up need not be waited for.
    runtime.shutdown_background();
    Ok(done)
}
