//! The template unit under a real systemd.
