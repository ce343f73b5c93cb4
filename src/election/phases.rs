//! The phases of a candidate, one in each file.

mod claiming;
mod handing_over;
mod joining;
mod leading;
mod releasing;
mod resting;
mod stopping;
mod verifying;
mod waiting;

pub(super) use self::{
    claiming::Claiming, handing_over::HandingOver, joining::Joining, leading::Leading, releasing::Releasing,
    resting::Resting, stopping::Stopping, verifying::Verifying, waiting::Waiting,
};
