//! Notes, reports and logs the pause.

use super::{
    context::Context,
    pause::{Known, Pause},
    progress::Progress,
    view::View,
};
use crate::core::kv::{Change, KeyValue};

/// Notes what a read shows.
pub(super) fn read(view: &View, context: &mut Context<'_>) {
    note(view.pause.as_ref(), view.revision, context);
}

/// Notes the pause at this revision, and logs it if it has changed. An answer may be older than what the watch has shown.
fn note(kv: Option<&KeyValue>, revision: i64, context: &mut Context<'_>) {
    let known = &context.shared.paused;
    let pause = kv.map(|kv| Pause::read(&kv.value));
    if pause == known.pause || revision < known.revision {
        return;
    }
    match &pause {
        Some(pause) => tracing::warn!("{} is paused {pause}; no instance becomes its leader", context.shared.lock()),
        None => tracing::info!("the pause of {} is over", context.shared.lock()),
    }
    context.shared.paused = Known { pause: pause.clone(), revision };
    context.report(Progress::Paused(pause));
}

/// Notes what changes show. Returns whether the pause is among them.
pub(super) fn changed(changes: &[Change], context: &mut Context<'_>) -> bool {
    let key = context.shared.lock().pause();
    let Some(change) = changes.iter().rfind(|change| change.key() == key) else { return false };
    match change {
        Change::Put(kv) => note(Some(kv), kv.mod_revision, context),
        Change::Deleted(_, revision) => note(None, *revision, context),
    }
    true
}
