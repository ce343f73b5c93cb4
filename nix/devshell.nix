# The tools that `.ci/run` and `cargo xtask` use, so that they install nothing.
{
  mkShell,
  cargo,
  clippy,
  rustc,
  rustfmt,
  rust-analyzer,
  cargo-deny,
  protobuf,
  etcd,
  dnsmasq,
  nixfmt-tree,
}:
mkShell {
  packages = [
    cargo
    clippy
    rustc
    rustfmt
    rust-analyzer
    cargo-deny
    protobuf
    etcd
    dnsmasq
    nixfmt-tree
  ];
}
