//! Types that all other folders use. They do no IO and never wait.

pub mod clock;
pub mod exit_code;
pub mod kv;
pub mod limits;
pub mod names;
pub mod start_error;
pub mod text;
pub mod timing;
