//! The package for Debian and Ubuntu, by `dpkg-deb`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use super::{
    Arch, NAME, VERSION, at, binary, date,
    files::{documents, filled, install, installed, item, licences, set_mode},
    folder, work,
};
use crate::tools;

pub(super) fn build(arch: &Arch, pages: &Path) -> Result<PathBuf, String> {
    tools::need("dpkg-deb", &["dpkg"])?;
    let work = work(&format!("{}/deb", arch.name))?;
    let (root, date) = (work.join("root"), date()?);
    let doc = "usr/share/doc/etcd-await-election";

    let changelog = work.join("changelog");
    let day = tools::output(Command::new("date").args(["--utc", "--rfc-email", "--date"]).arg(format!("@{date}")))?;
    let text = filled("packaging/deb/changelog", &[("VERSION", VERSION), ("DATE", &day)])?;
    fs::write(&changelog, text).map_err(at(&changelog))?;

    let mut items = installed(&binary::path(arch), pages, "usr/share/zsh/vendor-completions");
    items.extend(documents(doc)?);
    items.extend(licences(&format!("{doc}/licences")));
    items.push(item("packaging/deb/copyright", format!("{doc}/copyright")));
    items.push(item("packaging/deb/lintian-overrides", format!("usr/share/lintian/overrides/{NAME}")));
    items.push(item("CHANGELOG.md", format!("{doc}/changelog.gz")));
    items.push(item(changelog, format!("{doc}/changelog.Debian.gz")));
    install(&root, &items)?;
    let control = control(arch, &root)?;
    fs::rename(&control, root.join("DEBIAN")).map_err(at(&control))?;

    let package = folder().join(format!("{NAME}_{VERSION}-1_{}.deb", arch.name));
    let mut dpkg = Command::new("dpkg-deb");
    // dpkg-deb uses SOURCE_DATE_EPOCH for all files that are newer.
    dpkg.env("SOURCE_DATE_EPOCH", date).args(["--root-owner-group", "-Zxz", "--build"]).arg(&root).arg(&package);
    tools::run(&mut dpkg)?;
    Ok(package)
}

/// Writes the control files and scripts of the package.
fn control(arch: &Arch, root: &Path) -> Result<PathBuf, String> {
    let folder = root.with_file_name("control");
    fs::create_dir_all(&folder).map_err(at(&folder))?;
    let write = |name: &str, text: String| {
        let file = folder.join(name);
        fs::write(&file, text).map_err(at(&file))?;
        set_mode(&file, if ["postinst", "prerm", "postrm"].contains(&name) { 0o755 } else { 0o644 })
    };
    let mut du = Command::new("du");
    let size = tools::output(du.args(["--apparent-size", "--summarize", "--block-size=1024", "."]).current_dir(root))?;
    let size = size.split_whitespace().next().unwrap_or_default();
    write("control", filled("packaging/deb/control", &[("VERSION", VERSION), ("ARCH", arch.name), ("SIZE", size)])?)?;
    // All files in /etc are configuration files.
    let find = |arguments: &[&str]| tools::output(Command::new("sh").arg("-c").args(arguments).current_dir(root));
    write("conffiles", find(&["find etc -type f | sed 's|^|/|' | LC_ALL=C sort"])? + "\n")?;
    write("md5sums", find(&["find usr -type f | LC_ALL=C sort | xargs md5sum"])? + "\n")?;
    let removal = filled("packaging/removal.sh", &[])?;
    for script in ["postinst", "prerm", "postrm"] {
        write(script, filled(&format!("packaging/deb/{script}"), &[("REMOVAL", removal.trim_end())])?)?;
    }
    Ok(folder)
}
